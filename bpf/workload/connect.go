// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

func connectScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"connect-tcp":              func(w *work) error { return w.connectTCP(v4, 0) },
		"connect-tcp6":             func(w *work) error { return w.connectTCP(v6, 0) },
		"connect-tcp-mapped":       connectMapped,
		"connect-tcp-non-blocking": func(w *work) error { return w.connectTCP(v4, unix.SOCK_NONBLOCK) },
		"connect-tcp-refused":      func(w *work) error { return w.connectRefused(v4, 0) },
		"connect-tcp6-refused":     func(w *work) error { return w.connectRefused(v6, 0) },
		"connect-tcp-non-blocking-refused": func(w *work) error {
			return w.connectRefused(v4, unix.SOCK_NONBLOCK)
		},
		"connect-tcp-timed-out": connectTimedOut,
		"connect-tcp-given-up":  connectGivenUp,
		"connect-udp":           connectUDP,
		"send-udp":              func(w *work) error { return w.sendUDP(v4) },
		"send-udp6":             func(w *work) error { return w.sendUDP(v6) },
	}
}

type family struct {
	domain   int
	loopback netip.Addr
}

var (
	v4 = family{unix.AF_INET, netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	v6 = family{unix.AF_INET6, netip.IPv6Loopback()}
)

func (f family) at(port int) unix.Sockaddr {
	if f.domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: port, Addr: f.loopback.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: f.loopback.As16()}
}

// bound makes a socket on loopback at a port of the kernel's choice.
func (f family) bound(kind int) (fd, port int, err error) {
	fd, err = unix.Socket(f.domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Bind(fd, f.at(0)); err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("bind to %v: %w", f.loopback, err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fd, sa.Port, nil
	case *unix.SockaddrInet6:
		return fd, sa.Port, nil
	}
	_ = unix.Close(fd)
	return -1, 0, errors.New("a socket of another family")
}

// connected does one connect, waits for its outcome and tells of it.
func (w *work) connected(fd int, to unix.Sockaddr, f Fact) error {
	f.Kind = "connect"
	err := unix.Connect(fd, to)
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = outcome(fd)
	}
	code, err := errno(err)
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("connect: got %q, the scenario expects %q", code, f.Errno)
	}
	return w.tell(f)
}

func outcome(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if err := ignoringEINTR(func() error { _, err := unix.Poll(fds, -1); return err }); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func (w *work) connectTCP(f family, flags int) error {
	listener, port, err := f.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 8); err != nil {
		return err
	}
	fd, err := unix.Socket(f.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.connected(fd, f.at(port), Fact{Transport: "tcp", Address: f.loopback.String(), Port: port})
}

// connectMapped reaches an IPv4 listener through an IPv6 socket.
func connectMapped(w *work) error {
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 8); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: port, Addr: netip.AddrFrom16(v4.loopback.As16()).As16()}
	return w.connected(fd, to, Fact{Transport: "tcp", Address: v4.loopback.String(), Port: port})
}

func (w *work) connectRefused(f family, flags int) error {
	// Bound but not listening: nobody else can take the port meanwhile.
	holder, port, err := f.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(holder)
	fd, err := unix.Socket(f.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.connected(fd, f.at(port), Fact{Transport: "tcp", Address: f.loopback.String(), Port: port, Errno: "ECONNREFUSED"})
}

// fullListener makes a listener that answers no SYN any more: with a backlog of zero
// the kernel keeps one connection waiting, and this one is told.
func (w *work) fullListener() (port int, closeAll func(), err error) {
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return 0, nil, err
	}
	waiting, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(listener)
		return 0, nil, err
	}
	closeAll = func() {
		_ = unix.Close(waiting)
		_ = unix.Close(listener)
	}
	if err = unix.Listen(listener, 0); err == nil {
		err = w.connected(waiting, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port})
	}
	if err != nil {
		closeAll()
		return 0, nil, err
	}
	return port, closeAll, nil
}

func connectTimedOut(w *work) error {
	port, closeAll, err := w.fullListener()
	if err != nil {
		return err
	}
	defer closeAll()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// One repetition of the SYN and half a second in all, instead of two minutes.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500); err != nil {
		return err
	}
	return w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port, Errno: "ETIMEDOUT"})
}

// connectGivenUp closes the socket before there is an outcome.
func connectGivenUp(w *work) error {
	port, closeAll, err := w.fullListener()
	if err != nil {
		return err
	}
	defer closeAll()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, v4.at(port))
	if e := unix.Close(fd); e != nil {
		return e
	}
	if !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("got %w, the scenario expects a connect in progress", err)
	}
	return w.tell(Fact{Kind: "connect", Transport: "tcp", Address: "127.0.0.1", Port: port, Errno: "ECANCELED"})
}

func connectUDP(w *work) error {
	peer, port, err := v4.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(peer)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.connected(fd, v4.at(port), Fact{Transport: "udp", Address: "127.0.0.1", Port: port}); err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte("on a connected socket: nothing new to see"))
	return err
}

// sendUDP sends unconnected datagrams there and back; several to one destination are one fact.
func (w *work) sendUDP(f family) error {
	a, portA, err := f.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(a)
	b, portB, err := f.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(b)
	for range 5 {
		if err := unix.Sendto(a, []byte("there"), 0, f.at(portB)); err != nil {
			return err
		}
	}
	if err := unix.Sendto(b, []byte("back"), 0, f.at(portA)); err != nil {
		return err
	}
	for _, port := range []int{portB, portA} {
		if err := w.tell(Fact{Kind: "connect", Transport: "udp", Address: f.loopback.String(), Port: port}); err != nil {
			return err
		}
	}
	return nil
}
