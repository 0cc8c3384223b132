// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo terminal: keys go into master, the screen comes out of it.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave, err := openPTY(-1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	return master, slave
}

// onTerminal runs sheetbend as a terminal's session leader and foreground group.
func onTerminal(t *testing.T, args ...string) (cmd *exec.Cmd, keys *os.File, screen *listener) {
	t.Helper()
	return onTerminalWith(t, nil, args...)
}

func onTerminalWith(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, keys *os.File, screen *listener) {
	t.Helper()
	needRoot(t)
	master, slave := pty(t)
	cmd = sheetbend(t, args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	return cmd, master, listen(t, master)
}

func press(t *testing.T, keys *os.File, text string) {
	t.Helper()
	if _, err := keys.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestACommandCanUseTheTerminal(t *testing.T) {
	t.Parallel()
	cmd, keys, screen := onTerminal(t, "run", "--", "sh", "-c", `test -t 0 && echo ready; read line; echo "got <$line>"; exit 5`)
	screen.hear("ready")
	press(t, keys, "hello\n")
	screen.hear("got <hello>")
	shown := screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 || !strings.Contains(shown, "exit 5") || !strings.Contains(shown, "\x1b[") {
		t.Errorf("exit code %d, and a coloured tree: %q", code, shown)
	}
}

func TestTheInterruptKeyReachesTheCommandOnceAndNotSheetbend(t *testing.T) {
	t.Parallel()
	cmd, keys, screen := onTerminal(t, "run", "--", "sh", "-c",
		`n=0; trap 'n=$((n+1)); echo caught $n' INT; echo ready; while [ $n = 0 ]; do sleep 0.01; done; read line; echo "in all $n"; exit 6`)
	screen.hear("ready")
	press(t, keys, "\x03")
	screen.hear("caught 1")
	press(t, keys, "\n")
	screen.hear("in all 1")
	shown := screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(shown, "exit 6") {
		t.Errorf("exit code %d: %q", code, shown)
	}
}

// jobShell is a session leader that runs sheetbend as a job of its own and takes it back when it was stopped.
const jobShell = `set -m; "$0" run --quiet $2 -- sh -c "$1"; echo "back $?"; read line; fg >/dev/null; exit $?`

func onJobShell(t *testing.T, command, flags string) (cmd *exec.Cmd, keys *os.File, screen *listener) {
	t.Helper()
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	master, slave := pty(t)
	cmd = sheetbend(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", jobShell, self, command, flags}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	return cmd, master, listen(t, master)
}

func TestAStoppedCommandStopsSheetbendAndGoesOnWithIt(t *testing.T) {
	t.Parallel()
	cmd, keys, screen := onJobShell(t, `echo ready; kill -TSTP $$; echo went on; exit 7`, "")
	screen.hear("back ")
	press(t, keys, "\n")
	screen.hear("went on")
	screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d: %q", code, screen.seen.String())
	}
}

func TestOnlyStopsOfTheTerminalAreMirrored(t *testing.T) {
	for name, mirrored := range map[string]bool{"STOP": false, "TSTP": true, "TTIN": true, "TTOU": true} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", "kill -"+name+" $$")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // in a job of its own: not orphaned, so it can stop
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var info unix.Siginfo
			if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
				t.Error(err)
			}
			if _, got := stopped(cmd.Process.Pid); got != mirrored {
				t.Errorf("mirrored: %v, want %v", got, mirrored)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

func TestSheetbendStopsOnlyUnderAParentOfItsSession(t *testing.T) {
	other := exec.Command("cat") // until its input ends
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = other.Wait() }()
	for parent, want := range map[int]bool{0: false, 1: false, other.Process.Pid: false, os.Getpid(): true} {
		if got := inJob(parent); got != want {
			t.Errorf("parent %d: %v, want %v", parent, got, want)
		}
	}
}

func TestAKilledCommandLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	cmd, keys, screen := onTerminal(t, "run", "--", "sh", "-c", `stty raw -echo; kill -9 $$`)
	screen.rest()
	_ = cmd.Wait()
	modes, err := unix.IoctlGetTermios(int(keys.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if code := shellCode(cmd); code != 128+9 || modes.Lflag&unix.ECHO == 0 || modes.Lflag&unix.ICANON == 0 {
		t.Errorf("exit code %d, modes %+v: %q", code, modes, screen.seen.String())
	}
}

// asNobody runs a command on root's terminal as a user whose terminal that is not.
func asNobody(t *testing.T, script string) (cmd *exec.Cmd, keys *os.File, screen *listener) {
	t.Helper()
	return onTerminal(t, "run", "--quiet", "--user", "65534", "--", "sh", "-c", script)
}

func TestACommandOfAnotherUserHasATerminalOfItsOwn(t *testing.T) {
	t.Parallel()
	needRoot(t)
	master, slave := pty(t)
	defer slave.Close()
	size := func(rows, columns uint16) {
		t.Helper()
		if err := control(master, func(fd int) error {
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
		}); err != nil {
			t.Fatal(err)
		}
	}
	modes := func() (m *unix.Termios) {
		t.Helper()
		err := control(slave, func(fd int) (err error) { m, err = unix.IoctlGetTermios(fd, unix.TCGETS); return err })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	size(31, 71)
	before := modes()
	cmd := sheetbend(t, "run", "--quiet", "--user", "65534", "--", "sh", "-c",
		`trap 'echo caught; until test "$(stty size)" = "32 72"; do sleep 0.1; done; stty size' INT; test -t 0 && test -t 1 && test -t 2 && echo owned by $(stat -c %u $(tty)); stty size; stty -echo; echo ready
		read line || read line; echo "got <$line>" >/dev/tty; read line || read line; echo "then <$line>"; exit 7`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen := listen(t, master)
	screen.hear("owned by 65534")
	screen.hear("31 71")
	screen.hear("ready")
	press(t, master, "hello\n")
	screen.hear("got <hello>")
	size(32, 72)
	press(t, master, "\x03")
	screen.hear("caught")
	screen.hear("32 72")
	press(t, master, "again\n")
	screen.hear("then <again>")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d: %q", code, screen.seen.String())
	}
	if after := modes(); *after != *before {
		t.Errorf("modes %+v, before %+v", after, before)
	}
	if strings.Contains(screen.seen.String(), "^C\r\r") {
		t.Errorf("processed twice: %q", screen.seen.String())
	}
}

// Who is root, or got the descriptor outside of the filter, can type into the command's terminal all the same: nobody
// else reads it.
func TestWhatIsTypedIntoTheCommandsTerminalReachesNoOther(t *testing.T) {
	t.Parallel()
	needRoot(t)
	master, slave := pty(t)
	defer slave.Close()
	cmd := sheetbend(t, "run", "--quiet", "--user", "65534", "--", "sh", "-c", `echo "on <$(tty)>"; read line; echo "got <$line>"; sleep 100 & exit 3`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen := listen(t, master)
	_, name, _ := strings.Cut(screen.hear(">\r\n"), "on <")
	name, _, _ = strings.Cut(name, ">")
	if name == slave.Name() {
		t.Errorf("the command is on the terminal of who runs sheetbend: %s", name)
	}
	inner, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	for _, key := range []byte("typed\nid >pwned\n") {
		if err := control(inner, func(fd int) error {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&key)))
			if errno != 0 {
				return errno
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	screen.hear("got <typed>")
	_ = cmd.Wait()
	waits := 0
	err = control(slave, func(fd int) (err error) { waits, err = unix.IoctlGetInt(fd, unix.TIOCINQ); return err })
	if code := cmd.ProcessState.ExitCode(); code != 3 || err != nil || waits != 0 {
		t.Errorf("exit code %d, %v, %d bytes wait for the shell: %q", code, err, waits, screen.seen.String())
	}
}

func TestOtherFilesThanTheTerminalStayTheCommands(t *testing.T) {
	t.Parallel()
	needRoot(t)
	master, slave := pty(t)
	cmd := sheetbend(t, "run", "--quiet", "--user", "65534", "--", "sh", "-c", `test -t 0 && ! test -t 1 && test -t 2 && echo ready >&2 && echo "at the end <$(cat)>"; exit 4`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	listen(t, master).hear("ready")
	press(t, master, "line\n\x04")
	text, err := io.ReadAll(out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 || err != nil || string(text) != "at the end <line>\n" {
		t.Errorf("exit code %d, %v: %q", code, err, text)
	}
}

// isRaw waits until sheetbend passes keys on: before that, the end of input would be one of the outer terminal.
func isRaw(t *testing.T, keys *os.File) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for raw := false; !raw; {
		select {
		case <-tick.C:
			err := control(keys, func(fd int) error {
				modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
				raw = err == nil && modes.Lflag&unix.ICANON == 0
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		case <-timeout:
			t.Fatal("the terminal is not raw")
		}
	}
}

func TestTheStopKeyStopsACommandOnATerminalOfItsOwn(t *testing.T) {
	t.Parallel()
	cmd, keys, screen := onJobShell(t, `cat; echo went on; exit 7`, "--user 65534")
	// A shell that waits for the exec of what it has started (vfork) would not stop: let cat be there.
	isRaw(t, keys)
	press(t, keys, "first\n")
	screen.hear("first\r\nfirst")
	press(t, keys, "\x1a")
	screen.hear("back ")
	press(t, keys, "\n")
	isRaw(t, keys)
	press(t, keys, "more\n\x04")
	screen.hear("went on")
	screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 || strings.Count(screen.seen.String(), "more") < 2 {
		t.Errorf("exit code %d: %q", code, screen.seen.String())
	}
}

func TestAKillOfACommandOnATerminalOfItsOwnIsItsExitCode(t *testing.T) {
	t.Parallel()
	cmd, _, screen := asNobody(t, `stty raw -echo; kill -9 $$`)
	screen.rest()
	_ = cmd.Wait()
	if code := shellCode(cmd); code != 128+9 {
		t.Errorf("exit code %d: %q", code, screen.seen.String())
	}
	cmd, _, screen = onTerminal(t, "run", "--quiet", "--user", "65534", "--", "/proc/self/status")
	screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitNotExecutable {
		t.Errorf("exit code %d: %q", code, screen.seen.String())
	}
}

func TestOnlyRunStartsTheMonitor(t *testing.T) {
	cmd := sheetbend(t, monitorName)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Of another process than its parent.
	file := os.NewFile(uintptr(pair[1]), "pair")
	defer file.Close()
	defer unix.Close(pair[0])
	shell := exec.Command("/bin/sh", "-c", `"$0" "$1"; exit $?`, "/proc/"+strconv.Itoa(os.Getpid())+"/exe", monitorName)
	shell.Env, shell.ExtraFiles = cmd.Env, []*os.File{file}
	if r := finish(t, shell); r.code != exitUsage || !strings.Contains(r.stderr, "by sheetbend run alone") {
		t.Error(describeResult(r))
	}
}
