// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

// start starts the command. One that runs as another user gets no files but the standard ones, and a filter under which
// neither it nor what it starts can type into a terminal: the terminal is that of who runs sheetbend.
func start(cmd *exec.Cmd, who identity) error {
	if who.other() || who.login {
		if err := closeOnExec(); err != nil {
			return err
		}
	}
	if !who.other() {
		return signals.Inherit(cmd.Start)
	}
	return onOwnThread(func() error {
		if err := refuseTyping(); err != nil {
			return fmt.Errorf("keep the command from typing into the terminal: %w", err)
		}
		return signals.Inherit(cmd.Start) // forks this thread, with its filter
	})
}

// standard is one of the standard files for the command: closed if it was closed when sheetbend began.
func standard(f *os.File) *os.File {
	if signals.Closed(int(f.Fd())) {
		return nil
	}
	return f
}

// closeOnExec marks all files but the standard ones. Those of this program are marked; whoever started it may have
// left others open. close_range(2) can mark files only since Linux 5.11.
func closeOnExec() error {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("close the files that the command is not to have: %w", err)
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// An abi is one of the tables of system calls that a process can use.
type abi struct {
	arch   uint32   // AUDIT_ARCH_…
	ioctls []uint32 // the numbers of ioctl(2)
}

var abis = map[string][]abi{
	// x32 has the architecture of x86-64, and a number of its own.
	"amd64": {
		{unix.AUDIT_ARCH_X86_64, []uint32{16, 0x40000000 + 16, 0x40000000 + 514}}, {unix.AUDIT_ARCH_I386, []uint32{54}},
	},
	"arm64": {{unix.AUDIT_ARCH_AARCH64, []uint32{29}}, {unix.AUDIT_ARCH_ARM, []uint32{54}}},
}

// noTyping is a filter that refuses the two ways to put input into a terminal: TIOCSTI, and the selection of a
// console that TIOCLINUX pastes. The kernel takes the low half of the second argument for the command, so the filter
// looks at no more.
func noTyping(tables []abi) []bpf.Instruction {
	const offNumber, offArch, offSecond = 0, 4, 24 // of struct seccomp_data; both architectures are little endian
	refuse := bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	var p []bpf.Instruction
	for _, t := range tables {
		body := []bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: 4}}
		for i, n := range t.ioctls {
			body = append(body, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipTrue: uint8(len(t.ioctls) - i)})
		}
		body = append(body, allow,
			bpf.LoadAbsolute{Off: offSecond, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.TIOCSTI, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.TIOCLINUX, SkipTrue: 1},
			allow, refuse)
		p = append(p, bpf.LoadAbsolute{Off: offArch, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: t.arch, SkipTrue: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, refuse) // a table that is not known
}

// refuseTyping sets the filter for the calling thread. Only root becomes somebody else, and root needs no
// no_new_privs for it: sudo and the like go on to work in the command, under the filter.
func refuseTyping() error { return confine.SetFilter(noTyping(abis[runtime.GOARCH]), 0) }

// endedAlready says that a signal has come that ends sheetbend, as there is no command yet that could have it.
func endedAlready(sent <-chan signals.Sent) error {
	for {
		select {
		case got := <-sent:
			if !passing(got.Signal) {
				return endedBy(got.Signal)
			}
		default:
			return nil
		}
	}
}

// execute starts the command in the session's cgroup and waits for its end; owed is that of wait. own is the terminal
// that it got, to be closed when what it left running is not heard any more; nil if it shares that of sheetbend.
func (o *runOptions) execute(
	s *session, who identity, l launch, term *tty, sent <-chan signals.Sent,
) (status syscall.WaitStatus, owed unix.Signal, own *ownTerminal, err error) {
	if err := endedAlready(sent); err != nil {
		return 0, 0, nil, err
	}
	if needsTerminal(who) {
		if own, err = openTerminal(s, who, l); err != nil {
			return 0, 0, nil, startError(l.args[0], err)
		}
		status, err := own.wait(sent)
		own.end()
		if err != nil {
			own.close()
			return 0, 0, nil, err
		}
		return status, 0, own, nil
	}
	cmd := &exec.Cmd{
		Path: l.program, Args: l.args, Env: l.env,
		Stdin: standard(os.Stdin), Stdout: standard(os.Stdout), Stderr: standard(os.Stderr),
		SysProcAttr: &syscall.SysProcAttr{Credential: who.credential, UseCgroupFD: true, CgroupFD: int(s.dir.Fd())},
	}
	if err := start(cmd, who); err != nil {
		return 0, 0, nil, startError(l.args[0], err)
	}
	v := supervisor{cmd: cmd, term: term, inside: s.holds}
	if status, owed, err = v.wait(sent); err != nil {
		return 0, 0, nil, err
	}
	if status.Signaled() {
		term.restore()
	}
	return status, owed, nil, nil
}
