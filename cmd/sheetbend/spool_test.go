// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// startSensor runs a sensor until it watches.
func startSensor(t *testing.T, conf string) (log *sensortest.Sensor, stop func() (code int, said string)) {
	t.Helper()
	cmd := sheetbend(t, "sensor", "--config", conf)
	log = sensortest.Start(t, cmd)
	log.Hear("watching")
	return log, func() (int, string) {
		t.Helper()
		said := log.End(unix.SIGTERM)
		return cmd.ProcessState.ExitCode(), said
	}
}

// spoolFor is a directory for a spool; what the sensor keeps elsewhere for it goes with the test.
func spoolFor(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	t.Cleanup(func() {
		if tally := tallyOf(dir, slog.New(slog.DiscardHandler)); tally != "" {
			_ = os.Remove(tally)
		}
	})
	return dir
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWhatASensorCouldNotSendIsSentByTheNext(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	spoolDir := spoolFor(t)
	works, away := serve(t), nobody(t)
	conf := func(second string) string {
		return configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a, session: s}]\nsocket: \"\"\nspool: {path: %s}\nexporters:\n  otlp:\n  - endpoint: http://%s\n  - endpoint: http://%s\n",
			cg, spoolDir, works.addr, second))
	}
	_, stop := startSensor(t, conf(away))

	t.Run("a second sensor is refused the same spool", func(t *testing.T) {
		r := sheetbendRun(t, "sensor", "--config", conf(away))
		if r.code != exitFailed || !strings.Contains(r.stderr, spoolDir+" is in use by another sheetbend (pid") || strings.Count(r.stderr, "\n") != 1 {
			t.Error(describeResult(r))
		}
	})

	_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit 7").Run()
	code, said := stop()
	if code != 0 || !strings.Contains(said, "they wait in "+spoolDir) || !strings.Contains(said, "connection refused") {
		t.Errorf("exit code %d: %s", code, said)
	}

	// The next has another second endpoint: what waited is for it, too.
	second := serve(t)
	_, stop = startSensor(t, conf(second.addr))
	if code, said := stop(); code != 0 || strings.Contains(said, "not all was delivered") || !strings.Contains(said, "resuming") {
		t.Errorf("exit code %d: %s", code, said)
	}
	for name, b := range map[string]*backend{"the one that worked": works, "the one that was away": second} {
		ends := 0
		b.mu.Lock()
		for _, s := range b.spans {
			if eventOf(s) == "process.exec" && s.Status.GetMessage() != "" {
				ends++
			}
		}
		b.mu.Unlock()
		if ends != 1 {
			t.Errorf("%s has the failed process %d times, want once", name, ends)
		}
	}
}

// refusing refuses each batch for good.
type refusing struct {
	coltracepb.UnimplementedTraceServiceServer
}

func (refusing) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	return nil, status.Error(codes.InvalidArgument, "no\x1bsuch tenant")
}

func TestDeadLettersCanBeListedExportedSentAgainAndDropped(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(s, refusing{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: \"\"\nspool: {path: %s}\nexporters: {otlp: {endpoint: 'http://%s'}}\n",
		cg, spoolFor(t), l.Addr()))
	ask := func(args ...string) result {
		t.Helper()
		return sheetbendRun(t, append(append([]string{"spool"}, args...), "--config", conf)...)
	}
	if r := ask("list"); r.code != 0 || !strings.Contains(r.stdout, "no dead letters") {
		t.Error(describeResult(r))
	}
	for _, code := range []string{"7", "8"} {
		_, stop := startSensor(t, conf)
		_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit "+code).Run()
		if code, said := stop(); code != 0 || !strings.Contains(said, "see sheetbend spool list") {
			t.Errorf("exit code %d: %s", code, said)
		}
	}
	r := ask("list")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.code != 0 || len(lines) < 3 || !strings.Contains(lines[1], `no\x1bsuch tenant (InvalidArgument)`) || !strings.Contains(lines[1], l.Addr().String()) {
		t.Fatal(describeResult(r))
	}
	n := len(lines) - 1
	first := strings.Fields(lines[1])[0]
	if r := ask("list", "--json"); r.code != 0 || strings.Count(r.stdout, "\n") != n || !strings.Contains(r.stdout, `"state":"dead"`) {
		t.Error(describeResult(r))
	}
	r = ask("export")
	if spans := parseSpans(t, []byte(r.stdout)); r.code != 0 || strings.Count(r.stdout, "\n") != n || len(spans) < 2 {
		t.Error(describeResult(r))
	}
	if r = ask("export", first); r.code != 0 || strings.Count(r.stdout, "\n") != 1 {
		t.Error(describeResult(r))
	}
	if r = ask("drop", first); r.code != 0 || !strings.Contains(r.stdout, "1 dead letter deleted") {
		t.Error(describeResult(r))
	}
	for _, args := range [][]string{{"drop"}, {"retry"}, {"drop", "--all", "x"}, {"retry", "nothing"}} {
		if r = ask(args...); r.code == 0 || r.stderr == "" {
			t.Errorf("%q: %s", args, describeResult(r))
		}
	}
	if r = ask("retry", "--all"); r.code != 0 || !strings.Contains(r.stdout, fmt.Sprint(n-1)) {
		t.Error(describeResult(r))
	}
	log, stop := startSensor(t, conf)
	log.Hear("refuses a dead letter again")
	if code, said := stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
	if r = ask("drop", "--all"); r.code != 0 {
		t.Error(describeResult(r))
	}
	if r := ask("list"); r.code != 0 || !strings.Contains(r.stdout, "no dead letters") {
		t.Error(describeResult(r))
	}
}
