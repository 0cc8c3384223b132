// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// hierarchy is a directory of the test's own in the hierarchy, for sandboxes.
func hierarchy(t *testing.T) (cgroup.Mount, string) {
	t.Helper()
	m := needRoot(t)
	cg := fmt.Sprintf("/sheetbend-test-%s-%d", t.Name(), os.Getpid())
	if err := m.Create(cg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = m.Kill(ctx, cg)
		if err := m.Remove(ctx, cg); err != nil {
			t.Error(err)
		}
	})
	return m, cg
}

// inside prepares a command that runs in a cgroup from its first instant.
func inside(t *testing.T, m cgroup.Mount, cg string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := m.Open(cg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTheSensorWatchesSandboxesThatExistAndThoseThatComeLater(t *testing.T) {
	t.Parallel()
	m, cg := hierarchy(t)
	for _, c := range []string{"/old", "/old/deep", "/ignored"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
	}
	before := inside(t, m, cg+"/old/deep", "sh", "-c", "read line; cat /etc/hostname; exit 9")
	stdin, err := before.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}

	spansFile := filepath.Join(t.TempDir(), "spans.jsonl")
	conf := configFile(t, fmt.Sprintf(`
sandboxes:
  - cgroup: %s/[on]*
    session: session of {name}
    agent: tester
  - cgroup: /no/such/place
exporters:
  file:
    path: %s
hold: 300ms
`, cg, spansFile))
	sensor := sheetbend(t, "sensor", "--config", conf)
	stderr, err := sensor.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sensor.Start(); err != nil {
		t.Fatal(err)
	}
	log := listen(t, stderr)
	if said := log.hear("/no/such/place"); !strings.Contains(said, "sandboxes=1") {
		t.Errorf("want one sandbox and a warning: %s", said)
	}

	if _, err := fmt.Fprintln(stdin, "go"); err != nil {
		t.Fatal(err)
	}
	_ = before.Wait()
	if err := m.Create(cg + "/new"); err != nil {
		t.Fatal(err)
	}
	if err := m.Create(cg + "/other"); err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct{ cg, code string }{{"/new", "10"}, {"/ignored", "11"}, {"/other", "12"}} {
		_ = inside(t, m, cg+run.cg, "sh", "-c", "exit "+run.code).Run()
	}
	if err := m.Remove(t.Context(), cg+"/new"); err != nil { // a sandbox that goes
		t.Fatal(err)
	}
	if err := sensor.Process.Signal(unix.SIGHUP); err != nil { // ignored
		t.Fatal(err)
	}
	if err := sensor.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said := log.rest()
	_ = sensor.Wait()
	if code := sensor.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}

	text, err := os.ReadFile(spansFile)
	if err != nil {
		t.Fatal(err)
	}
	ended := map[string]string{} // session -> exit code of its sh
	var existing ptrace.Span
	hasExisting := false
	for _, s := range parseSpans(t, text) {
		session, code := attribute(s, "session.id"), attribute(s, "process.exit.code")
		if code != "" && code != "0" {
			ended[session] = code
		}
		if attribute(s, "sheetbend.process.preexisting") == "true" {
			existing, hasExisting = s, true
		}
	}
	want := map[string]string{"session of old": "9", "session of new": "10", "session of other": "12"}
	if fmt.Sprint(ended) != fmt.Sprint(want) {
		t.Errorf("ends %v, want %v\n%s", ended, want, text)
	}
	if !hasExisting || !strings.Contains(attribute(existing, "process.command_line"), "cat /etc/hostname") {
		t.Errorf("the process that was there before, or its arguments, are missing: %s", text)
	}
}

func TestTheSensorRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	m := needRoot(t)
	own, err := m.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const file = "exporters: {file: {path: /dev/null}}\n"
	for _, c := range []struct {
		name, text string
		code       int
		says       string
	}{
		{"an unknown key", "sandboxs: []\n", exitUsage, `did you mean "sandboxes"?`},
		{"no sandboxes", file, exitUsage, "no sandboxes"},
		{"nowhere to send spans", "sandboxes: [{cgroup: /a}]\n", exitUsage, "nowhere to send spans"},
		{"a bad endpoint", "sandboxes: [{cgroup: /a}]\nexporters: {otlp: {endpoint: 'ftp://x'}}\n", exitFailed, "ftp"},
		{"a bad noise pattern", "sandboxes: [{cgroup: /a}]\nnoise: ['[']\n" + file, exitUsage, "noise"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sheetbendRun(t, "sensor", "--config", configFile(t, c.text))
			if r.code != c.code || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("want exit code %d and %q: %s", c.code, c.says, describeResult(r))
			}
		})
	}
	t.Run("itself", func(t *testing.T) {
		// A sensor in a directory that its own pattern selects.
		dir := path.Join(own, fmt.Sprintf("sheetbend-test-self-%d", os.Getpid()))
		if err := m.Create(dir); err != nil {
			t.Fatal(err)
		}
		cmd := sheetbend(t, "sensor", "--config", configFile(t, "sandboxes: [{cgroup: "+dir+"}]\n"+file))
		fd, err := m.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
		if r := finish(t, cmd); r.code != exitUsage || !strings.Contains(r.stderr, "selects the sensor itself") {
			t.Error(describeResult(r))
		}
		if err := m.Remove(t.Context(), dir); err != nil {
			t.Error(err)
		}
	})
}

func TestRecordWatchesAConfigurationUntilItIsEnded(t *testing.T) {
	t.Parallel()
	m, cg := hierarchy(t)
	capture := filepath.Join(t.TempDir(), "capture")
	cmd := sheetbend(t, "record", "--output", capture, "--config", configFile(t, "sandboxes: [{cgroup: "+cg+"/a}]\n"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := listen(t, stderr)
	log.hear("watching")
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	_ = inside(t, m, cg+"/a", "sh", "-c", "exit 13").Run()
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	said := log.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if r := sheetbendRun(t, "replay", capture); r.code != 0 || !strings.Contains(r.stdout, "exit 13") {
		t.Error(describeResult(r))
	}
}
