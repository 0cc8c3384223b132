// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// shellNamed is a shell under the name of another program.
func shellNamed(t *testing.T, name string) string {
	t.Helper()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, shell, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// waiting starts a shell that runs a program of its own at once, and again when its stdin says so.
func waiting(t *testing.T, shell, script string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(shell, "-c", script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	return cmd, stdin
}

func TestAgentsAreFoundWhereverTheyAreStarted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Before the sensor: an agent with a child, and a web server of the same interpreter as agents have.
	old, oldIn := waiting(t, shellNamed(t, "claude"), "/bin/sh -c 'read x; cat "+secret+"; :'; :")
	server, serverIn := waiting(t, shellNamed(t, "node"), "read x; cat "+secret+"; :")

	spansFile := filepath.Join(dir, "spans.jsonl")
	sensor := sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf(`
sandboxes:
  - agents: ["*"]
exporters:
  file:
    path: %s
hold: 300ms
`, spansFile)))
	log := sensortest.Start(t, sensor)
	log.Hear("watching")

	codex := exec.Command(shellNamed(t, "codex"), "-c", "CODEX_TOOL_CALL_ID=call_1 cat "+secret+"; CODEX_TOOL_CALL_ID=call_2 sh -c 'exit 3'; :")
	other := exec.Command(shellNamed(t, "node"), "-c", "cat "+secret+"; :")
	for _, cmd := range []*exec.Cmd{codex, other} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, in := range []io.WriteCloser{oldIn, serverIn} {
		if _, err := fmt.Fprintln(in, "go"); err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
	}
	_, _ = old.Process.Wait()
	_, _ = server.Process.Wait()
	said := log.End(unix.SIGTERM)
	if code := sensor.ProcessState.ExitCode(); code != 0 || strings.Contains(said, "not all was delivered") {
		t.Errorf("exit code %d: %s", code, said)
	}

	text, err := os.ReadFile(spansFile)
	if err != nil {
		t.Fatal(err)
	}
	// Other agents of this host are found, too.
	spans := parseSpans(t, text)
	ours := map[string]bool{}
	for _, s := range spans {
		if exe := attribute(s, span.KeyExecutablePath); exe == codex.Path || exe == old.Path {
			ours[attribute(s, span.KeySandboxID)] = true
		}
	}
	if len(ours) != 2 {
		t.Errorf("sandboxes %v, want one for each agent", ours)
	}
	var calls, reads []string
	for _, s := range spans {
		if !ours[attribute(s, span.KeySandboxID)] {
			if attribute(s, span.KeyFilePath) == secret {
				t.Errorf("%s, which is no agent, is told of", attribute(s, span.KeyExecutablePath))
			}
			continue
		}
		if attribute(s, span.KeyEvent) == "process.exec" && attribute(s, span.KeyExitCode) == "3" {
			calls = append(calls, attribute(s, span.KeyCallID))
		}
		if attribute(s, span.KeyFilePath) == secret {
			reads = append(reads, attribute(s, span.KeyAgentName)+" "+attribute(s, span.KeyCallID))
		}
		event := attribute(s, span.KeyEvent)
		if attribute(s, span.KeyCgroup) == "" && event != "sensor.loss" && event != "execute_tool" && !strings.HasPrefix(event, "session") {
			t.Errorf("no cgroup on %s", s.Name())
		}
	}
	if fmt.Sprint(calls) != "[call_2]" {
		t.Errorf("the command that failed is in %q, want call_2", calls)
	}
	if slices.Sort(reads); fmt.Sprint(reads) != "[claude-code  codex call_1]" {
		t.Errorf("the file was read by %q, want codex in call_1 and the older claude-code, and no node", reads)
	}
}

func TestASensorThatFindsAgentsNeedsTheirNames(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"sandboxes: [{agents: [kodex]}]":                `"kodex" is no agent's name`,
		"sandboxes: [{agents: ['*'], cgroup: /agents}]": "stands alone",
		"sandboxes: [{session: x}]":                     "cgroup, kubernetes, docker or agents",
	} {
		r := sheetbendRun(t, "sensor", "--config", configFile(t, text+"\n"))
		if r.code != exitUsage || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: want %q: %s", text, says, describeResult(r))
		}
	}
}

func TestAPinHoldsOnlyWhereRootDecidesWhatLiesWhere(t *testing.T) {
	t.Parallel()
	needRoot(t)
	pinned := shellNamed(t, "mine")
	dir := filepath.Dir(pinned)
	spansFile := filepath.Join(dir, "spans.jsonl")
	config := configFile(t, "agents: [{name: mine, executables: [mine], path: ["+pinned+"]}]\n")
	script := "bind() { unshare -$1 sh -c \"mount --bind /bin/sh " + pinned + " && " + pinned + " -c 'exit $2'\"; }; " + pinned + " -c 'exit 3'; bind Urm 4; bind m 5; :"
	if r := sheetbendRun(t, "run", "-q", "--config", config, "--output", spansFile, "--", "sh", "-c", script); r.code != 0 {
		t.Fatal(describeResult(r))
	}
	text, err := os.ReadFile(spansFile)
	if err != nil {
		t.Fatal(err)
	}
	agents := map[string]string{}
	for _, s := range parseSpans(t, text) {
		if code := attribute(s, span.KeyExitCode); attribute(s, span.KeyExecutablePath) == pinned && code != "" {
			agents[code] = attribute(s, span.KeyAgentName)
		}
	}
	// In its place; put there by a user of its own namespace; by root of the host, who may.
	if want := map[string]string{"3": "mine", "4": "sh", "5": "mine"}; fmt.Sprint(agents) != fmt.Sprint(want) {
		t.Errorf("agents by exit code %v, want %v", agents, want)
	}
}
