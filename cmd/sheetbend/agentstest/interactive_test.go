// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// A screen is a terminal that somebody sits at.
type screen struct {
	keys *os.File
	seen bytes.Buffer
}

// answers are what a terminal says when it is asked where its cursor is, and what it can.
var answers = map[string]string{"\x1b[6n": "\x1b[1;1R", "\x1b[c": "\x1b[?1;2c"}

// read takes what comes within a tenth of a second.
func (s *screen) read() {
	_ = s.keys.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buf := make([]byte, 1<<16)
	n, _ := s.keys.Read(buf)
	s.seen.Write(buf[:n])
	for ask, answer := range answers {
		for range bytes.Count(buf[:n], []byte(ask)) {
			_, _ = io.WriteString(s.keys, answer)
		}
	}
}

// sitAt runs a command on a terminal until over says so, ends the program of that name that works for it then, and gives
// what came on standard error.
func (d *desk) sitAt(over func() bool, name string, commandLine []string, agents ...realAgent) string {
	d.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer master.Close()
	var n int
	raw, err := master.SyscallConn()
	err = errors.Join(err, raw.Control(func(fd uintptr) {
		err = errors.Join(unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}))
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	}), err)
	if err != nil {
		d.t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	said, err := os.Create(filepath.Join(d.t.TempDir(), "stderr"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.CommandContext(ctx, commandLine[0], commandLine[1:]...)
	cmd.Env, cmd.Dir = append(d.environment(agents...), "TERM=xterm-256color"), d.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		d.t.Fatal(err)
	}
	s := &screen{keys: master}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	for ctx.Err() == nil {
		s.read()
		if d.types != nil {
			_, _ = io.WriteString(s.keys, d.types())
		}
		select {
		case <-ended:
			text, err := os.ReadFile(said.Name())
			if err != nil || !over() || len(d.model.Errors()) > 0 {
				d.t.Fatalf("%v; the model was asked %q, and could not answer %q; standard error: %s; the screen: %q",
					err, d.model.Requests(), d.model.Errors(), text, s.seen.Bytes())
			}
			return string(text)
		default:
		}
		if over() {
			for _, pid := range d.processes(name, commandLine[len(commandLine)-1]) {
				_ = unix.Kill(pid, unix.SIGTERM)
			}
		}
	}
	<-ended
	d.t.Fatalf("it did not end: the model was asked %q, and could not answer %q; the screen: %q", d.model.Requests(), d.model.Errors(), s.seen.Bytes())
	return ""
}

// processes gives those of the desk's home that run a program of this name with an argument.
func (d *desk) processes(name, arg string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		exe, _ := os.Readlink(dir + "/exe")
		env, _ := os.ReadFile(dir + "/environ")
		args, _ := os.ReadFile(dir + "/cmdline")
		if filepath.Base(exe) == name && bytes.Contains(env, []byte("HOME="+d.home+"\x00")) && bytes.Contains(args, []byte("\x00"+arg+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// endDaemons ends what agents have left behind at the desk, with the test.
func (d *desk) endDaemons(name, arg string) {
	for _, pid := range d.processes(name, arg) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func TestWhatCodexDoesOnATerminalIsSeenInEachRun(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	names := []string{"plain", "first", "second"}
	d := newDesk(t, dir, "", func(d *desk) (scripts []modeltest.Script) {
		for _, name := range names {
			scripts = append(scripts, modeltest.Script{Name: name, Turns: [][]modeltest.Call{{modeltest.Shell(d.read(name) + "; : >" + d.dir + "/" + name + ".done")}}})
		}
		return scripts
	})
	d.settle(codex)
	config, err := os.OpenFile(filepath.Join(d.home, ".codex/config.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(config, "[projects.%q]\ntrust_level = \"trusted\"\n", d.dir)
		err = errors.Join(err, config.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	line := func(name string) []string {
		return []string{filepath.Join(d.bin(), codex.command), "--sandbox", "danger-full-access", modeltest.Prompt(name)}
	}
	done := func(name string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(d.dir, name+".done"))
			return err == nil
		}
	}
	t.Cleanup(func() { d.endDaemons("codex", "app-server") })
	d.sitAt(done("plain"), "codex", line("plain"), codex)
	if len(d.processes("codex", "app-server")) == 0 {
		t.Error("the plain session has left no app-server: there is nothing to be kept from")
	}
	for _, name := range names[1:] {
		b := startBackend(t)
		said := d.sitAt(done(name), codex.command, slices.Concat([]string{os.Getenv(binEnv), "run", "--otlp-endpoint", b.url}, d.unfolded(nil), []string{"--"}, line(name)), codex)
		s := d.gather(b)
		call, _ := s.owner(name)
		if want := modeltest.ID(name, 0, 0); call != want {
			t.Errorf("%s was opened in call %q, want %q", name, call, want)
		}
		if by := attr(s.opens(name)[0], span.KeyAttribution); by != "call_id" {
			t.Errorf("%s: attribution %q", name, by)
		}
		if !strings.Contains(said, "codex is started with --no-daemon") || strings.Contains(said, "is not seen;") || strings.Contains(said, "still running") {
			t.Errorf("said %s", said)
		}
	}
}

func TestWhatClineDoesIsSeenInEachRun(t *testing.T) {
	t.Parallel()
	needAgents(t)
	dir := os.Getenv(moreEnv)
	if dir == "" {
		t.Skip("needs the agents of testdata/agents/more in " + moreEnv + ": `make agents-table` sees to that")
	}
	names := []string{"plain", "first", "second"}
	d := newDesk(t, dir, "", func(d *desk) (scripts []modeltest.Script) {
		for _, name := range names {
			scripts = append(scripts, modeltest.Script{Name: name, Turns: [][]modeltest.Call{{modeltest.Shell(d.read(name))}}})
		}
		return scripts
	})
	t.Cleanup(func() { d.endDaemons("cline", "--cline-hub-daemon") })
	bin := filepath.Join(d.bin(), "cline")
	alone := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Env, cmd.Dir = d.environment(cline), d.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	line := func(name string) []string {
		return []string{"--auto-approve", "true", "-P", "openai-compatible", "-m", "scripted", "-k", "none", modeltest.Prompt(name)}
	}
	alone("auth", "-p", "openai-compatible", "-k", "none", "-m", "scripted", "-b", d.model.URL()+"/v1")
	alone(line("plain")...)
	if len(d.processes("cline", "--cline-hub-daemon")) == 0 {
		t.Error("the plain run has left no hub: there is nothing to be kept from")
	}
	for _, name := range names[1:] {
		b := startBackend(t)
		said := d.run([]string{"--otlp-endpoint", b.url, "--leftovers", "report"}, append([]string{bin}, line(name)...), cline)
		s := d.gather(b)
		if by := attr(s.opens(name)[0], span.KeyAttribution); by != "inferred" {
			t.Errorf("%s: attribution %q", name, by)
		}
		if !strings.Contains(said, "cline is started with CLINE_SESSION_BACKEND_MODE") || strings.Contains(said, "is not seen;") || strings.Contains(said, "still running") {
			t.Errorf("said %s", said)
		}
	}
}
