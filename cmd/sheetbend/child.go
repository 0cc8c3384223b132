// SPDX-License-Identifier: Apache-2.0

package main

import (
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

// exitCode is what a shell reports of an ended command.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}

// forwarded are the signals that end or steer a command. They are passed on, except those that
// the terminal has given to the command itself.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}

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

// foreground says whether keys like ^C reach this process's group, of which the command is one.
func (t *tty) foreground() bool {
	if t == nil {
		return false
	}
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
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

// watchSignals starts to catch signals, so that none ends sheetbend before the command has ended. A
// signal that was ignored from the start (nohup) stays so, here and in the command.
func watchSignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 64)
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	// SIGPIPE: a closed stderr must not end the tracing. SIGCHLD: the command may stop.
	signal.Notify(c, unix.SIGPIPE, unix.SIGCHLD)
	return c, func() { signal.Stop(c) }
}

// wait passes signals on until the command has ended, and stops when the terminal stopped it, so
// that the shell sees a stopped job. owed is the signal that ended the command if it has not come here
// yet: what ends a whole process group may come here last. Otherwise it is 0.
func wait(cmd *exec.Cmd, term *tty, signals <-chan os.Signal) (status syscall.WaitStatus, owed os.Signal, err error) {
	done := make(chan error, 1)
	seen := make(map[os.Signal]bool)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if cmd.ProcessState == nil {
				return 0, nil, fmt.Errorf("wait for the command: %w", err)
			}
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			by := status.Signal()
			if !status.Signaled() { // as the shells tell that a signal ended what they ran
				by = syscall.Signal(status.ExitStatus() - exitSignal)
			}
			if slices.Contains(forwarded, os.Signal(by)) && !seen[by] {
				owed = by
			}
			return status, owed, nil
		case s := <-signals:
			seen[s] = true
			switch s {
			case unix.SIGPIPE:
			case unix.SIGCHLD:
				if term != nil && stopped(cmd.Process.Pid) && inJob(unix.Getppid()) {
					_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
					_ = cmd.Process.Signal(unix.SIGCONT)
				}
			case unix.SIGINT, unix.SIGQUIT:
				if !term.foreground() {
					_ = cmd.Process.Signal(s)
				}
			default:
				_ = cmd.Process.Signal(s)
			}
		}
	}
}

// afterEnd tells of the signals that come once the command is gone: each asks sheetbend itself not to wait any
// longer. Those within endingWithin were meant for the command: what a key sends to both takes its time here, and
// nobody has seen yet that the command is gone. The first owed is its own, too, however late it comes. It ends with
// ctx.
func afterEnd(ctx context.Context, signals <-chan os.Signal, owed os.Signal) <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	ended := time.Now()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				switch {
				case s == unix.SIGCHLD || s == unix.SIGPIPE:
				case s == owed:
					owed = nil
				case time.Since(ended) < endingWithin:
				default:
					select {
					case asked <- s:
					default: // one that waits says it already
					}
				}
			}
		}
	}()
	return asked
}

// stopped says whether the child has been stopped by the terminal (or as it does) since it was last asked.
// SIGSTOP is somebody's who means that process alone: tracing goes on.
func stopped(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	if err != nil || info.Signo != int32(unix.SIGCHLD) {
		return false
	}
	// The part of siginfo_t for SIGCHLD on 64-bit machines, see asm-generic/siginfo.h; x/sys does not name it.
	child := (*struct {
		_      [4]int32 // signo, errno, code, padding
		_      int32    // pid
		_      uint32   // uid
		status int32
	})(unsafe.Pointer(&info))
	return terminalStop(syscall.Signal(child.status))
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
