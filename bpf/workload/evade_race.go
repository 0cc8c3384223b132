// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raceScenarios change what a call refers to while it runs.
func raceScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-open-swap-name":    openSwapName,
		"evade-open-swap-link":    openSwapLink,
		"evade-open-swap-refused": openSwapRefused,
		"evade-open-swap-flags":   openSwapFlags,
	}
}

// RaceOpens is how many opens a race takes.
const RaceOpens = 400

// meanwhile runs swap over and over on another thread until f has returned.
func meanwhile(swap func(), f func() error) error {
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		runtime.LockOSThread()
		for !stop.Load() {
			swap()
		}
	})
	err := f()
	stop.Store(true)
	all.Wait()
	return err
}

// swapper is a name in memory of which one byte changes between a and b.
type swapper struct {
	bytes []byte
	at    int
}

func newSwapper(a string) *swapper {
	return &swapper{bytes: append([]byte(a), 0), at: len(a) - 1}
}

func (s *swapper) swap() {
	word := (*uint32)(unsafe.Pointer(uintptr(unsafe.Pointer(&s.bytes[s.at])) &^ 3))
	shift := uintptr(unsafe.Pointer(&s.bytes[s.at])) & 3 * 8
	atomic.StoreUint32(word, atomic.LoadUint32(word)^uint32('a'^'b')<<shift)
}

func (s *swapper) open() (int, error) {
	for {
		fd, _, code := unix.Syscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&s.bytes[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if code == 0 {
			return int(fd), nil
		}
		if code != unix.EINTR {
			return -1, code
		}
	}
}

// tellRace tells how often each file was opened, by the kernel's own word for the descriptor.
func (w *work) tellRace(opened map[string]int, requested string) error {
	for p, n := range opened {
		f := Fact{Kind: "open", Path: p, Access: "read", Count: n, Requested: requested, AnyRequest: requested == ""}
		if err := w.tell(f); err != nil {
			return err
		}
	}
	return nil
}

func openSwapName(w *work) error {
	a, err := w.file("swapped-a")
	if err != nil {
		return err
	}
	if _, err := w.file("swapped-b"); err != nil {
		return err
	}
	opened := map[string]int{}
	s := newSwapper(a)
	err = meanwhile(s.swap, func() error {
		for range RaceOpens {
			fd, err := s.open()
			if err != nil {
				return err
			}
			p, err := fdPath(fd)
			_ = unix.Close(fd)
			if err != nil {
				return err
			}
			opened[p]++
		}
		return nil
	})
	return errors.Join(err, w.tellRace(opened, ""))
}

// openSwapLink: the name in the call stays, what it points to does not.
func openSwapLink(w *work) error {
	for _, name := range []string{"target-a", "target-b"} {
		if _, err := w.file(name); err != nil {
			return err
		}
		if err := os.Symlink(name, w.path("to-"+name)); err != nil {
			return err
		}
	}
	link := w.path("to-target-a")
	swap := func() {
		_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, w.path("to-target-b"), unix.RENAME_EXCHANGE)
	}
	opened := map[string]int{}
	err := meanwhile(swap, func() error {
		for range RaceOpens {
			fd := -1
			err := ignoringEINTR(func() (err error) {
				fd, err = unix.Open(link, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				return err
			})
			if err != nil {
				return err
			}
			p, err := fdPath(fd)
			_ = unix.Close(fd)
			if err != nil {
				return err
			}
			opened[p]++
		}
		return nil
	})
	return errors.Join(err, w.tellRace(opened, link))
}

// openSwapRefused: neither name exists, and nobody but the kernel knows which of the two it looked for.
func openSwapRefused(w *work) error {
	s := newSwapper(w.path("nothing-a"))
	err := meanwhile(s.swap, func() error {
		for range RaceOpens {
			if _, err := s.open(); !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("got %w, the scenario expects ENOENT", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.tellSelf("")
}

// openSwapFlags: openat2 takes its flags from memory, too.
func openSwapFlags(w *work) error {
	p, err := w.file("swapped-flags")
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(p)
	if err != nil {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY}
	swap := func() { atomic.StoreUint64(&how.Flags, atomic.LoadUint64(&how.Flags)^unix.O_RDWR) }
	opened := map[string]int{}
	err = meanwhile(swap, func() error {
		for range RaceOpens {
			fd, _, code := unix.Syscall6(unix.SYS_OPENAT2, ^uintptr(99), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
			if code == unix.EINTR {
				continue
			}
			if code != 0 {
				return code
			}
			flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
			_ = unix.Close(int(fd))
			if err != nil {
				return err
			}
			access := "read"
			if flags&unix.O_ACCMODE == unix.O_RDWR {
				access = "read_write"
			}
			opened[access]++
		}
		return nil
	})
	for access, n := range opened {
		err = errors.Join(err, w.tell(Fact{Kind: "open", Path: p, Access: access, Count: n}))
	}
	return err
}
