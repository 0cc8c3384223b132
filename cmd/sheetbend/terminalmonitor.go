// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// An order is what the monitor starts.
type order struct {
	Program   string
	Args, Env []string
	UID, GID  uint32
	Groups    []uint32
	Login     bool
}

// A fate is what became of the command: it could not be started, or it was, or what wait4(2) says.
type fate struct {
	Err    string
	Errno  syscall.Errno
	PID    int
	Status syscall.WaitStatus
}

// monitorName is the command that starts another one in a session of its own. It is nobody's to call but run's.
const monitorName = "terminal-monitor"

func newMonitor() *cobra.Command {
	return &cobra.Command{
		Use: monitorName, Hidden: true, Short: "Start the command of run in the session of its terminal",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return monitor(os.NewFile(3, "run"), 4) },
	}
}

// madeByParent refuses a socket pair that the parent has not made: who could pass one could have anything done as root.
func madeByParent(fd int, name, by string) error {
	made, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(made.Uid) != os.Geteuid() || int(made.Pid) != os.Getppid() {
		return usageError("%s is started by %s alone", name, by)
	}
	return nil
}

// monitor leads the session of a terminal, which is standard input. It starts what it is told in the cgroup with that
// descriptor, tells what becomes of it, and ends when run closes the connection.
func monitor(conn *os.File, cgroup int) error {
	if err := madeByParent(3, monitorName, "sheetbend run"); err != nil {
		return err
	}
	// The terminal's signals are the command's. Caught, not ignored: the command would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
	var o order
	in, out := gob.NewDecoder(conn), gob.NewEncoder(conn)
	if err := in.Decode(&o); err != nil {
		return err
	}
	who := identity{credential: &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}, login: o.Login}
	cmd := &exec.Cmd{
		Path: o.Program, Args: o.Args, Env: o.Env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Credential: who.credential, UseCgroupFD: true, CgroupFD: cgroup, Setpgid: true,
		},
	}
	if err := start(cmd, who); err != nil {
		r := fate{Err: err.Error()}
		_ = errors.As(err, &r.Errno)
		return out.Encode(r)
	}
	pid := cmd.Process.Pid
	// Before that it may have read, and been stopped for it: that is undone below.
	if err := unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pid); err != nil {
		_ = cmd.Process.Kill()
		return out.Encode(fate{Err: fmt.Sprintf("give the command its terminal: %v", err)})
	}
	if err := out.Encode(fate{PID: pid}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // nothing more comes
		close(ended)
	}()
	started := true
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if status.Stopped() && started && (status.StopSignal() == unix.SIGTTIN || status.StopSignal() == unix.SIGTTOU) {
			started = false // it is in the foreground now
			_ = unix.Kill(-pid, unix.SIGCONT)
			continue
		}
		if err := out.Encode(fate{Status: status}); err != nil {
			return err
		}
		if !status.Stopped() {
			break
		}
	}
	<-ended
	return nil
}
