// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func closeScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"close-here":       func(w *work) error { return w.closes(v4, 1, 0, closeClient) },
		"close-peer":       func(w *work) error { return w.closes(v6, 100, 5_000_000, closeServer) },
		"close-half":       func(w *work) error { return w.closes(v4, 3_000_000, 70_000, closeHalf) },
		"close-reset":      func(w *work) error { return w.closes(v4, 10, 20, closeReset) },
		"close-unread":     func(w *work) error { return w.closes(v4, 10, 20, closeUnread) },
		"close-timed-out":  closeTimedOut,
		"close-by-exit":    func(w *work) error { return w.closesLeft("role-close-by-exit") },
		"close-other-exec": func(w *work) error { return w.closesLeft("role-close-other-exec") },
		"send-no-route":    sendNoRoute,
		"send-forbidden":   sendForbidden,
		"send-several":     sendSeveral,
		"connect-any":      connectAny,
	}
}

func closeRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-close-by-exit": func(w *work, args []string) error { return w.connectAndLeave(args, func() error { return nil }) },
		"role-close-other-exec": func(w *work, args []string) error {
			return w.connectAndLeave(args, func() error { return unix.Exec("/proc/self/exe", []string{"workload", "role-report"}, nil) })
		},
	}
}

// A talk is a connection of this process with itself, and what was told of it.
type talk struct {
	client, server int
	here, there    Fact // of the ends
}

func (w *work) talk(f family) (*talk, error) {
	listener, port, err := f.listening()
	if err != nil {
		return nil, err
	}
	defer unix.Close(listener)
	t := &talk{}
	if t.client, t.server, err = w.joinedBy(f, listener, port); err != nil {
		return nil, err
	}
	from, err := portOf(t.client)
	a := f.loopback.String()
	t.here = Fact{Kind: "close", Op: "connect", Address: a, Port: port, LocalAddress: a, LocalPort: from}
	t.there = Fact{Kind: "close", Op: "accept", Address: a, Port: from, LocalAddress: a, LocalPort: port}
	return t, err
}

// move writes n bytes into one end and reads them out of the other.
func move(from, to, n int) error {
	sent := make(chan error, 1)
	go func() {
		buf := make([]byte, 64<<10)
		var err error
		for left := n; left > 0 && err == nil; {
			var some int
			some, err = unix.Write(from, buf[:min(left, len(buf))])
			left -= max(some, 0)
			if errors.Is(err, unix.EINTR) {
				err = nil
			}
		}
		sent <- err
	}()
	buf := make([]byte, 64<<10)
	for left := n; left > 0; {
		some, err := unix.Read(to, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || some == 0 {
			return fmt.Errorf("%d bytes are missing: %w", left, err)
		}
		left -= some
	}
	return <-sent
}

// ended reads the end of the other side's bytes.
func ended(fd int) error {
	return ignoringEINTR(func() error {
		if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
			return fmt.Errorf("read %d bytes: %w", n, err)
		}
		return nil
	})
}

// closes sends so many bytes from the client and back to it, and ends the connection in some way.
func (w *work) closes(f family, there, back int, end func(*talk) error) error {
	t, err := w.talk(f)
	if err != nil {
		return err
	}
	if err := errors.Join(move(t.client, t.server, there), move(t.server, t.client, back)); err != nil {
		return err
	}
	t.here.Sent, t.here.Received = t.here.Sent+there, t.here.Received+back
	t.there.Sent, t.there.Received = t.there.Sent+back, t.there.Received+there
	if err := end(t); err != nil {
		return err
	}
	return errors.Join(w.tell(t.here), w.tell(t.there))
}

func closeClient(t *talk) error {
	t.here.Reason, t.there.Reason = "here", "peer"
	return errors.Join(unix.Close(t.client), ended(t.server), unix.Close(t.server))
}

func closeServer(t *talk) error {
	t.here.Reason, t.there.Reason = "peer", "here"
	return errors.Join(unix.Close(t.server), ended(t.client), unix.Close(t.client))
}

// closeHalf: after the end of one direction much goes in the other.
func closeHalf(t *talk) error {
	const more = 1_000_000
	t.here.Reason, t.there.Reason = "here", "peer"
	t.here.Received += more
	t.there.Sent += more
	return errors.Join(unix.Shutdown(t.client, unix.SHUT_WR), ended(t.server), move(t.server, t.client, more), closeServerThen(t))
}

func closeServerThen(t *talk) error {
	return errors.Join(unix.Close(t.server), ended(t.client), unix.Close(t.client))
}

// closeReset ends it at once.
func closeReset(t *talk) error {
	t.here.Reason, t.here.Errno, t.there.Reason = "error", "ECONNRESET", "here"
	return errors.Join(unix.SetsockoptLinger(t.server, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(t.server), unix.Close(t.client))
}

// closeUnread closes what has unread bytes: the peer is told that they were lost.
func closeUnread(t *talk) error {
	const unread = 1000
	t.here.Reason, t.here.Errno, t.there.Reason = "error", "ECONNRESET", "here"
	t.here.Sent += unread
	t.there.Received += unread
	if _, err := unix.Write(t.client, make([]byte, unread)); err != nil {
		return err
	}
	return errors.Join(unix.Close(t.server), unix.Close(t.client))
}

// closeTimedOut: the network goes away, in a namespace of its own.
func closeTimedOut(w *work) error {
	return lockedThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
			return err
		}
		t, err := w.talk(v4)
		if err != nil {
			return err
		}
		if err := errors.Join(move(t.client, t.server, 500), unix.SetsockoptInt(t.client, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 300), loopback(false)); err != nil {
			return err
		}
		if _, err := unix.Write(t.client, make([]byte, 700)); err != nil {
			return err
		}
		fds := []unix.PollFd{{Fd: int32(t.client), Events: unix.POLLIN}}
		if err := ignoringEINTR(func() error { _, err := unix.Poll(fds, -1); return err }); err != nil {
			return err
		}
		t.here.Sent, t.here.Reason, t.here.Errno = 1200, "error", "ETIMEDOUT" // also what went to a device that is down
		return errors.Join(unix.Close(t.client), w.tell(t.here))
	})
}

// connectAndLeave is a client of another process that leaves its connection to the kernel.
func (w *work) connectAndLeave(args []string, leave func() error) error {
	var port int
	if _, err := fmt.Sscan(args[0], &port); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port}); err != nil {
		return err
	}
	from, err := portOf(fd)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, make([]byte, 300)); err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
		return err
	}
	if err := w.tell(Fact{Kind: "close", Op: "connect", Address: "127.0.0.1", Port: port, LocalAddress: "127.0.0.1", LocalPort: from, Sent: 300, Received: 1, Reason: "here"}); err != nil {
		return err
	}
	return leave()
}

// closesLeft serves a process that does not close its connection itself.
func (w *work) closesLeft(role string) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	served := make(chan error, 1)
	go func() {
		server, peer, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			served <- err
			return
		}
		buf := make([]byte, 1000)
		for n := 0; n < 300 && err == nil; {
			var some int
			some, err = unix.Read(server, buf)
			n += max(some, 0)
		}
		_, e := unix.Write(server, buf[:1])
		from := peer.(*unix.SockaddrInet4).Port
		served <- errors.Join(err, e, ended(server), unix.Close(server), w.tell(Fact{
			Kind: "close", Op: "accept", Address: "127.0.0.1", Port: from, LocalAddress: "127.0.0.1", LocalPort: port, Sent: 1, Received: 300, Reason: "peer",
		}))
	}()
	return errors.Join(w.run(self(role, fmt.Sprint(port))), <-served)
}

// sendNoRoute sends and connects datagrams where no route leads to.
func sendNoRoute(w *work) error {
	return lockedThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fd6, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd6)
		documentation := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 0x53}
		for _, send := range []struct {
			fd      int
			to      unix.Sockaddr
			address string
		}{
			{fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 53}}, "192.0.2.53"},
			{fd6, &unix.SockaddrInet6{Port: 53, Addr: documentation}, "2001:db8::53"},
			{fd6, &unix.SockaddrInet6{Port: 53, Addr: [16]byte{10: 0xff, 0xff, 192, 0, 2, 54}}, "192.0.2.54"},
		} {
			// Each is told: what did not leave is no destination that is known.
			for range 2 {
				if err := w.sent(send.fd, send.to, Fact{Address: send.address, Port: 53}, true); err != nil {
					return err
				}
			}
		}
		return w.connected(fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 55}}, Fact{Transport: "udp", Address: "192.0.2.55", Port: 53, Errno: "ENETUNREACH"})
	})
}

// sent sends a datagram and tells of it. Which error comes of a missing route is the kernel's matter.
func (w *work) sent(fd int, to unix.Sockaddr, f Fact, fails bool) error {
	code, err := errno(unix.Sendto(fd, []byte("x"), 0, to))
	if err != nil {
		return err
	}
	if fails != (code != "") {
		return fmt.Errorf("send: got %q", code)
	}
	f.Kind, f.Transport, f.Errno = "connect", "udp", code
	return w.tell(f)
}

// sendForbidden sends to everybody without leave to do so, and then with it: the second one is told, too.
func sendForbidden(w *work) error {
	return lockedThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		all := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 255, 255, 255}}
		to := Fact{Address: "127.255.255.255", Port: 9}
		return errors.Join(w.sent(fd, all, to, true), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1), w.sent(fd, all, to, false))
	})
}

// sendSeveral sends to several destinations by one call, and once by a call that sends a message.
func sendSeveral(w *work) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte("x"), nil, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 9}}, 0); err != nil {
		return err
	}
	if err := w.tell(Fact{Kind: "connect", Transport: "udp", Address: "127.0.0.9", Port: 9}); err != nil {
		return err
	}
	if err := sendMany(fd, 3); err != nil {
		return err
	}
	for i := range 3 {
		if err := w.tell(Fact{Kind: "connect", Transport: "udp", Address: fmt.Sprint("127.0.1.", i), Port: 9}); err != nil {
			return err
		}
	}
	return nil
}

// sendMany sends a datagram to each of n addresses, by one call.
func sendMany(fd, n int) error {
	type message struct {
		header unix.Msghdr
		sent   uint32
	}
	messages := make([]message, n)
	addresses := make([]unix.RawSockaddrInet4, n)
	content := []byte("x")
	vector := unix.Iovec{Base: &content[0]}
	vector.SetLen(1)
	for i := range messages {
		addresses[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 9 << 8, Addr: [4]byte{127, 0, 1, byte(i)}}
		h := &messages[i].header
		h.Name, h.Namelen, h.Iov = (*byte)(unsafe.Pointer(&addresses[i])), unix.SizeofSockaddrInet4, &vector
		h.SetIovlen(1)
	}
	sent, _, code := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(n), 0, 0, 0)
	runtime.KeepAlive(addresses)
	if code != 0 {
		return code
	}
	if int(sent) != n {
		return fmt.Errorf("%d datagrams of %d were sent", sent, n)
	}
	return nil
}

// connectAny connects to the address of all zeros, which is this host.
func connectAny(w *work) error {
	for _, f := range []struct {
		family
		any       unix.Sockaddr
		requested string
	}{{v4, &unix.SockaddrInet4{}, "0.0.0.0"}, {v6, &unix.SockaddrInet6{}, "::"}} {
		listener, port, err := f.listening()
		if err != nil {
			return err
		}
		defer unix.Close(listener)
		for kind, transport := range map[int]string{unix.SOCK_STREAM: "tcp", unix.SOCK_DGRAM: "udp"} {
			fd, err := unix.Socket(f.domain, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			switch to := f.any.(type) {
			case *unix.SockaddrInet4:
				to.Port = port
			case *unix.SockaddrInet6:
				to.Port = port
			}
			if err := w.connected(fd, f.any, Fact{Transport: transport, Address: f.loopback.String(), Port: port, Requested: f.requested}); err != nil {
				return err
			}
		}
	}
	return nil
}
