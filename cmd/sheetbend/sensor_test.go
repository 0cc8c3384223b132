// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// configFile holds a configuration. Without a word about it nothing is recorded: the usual place is the host's.
func configFile(t *testing.T, text string) string {
	t.Helper()
	if !strings.Contains(text, "recorder:") {
		text += "\nrecorder: {path: none}\n"
	}
	name := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTheSensorWatchesSandboxesThatExistAndThoseThatComeLater(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	for _, c := range []string{"/old", "/old/deep", "/ignored"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
	}
	before := sensortest.Inside(t, m, cg+"/old/deep", "sh", "-c", "read line; cat /etc/hostname; exit 9")
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
	log := sensortest.Start(t, sensor)
	if said := log.Hear("/no/such/place"); !strings.Contains(said, "sandboxes=1") {
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
		_ = sensortest.Inside(t, m, cg+run.cg, "sh", "-c", "exit "+run.code).Run()
	}
	if err := m.Remove(t.Context(), cg+"/new"); err != nil { // a sandbox that goes
		t.Fatal(err)
	}
	if err := sensor.Process.Signal(unix.SIGHUP); err != nil { // the span file is still the one
		t.Fatal(err)
	}
	said := log.End(unix.SIGTERM)
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

// A confined sensor goes on in a new file after its span file was moved away.
func TestTheSensorsFileIsRotated(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spans.jsonl")
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/*}]\nexporters: {file: {path: %s}}\nhold: 300ms\n", cg, file))
	sensor := sheetbend(t, "sensor", "--config", conf)
	log := sensortest.Start(t, sensor)
	log.Hear("watching")
	run := func(args ...string) {
		t.Helper()
		if err := sensortest.Inside(t, m, cg+"/a", args...).Run(); err != nil {
			t.Fatal(err)
		}
	}
	run("cat", "/etc/hostname")
	sensortest.Until(t, "spans in the first file", func() bool {
		text, _ := os.ReadFile(file)
		return bytes.Contains(text, []byte("hostname"))
	})
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := sensor.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	run("cat", "/etc/passwd")
	sensortest.Until(t, "spans in a new file", func() bool {
		text, _ := os.ReadFile(file)
		return bytes.Contains(text, []byte("passwd"))
	})
	log.End(unix.SIGTERM)
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
	m, cg := sensortest.Cgroup(t)
	capture := filepath.Join(t.TempDir(), "capture")
	cmd := sheetbend(t, "record", "--output", capture, "--config", configFile(t, "sandboxes: [{cgroup: "+cg+"/a}]\n"))
	log := sensortest.Start(t, cmd)
	log.Hear("watching")
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit 13").Run()
	said := log.End(unix.SIGINT)
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if r := sheetbendRun(t, "replay", capture); r.code != 0 || !strings.Contains(r.stdout, "exit 13") {
		t.Error(describeResult(r))
	}
}
