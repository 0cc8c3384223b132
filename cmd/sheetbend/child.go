// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

// lookCommand finds the file of a command as the shell of who runs it does.
func lookCommand(name string, who identity) (file string, err error) {
	noRights := who.rights(func() error { // root may not see all of the user's files, nor the user all of root's
		file, err = lookPath(name, who.path)
		return nil
	})
	switch {
	case noRights != nil:
		return "", noRights
	case err == nil:
		return file, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EISDIR):
		return "", failed(exitNotExecutable, "%s cannot be executed: it has no permission to, or is a directory", name)
	case strings.Contains(name, "/"):
		return "", failed(exitNotFound, "%s: no such file", name)
	}
	hint := ""
	if os.Getenv("SUDO_UID") != "" && who.path == "" {
		hint = fmt.Sprintf(` (sudo may have replaced PATH: try sudo -E env "PATH=$PATH" sheetbend run -- %s)`, name)
	}
	return "", failed(exitNotFound, "%s: command not found%s", name, hint)
}

// lookPath is exec.LookPath with another PATH; "" is that of this process, and without any the standard one.
func lookPath(name, path string) (string, error) {
	if _, set := os.LookupEnv("PATH"); path == "" && !set {
		path = "/bin:/usr/bin" // as execvp has it
	}
	if path == "" || strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	missing := exec.ErrNotFound
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // as package exec: nothing is run because of where somebody stands
		}
		file, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil {
			return file, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			missing = err
		}
	}
	return "", missing
}

// startError gives the error of a failed start its exit code.
func startError(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return failed(exitNotFound, "%s: no such file, or the interpreter that it names does not exist", name)
	case errors.Is(err, unix.ENOEXEC):
		return failed(exitNotExecutable,
			"%s cannot be executed: it is no program, and a script needs a first line like #!/bin/sh", name)
	case errors.Is(err, unix.EACCES):
		return failed(exitNotExecutable, "%s cannot be executed by this user: permission denied", name)
	case errors.Is(err, unix.E2BIG):
		return failed(exitNotExecutable, "%s: the arguments are too long", name)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return failed(exitSheetbend, "start %s: the kernel refused clone3 into a cgroup or the change of user; "+
			"a seccomp filter (as in containers) may forbid it: %w", name, err)
	}
	return failed(exitSheetbend, "start %s: %w", name, err)
}

// ended is the error that has sheetbend end as its command has: by the signal that ended it, else with its exit code.
func ended(status syscall.WaitStatus) error {
	switch {
	case status.Signaled():
		return endedBy(status.Signal())
	case status.ExitStatus() != 0:
		return &exitError{code: status.ExitStatus()}
	}
	return nil
}

func endedBy(s syscall.Signal) error { return &exitError{exitSignal + int(s), killed(s)} }

// forwarded are the signals that are caught for the command. SIGTTIN and SIGTTOU stop sheetbend, too: to write on after
// one would only give the next.
var forwarded = func() []unix.Signal {
	list := []unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM,
		unix.SIGTERM, unix.SIGCONT, unix.SIGTSTP, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGWINCH, unix.SIGIO,
		unix.SIGPWR,
	}
	for s := unix.Signal(34); s <= 64; s++ { // the real-time ones that a C program can use
		list = append(list, s)
	}
	return list
}()

// passing by itself never ended a program nor meant that somebody does not want to wait.
func passing(s unix.Signal) bool {
	return s == unix.SIGCHLD || s == unix.SIGPIPE || s == unix.SIGWINCH || s == unix.SIGCONT || s == unix.SIGTSTP ||
		s == unix.SIGIO || s == unix.SIGXCPU || s == unix.SIGXFSZ || signals.Ignored(s)
}

// A tty is the controlling terminal of this process; nil if there is none.
type tty struct {
	file  *os.File
	modes *unix.Termios // at the start
}

func openTTY() *tty {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	modes, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	if err != nil {
		modes = nil
	}
	return &tty{file: file, modes: modes}
}

// restore undoes the modes that a killed command left. One that ended by itself may have
// meant them (stty).
func (t *tty) restore() {
	if t == nil || t.modes == nil {
		return
	}
	// The command may have given the terminal to another group; setting it would stop this one.
	signal.Ignore(unix.SIGTTOU)
	_ = unix.IoctlSetTermios(int(t.file.Fd()), unix.TCSETS, t.modes)
}

func (t *tty) close() {
	if t != nil {
		_ = t.file.Close()
	}
}

// watchSignals starts to catch signals, so that none ends sheetbend before the command has ended.
func watchSignals() (<-chan signals.Sent, error) {
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // for Go's library: a closed stderr must not end the tracing
	return signals.Catch(forwarded...)
}

// A supervisor passes signals on to a command that shares the process group of sheetbend.
type supervisor struct {
	cmd    *exec.Cmd
	term   *tty
	inside func(pid int) bool // a process of the sandbox
}

// wait passes signals on until the command has ended, and stops when the terminal stopped it, so that the shell sees a
// stopped job. owed is the signal that ended the command if it has not come here yet: what ends a whole process group
// may come here last. Otherwise it is 0.
func (v *supervisor) wait(sent <-chan signals.Sent) (status syscall.WaitStatus, owed unix.Signal, err error) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	done := make(chan error, 1)
	seen := make(map[unix.Signal]bool)
	go func() { done <- v.cmd.Wait() }()
	v.mirrorStop() // it may have been stopped before anybody listened
	for {
		select {
		case err := <-done:
			if v.cmd.ProcessState == nil {
				return 0, 0, fmt.Errorf("wait for the command: %w", err)
			}
			status, _ := v.cmd.ProcessState.Sys().(syscall.WaitStatus)
			by := status.Signal()
			if !status.Signaled() { // as the shells tell that a signal ended what they ran
				by = syscall.Signal(status.ExitStatus() - exitSignal)
			}
			if slices.Contains(forwarded, by) && !seen[by] {
				owed = by
			}
			return status, owed, nil
		case <-children:
			v.mirrorStop()
		case s := <-sent:
			seen[s.Signal] = true
			if v.means(s) {
				_ = s.PassTo(v.cmd.Process)
			}
		}
	}
}

// mirrorStop stops sheetbend if the terminal has stopped the command.
func (v *supervisor) mirrorStop() {
	if v.term == nil {
		return
	}
	by, stopped := stopped(v.cmd.Process.Pid)
	if !stopped || !inJob(unix.Getppid()) {
		return
	}
	signals.Stop(by)
	if stands(v.cmd.Process.Pid) { // what continues a job has continued both, unless the command has left its group
		_ = v.cmd.Process.Signal(unix.SIGCONT)
	}
}

// means says whether a signal is for the command and has not reached it yet. What the terminal sends goes to all of the
// process group. What a process of the sandbox sends to its group comes here, too. Whether somebody else meant sheetbend
// alone or the group, nobody can tell: then the command has it twice.
func (v *supervisor) means(s signals.Sent) bool {
	switch {
	case s.Signal == unix.SIGCONT:
		return stands(v.cmd.Process.Pid)
	case !s.ByKernel():
		return s.From == 0 || !v.inside(s.From)
	case s.Signal == unix.SIGHUP: // the terminal is gone, which its session's leader is told first
		leader, err := unix.Getsid(0)
		return err == nil && leader == unix.Getpid()
	}
	return s.Signal == unix.SIGALRM || s.Signal == unix.SIGVTALRM // a timer outlives exec(2)
}

// afterEnd tells of the signals that come once the command is gone: each asks sheetbend itself not to wait any
// longer. Those within endingWithin were meant for the command: what a key sends to both takes its time here, and
// nobody has seen yet that the command is gone. The first owed is its own, too, however late it comes. It ends with
// ctx.
func afterEnd(ctx context.Context, sent <-chan signals.Sent, owed unix.Signal) <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	ended := time.Now()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-sent:
				switch {
				case passing(s.Signal):
				case s.Signal == owed:
					owed = 0
				case time.Since(ended) < endingWithin:
				default:
					select {
					case asked <- s.Signal:
					default: // one that waits says it already
					}
				}
			}
		}
	}()
	return asked
}

// stopped says whether and by what the child has been stopped by the terminal (or as it does) since it was last asked.
// SIGSTOP is somebody's who means that process alone: tracing goes on.
func stopped(pid int) (syscall.Signal, bool) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	if err != nil || info.Signo != int32(unix.SIGCHLD) {
		return 0, false
	}
	// The part of siginfo_t for SIGCHLD on 64-bit machines, see asm-generic/siginfo.h; x/sys does not name it.
	child := (*struct {
		_      [4]int32 // signo, errno, code, padding
		_      int32    // pid
		_      uint32   // uid
		status int32
	})(unsafe.Pointer(&info))
	by := syscall.Signal(child.status)
	return by, terminalStop(by)
}

// stands says whether a process is stopped now.
func stands(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	at := bytes.LastIndexByte(stat, ')') // a name may hold anything
	return err == nil && bytes.HasPrefix(stat[at+1:], []byte(" T"))
}

func terminalStop(s syscall.Signal) bool {
	return s == unix.SIGTSTP || s == unix.SIGTTIN || s == unix.SIGTTOU
}

// inJob says whether somebody would see that this process stops and could continue it: its parent, if it is in
// the same session, as a shell or sudo is.
func inJob(parent int) bool {
	if parent <= 1 { // init, or one outside of this PID namespace
		return false
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	session, err := unix.Getsid(parent)
	return err == nil && session == own
}
