// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

// drainWithin bounds how long the last output of a terminal is taken: what the command left running may write on and
// on.
const drainWithin = time.Second

// An ownTerminal is a pseudo terminal for a command that runs as another user than the one whose terminal sheetbend
// has. The command is in a session of its own, whose leader, the monitor, is its parent: so it can be stopped and
// continued as a shell's job.
type ownTerminal struct {
	outer  *os.File    // the terminal of standard input, opened anew
	modes  *term.State // of outer, at the start
	master *os.File
	slave  *os.File // held, so that the master does not end while nobody has it open
	stderr int      // what standard error was; -1: it is no terminal and was left alone

	monitor *exec.Cmd
	conn    *os.File // to the monitor
	reports chan fate
	inside  func(pid int) bool // a process of the sandbox
	pid     int                // of the command

	wake    [2]int // a pipe: woken, input is looked at anew; closed, it ends
	input   sync.WaitGroup
	copying chan struct{} // closed when the output's goroutine has ended
}

// canType says whether a process may put input into the terminal of its session: Linux since 6.2 may forbid it.
func canType() bool {
	text, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti")
	return err != nil || strings.TrimSpace(string(text)) != "0"
}

// needsTerminal says whether the command would share a terminal that is not its user's, and could type into it but
// for the filter.
func needsTerminal(who identity) bool {
	var st unix.Stat_t
	return who.other() && term.IsTerminal(0) && unix.Fstat(0, &st) == nil && st.Uid != who.credential.Uid && canType()
}

// openTerminal starts the command on a terminal of its own. Errors are those of a start.
func openTerminal(s *session, who identity, l launch) (_ *ownTerminal, err error) {
	t := &ownTerminal{stderr: -1, reports: make(chan fate, 16), inside: s.holds, wake: [2]int{-1, -1}}
	if err := t.open(who); err != nil {
		t.close()
		return nil, fmt.Errorf("make a terminal for the command: %w", err)
	}
	if err := t.start(s, who, l); err != nil {
		t.end()
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *ownTerminal) open(who identity) (err error) {
	if t.outer, err = os.OpenFile("/proc/self/fd/0", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	if t.modes, err = term.GetState(0); err != nil {
		return err
	}
	if t.master, t.slave, err = openPTY(int(who.credential.Uid)); err != nil {
		return err
	}
	modes, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return err
	}
	if err := control(t.slave, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, modes) }); err != nil {
		return err
	}
	t.resize()
	return unix.Pipe2(t.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK)
}

// start has the monitor start the command, and begins to pass on what is typed and shown.
func (t *ownTerminal) start(s *session, who identity, l launch) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "monitor")
	if err := unix.SetNonblock(pair[0], true); err != nil { // so that to close it ends a read of it
		return err
	}
	t.conn = os.NewFile(uintptr(pair[0]), "monitor")
	m := exec.Command("/proc/self/exe", monitorName)
	m.Stdin, m.Stdout, m.Stderr = t.slave, t.forCommand(os.Stdout), t.forCommand(os.Stderr)
	m.ExtraFiles = []*os.File{theirs, s.dir}
	m.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := closeOnExec(); err != nil {
		return err
	}
	err = signals.Inherit(m.Start)
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("start the monitor of the command's terminal: %w", err)
	}
	t.monitor = m
	c := who.credential
	err = gob.NewEncoder(t.conn).Encode(order{l.program, l.args, l.env, c.Uid, c.Gid, c.Groups, who.login})
	if err != nil {
		return fmt.Errorf("tell the monitor of the command's terminal: %w", err)
	}
	in := gob.NewDecoder(t.conn)
	var first fate
	if err := in.Decode(&first); err != nil {
		return fmt.Errorf("the monitor of the command's terminal has ended: %w", err)
	}
	switch {
	case first.Errno != 0:
		return first.Errno
	case first.Err != "":
		return errors.New(first.Err)
	}
	t.pid = first.PID
	go func() {
		defer close(t.reports)
		for {
			var r fate
			if in.Decode(&r) != nil {
				return
			}
			t.reports <- r
		}
	}()
	// What sheetbend says meanwhile takes the same way as what the command says: the outer terminal is raw.
	if t.isOuter(os.Stderr) {
		if t.stderr, err = unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return err
		}
		if err := control(t.slave, func(fd int) error { return unix.Dup3(fd, 2, 0) }); err != nil {
			return err
		}
	}
	t.raw()
	t.input.Go(t.copyInput)
	t.copyOutput()
	return nil
}

// isOuter says whether a file is the outer terminal.
func (t *ownTerminal) isOuter(f *os.File) bool {
	var a, b unix.Stat_t
	err := control(f, func(fd int) error { return unix.Fstat(fd, &a) })
	return err == nil && unix.Fstat(0, &b) == nil && a.Mode&unix.S_IFMT == unix.S_IFCHR && a.Rdev == b.Rdev
}

// forCommand is the terminal of the command in the place of the outer one; other files stay.
func (t *ownTerminal) forCommand(f *os.File) *os.File {
	if t.isOuter(f) {
		return t.slave
	}
	return f
}

// foreground says whether sheetbend may read and change the outer terminal without being stopped for it.
func (t *ownTerminal) foreground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp() // not the terminal of this session: nobody stops for it
}

// raw hands keys on as they are; the command's terminal makes signals and echoes of them.
func (t *ownTerminal) raw() {
	if t.foreground() {
		_, _ = term.MakeRaw(0)
	}
}

func (t *ownTerminal) resize() {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		_ = control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
	}
}

// copyInput passes keys on until the end. In the background it waits: to read would stop this process.
func (t *ownTerminal) copyInput() {
	buf := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(t.wake[0]), Events: unix.POLLIN}}
		if t.foreground() {
			fds = append(fds, unix.PollFd{Fd: 0, Events: unix.POLLIN})
		}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[0].Revents != 0 {
			if n, _ := unix.Read(t.wake[0], buf); n == 0 {
				return
			}
			continue
		}
		if len(fds) < 2 || fds[1].Revents == 0 {
			continue
		}
		n, err := unix.Read(0, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			n = copy(buf, "\x04") // the end, as one types it
		}
		if _, writeErr := t.master.Write(buf[:n]); writeErr != nil || err != nil {
			return
		}
	}
}

// copyOutput begins to pass on what the command says.
func (t *ownTerminal) copyOutput() {
	done := make(chan struct{})
	t.copying = done
	go func() {
		defer close(done)
		_, _ = io.Copy(onlyWriter{t.outer}, onlyReader{t.master})
	}()
}

// These keep io.Copy from system calls that terminals do not have.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// drain passes on what has been said up to now. The output goes on with copyOutput.
func (t *ownTerminal) drain() {
	if t.copying == nil {
		return
	}
	_ = t.master.SetReadDeadline(time.Now())
	<-t.copying
	until := time.Now().Add(drainWithin)
	buf := make([]byte, 4096)
	for time.Now().Before(until) {
		n := 0
		err := control(t.master, func(fd int) error {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} // it waits for what is on its way in the kernel
			if ready, err := unix.Poll(fds, 0); err != nil || ready == 0 {
				return err
			}
			var err error
			n, err = unix.Read(fd, buf)
			return err
		})
		if n <= 0 || err != nil {
			break
		}
		if _, err := t.outer.Write(buf[:n]); err != nil {
			break
		}
	}
	_ = t.master.SetReadDeadline(time.Time{})
}

// wait passes signals on until the command has ended, and stops when its terminal stopped it, so that the shell sees
// a stopped job. What keys send reaches the command alone.
func (t *ownTerminal) wait(sent <-chan signals.Sent) (syscall.WaitStatus, error) {
	command, err := os.FindProcess(t.pid)
	if err != nil {
		return 0, err
	}
	defer command.Release() //nolint:errcheck // it never fails
	for {
		select {
		case r, ok := <-t.reports:
			switch {
			case !ok:
				return 0, errors.New("the monitor of the command's terminal has ended")
			case !r.Status.Stopped():
				return r.Status, nil
			case terminalStop(r.Status.StopSignal()):
				if inJob(unix.Getppid()) { // else nobody would continue it
					t.drain()
					if t.foreground() {
						_ = term.Restore(0, t.modes)
					}
					signals.Stop(r.Status.StopSignal())
					t.refresh()
					t.copyOutput()
				}
				_ = unix.Kill(-t.pid, unix.SIGCONT)
			}
		case s := <-sent:
			if s.Signal == unix.SIGCONT || s.Signal == unix.SIGWINCH {
				t.refresh()
			}
			if s.Signal != unix.SIGWINCH && (s.Signal != unix.SIGCONT || stands(t.pid)) && !t.inside(s.From) {
				_ = s.PassTo(command)
			}
		}
	}
}

// refresh is to be called when the outer terminal may have become another: in size, or from the background.
func (t *ownTerminal) refresh() {
	t.resize()
	t.raw()
	_, _ = unix.Write(t.wake[1], []byte{0})
}

// end gives the outer terminal back: the command has ended. What it left running may still be heard.
func (t *ownTerminal) end() {
	t.drain()
	if t.stderr >= 0 {
		_ = unix.Dup3(t.stderr, 2, 0)
		_ = unix.Close(t.stderr)
		t.stderr = -1
	}
	if t.wake[1] >= 0 {
		_ = unix.Close(t.wake[1])
		t.wake[1] = -1
		if t.foreground() {
			_ = term.Restore(0, t.modes)
		}
	}
	if t.copying != nil {
		t.copyOutput()
	}
}

// close takes the terminal away: what the command left running there gets SIGHUP. It takes nil, too.
func (t *ownTerminal) close() {
	if t == nil {
		return
	}
	t.drain()
	if t.conn != nil {
		_ = t.conn.Close() // which ends the monitor
	}
	for _, f := range []*os.File{t.master, t.slave} {
		if f != nil {
			_ = f.Close()
		}
	}
	t.input.Wait()
	if t.wake[0] >= 0 {
		_ = unix.Close(t.wake[0])
	}
	if t.outer != nil {
		_ = t.outer.Close()
	}
	if t.monitor != nil {
		_ = t.monitor.Wait()
	}
}
