// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func listenScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"listen-tcp":       listenTCP,
		"listen-autobind":  listenAutobind,
		"listen-refused":   listenRefused,
		"listen-go":        listenGo,
		"listen-unix":      listenUnix,
		"listen-repeated":  listenRepeated,
		"accept-tcp":       func(w *work) error { return w.acceptTCP(v4) },
		"accept-tcp6":      func(w *work) error { return w.acceptTCP(v6) },
		"accept-tcp-mixed": acceptMixed,
		"accept-nothing":   acceptNothing,
	}
}

// socketAt makes a socket that is bound to an address.
func socketAt(domain, kind int, at unix.Sockaddr) (fd, port int, err error) {
	fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	if at != nil {
		if err := unix.Bind(fd, at); err != nil {
			_ = unix.Close(fd)
			return -1, 0, err
		}
		port, err = portOf(fd)
	}
	return fd, port, err
}

func portOf(fd int) (int, error) {
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port, nil
	case *unix.SockaddrInet6:
		return sa.Port, nil
	}
	return 0, err
}

// listened does one listen and tells of it; f names the address.
func (w *work) listened(fd int, f Fact) error {
	code, err := errno(unix.Listen(fd, 8))
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("listen: got %q, the scenario expects %q", code, f.Errno)
	}
	if f.Kind = "listen"; f.Transport == "" {
		f.Transport = "tcp"
	}
	return w.tell(f)
}

func listenTCP(w *work) error {
	for address, at := range map[string]unix.Sockaddr{
		"127.0.0.1": v4.at(0), "::1": v6.at(0), "0.0.0.0": &unix.SockaddrInet4{}, "::": &unix.SockaddrInet6{},
	} {
		domain := unix.AF_INET6
		if netip.MustParseAddr(address).Is4() {
			domain = unix.AF_INET
		}
		fd, port, err := socketAt(domain, unix.SOCK_STREAM, at)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := w.listened(fd, Fact{LocalAddress: address, LocalPort: port}); err != nil {
			return err
		}
	}
	return nil
}

// listenAutobind listens without a bind: the kernel chooses the port by then.
func listenAutobind(w *work) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 8); err != nil {
		return err
	}
	port, err := portOf(fd)
	if err != nil {
		return err
	}
	return w.tell(Fact{Kind: "listen", Transport: "tcp", LocalAddress: "0.0.0.0", LocalPort: port})
}

// listenRefused: another socket at the same address is the first to listen.
func listenRefused(w *work) error {
	var fds [2]int
	var port int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, v4.at(port)); err != nil {
			return err
		}
		if port, err = portOf(fd); err != nil {
			return err
		}
		fds[i] = fd
	}
	at := Fact{LocalAddress: "127.0.0.1", LocalPort: port}
	if err := w.listened(fds[0], at); err != nil {
		return err
	}
	at.Errno = "EADDRINUSE"
	return w.listened(fds[1], at)
}

// listenGo listens and accepts as Go's library does: by MPTCP, where the kernel has that. One peer speaks it, and one does not.
func listenGo(w *work) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	at := l.Addr().(*net.TCPAddr)
	if err := w.tell(Fact{Kind: "listen", Transport: "tcp", LocalAddress: "127.0.0.1", LocalPort: at.Port}); err != nil {
		return err
	}
	for _, multi := range []bool{false, true} {
		var dialer net.Dialer
		dialer.SetMultipathTCP(multi)
		client, err := dialer.Dial("tcp4", at.String())
		if err != nil {
			return err
		}
		server, err := l.Accept()
		if err != nil {
			return err
		}
		if err := w.exchange(client, server, 3000, 70_000); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "accept", Transport: "tcp", Address: "127.0.0.1", LocalAddress: "127.0.0.1", LocalPort: at.Port, Count: 2})
}

// exchange sends so many bytes there and back, and closes the client's side first.
func (w *work) exchange(client, server net.Conn, there, back int) error {
	from := client.LocalAddr().(*net.TCPAddr).Port
	at := server.LocalAddr().(*net.TCPAddr).Port
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, there))
		sent <- errors.Join(err, client.(*net.TCPConn).CloseWrite())
	}()
	n, err := readAll(server)
	if err = errors.Join(err, <-sent); err != nil || n != there {
		return fmt.Errorf("read %d of %d bytes: %w", n, there, err)
	}
	go func() {
		_, err := server.Write(make([]byte, back))
		sent <- errors.Join(err, server.Close())
	}()
	n, err = readAll(client)
	if err = errors.Join(err, <-sent, client.Close()); err != nil || n != back {
		return fmt.Errorf("read %d of %d bytes: %w", n, back, err)
	}
	return errors.Join(
		w.tell(Fact{Kind: "close", Op: "connect", Address: "127.0.0.1", Port: at, LocalAddress: "127.0.0.1", LocalPort: from, Sent: there, Received: back, Reason: "here"}),
		w.tell(Fact{Kind: "close", Op: "accept", Address: "127.0.0.1", Port: from, LocalAddress: "127.0.0.1", LocalPort: at, Sent: back, Received: there, Reason: "peer"}),
	)
}

func readAll(from net.Conn) (n int, err error) {
	buf := make([]byte, 16<<10)
	for {
		some, err := from.Read(buf)
		n += some
		if err != nil {
			if err.Error() == "EOF" {
				err = nil
			}
			return n, err
		}
	}
}

func listenUnix(w *work) error {
	p := w.path("s")
	abstract := fmt.Sprintf("@workload-%d", os.Getpid())
	for _, name := range []string{p, abstract, "x"} {
		if name == "x" { // a name relative to the working directory
			if err := os.Chdir(w.dir); err != nil {
				return err
			}
			defer func() { _ = os.Chdir("/") }()
		}
		fd, _, err := socketAt(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: name})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if !strings.HasPrefix(name, "@") {
			name = w.path(strings.TrimPrefix(name, w.dir+"/"))
		}
		if err := w.listened(fd, Fact{Transport: "unix", LocalAddress: name}); err != nil {
			return err
		}
	}
	return nil
}

// listenRepeated: servers that are started again and again at one address are one span, if in one window.
func listenRepeated(w *work) error {
	const times = 5
	var port int
	for range times {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, v4.at(port))); err != nil {
			return err
		}
		if port, err = portOf(fd); err != nil {
			return err
		}
		if err := errors.Join(unix.Listen(fd, 1), unix.Close(fd)); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "listen", Transport: "tcp", LocalAddress: "127.0.0.1", LocalPort: port, Count: times})
}

// acceptTCP accepts by each call; connections of one peer are one span.
func (w *work) acceptTCP(f family) error {
	listener, port, err := f.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	const times = 4
	for i := range times {
		client, err := unix.Socket(f.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(client, f.at(port)); err != nil {
			return err
		}
		var server int
		if i%2 == 0 {
			fd, _, code := unix.Syscall(unix.SYS_ACCEPT, uintptr(listener), 0, 0)
			if code != 0 {
				return code
			}
			server = int(fd)
		} else if server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
			return err
		}
		if err := errors.Join(unix.Close(client), unix.Close(server)); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "accept", Transport: "tcp", Address: f.loopback.String(), LocalAddress: f.loopback.String(), LocalPort: port, Count: times})
}

// acceptMixed accepts a connection of IPv4 at a socket of IPv6.
func acceptMixed(w *work) error {
	listener, port, err := socketAt(unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{})
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := w.listened(listener, Fact{LocalAddress: "::", LocalPort: port}); err != nil {
		return err
	}
	client, server, err := w.joinedBy(v4, listener, port)
	if err != nil {
		return err
	}
	return errors.Join(unix.Close(client), unix.Close(server))
}

// joinedBy connects to a listener, accepts and tells of both.
func (w *work) joinedBy(f family, listener, port int) (client, server int, err error) {
	client, err = unix.Socket(f.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	address := f.loopback.String()
	if err := w.connected(client, f.at(port), Fact{Transport: "tcp", Address: address, Port: port}); err != nil {
		return -1, -1, err
	}
	server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, -1, err
	}
	return client, server, w.tell(Fact{Kind: "accept", Transport: "tcp", Address: address, LocalAddress: address, LocalPort: port})
}

// acceptNothing: neither a refusal nor a connection that nobody takes is told, only its other side.
func acceptNothing(w *work) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(listener, true); err != nil {
		return err
	}
	if _, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC); !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("accept: %w, the scenario expects EAGAIN", err)
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
	if err := errors.Join(unix.Close(listener), unix.Close(fd)); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "close", Op: "connect", Address: "127.0.0.1", Port: port, LocalAddress: "127.0.0.1", LocalPort: from, Reason: "error", Errno: "ECONNRESET"})
}
