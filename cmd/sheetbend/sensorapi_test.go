// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// aDaemon is a running sheetbend sensor.
type aDaemon struct {
	t              *testing.T
	cmd            *exec.Cmd
	log            *sensortest.Sensor
	socket, spans  string
	cgroup         string // of its one sandbox
	startInSandbox func(args ...string) *exec.Cmd
}

// startDaemon watches a sandbox, and codex wherever it is started.
func startDaemon(t *testing.T, more string) *aDaemon {
	t.Helper()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &aDaemon{t: t, socket: filepath.Join(dir, "api.sock"), spans: filepath.Join(dir, "spans.jsonl"), cgroup: cg + "/a"}
	d.startInSandbox = func(args ...string) *exec.Cmd { return sensortest.Inside(t, m, d.cgroup, args...) }
	d.cmd = sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf(`
sandboxes:
  - cgroup: %s
  - agents: [codex]
exporters:
  file:
    path: %s
socket: %s
hold: 300ms
%s`, d.cgroup, d.spans, d.socket, more)))
	d.log = sensortest.Start(t, d.cmd)
	d.log.Hear("watching")
	return d
}

// end ends the daemon and gives its log.
func (d *aDaemon) end() string {
	d.t.Helper()
	said := d.log.End(unix.SIGTERM)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("exit code %d: %s", code, said)
	}
	return said
}

// listed waits until sessions are listed. A question costs quota: it is asked twice a second.
func (d *aDaemon) listed(ids ...string) {
	d.t.Helper()
	again := time.NewTicker(time.Second / 2)
	defer again.Stop()
	for deadline := time.Now().Add(patience / 2); ; <-again.C {
		var found []client.Session
		r := sheetbendRun(d.t, "sessions", "--socket", d.socket, "--all", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
			d.t.Fatal(describeResult(r))
		}
		missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			return slices.ContainsFunc(found, func(s client.Session) bool { return s.ID == id })
		})
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%q are never listed: %s", missing, describeResult(r))
		}
	}
}

// callsThatOpened gives, of each file in a directory, "CALL ATTRIBUTION" of who opened it.
func (d *aDaemon) callsThatOpened(dir string) map[string]string {
	d.t.Helper()
	text, err := os.ReadFile(d.spans)
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range parseSpans(d.t, text) {
		if file := attribute(s, span.KeyFilePath); attribute(s, span.KeyEvent) == span.Open.String() && filepath.Dir(file) == dir {
			out[filepath.Base(file)] = attribute(s, span.KeyCallID) + " " + attribute(s, span.KeyAttribution)
		}
	}
	return out
}

// agentWithHooks starts a codex that runs its hook before and after a command, as the agent does, and the commands it
// is told to. The hooks' JSON is event.json in the directory.
func agentWithHooks(t *testing.T, socket, dir, event, script string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"begin.json": event, "end.json": strings.Replace(event, "PreToolUse", "PostToolUse", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(shellNamed(t, "codex"), "-c", strings.ReplaceAll(script, "HOOK", asCommand+"=1 "+binary+" hook codex"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), client.EnvSocket+"="+socket, envHookWait+"=4s")
	return cmd
}

func TestTheSensorServesHooksMarksAndQuestionsUntilItsEnd(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	dir := t.TempDir()
	for _, name := range []string{"in-call", "after", "of-shell", "between"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// An agent that somebody starts somewhere, with its hooks installed.
	agent := agentWithHooks(t, d.socket, dir, preToolUse,
		"HOOK <begin.json; CODEX_CI=1 cat "+dir+"/in-call; HOOK <end.json; CODEX_CI=1 cat "+dir+"/after; :")
	if out, err := agent.CombinedOutput(); err != nil || string(out) != "in-callafter" {
		t.Fatalf("%v: %s", err, out)
	}

	// A harness outside of the sandbox, and its shell inside.
	shell := d.startInSandbox("sh", "-c", `while read line; do eval "$line"; echo "done."; done; :`)
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	mark := func(op string) {
		t.Helper()
		r := sheetbendRun(t, "call", op, "--socket", d.socket, "--session", "h-1", "--call", "call_7", "--tool", "bash", "--pid", strconv.Itoa(shell.Process.Pid))
		if r.code != 0 || r.stderr != "" {
			t.Error(describeResult(r))
		}
	}
	out := listen(t, stdout)
	command := func(line string) {
		t.Helper()
		before := strings.Count(out.seen.String(), "done.")
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		for strings.Count(out.seen.String(), "done.") == before {
			b, ok := <-out.data
			if !ok {
				t.Fatal("the shell has ended")
			}
			out.seen.Write(b)
		}
	}
	mark("begin")
	command("cat " + dir + "/of-shell")
	mark("end")
	command("cat " + dir + "/between")

	d.listed("s-1", "h-1")
	if r := sheetbendRun(t, "session", "s-1", "--socket", d.socket); r.code != 0 || !strings.Contains(r.stdout, "in-call") {
		t.Error(describeResult(r))
	}
	_ = in.Close()
	_ = shell.Wait()
	d.end()

	got := d.callsThatOpened(dir)
	for name, want := range map[string]string{"in-call": "toolu_1 marker", "of-shell": "call_7 marker", "after": "", "between": ""} {
		if call, ok := got[name]; !ok || want != "" && call != want || want == "" && strings.HasSuffix(call, "marker") {
			t.Errorf("%s was opened by call %q (seen: %t), want %q", name, call, ok, want)
		}
	}
	if _, err := os.Lstat(d.socket); err == nil {
		t.Error("the socket is left")
	}
}

// Hooks read as the sensor's configuration says, which only the sensor reads.
func TestHooksOfAnAgentAreReadAsTheConfigurationSays(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, `
agents:
  - name: codex
    hook: {session: [thread], call: [step.id], tool: [step.kind], event: [what], begin: [start], end: [stop]}
`)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in-call"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	agent := agentWithHooks(t, d.socket, dir, `{"what":"start","thread":"t-1","step":{"id":"step-1","kind":"exec_command"}}`, "HOOK <begin.json; CODEX_CI=1 cat "+dir+"/in-call; :")
	if out, err := agent.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	d.end()
	if got := d.callsThatOpened(dir)["in-call"]; got != "step-1 marker" {
		t.Errorf("the command is of %q, want step-1", got)
	}
}

func TestASandboxThatKeepsConnectionsOpenKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	m := needRoot(t)
	var sandbox string
	for i := range 17 {
		sandbox = fmt.Sprintf("%s/c%d", d.cgroup, i)
		if err := m.Create(sandbox); err != nil {
			t.Fatal(err)
		}
		cmd := sensortest.Inside(t, m, sandbox, "/proc/self/exe")
		cmd.Env = []string{asHolder + "=" + d.socket}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
		listen(t, out).hear("held")
	}
	if r := sheetbendRun(t, "sessions", "--socket", d.socket, "--all"); r.code != 0 {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "call", "begin", "--socket", d.socket, "--session", "s", "--call", "c", "--cgroup", d.cgroup); r.code != 0 {
		t.Error(describeResult(r))
	}
	// And one from inside, as the agent's hook.
	hook := sensortest.Inside(t, m, sandbox, "/proc/self/exe", "call", "begin", "--session", "s2", "--call", "c2", "--socket", d.socket)
	hook.Env = []string{asCommand + "=1"}
	if r := finish(t, hook); r.code != 0 {
		t.Error(describeResult(r))
	}
	d.end()
}

func TestACaptureOfTheSensorHoldsMarksAndHasNothingToShow(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "api.sock")
	cmd := sheetbend(t, "record", "--output", filepath.Join(dir, "capture"), "--config",
		configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: %s\n", cg, socket)))
	log := sensortest.Start(t, cmd)
	log.Hear("watching")
	if r := sheetbendRun(t, "sessions", "--socket", socket); r.code != exitFailed || !strings.Contains(r.stderr, "keeps no view") {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "call", "begin", "--socket", socket, "--session", "s", "--call", "c"); r.code != 0 {
		t.Error(describeResult(r))
	}
	said := log.End(unix.SIGTERM)
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
		t.Error(said)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "capture")); err != nil || len(text) == 0 {
		t.Error(err)
	}
}
