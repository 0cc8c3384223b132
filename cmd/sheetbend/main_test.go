// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// asCommand makes the test binary be sheetbend: what is tested is the whole program, and the
// tests need nothing but themselves.
const asCommand = "SHEETBEND_TEST_AS_COMMAND"

// asHolder makes it a program that keeps connections to a socket open until its input ends.
const asHolder = "SHEETBEND_TEST_AS_HOLDER"

func hold(socket string) int {
	for range 32 {
		if _, err := net.Dial("unix", socket); err != nil {
			return 1
		}
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestMain(m *testing.M) {
	beStage()
	own := func(arg string) bool { return slices.Contains([]string{monitorName, dialerName, closerName}, arg) }
	if os.Getenv(asCommand) == "1" && os.Args[1] != asPrepared || slices.ContainsFunc(os.Args[1:], own) {
		_ = os.Unsetenv(asCommand)
		os.Exit(execute(context.Background(), os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == asReporter {
		os.Exit(reportSignals())
	}
	if len(os.Args) > 2 && os.Args[1] == asPrepared {
		fmt.Fprintln(os.Stderr, prepared(os.Args[2:]))
		os.Exit(1)
	}
	if text := os.Getenv(asCapable); text != "" {
		_ = os.Unsetenv(asCapable)
		fmt.Fprintln(os.Stderr, beCapable(text))
		os.Exit(1)
	}
	if socket := os.Getenv(asHolder); socket != "" {
		os.Exit(hold(socket))
	}
	if what := os.Getenv(asPeer); what != "" {
		os.Exit(peerTo(what))
	}
	if url := os.Getenv(asClient); url != "" {
		os.Exit(getURL(url))
	}
	if os.Getenv(asUnknown) != "" {
		os.Exit(beUnknown())
	}
	if address := os.Getenv(asResolver); address != "" {
		os.Exit(resolveAt(address))
	}
	// Under nohup the commands of the tests would inherit that SIGHUP is ignored; a caught signal
	// is the default one again after exec.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	os.Exit(m.Run())
}

// patience bounds every wait. Machines are shared; nothing depends on the time it takes.
const patience = time.Minute

// sheetbend is the command, with no OTEL_ variables but those given.
func sheetbend(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	// Also after a change of user: the directory of the test binary is private.
	if len(args) > 1 && args[0] == "sensor" {
		args = append([]string{"sensor", "--no-pin"}, args[1:]...) // nothing of a test stays in the kernel
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "OTEL_") && !strings.HasPrefix(pair, "SUDO_") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, asCommand+"=1")
	return cmd
}

// A result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// shellCode is what a shell says of an ended command: its exit code, or 128+N if signal N ended it.
func shellCode(cmd *exec.Cmd) int {
	if status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return result{shellCode(cmd), stdout.String(), stderr.String()}
}

func sheetbendRun(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, sheetbend(t, args...))
}

// needRoot gives the host's cgroup mount to tests that need the kernel.
func needRoot(t *testing.T) cgroup.Mount {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: loads BPF programs and makes cgroups")
	}
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A listener reads the output of a running command as it comes.
type listener struct {
	t    *testing.T
	data chan []byte
	seen strings.Builder
}

func listen(t *testing.T, r io.Reader) *listener {
	l := &listener{t: t, data: make(chan []byte)}
	done := t.Context().Done()
	go func() {
		defer close(l.data)
		for {
			buf := make([]byte, 4096)
			n, err := r.Read(buf)
			if n > 0 {
				select {
				case l.data <- buf[:n]:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return l
}

// hear waits until the text has come.
func (l *listener) hear(text string) string {
	l.t.Helper()
	timeout := time.After(patience)
	for !strings.Contains(l.seen.String(), text) {
		select {
		case b, ok := <-l.data:
			if !ok {
				l.t.Fatalf("ended without %q: %q", text, l.seen.String())
			}
			l.seen.Write(b)
		case <-timeout:
			l.t.Fatalf("waited in vain for %q: %q", text, l.seen.String())
		}
	}
	return l.seen.String()
}

// rest is everything until the end.
func (l *listener) rest() string {
	for b := range l.data {
		l.seen.Write(b)
	}
	return l.seen.String()
}

func TestMistakesOnTheCommandLineAreOneSentenceWithWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown command names the nearest", []string{"rnu"}, exitUsage, "did you mean run?"},
		{"and how to run a program of that name", []string{"foo"}, exitUsage, "sheetbend run -- foo"},
		{"any other word is shown how to run it", []string{"claude"}, exitUsage, "sheetbend run -- claude"},
		{"an unknown flag points to the help", []string{"run", "--nope"}, exitSheetbend, "see sheetbend run --help"},
		{"run without a command", []string{"run"}, exitSheetbend, "sheetbend run -- CMD"},
		{"a protocol of no endpoint", []string{"run", "--otlp-protocol", "grpc", "--", "true"}, exitSheetbend, "goes with --otlp-endpoint"},
		{"a protocol that is not spoken", []string{"run", "--otlp-endpoint", "http://h", "--otlp-protocol", "http", "--", "true"}, exitSheetbend, "not one of grpc, http/protobuf"},
		{"record without a file", []string{"record", "--", "true"}, exitUsage, "--output FILE"},
		{"record without anything to watch", []string{"record", "--output", "x"}, exitUsage, "-- CMD ARGS, or --config FILE"},
		{"record to standard output", []string{"record", "--output", "-", "--", "true"}, exitUsage, "goes to a file"},
		{"run with its spans on the command's output", []string{"run", "--output", "-", "--", "true"}, exitSheetbend, "the command's own"},
		{"run with its records on the command's output", []string{"run", "--record", "-", "--", "true"}, exitSheetbend, "the command's own"},
		{"sensor without a configuration", []string{"sensor"}, exitUsage, "--config FILE"},
		{"replay without a file", []string{"replay"}, exitUsage, "one capture file"},
		{"replay of a file that is not there", []string{"replay", "/nonexistent"}, exitFailed, "no such file"},
		{"replay of a capture that was not written", []string{"replay", "/dev/null"}, exitFailed, "ends within its header"},
		{"replay of what is no capture", []string{"replay", "/proc/self/status"}, exitFailed, "not a capture"},
		{"an unknown way with leftovers", []string{"run", "--leftovers", "eat", "--", "true"}, exitSheetbend, "report, wait, kill"},
		{"an unknown colour", []string{"run", "--color", "pink", "--", "true"}, exitSheetbend, "auto, always, never"},
		{"an unknown hook form", []string{"run", "--open-hook", "kprobe", "--", "true"}, exitSheetbend, "auto, trampoline, tracepoint"},
		{"an unknown user", []string{"run", "--user", "no-such-user", "--", "true"}, exitSheetbend, "no such user"},
		{"a command that is not there", []string{"run", "--", "no-such-command"}, exitNotFound, "command not found"},
		{"a path that is not there", []string{"run", "--", "/no/such/command"}, exitNotFound, "no such file"},
		{"a file that is no program", []string{"run", "--", "/proc/self/status"}, exitNotExecutable, "cannot be executed"},
		{"a directory", []string{"run", "--", "/proc"}, exitNotExecutable, "cannot be executed"},
		{"a configuration that is not there", []string{"run", "--config", "/nonexistent", "--", "true"}, exitSheetbend, "no such file"},
		{"terminal escapes in an argument are shown, not sent", []string{"run", "--", "no\x1b[31m\nsuch"}, exitNotFound, `no\x1b[31m`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sheetbendRun(t, c.args...)
			if r.code != c.code || !strings.Contains(r.stderr, c.says) {
				t.Errorf("exit code %d, %q; want %d, %q", r.code, r.stderr, c.code, c.says)
			}
			if !strings.HasPrefix(r.stderr, "sheetbend: ") || strings.Count(r.stderr, "\n") != 1 || strings.Contains(r.stderr, "\x1b") {
				t.Errorf("not one line: %q", r.stderr)
			}
			if r.stdout != "" {
				t.Errorf("on standard output: %q", r.stdout)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	for _, c := range newRoot().Commands() {
		switch c.Name() {
		case monitorName, dialerName, closerName, "version", "help", "completion":
			continue
		}
		r := sheetbendRun(t, c.Name(), "--help")
		if r.code != 0 || !strings.Contains(r.stdout, "Examples:") || !strings.Contains(r.stdout, "sheetbend "+c.Name()) {
			t.Errorf("%s --help: exit code %d, %s", c.Name(), r.code, r.stdout)
		}
	}
}

func TestVersionAndCompletionPrint(t *testing.T) {
	if r := sheetbendRun(t, "version"); r.code != 0 || !strings.Contains(r.stdout, "span contract 2\n") {
		t.Errorf("%+v", r)
	}
	if r := sheetbendRun(t, "--version"); r.code != 0 || !strings.HasPrefix(r.stdout, "sheetbend ") {
		t.Errorf("%+v", r)
	}
	if r := sheetbendRun(t, "completion", "bash"); r.code != 0 || !strings.Contains(r.stdout, "complete") {
		t.Errorf("exit code %d, %d bytes", r.code, len(r.stdout))
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ümläut":             "plain, ümläut",
		"\x1b[2J\r\n":               `\x1b[2J\x0d\x0a`,
		"\x9b31m\u009b":             "\uFFFD31m" + `\x9b`,
		"abc\u202edcba\u2066\u200f": `abc\u202edcba\u2066\u200f`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// cgroupOf waits for "0::PATH" on the output of a command that printed its /proc/self/cgroup.
func cgroupOf(t *testing.T, output string) string {
	t.Helper()
	for line := range strings.Lines(output) {
		if p, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "0::"); ok {
			return p
		}
	}
	t.Fatalf("no cgroup in %q", output)
	return ""
}

func exists(m cgroup.Mount, cg string) bool {
	_, err := m.ID(cg)
	return err == nil
}

func describeResult(r result) string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

func TestMessagesNameSheetbendOnce(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"replay"}, {"record"}, {"sensor"}} {
		if r := sheetbendRun(t, args...); r.code != exitUsage || strings.Count(r.stderr, "sheetbend") != 1 {
			t.Error(args, describeResult(r))
		}
	}
}
