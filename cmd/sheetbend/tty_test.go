// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo terminal: keys go into master, the screen comes out of it.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { _ = master.Close() })
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
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
const jobShell = `set -m; "$0" run --quiet -- sh -c "$1"; echo "back $?"; read line; fg >/dev/null; exit $?`

func onJobShell(t *testing.T, command string) (cmd *exec.Cmd, keys *os.File, screen *listener) {
	t.Helper()
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	master, slave := pty(t)
	cmd = sheetbend(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", jobShell, self, command}
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
	cmd, keys, screen := onJobShell(t, `echo ready; kill -TSTP $$; echo went on; exit 7`)
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
			if got := stopped(cmd.Process.Pid); got != mirrored {
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
	if code := cmd.ProcessState.ExitCode(); code != 128+9 || modes.Lflag&unix.ECHO == 0 || modes.Lflag&unix.ICANON == 0 {
		t.Errorf("exit code %d, modes %+v: %q", code, modes, screen.seen.String())
	}
}
