// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exchangeScenarios put something else behind a descriptor while the call that was given it runs. The call holds on to
// what it was given; whoever looks at the number when it has returned finds the other thing.
func exchangeScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-unix-exchanged":    unixExchanged,
		"evade-unix-both":         unixBoth,
		"evade-vsock-exchanged":   vsockExchanged,
		"evade-connect-exchanged": connectExchanged,
		"evade-getfd-exchanged":   getfdExchanged,
		"evade-setns-exchanged":   setnsExchanged,
		"evade-memory-gone":       memoryGone,
	}
}

func exchangeRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-unix-connect": func(w *work, args []string) error {
			return w.unixConnected(args[0], Fact{Address: args[0]}, unix.SOCK_STREAM)
		},
	}
}

// include/uapi/linux/userfaultfd.h
const (
	uffdAPI          = 0xaa
	uffdioAPI        = 0xc018aa3f
	uffdioRegister   = 0xc020aa00
	uffdioCopy       = 0xc028aa03
	uffdRegisterMiss = 1
	uffdMsgBytes     = 32
)

// heldUp makes a call that needs a page of memory which is not there: it waits for that page, and is in the middle of
// what it does then. So exchange is called, and the page made, with content; then after, if there is one.
func heldUp(call func(page uintptr) syscall.Errno, content []byte, exchange func() error, after func(page []byte) error) error {
	size := os.Getpagesize()
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(page) }()
	at := uintptr(unsafe.Pointer(unsafe.SliceData(page)))
	faults, _, code := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if code != 0 {
		return fmt.Errorf("userfaultfd: %w", code)
	}
	defer unix.Close(int(faults))
	api := [3]uint64{uffdAPI}
	if _, _, code = unix.Syscall(unix.SYS_IOCTL, faults, uffdioAPI, uintptr(unsafe.Pointer(&api))); code != 0 {
		return fmt.Errorf("ask for the interface of userfaultfd: %w", code)
	}
	register := [4]uint64{uint64(at), uint64(size), uffdRegisterMiss}
	if _, _, code = unix.Syscall(unix.SYS_IOCTL, faults, uffdioRegister, uintptr(unsafe.Pointer(&register))); code != 0 {
		return fmt.Errorf("register a page: %w", code)
	}
	done := make(chan syscall.Errno, 1)
	go func() { done <- call(at) }()
	err = ignoringEINTR(func() error { _, err := unix.Read(int(faults), make([]byte, uffdMsgBytes)); return err })
	if err == nil {
		err = exchange()
	}
	whole := make([]byte, size)
	copy(whole, content)
	fill := [5]uint64{uint64(at), uint64(uintptr(unsafe.Pointer(unsafe.SliceData(whole)))), uint64(size)}
	if _, _, code = unix.Syscall(unix.SYS_IOCTL, faults, uffdioCopy, uintptr(unsafe.Pointer(&fill))); code != 0 {
		return errors.Join(err, fmt.Errorf("fill the page: %w", code)) // the call goes on when the descriptor is closed
	}
	runtime.KeepAlive(whole)
	if after != nil && err == nil {
		err = after(page)
	}
	if code := <-done; err == nil && code != 0 {
		return code
	}
	return err
}

// exchanged connects fd, and calls exchange when the kernel has the socket and waits for the address.
func exchanged(fd int, address []byte, exchange func() error) error {
	return heldUp(func(page uintptr) syscall.Errno {
		_, _, code := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), page, uintptr(len(address)))
		return code
	}, address, exchange, nil)
}

func bytesOf[T any](address *T, n int) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(address)), n)...)
}

func rawUnix(name string) []byte {
	to := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range len(name) {
		to.Path[i] = int8(name[i])
	}
	if name[0] == '@' {
		to.Path[0] = 0
		return bytesOf(&to, 2+len(name))
	}
	return bytesOf(&to, 2+len(name)+1)
}

func (f family) raw(port int) []byte {
	network := uint16(port)<<8 | uint16(port)>>8
	if f.domain == unix.AF_INET {
		to := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: network, Addr: f.loopback.As4()}
		return bytesOf(&to, int(unsafe.Sizeof(to)))
	}
	to := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: network, Addr: f.loopback.As16()}
	return bytesOf(&to, int(unsafe.Sizeof(to)))
}

// unixListener is a listener at a path, or at an abstract name that begins with "@".
func unixListener(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func unixConnectedTo(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// aliens are what is put behind a descriptor: by name, how to make it; -1 closes the descriptor instead.
func (w *work) aliens(harmless, abstract string) map[string]func() (int, error) {
	made := func(family, kind int) func() (int, error) {
		return func() (int, error) { return unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0) }
	}
	return map[string]func() (int, error){
		"file":              func() (int, error) { return unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0) },
		"nothing":           func() (int, error) { return -1, nil },
		"unix":              made(unix.AF_UNIX, unix.SOCK_STREAM),
		"unix-harmless":     func() (int, error) { return unixConnectedTo(harmless) },
		"unix-abstract":     func() (int, error) { return unixConnectedTo(abstract) },
		"inet":              made(unix.AF_INET, unix.SOCK_STREAM),
		"inet-datagram":     made(unix.AF_INET, unix.SOCK_DGRAM),
		"netlink":           made(unix.AF_NETLINK, unix.SOCK_RAW),
		"path of no socket": func() (int, error) { return unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) },
	}
}

// replace puts what is behind other, a descriptor that it closes, behind fd; -1: nothing.
func replace(fd, other int) error {
	if other < 0 {
		return unix.Close(fd)
	}
	err := unix.Dup3(other, fd, unix.O_CLOEXEC)
	return errors.Join(err, unix.Close(other))
}

// unixExchanged connects unix sockets, of which each descriptor stands for something else when the call returns.
func unixExchanged(w *work) error {
	harmless, abstract := w.path("harmless"), fmt.Sprintf("@harmless-%d", os.Getpid())
	for _, name := range []string{harmless, abstract} {
		listener, err := unixListener(name)
		if err != nil {
			return err
		}
		defer unix.Close(listener)
	}
	for alien, open := range w.aliens(harmless, abstract) {
		for _, kind := range []string{"path", "abstract"} {
			secret := w.path("secret " + alien)
			if kind == "abstract" {
				secret = fmt.Sprintf("@secret-%d %s", os.Getpid(), alien)
			}
			listener, err := unixListener(secret)
			if err != nil {
				return err
			}
			defer unix.Close(listener)
			other, err := open()
			if err != nil {
				return fmt.Errorf("%s: %w", alien, err)
			}
			if name := map[string]string{"unix-harmless": harmless, "unix-abstract": abstract}[alien]; name != "" {
				if err := w.tell(Fact{Kind: "connect", Transport: "unix", Address: name, Requested: name}); err != nil {
					return err
				}
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := exchanged(fd, rawUnix(secret), func() error { return replace(fd, other) }); err != nil {
				return fmt.Errorf("connect %s: %w", alien, err)
			}
			if other >= 0 {
				_ = unix.Close(fd)
			}
			if err := w.tell(Fact{Kind: "connect", Transport: "unix", Address: secret, Exchanged: alien}); err != nil {
				return err
			}
		}
	}
	return nil
}

// unixBoth: neither the descriptor nor the address in memory is what the call was given, when it returns.
func unixBoth(w *work) error {
	secret := w.path("secret")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrUnix{Name: secret}), unix.Listen(listener, 0)); err != nil {
		return err
	}
	// One waits to be accepted, here one that is closed already. The next one waits in its call.
	if err := w.run(self("role-unix-connect", secret)); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	address := rawUnix(secret)
	tid := make(chan int, 1)
	err = heldUp(func(page uintptr) syscall.Errno {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		_, _, code := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), page, uintptr(len(address)))
		return code
	}, address, func() error { return unix.Close(fd) }, func(page []byte) error {
		// Who waits for a page cannot be interrupted; who waits for a listener can.
		if err := untilAsleep(<-tid); err != nil {
			return err
		}
		page[0] = unix.AF_INET
		accepted, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == nil {
			err = unix.Close(accepted)
		}
		return err
	})
	if err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "unix", Address: secret, Exchanged: "both"})
}

// untilAsleep waits until a thread waits for something in a way that a signal would end.
func untilAsleep(tid int) error {
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
		if err != nil {
			return err
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "S") {
			return nil
		}
		runtime.Gosched()
	}
}

// vsockExchanged does not wait: on some machines the connect is on its way when the call returns, on others it is
// refused.
func vsockExchanged(w *work) error {
	const port, times = 987654, 2
	to := unix.RawSockaddrVM{Family: unix.AF_VSOCK, Cid: unix.VMADDR_CID_LOCAL, Port: port}
	for range times {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if code, e := errno(err); e != nil || code != "" { // a kernel without vsock
			return errors.Join(e, w.tell(Fact{Kind: "socket", Family: "vsock", SockType: "stream", Errno: code}))
		}
		err = exchanged(fd, bytesOf(&to, int(unsafe.Sizeof(to))), func() error { return unix.Close(fd) })
		if errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
		code, err := errno(err)
		if err != nil {
			return err
		}
		if err := w.tell(Fact{Kind: "connect", Transport: "vsock", Address: fmt.Sprint(unix.VMADDR_CID_LOCAL), Port: port, Errno: code}); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "socket", Family: "vsock", SockType: "stream", Count: times})
}

// connectExchanged: the outcome of one connect is not that of another, whose socket is behind the descriptor then.
func connectExchanged(w *work) error {
	port, closeAll, err := w.fullListener()
	if err != nil {
		return err
	}
	defer closeAll()
	waiting, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(waiting, v4.at(port)); !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("got %w, the scenario expects a connect in progress", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	missing := w.path("missing")
	err = exchanged(fd, rawUnix(missing), func() error { return unix.Dup3(waiting, fd, unix.O_CLOEXEC) })
	if !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("got %w, the scenario expects ENOENT", err)
	}
	if err := errors.Join(unix.Close(fd), unix.Close(waiting)); err != nil {
		return err
	}
	if err := w.tell(Fact{Kind: "connect", Transport: "unix", Address: missing, Errno: "ENOENT"}); err != nil {
		return err
	}
	if err := w.tell(Fact{Kind: "connect", Transport: "tcp", Address: "127.0.0.1", Port: port, Errno: "ECANCELED"}); err != nil {
		return err
	}
	// Of UDP only the return of the call tells the outcome.
	peer, port, err := v4.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(peer)
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	held, err := unix.Dup(fd) // or there would be no socket any more of which to tell an outcome
	if err != nil {
		return err
	}
	defer unix.Close(held)
	if err := exchanged(fd, v4.raw(port), func() error { return unix.Close(fd) }); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "udp", Address: "127.0.0.1", Port: port})
}

// ExchangedCalls is how many calls of a kind succeed where no fault can hold them up: some of them find another
// descriptor when they return.
const ExchangedCalls = 2000

// flipping does a call on a descriptor behind which there are a and b in turn, until it succeeded often enough.
func flipping(a, b int, call func(fd int) error, refused ...error) error {
	fd, err := unix.FcntlInt(uintptr(a), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flip := func() {
		_ = unix.Dup3(b, fd, unix.O_CLOEXEC)
		_ = unix.Dup3(a, fd, unix.O_CLOEXEC)
	}
	return meanwhile(flip, func() error {
		for done := 0; done < ExchangedCalls; {
			err := call(fd)
			if err == nil {
				done++
				continue
			}
			expected := errors.Is(err, unix.EINTR)
			for _, r := range refused {
				expected = expected || errors.Is(err, r)
			}
			if !expected {
				return err
			}
		}
		return nil
	})
}

// getfdExchanged takes the standard output of a child, whose pidfd is another file at times, or that of another child.
// Of whom it was, the pipe tells.
func getfdExchanged(w *work) error {
	return w.child(func(a target) error {
		return w.child(func(b target) error {
			taken := map[uint64]int{}
			take := func(fd int) error {
				got, err := unix.PidfdGetfd(fd, 1, 0)
				if err != nil {
					return err
				}
				defer unix.Close(got)
				var pipe unix.Stat_t
				if err := unix.Fstat(got, &pipe); err != nil {
					return err
				}
				taken[pipe.Ino]++
				return nil
			}
			first, err := unix.PidfdOpen(a.pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(first)
			second, err := unix.PidfdOpen(b.pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(second)
			null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(null)
			if err := errors.Join(flipping(first, null, take, unix.EBADF), flipping(first, second, take)); err != nil {
				return err
			}
			for _, t := range []target{a, b} {
				var pipe unix.Stat_t
				if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/1", t.pid), &pipe); err != nil {
					return err
				}
				f := Fact{Count: taken[pipe.Ino], Exchanged: "at most"}
				if err := w.reached(t, "pidfd_getfd", nil, f); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// setnsExchanged joins the namespace that it is in already. The other descriptor is one of a user namespace, which a
// process with threads can never join.
func setnsExchanged(w *work) error {
	child := exec.Command("/proc/self/exe", "role-target")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return w.childAs(child, func(t target) error {
		own, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(own)
		user, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", t.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(user)
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(null)
		err = lockedThread(func() error {
			join := func(fd int) error { return unix.Setns(fd, 0) }
			if err := flipping(own, user, join, unix.EINVAL); err != nil {
				return err
			}
			return flipping(own, null, join, unix.EINVAL)
		})
		if err != nil {
			return err
		}
		return w.tell(Fact{Kind: "namespace", Op: "setns", Types: "uts", Count: 2 * ExchangedCalls, Exchanged: "at most"})
	})
}

// memoryGone reads the memory of a child that is over when the call returns.
func memoryGone(w *work) error {
	cmd := exec.Command("/proc/self/exe", "role-target")
	return w.childAs(cmd, func(t target) error {
		err := heldUp(func(page uintptr) syscall.Errno {
			local := [2]uintptr{page, uintptr(len(shared))} // struct iovec
			remote := unix.RemoteIovec{Base: uintptr(unsafe.Pointer(&shared)), Len: len(shared)}
			_, _, code := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(t.pid), uintptr(unsafe.Pointer(&local)), 1,
				uintptr(unsafe.Pointer(&remote)), 1, 0)
			return code
		}, nil, func() error { return errors.Join(cmd.Process.Kill(), ignoringKilled(cmd.Wait())) }, nil)
		if err != nil {
			return err
		}
		return w.reached(t, "process_vm_readv", nil, Fact{Count: 1, Exchanged: "at most"})
	})
}

// ignoringKilled is nil for a process that a signal has ended.
func ignoringKilled(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
