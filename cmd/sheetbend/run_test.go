// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

func TestRunExitsAsItsCommandAndLeavesNothing(t *testing.T) {
	t.Parallel()
	m := needRoot(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const where = "cat /proc/self/cgroup; "
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"success", []string{"sh", "-c", where + "exit 0"}, 0, ""},
		{"failure", []string{"sh", "-c", where + "exit 3"}, 3, ""},
		{"a signal", []string{"sh", "-c", where + "kill -9 $$"}, 128 + 9, ""},
		{"a script whose interpreter is missing", []string{write("bad-interpreter", "#!/no/such/interpreter\n")}, exitNotFound, "interpreter"},
		{"a script without a first line", []string{write("no-interpreter", "true\n")}, exitNotExecutable, "#!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sheetbendRun(t, append([]string{"run", "--quiet", "--"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.says) || c.says == "" && r.stderr != "" {
				t.Errorf("want exit code %d and %q; %s", c.code, c.says, describeResult(r))
			}
			if c.says != "" {
				return
			}
			if cg := cgroupOf(t, r.stdout); exists(m, cg) || !strings.HasPrefix(cg, runsCgroup+"/") {
				t.Errorf("the cgroup %s is left", cg)
			}
		})
	}
}

func TestRunPrintsItsEndOnStderrAndKeepsStdoutForTheCommand(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	r := sheetbendRun(t, "run", "--session", "s-1", "--", "sh", "-c", "echo out; echo x > "+dir+"/new; cat "+dir+"/new >/dev/null; cat "+dir+"/gone; exit 3")
	if r.code != 3 || r.stdout != "out\n" {
		t.Error(describeResult(r))
	}
	for _, part := range []string{"session s-1", "sh", "cat", "exit 3", dir + "/new", dir + "/gone", "nothing lost", "created "} {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("no %q at the end:\n%s", part, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "\x1b") {
		t.Error("colour without a terminal")
	}
	if r := sheetbendRun(t, "run", "--color", "always", "--", "false"); !strings.Contains(r.stderr, "\x1b[") {
		t.Error("no colour with --color always")
	}
	if r := sheetbendRun(t, "run", "--follow", "--", "true"); strings.Count(r.stderr, "exec") == 0 {
		t.Errorf("nothing followed:\n%s", r.stderr)
	}
}

func TestHostileArgumentsReachNeitherTheTerminalNorTheSpansUnescaped(t *testing.T) {
	t.Parallel()
	needRoot(t)
	out := filepath.Join(t.TempDir(), "spans.jsonl")
	r := sheetbendRun(t, "run", "--output", out, "--", "sh", "-c", ": a", "x\x1b]0;owned\x07\ny", "\xff\xfe", "\u202egpj.exe")
	if r.code != 0 {
		t.Fatal(describeResult(r))
	}
	for _, bad := range []string{"\x1b", "\x07", "\u202e", "\xff"} {
		if strings.Contains(r.stderr, bad) {
			t.Errorf("%q on the terminal:\n%q", bad, r.stderr)
		}
	}
	text, err := os.ReadFile(out)
	if err != nil || !utf8.Valid(text) {
		t.Fatalf("spans are not UTF-8 (%v)", err)
	}
	found := false
	for _, s := range parseSpans(t, text) {
		if v, ok := s.Attributes().Get("process.command_args"); ok && v.Slice().Len() == 6 {
			found = true
			if got := v.Slice().At(3).Str(); got != "x\x1b]0;owned\x07\ny" {
				t.Errorf("argument %q", got)
			}
			if flag, ok := s.Attributes().Get("sheetbend.utf8.repaired"); !ok || !flag.Bool() {
				t.Error("the repair is not flagged")
			}
		}
	}
	if !found {
		t.Errorf("no span with the six arguments in %s", text)
	}
}

// parseSpans reads the OTLP File Exporter format as another program would.
func parseSpans(t *testing.T, text []byte) (spans []ptrace.Span) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(lines.Bytes())
		if err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		for _, rs := range traces.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					spans = append(spans, s)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return spans
}

func attribute(s ptrace.Span, key string) string {
	v, ok := s.Attributes().Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}

func TestAReplayMakesTheSameBytes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	capture, live, again := filepath.Join(dir, "capture"), filepath.Join(dir, "live.jsonl"), filepath.Join(dir, "again.jsonl")
	r := sheetbendRun(t, "run", "--quiet", "--record", capture, "--output", live, "--",
		"sh", "-c", "i=0; while [ $i -lt 50 ]; do cat /proc/self/stat >"+dir+"/$i; i=$((i+1)); done; cat /nonexistent; sleep 0.3; exit 4")
	if r.code != 4 {
		t.Fatal(describeResult(r))
	}
	if r := sheetbendRun(t, "replay", "--output", again, capture); r.code != 0 || r.stderr != "" {
		t.Fatal(describeResult(r))
	}
	a, errA := os.ReadFile(live)
	b, errB := os.ReadFile(again)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Fatalf("%d and %d bytes differ (%v, %v)", len(a), len(b), errA, errB)
	}
	execs := 0
	for _, s := range parseSpans(t, a) {
		if attribute(s, "sheetbend.event") == "process.exec" {
			execs++
		}
	}
	if execs != 53 { // sh, 51 cat, sleep
		t.Errorf("%d execs in the spans, want 53", execs)
	}
	// Without flags: the tree.
	if r := sheetbendRun(t, "replay", capture); r.code != 0 || !strings.Contains(r.stdout, "exit 4") {
		t.Error(describeResult(r))
	}
	// A capture that is cut off is used as far as it goes, and said to be.
	whole, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(capture, whole[:len(whole)-7], 0o600); err != nil {
		t.Fatal(err)
	}
	if r := sheetbendRun(t, "replay", capture); r.code != exitFailed || !strings.Contains(r.stdout, "cat") || !strings.Contains(r.stderr, "ends within a record") {
		t.Error(describeResult(r))
	}
}

func TestRecordCapturesWithoutMakingSpans(t *testing.T) {
	t.Parallel()
	needRoot(t)
	capture := filepath.Join(t.TempDir(), "capture")
	if r := sheetbendRun(t, "record", "--output", capture, "--", "sh", "-c", "exit 5"); r.code != 5 || r.stderr != "" {
		t.Fatal(describeResult(r))
	}
	if info, err := os.Stat(capture); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if r := sheetbendRun(t, "replay", capture); r.code != 0 || !strings.Contains(r.stdout, "exit 5") {
		t.Error(describeResult(r))
	}
}

func TestAKilledRunIsCleanedByTheNext(t *testing.T) {
	m := needRoot(t)
	cmd := sheetbend(t, "run", "--quiet", "--", "sh", "-c", "cat /proc/self/cgroup; read line; true")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heard := listen(t, stdout)
	heard.hear("/sheetbend/run-")
	heard.hear("\n")
	cg := cgroupOf(t, heard.hear("0::"))
	pids, err := m.Procs(cg)
	if err != nil || len(pids) == 0 {
		t.Fatalf("processes %v (%v) in %s", pids, err, cg)
	}

	// While it lives, another run leaves it alone.
	if r := sheetbendRun(t, "run", "--", "true"); !exists(m, cg) || strings.Contains(r.stderr, cg) {
		t.Errorf("the living run's cgroup was touched: %s", describeResult(r))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = cmd.Process.Wait()
	// Its command runs on, and is left alone, too.
	if r := sheetbendRun(t, "run", "--", "true"); r.code != 0 || !exists(m, cg) || !strings.Contains(r.stderr, cg) {
		t.Errorf("want a line about %s: %s", cg, describeResult(r))
	}
	_ = stdin.Close()
	if err := m.WaitEmpty(t.Context(), cg); err != nil {
		t.Fatal(err)
	}
	if r := sheetbendRun(t, "run", "--", "true"); r.code != 0 || exists(m, cg) || strings.Contains(r.stderr, cg) {
		t.Errorf("want %s removed without a word: %s", cg, describeResult(r))
	}
}

func TestThroughSudoTheCommandRunsAsTheUserWhoCalledIt(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; env | grep ^SUDO_; cat /proc/self/status | grep CapEff"
	_, dir := another(t)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "spans.jsonl")
	cmd := sheetbend(t, "run", "--quiet", "--output", out, "--", "sh", "-c", script)
	cmd.Env = append(cmd.Env, "SUDO_UID=65534", "SUDO_GID=65534", "SUDO_USER=nobody", "SUDO_COMMAND=x", "HOME=/root", "USER=root", "LOGNAME=root")
	cmd.Dir = "/"
	r := finish(t, cmd)
	lines := strings.Split(r.stdout, "\n")
	if len(lines) < 5 || !slices.Equal(lines[:3], []string{"65534", "65534", "65534"}) {
		t.Fatal(describeResult(r))
	}
	if strings.Contains(r.stdout, "SUDO_") || !strings.Contains(r.stdout, "nobody nobody\n") || !strings.Contains(r.stdout, "0000000000000000") {
		t.Error(describeResult(r))
	}
	var st unix.Stat_t
	if err := unix.Stat(out, &st); err != nil || st.Uid != 65534 || st.Mode&0o777 != 0o600 || st.Size == 0 {
		t.Errorf("the output file is not the user's: %+v, %v", st, err)
	}
	cmd = sheetbend(t, "run", "--quiet", "--user", "root", "--", "sh", "-c", script)
	if r := finish(t, cmd); !strings.HasPrefix(r.stdout, "0\n0\n") {
		t.Errorf("--user root: %s", describeResult(r))
	}
	cmd = sheetbend(t, "run", "--quiet", "--user", "root", "--", "sh", "-c", script)
	cmd.Env = append(cmd.Env, "SUDO_UID=65534", "SUDO_GID=65534", "SUDO_USER=nobody")
	if r := finish(t, cmd); r.code != exitSheetbend || r.stdout != "" {
		t.Errorf("--user root of who called sudo: %s", describeResult(r))
	}
}

func TestWithoutRootRunSaysWhatToDo(t *testing.T) {
	t.Parallel()
	needRoot(t) // to become somebody else
	for says, args := range map[string][]string{
		"run needs root (or CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF): try sudo -E sheetbend run -- true":                     {"run", "--", "true"},
		"record needs root (or CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF): try sudo -E sheetbend record --output FILE -- true": {"record", "-o", "/nonexistent", "--", "true"},
	} {
		cmd := sheetbend(t, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		if r := finish(t, cmd); r.code != exitSheetbend || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("want %q: %s", says, describeResult(r))
		}
	}
}

func TestSignalsReachTheCommandWithoutATerminal(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal
		code         int
	}{
		{"TERM, which the command handles", "trap 'echo caught; exit 7' TERM", unix.SIGTERM, 7},
		{"INT, which the command handles", "trap 'echo caught; exit 8' INT", unix.SIGINT, 8},
		{"HUP, which ends it", "", unix.SIGHUP, 128 + 1},
		{"USR1, which ends it", "", unix.SIGUSR1, 128 + 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := sheetbend(t, "run", "--", "sh", "-c", c.script+"\necho ready; while :; do sleep 0.01; done")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no controlling terminal
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			heard := listen(t, stdout)
			heard.hear("ready")
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			heard.rest()
			_ = cmd.Wait()
			if code := shellCode(cmd); code != c.code || !strings.Contains(stderr.String(), "sh") {
				t.Errorf("exit code %d, want %d, and the tree: %s", code, c.code, stderr.String())
			}
		})
	}
}

func TestProcessesThatOutliveTheCommand(t *testing.T) {
	t.Parallel()
	m := needRoot(t)
	const script = "cat /proc/self/cgroup; (read line; exec sleep 0.05) <&3 >/dev/null 2>&1 & exit 4"
	start := func(t *testing.T, way string) (cmd *exec.Cmd, hold *os.File, stdout, stderr *listener) {
		t.Helper()
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = write.Close() })
		// Only stdin, stdout and stderr are inherited by the command: the pipe comes as stdin.
		cmd = sheetbend(t, "run", "--leftovers", way, "--", "sh", "-c", "exec 3<&0; "+script)
		cmd.Stdin = read
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		errs, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = read.Close()
		return cmd, write, listen(t, out), listen(t, errs)
	}
	t.Run("are reported and run on outside of the removed cgroup", func(t *testing.T) {
		cmd, hold, stdout, stderr := start(t, leftoversReport)
		said := stderr.rest()
		cg := cgroupOf(t, stdout.rest())
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said, "still running after sh: sh (") {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), said)
		}
		if exists(m, cg) {
			t.Errorf("the cgroup %s is left", cg)
		}
		if _, err := hold.WriteString("go\n"); err != nil { // the reader is alive
			t.Error(err)
		}
	})
	t.Run("are waited for", func(t *testing.T) {
		cmd, hold, stdout, stderr := start(t, leftoversWait)
		stderr.hear("waiting for sh (")
		if _, err := hold.WriteString("go\n"); err != nil {
			t.Fatal(err)
		}
		said := stderr.rest()
		cg := cgroupOf(t, stdout.rest())
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said, "sleep 0.05") || strings.Contains(said, "still running") || exists(m, cg) {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), said)
		}
	})
	t.Run("are no longer waited for after an interrupt", func(t *testing.T) {
		cmd, _, stdout, stderr := start(t, leftoversWait)
		stderr.hear("waiting for sh (")
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		said := stderr.rest()
		cg := cgroupOf(t, stdout.rest())
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said, "no longer waiting") || exists(m, cg) {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), said)
		}
	})
	t.Run("are killed", func(t *testing.T) {
		cmd, _, stdout, stderr := start(t, leftoversKill)
		said := stderr.rest()
		cg := cgroupOf(t, stdout.rest())
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said, "killed sh (") || exists(m, cg) {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), said)
		}
	})
}

func TestSpansThatCannotBeWrittenAreToldEvenWhenQuiet(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := sheetbendRun(t, "run", "--quiet", "--output", "/dev/full", "--", "sh", "-c", "exit 3")
	if r.code != 3 || !strings.Contains(r.stderr, "no space left") || !strings.Contains(r.stderr, "not written to /dev/full") {
		t.Error(describeResult(r))
	}
}

func TestAReaderThatDoesNotReadHoldsNeitherTheCommandNorTheEndUp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	// More than the 64 KiB that a pipe holds.
	r := sheetbendRun(t, "run", "--quiet", "--output", pipe, "--", "sh", "-c", "i=0; while [ $i -lt 200 ]; do /bin/true $i; i=$((i+1)); done; exit 4")
	if r.code != 4 || !strings.Contains(r.stderr, "not written to "+pipe) {
		t.Error(describeResult(r))
	}
}

func TestProcessesThatLeftTheCgroupAreLeftoversToo(t *testing.T) {
	t.Parallel()
	m := needRoot(t)
	// Its child comes after it has left, and is nowhere but in its lineage.
	const script = `sh -c 'echo $$ >"$0"/cgroup.procs; sleep 1000 & echo "pids $$ $!"; wait' "$0" </dev/null & read line; exit 4`
	start := func(t *testing.T, way string) (cmd *exec.Cmd, pids []int, stderr *listener) {
		t.Helper()
		cmd = sheetbend(t, "run", "--leftovers", way, "--", "sh", "-c", script, m.Dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		errs, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := listen(t, out)
		said.hear("pids ")
		line := said.hear("\n")
		pids = make([]int, 2)
		if _, err := fmt.Sscanf(line, "pids %d %d", &pids[0], &pids[1]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		t.Cleanup(func() {
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		})
		_ = in.Close()
		return cmd, pids, listen(t, errs)
	}
	named := func(said string, pids []int) bool {
		return strings.Contains(said, fmt.Sprintf("(%d)", pids[0])) && strings.Contains(said, fmt.Sprintf("(%d)", pids[1]))
	}
	lives := func(pid int) bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && !strings.Contains(string(text), ") Z ")
	}
	t.Run("they are reported and run on", func(t *testing.T) {
		cmd, pids, stderr := start(t, leftoversReport)
		stderr.hear("outside of the sandbox")
		said := stderr.hear("they run on")
		if !named(said, pids) || !lives(pids[0]) || !lives(pids[1]) {
			t.Errorf("want both of %v told of and alive: %s", pids, said)
		}
		_ = unix.Kill(pids[1], unix.SIGKILL) // they hold stderr
		stderr.rest()
		_ = cmd.Wait()
	})
	t.Run("they are killed", func(t *testing.T) {
		cmd, pids, stderr := start(t, leftoversKill)
		said := stderr.rest()
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said, "killed ") || !named(said, pids) || lives(pids[0]) || lives(pids[1]) {
			t.Errorf("exit code %d, alive %v %v: %s", cmd.ProcessState.ExitCode(), lives(pids[0]), lives(pids[1]), said)
		}
	})
	t.Run("they are waited for", func(t *testing.T) {
		cmd, pids, stderr := start(t, leftoversWait)
		if said := stderr.hear("waiting for "); !named(stderr.hear("ends the waiting"), pids) {
			t.Error(said)
		}
		_ = unix.Kill(pids[1], unix.SIGKILL)
		said := stderr.rest()
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 4 || strings.Contains(said, "still running") {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), said)
		}
	})
}

func TestTimesAreRightInATimeNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	out := filepath.Join(t.TempDir(), "spans.jsonl")
	before := time.Now()
	inner := sheetbend(t, "run", "--quiet", "--output", out, "--", "true")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", append([]string{"--time", "--boottime", "864000", "--", self}, inner.Args[1:]...)...)
	cmd.Env = inner.Env
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	spans := parseSpans(t, text)
	for _, s := range spans {
		if at := s.StartTimestamp().AsTime(); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%s at %s, and now it is %s", s.Name(), at, time.Now())
		}
	}
	if len(spans) == 0 {
		t.Error("no span")
	}
}

// What is meant for the agent, whose environment names a backend, keeps no command from being run.
func TestABackendOfTheAgentsThatCannotBeUsedIsALine(t *testing.T) {
	t.Parallel()
	needRoot(t)
	out := filepath.Join(t.TempDir(), "spans.jsonl")
	for _, env := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=ftp://h"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=thrift"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS=Authorization: Bearer SECRET"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE=/nonexistent"},
	} {
		for _, flags := range [][]string{{"--quiet"}, {"--quiet", "--output", out}} {
			cmd := sheetbend(t, slices.Concat([]string{"run"}, flags, []string{"--", "sh", "-c", "echo ran; exit 3"})...)
			cmd.Env = append(cmd.Env, env...)
			r := finish(t, cmd)
			if r.code != 3 || r.stdout != "ran\n" || strings.Count(r.stderr, "\n") != 1 || strings.Contains(r.stderr, "SECRET") {
				t.Errorf("%v %v: %s", env, flags, describeResult(r))
			}
		}
		cmd := sheetbend(t, "run", "--quiet", "--otlp-endpoint", "ftp://h", "--", "echo", "ran")
		if r := finish(t, cmd); r.code != exitSheetbend || r.stdout != "" {
			t.Errorf("asked for by a flag: %s", describeResult(r))
		}
	}
}

func TestWithoutAPathTheStandardOneIsUsed(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := sheetbend(t, "run", "--quiet", "--", "echo", "ran")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	if r := finish(t, cmd); r.code != 0 || r.stdout != "ran\n" {
		t.Error(describeResult(r))
	}
}

// What the kernel reports of execvp: it goes on where a directory may not be entered, and where a file may not be run.
func TestASearchOfPathIsNotNotable(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "plain": 0o755, "last": 0o755} {
		if err := errors.Join(os.Mkdir(dir+"/"+name, 0o755), os.WriteFile(dir+"/"+name+"/tool", []byte("#!/bin/sh\n"), 0o644),
			os.Chmod(dir+"/"+name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir+"/last/tool", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path    string
		notable int
	}{
		{"closed:plain:last", 0}, {"closed:plain:nowhere", 0}, {"nowhere:closed", 0}, {"closed:plain", 1}, {"closed", 1},
	} {
		out := filepath.Join(t.TempDir(), "spans.jsonl")
		path := strings.ReplaceAll(":"+c.path, ":", ":"+dir+"/")[1:]
		r := sheetbendRun(t, "run", "--output", out, "--", "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/env", "PATH="+path, "tool")
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		refused, told := 0, 0
		for _, s := range parseSpans(t, text) {
			if v, ok := s.Attributes().Get("sheetbend.event"); !ok || v.Str() != "process.exec.refused" {
				continue
			}
			refused++
			if _, ok := s.Attributes().Get("sheetbend.notable.event"); ok {
				told++
			}
		}
		if refused == 0 || told != c.notable || strings.Count(r.stderr, "was refused to run") != c.notable {
			t.Errorf("PATH=%s: %d execs were refused, %d are notable, want %d\n%s", c.path, refused, told, c.notable, describeResult(r))
		}
	}
}
