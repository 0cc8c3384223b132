// SPDX-License-Identifier: Apache-2.0

// Package signals lets a program that runs another one stand in for it. Go's library keeps three things from such a
// program: which signals were ignored and blocked when it began, who sent one, and how to end or stop by one as if
// nobody caught it. docs/design/wrapper.md has the reasons.
package signals

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ignore  = 1    // SIG_IGN
	last    = 64   // the greatest number of a signal
	siKill  = 0    // SI_USER: kill(2)
	siQueue = -1   // SI_QUEUE: sigqueue(3)
	siOwn   = 0x80 // SI_KERNEL
)

// An action is struct sigaction as rt_sigaction(2) has it on amd64 and arm64.
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// Written by the hook of start_*.s, before Go's library sets handlers of its own and opens what is closed of the three
// standard files. Where it is not built in (cgo), hooked stays 0.
var (
	hooked  uint64
	actions [last]action
	blocked uint64
	files   [3]int64 // what fcntl(fd, F_GETFD) gave
)

// pipe is where the handler of catch_*.s writes each siginfo_t.
var pipe int32 //nolint:unused // in assembly

// caught are the signals that Catch was given.
var caught []unix.Signal

// handlerAddress and restorerAddress are those of the code in catch_*.s.
func handlerAddress() uintptr
func restorerAddress() uintptr

// Ignored says whether a signal was ignored when this process began.
func Ignored(s unix.Signal) bool {
	if hooked == 0 {
		return signal.Ignored(s) // Go's library leaves a few alone
	}
	return s >= 1 && s <= last && actions[s-1].handler == ignore
}

// Closed says whether one of the standard files was closed when this process began. Go's library opens /dev/null then.
func Closed(fd int) bool { return hooked != 0 && files[fd] < 0 }

// A Sent is a signal with what the kernel says about its sender.
type Sent struct {
	unix.Signal
	code int32
	// From is the process that sent it; 0: the kernel, or one outside of this pid namespace.
	From int
	info [128]byte // siginfo_t
}

// ByKernel says whether the kernel sent it: for a key, a terminal that changed or is gone, a timer.
func (s Sent) ByKernel() bool { return s.code == siOwn }

// PassTo sends the signal on, with its value if it has one.
func (s Sent) PassTo(p *os.Process) error {
	var info *unix.Siginfo
	if s.code == siQueue {
		info = (*unix.Siginfo)(unsafe.Pointer(&s.info))
	}
	var sent error
	err := p.WithHandle(func(pidfd uintptr) { sent = unix.PidfdSendSignal(int(pidfd), s.Signal, info, 0) })
	if errors.Is(err, os.ErrNoHandle) {
		return p.Signal(s.Signal)
	}
	return errors.Join(err, sent)
}

func decode(info []byte) Sent {
	number := func(at int) int32 { return int32(binary.NativeEndian.Uint32(info[at:])) }
	s := Sent{Signal: unix.Signal(number(0)), code: number(8)}
	copy(s.info[:], info)
	if s.code == siKill || s.code == siQueue || s.code == -6 { // SI_TKILL
		s.From = int(number(16))
	}
	return s
}

// Catch catches signals from now on, also ignored ones. What this process sends itself is left out (Go's library does
// so, and the kernel at a broken pipe). It is to be called once.
func Catch(list ...unix.Signal) (<-chan Sent, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("catch signals: %w", err)
	}
	// As many as may wait in the kernel by default; refused where the user's pipes are large already.
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 1<<20)
	pipe, caught = int32(p[1]), list
	c := make(chan Sent, 64)
	go func() {
		r := os.NewFile(uintptr(p[0]), "signals")
		defer r.Close()
		var info [128]byte
		for {
			if _, err := io.ReadFull(r, info[:]); err != nil {
				return
			}
			if s := decode(info[:]); s.From != os.Getpid() {
				c <- s
			}
		}
	}()
	for _, s := range list {
		if err := handle(s); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func handle(s unix.Signal) error {
	const saSiginfo, saRestorer, saOnstack, saRestart = 4, 0x04000000, 0x08000000, 0x10000000
	a := action{handler: handlerAddress(), flags: saSiginfo | saOnstack | saRestart, mask: ^uint64(0)}
	if a.restorer = restorerAddress(); a.restorer != 0 {
		a.flags |= saRestorer
	}
	return set(s, a)
}

func set(s unix.Signal, a action) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&a)), 0, 8, 0, 0)
	if errno != 0 {
		return fmt.Errorf("catch %s: %w", unix.SignalName(s), errno)
	}
	return nil
}

// library are signals that stay as Go's library has them: it needs their handlers, for errors of the program and to stop
// its threads; where SIGCHLD is ignored, the end of a process is not told.
var library = []unix.Signal{
	unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGSYS, unix.SIGCHLD, unix.SIGURG,
	unix.SIGPROF, 32, 33,
}

// Inherit calls start, which starts a process that gets the ignored and the blocked signals of this one as they were
// when it began, but for those of the library.
func Inherit(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ignored []unix.Signal
	for s := unix.Signal(1); s <= last; s++ {
		if Ignored(s) && !slices.Contains(library, s) {
			ignored = append(ignored, s)
			signal.Ignore(s) // else the library makes it the default in the new process
			_ = set(s, action{handler: ignore})
		}
	}
	if hooked != 0 {
		at, now := mask(blocked), unix.Sigset_t{}
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &at, &now); err != nil {
			return fmt.Errorf("block the signals that were blocked: %w", err)
		}
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &now, nil) }()
	}
	err := start()
	for _, s := range ignored {
		if slices.Contains(caught, s) {
			_ = handle(s)
		}
	}
	return err
}

func mask(bits uint64) (m unix.Sigset_t) {
	m.Val[0] = bits
	return m
}

// Stop stops this process by a signal of the terminal, until it is continued.
func Stop(s unix.Signal) {
	raise(s)
	if slices.Contains(caught, s) {
		_ = handle(s)
	}
}

// Die ends this process by a signal, without a core. It returns where that does not end it: it is the first process of
// its pid namespace.
func Die(s unix.Signal) {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // the limit on cores is none for a program that takes them
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	raise(s)
}

// raise has a signal do what it does by default, to this thread: before the call returns.
func raise(s unix.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = set(s, action{})
	one, before := mask(1<<(s-1)), unix.Sigset_t{}
	if unix.PthreadSigmask(unix.SIG_UNBLOCK, &one, &before) == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	}
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), s)
}
