// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

const preToolUse = `{"session_id":"s-1","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"ls"},"tool_use_id":"toolu_1"}`

// hookRun runs sheetbend hook with an input and a socket.
func hookRun(t *testing.T, socket string, input io.Reader, args ...string) result {
	t.Helper()
	cmd := sheetbend(t, append([]string{"hook"}, args...)...)
	// The race detector's runtime waits a second at the end otherwise.
	cmd.Env = append(cmd.Env, client.EnvSocket+"="+socket, "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = input
	return finish(t, cmd)
}

func TestAHookNeverSaysAnythingAndNeverFails(t *testing.T) {
	dir := t.TempDir()
	// A sensor that was killed, and one that hangs.
	killed, hangs := filepath.Join(dir, "killed"), filepath.Join(dir, "hangs")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: killed, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	h, err := net.Listen("unix", hangs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	marks, server := takeMarks(t)
	for _, c := range []struct{ name, socket, input, agent string }{
		{"no sensor", filepath.Join(dir, "none"), preToolUse, "claude-code"},
		{"no sensor, much input", filepath.Join(dir, "none"), strings.Repeat(preToolUse, 10_000), "claude-code"},
		{"a sensor that was killed", killed, preToolUse, "claude-code"},
		{"a sensor that hangs", hangs, preToolUse, "claude-code"},
		{"an agent that nobody knows", server, preToolUse, "nobody"},
		{"an option of another version", server, preToolUse, "--new"},
		{"more than an agent sends", server, strings.Repeat(" ", hook.MaxInput) + preToolUse, "claude-code"},
		{"nested deeply", server, strings.Repeat("[", 1<<20), "claude-code"},
		{"no JSON", server, "\x00\xff", "claude-code"},
		{"no input", server, "", "codex"},
		{"an event of no call", server, `{"hook_event_name":"Stop"}`, "codex"},
		{"a mark that the sensor refuses", server, strings.ReplaceAll(preToolUse, "toolu_1", `a\u0000`), "claude-code"},
	} {
		if r := hookRun(t, c.socket, strings.NewReader(c.input), c.agent); r.code != 0 || r.stdout != "" || r.stderr != "" {
			t.Errorf("%s: %s", c.name, describeResult(r))
		}
	}
	if len(marks()) != 0 {
		t.Errorf("%d marks", len(marks()))
	}
}

// takeMarks serves a socket and gives what came.
func takeMarks(t *testing.T) (func() []record.Event, string) {
	t.Helper()
	t.Setenv(envHookWait, "4s")
	return takeMarksAfter(t, 0)
}

// takeMarksAfter answers each request so late.
func takeMarksAfter(t *testing.T, late time.Duration) (func() []record.Event, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	came := make(chan record.Event, 100)
	s, err := marker.Listen(marker.Options{
		Path:     socket,
		Dialects: agents.Builtin(),
		CgroupOf: func(int) (string, error) { return "/", nil },
		Clock: func() (uint64, int64, error) {
			<-time.After(late)
			return 1, 1, nil
		},
		Inject: func(raw []byte) bool {
			var e record.Event
			err := e.Decode(raw)
			came <- e
			return err == nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return func() (out []record.Event) {
		for {
			select {
			case e := <-came:
				out = append(out, e)
			default:
				return out
			}
		}
	}, socket
}

func TestAHookMarksTheCallBeforeItReturns(t *testing.T) {
	marks, socket := takeMarks(t)
	hookRun(t, socket, strings.NewReader(preToolUse), "claude-code")
	hookRun(t, socket, strings.NewReader(strings.Replace(preToolUse, "PreToolUse", "PostToolUse", 1)), "claude-code")
	got := marks()
	if len(got) != 2 || got[0].Mark.Op != record.MarkBegin || got[1].Mark.Op != record.MarkEnd {
		t.Fatalf("%d marks", len(got))
	}
	m := got[0].Mark
	if command := m.More.Get(record.MoreCommand); command != agents.CommandHash("ls") || strings.Contains(string(m.More), "ls") {
		t.Errorf("of the command %q", m.More)
	}
	if m.Call != "toolu_1" || m.Session != "s-1" || m.Tool != "Bash" || m.Agent != "claude-code" || m.Source != record.SourceHook || m.TargetTgid != 0 {
		t.Errorf("%+v", m)
	}
}

func TestAHookWaitsForASlowSensorAsLongAsItIsTold(t *testing.T) {
	marks, socket := takeMarksAfter(t, 2*hookWait)
	for _, c := range []struct {
		wait string
		want int
	}{{"", 0}, {"nonsense", 0}, {"-1s", 0}, {"4s", 1}, {"1h", 1}} {
		t.Setenv(envHookWait, c.wait)
		hookRun(t, socket, strings.NewReader(preToolUse), "claude-code")
		if got := marks(); len(got) != c.want {
			t.Errorf("%q: %d marks, want %d", c.wait, len(got), c.want)
		}
	}
}

func TestAHookNeverWaitsLongerThanTheAgentDoes(t *testing.T) {
	if got := hookWaits("1h"); got != maxHookWait {
		t.Errorf("waits %s", got)
	}
}

// An agent that keeps the pipe open is not waited for.
func TestAHookWithoutASensorDoesNotWaitForItsInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got := hookRun(t, filepath.Join(t.TempDir(), "none"), r, "codex"); got.code != 0 || got.stderr != "" {
		t.Error(describeResult(got))
	}
}

// The limit is 50 ms, less what it takes to start a program at all: `sheetbend version` in turn with the hook, the
// best of each, because the machine is shared.
func TestAHookWithoutASensorTakesLessThan50Milliseconds(t *testing.T) {
	if took := hookAboveVersion(t, filepath.Join(t.TempDir(), "none")); took > 50*time.Millisecond {
		t.Errorf("%s more than the start of a program", took)
	}
}

func TestAHookIsNotHeldUpByASensorThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "hangs")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if took := hookAboveVersion(t, socket); took > 2*hookWait {
		t.Errorf("%s more than the start of a program", took)
	}
}

func hookAboveVersion(t *testing.T, socket string) time.Duration {
	t.Helper()
	hooks, version := time.Hour, time.Hour
	for range 20 {
		begin := time.Now()
		cmd := sheetbend(t, "version")
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
		finish(t, cmd)
		version = min(version, time.Since(begin))
		begin = time.Now()
		if r := hookRun(t, socket, strings.NewReader(preToolUse), "claude-code"); r.code != 0 || r.stdout != "" || r.stderr != "" {
			t.Error(describeResult(r))
		}
		hooks = min(hooks, time.Since(begin))
	}
	return hooks - version
}

func BenchmarkHookWithoutASensor(b *testing.B) {
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "/proc/self/exe", "hook", "claude-code")
		cmd.Env = []string{asCommand + "=1", client.EnvSocket + "=/nonexistent"}
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// Under sudo the agent is often not in PATH.
func TestHookInstallFindsTheAgentWhereInstallersPutIt(t *testing.T) {
	for _, c := range []struct {
		name, place, version string // where a program is, and what it says
		npmrc                string
		args                 []string
		hooks                int
		says                 string // "": nothing about versions
	}{
		{name: "nowhere", hooks: 4, says: "claude is neither in PATH nor where installers put it: taken for 2.1.197 or later"},
		{name: "by its own installer", place: ".local/bin", version: "2.1.332 (Claude Code)", hooks: 4},
		{name: "by npm of a node of nvm", place: ".nvm/versions/node/v22.1.0/bin", version: "2.1.100", hooks: 2, says: "/bin/claude is 2.1.100: after an update, install again"},
		{name: "by npm with a prefix", place: "my/node/bin", version: "2.1.100", npmrc: "x=y\nprefix = ${HOME}/my/node\n", hooks: 2, says: "my/node/bin/claude is 2.1.100"},
		{name: "one that says nothing", place: ".local/bin", version: "", hooks: 4, says: "does not say its version"},
		{name: "another one is meant", place: ".local/bin", version: "2.1.332", args: []string{"--agent-version", "2.0.30"}, hooks: 2, says: "this is to be 2.0.30"},
		{name: "nowhere, and the user knows", args: []string{"--agent-version", "2.1.197"}, hooks: 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.place != "" {
				write(filepath.Join(home, c.place, "claude"), "#!/bin/sh\necho '"+c.version+"'\n")
			}
			if c.npmrc != "" {
				write(filepath.Join(home, ".npmrc"), c.npmrc)
			}
			r := hookChange(t, home, append([]string{"install", "claude-code"}, c.args...)...)
			text, err := os.ReadFile(filepath.Join(home, ".claude", "settings.json"))
			if n := strings.Count(string(text), " hook claude-code"); r.code != 0 || err != nil || n != c.hooks {
				t.Errorf("%d hooks, want %d, %v: %s", n, c.hooks, err, describeResult(r))
			}
			if !strings.Contains(r.stdout, c.says) || c.says == "" && strings.Contains(r.stdout, "2.1.197") {
				t.Errorf("says %s", r.stdout)
			}
		})
	}
	if r := hookChange(t, t.TempDir(), "install", "claude-code", "--agent-version", "new"); r.code == 0 || !strings.Contains(r.stderr, "--agent-version new") {
		t.Error(describeResult(r))
	}
}

// answers writes a file before it gives the answer.
type answers struct{ file, text string }

func (a answers) Read(p []byte) (int, error) {
	if err := os.WriteFile(a.file, []byte(a.text), 0o600); err != nil {
		return 0, err
	}
	return copy(p, "y\n"), io.EOF
}

// The agent writes its settings as well, while the user reads the question.
func TestSettingsThatChangeMeanwhileAreLeftAlone(t *testing.T) {
	for _, c := range []struct{ before, meanwhile string }{{"{}\n", `{"model": "new"}`}, {"", `{"model": "new"}`}} {
		file := filepath.Join(t.TempDir(), "settings.json")
		if c.before != "" {
			if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := newHookInstall()
		cmd.SetArgs([]string{"codex", "--file", file})
		cmd.SetIn(answers{file, c.meanwhile})
		cmd.SetOut(io.Discard)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err := cmd.Execute()
		if text, _ := os.ReadFile(file); err == nil || !strings.Contains(err.Error(), "changed meanwhile") || string(text) != c.meanwhile {
			t.Errorf("%v: %s", err, text)
		}
	}
}

func TestHookInstallShowsTheChangeAndUninstallUndoesIt(t *testing.T) {
	home := t.TempDir()
	run := func(stdin string, args ...string) result {
		t.Helper()
		cmd := sheetbend(t, append([]string{"hook"}, args...)...)
		cmd.Env = append(cmd.Env, "HOME="+home, "CLAUDE_CONFIG_DIR=", "CODEX_HOME=")
		cmd.Stdin = strings.NewReader(stdin)
		return finish(t, cmd)
	}
	settings := filepath.Join(home, ".claude", "settings.json")
	const mine = "{\n  \"model\": \"opus\"\n}\n"
	if err := os.MkdirAll(filepath.Dir(settings), 0o700); err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(home, "dotfiles.json")
	if err := os.WriteFile(real, []byte(mine), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, settings); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, _ := os.ReadFile(name)
		return string(text)
	}

	r := run("", "install", "claude-code")
	if r.code != exitUsage || !strings.Contains(r.stderr, "--yes") || !strings.Contains(r.stdout, "+ ") || read(settings) != mine {
		t.Errorf("asked nobody: %s", describeResult(r))
	}
	r = run("", "install", "claude-code", "--yes")
	if r.code != 0 || !strings.Contains(r.stdout, `+         "matcher": "*"`) || strings.Contains(r.stdout, `-   "model"`+"\n-") {
		t.Error(describeResult(r))
	}
	with := read(settings)
	if !strings.Contains(with, "PreToolUse") || !strings.Contains(with, " hook claude-code") || !strings.HasPrefix(with, "{\n  \"model\": \"opus\",\n") {
		t.Errorf("%s", with)
	}
	st, err := os.Lstat(settings)
	if err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is replaced")
	}
	if st, err := os.Stat(real); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("the mode has changed: %v", st.Mode())
	}
	if r := run("", "install", "claude-code", "--yes"); r.code != 0 || !strings.Contains(r.stdout, "nothing to do") || read(settings) != with {
		t.Errorf("a second time: %s", describeResult(r))
	}
	if r := run("", "uninstall", "claude-code", "--yes"); r.code != 0 || read(settings) != mine {
		t.Errorf("%s\n%s", describeResult(r), read(settings))
	}

	codex := filepath.Join(home, ".codex", "hooks.json")
	if r := run("", "install", "codex", "-y"); r.code != 0 || !strings.Contains(r.stdout, "/hooks") || !strings.Contains(read(codex), " hook codex") {
		t.Error(describeResult(r))
	}
	if r := run("", "uninstall", "codex", "-y"); r.code != 0 || read(codex) != "" {
		t.Errorf("the file is left: %s", describeResult(r))
	}
	if err := os.WriteFile(real, []byte("{ // mine\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run("", "install", "claude-code", "-y"); r.code == 0 || !strings.Contains(r.stderr, "is not changed") || read(real) != "{ // mine\n}" {
		t.Error(describeResult(r))
	}
	if r := run("", "install", "emacs"); r.code != exitUsage || !strings.Contains(r.stderr, "claude-code or codex") {
		t.Error(describeResult(r))
	}
}
