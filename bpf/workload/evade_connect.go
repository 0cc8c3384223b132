// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

func evadeConnectScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-connect-fast-open":        connectFastOpen,
		"evade-connect-fast-open-option": connectFastOpenOption,
		"evade-connect-mptcp":            connectMPTCP,
		"evade-connect-mptcp-refused":    connectMPTCPRefused,
		"evade-connect-both-sides":       connectBothSides,
		"evade-connect-inherited":        connectInherited,
		"evade-connect-netns":            connectNetns,
		"evade-connect-udp-again":        connectUDPAgain,
		"evade-send-udp-mapped":          sendUDPMapped,
		"evade-send-udp-elsewhere":       sendUDPElsewhere,
		"evade-unix-runtime":             unixRuntime,
		"evade-unix-int80":               unixInt80,
		"evade-connect-source-route":     connectSourceRoute,
	}
}

func evadeConnectRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-connect-inherited": func(w *work, args []string) error {
			var port int
			if _, err := fmt.Sscan(args[0], &port); err != nil {
				return err
			}
			return w.connected(3, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port})
		},
		"role-unix-runtime": roleUnixRuntime,
	}
}

// listening makes a TCP listener on loopback.
func (f family) listening() (fd, port int, err error) {
	if fd, port, err = f.bound(unix.SOCK_STREAM); err != nil {
		return -1, 0, err
	}
	if err := unix.Listen(fd, 8); err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	return fd, port, nil
}

// connectFastOpen connects by sending: no connect call is made.
func connectFastOpen(w *work) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := ignoringEINTR(func() error { return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, v4.at(port)) }); err != nil {
		return fmt.Errorf("send with MSG_FASTOPEN: %w", err)
	}
	return w.tell(Fact{Kind: "connect", Transport: "tcp", Address: "127.0.0.1", Port: port})
}

// connectFastOpenOption: the connect call returns at once, the first write connects. For that the
// kernel needs a cookie, which a first connection fetches; without one it connects as always.
func connectFastOpenOption(w *work) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	for range 2 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
			return err
		}
		if err := unix.Connect(fd, v4.at(port)); err != nil {
			return fmt.Errorf("connect with TCP_FASTOPEN_CONNECT: %w", err)
		}
		if err := ignoringEINTR(func() error { _, err := unix.Write(fd, []byte("x")); return err }); err != nil {
			return err
		}
		if err := outcome(fd); err != nil {
			return err
		}
		if err := w.tell(Fact{Kind: "connect", Transport: "tcp", Address: "127.0.0.1", Port: port}); err != nil {
			return err
		}
	}
	return nil
}

// connectMPTCP: the socket that the program holds is not the one that connects.
func connectMPTCP(w *work) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOPROTOOPT) {
		return w.tellSelf("") // a kernel without MPTCP
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port})
}

// connectMPTCPRefused is refused by the peer, and by the own host, which knows no way.
func connectMPTCPRefused(w *work) error {
	return lockedThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
			return err
		}
		for range 20 {
			for address, code := range map[[4]byte]string{{127, 0, 0, 1}: "ECONNREFUSED", {192, 0, 2, 1}: "ENETUNREACH"} {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
				if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOPROTOOPT) {
					return w.tellSelf("") // a kernel without MPTCP
				}
				if err != nil {
					return err
				}
				err = w.connected(fd, &unix.SockaddrInet4{Port: 9, Addr: address}, Fact{Transport: "tcp", Address: netip.AddrFrom4(address).String(), Port: 9, Errno: code})
				if err := errors.Join(err, unix.Close(fd)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// connectBothSides: nobody listens, both sides connect; here they are one and the same socket.
func connectBothSides(w *work) error {
	fd, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	const a, n = "127.0.0.1", 500
	if err := w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: a, Port: port}); err != nil {
		return err
	}
	if err := move(fd, fd, n); err != nil {
		return err
	}
	end := Fact{Kind: "close", Op: "connect", Address: a, Port: port, LocalAddress: a, LocalPort: port, Sent: n, Received: n, Reason: "here"}
	return errors.Join(unix.Close(fd), w.tell(end))
}

// sendUDPElsewhere asks for a name, then sends something else from the same socket.
func sendUDPElsewhere(w *work) error {
	return lockedThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i, port := range []int{53, 9} {
			to := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, byte(i + 1)}}
			if err := w.sent(fd, to, Fact{Address: fmt.Sprint("127.0.0.", i+1), Port: port}, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// connectInherited connects a socket that another process made.
func connectInherited(w *work) error {
	listener, port, err := v4.listening()
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	socket := os.NewFile(uintptr(fd), "socket")
	defer socket.Close()
	cmd := self("role-connect-inherited", fmt.Sprint(port))
	cmd.ExtraFiles = []*os.File{socket}
	return w.run(cmd)
}

// connectNetns: one thread makes a network, another goes there and connects.
func connectNetns(w *work) error {
	ready, leave := make(chan int), make(chan bool)
	var port int
	done := make(chan error, 1)
	go func() {
		done <- lockedThread(func() error {
			defer close(ready)
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := loopbackUp(); err != nil {
				return err
			}
			listener, p, err := v4.listening()
			if err != nil {
				return err
			}
			defer unix.Close(listener)
			network, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(network)
			port = p
			ready <- network
			<-leave
			return nil
		})
	}()
	network, ok := <-ready
	if !ok {
		return <-done
	}
	err := lockedThread(func() error {
		if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port})
	})
	close(leave)
	return errors.Join(err, <-done)
}

// loopbackUp brings up the loopback device of the thread's network.
func loopbackUp() error { return loopback(true) }

// loopback brings it up or down.
func loopback(up bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if up {
		request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// connectUDPAgain points one socket at a second peer.
func connectUDPAgain(w *work) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range 2 {
		peer, port, err := v4.bound(unix.SOCK_DGRAM)
		if err != nil {
			return err
		}
		defer unix.Close(peer)
		if err := w.connected(fd, v4.at(port), Fact{Transport: "udp", Address: "127.0.0.1", Port: port}); err != nil {
			return err
		}
	}
	// On a connected socket, to somebody else.
	other, port, err := v4.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(other)
	if err := unix.Sendto(fd, []byte("x"), 0, v4.at(port)); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "udp", Address: "127.0.0.1", Port: port})
}

// sendUDPMapped reaches an IPv4 peer by a datagram of an IPv6 socket.
func sendUDPMapped(w *work) error {
	peer, port, err := v4.bound(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(peer)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: port, Addr: netip.AddrFrom16(v4.loopback.As16()).As16()}
	if err := unix.Sendto(fd, []byte("x"), 0, to); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "udp", Address: "127.0.0.1", Port: port})
}

func unixRuntime(w *work) error {
	cmd := self("role-unix-runtime")
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	return cmd.Run()
}

// roleUnixRuntime asks a container runtime to run something, as far as the host's own can tell: the connect.
func roleUnixRuntime(w *work, _ []string) error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, p := range []string{"/run/docker.sock", "/run/containerd/containerd.sock"} {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := w.connectUnix(p, p, unix.SOCK_STREAM); err != nil {
			return err
		}
	}
	return nil
}

// unixInt80 connects a unix socket by the 32-bit system call table.
func unixInt80(w *work) error {
	p := w.path("s")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: p}); err != nil {
		return err
	}
	if err := unix.Listen(listener, 8); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	family := uint16(unix.AF_UNIX)
	address, free, err := low(string(unsafe.Slice((*byte)(unsafe.Pointer(&family)), 2)) + p)
	if err != nil {
		return err
	}
	defer free()
	result := int80(362 /* connect */, uint32(fd), address, uint32(2+len(p)+1), 0)
	if result != 0 {
		return fmt.Errorf("connect by int 0x80: %w", unix.Errno(-result))
	}
	return w.tell(Fact{Kind: "connect", Transport: "unix", Address: p})
}

// sourceRoute has packets of a socket go to its peer by way of another address: here both are loopback's.
func (f family) sourceRoute(fd int) error {
	if f.domain == unix.AF_INET {
		loose := []byte{131, 7, 4, 127, 0, 0, 3, 0} // IPOPT_LSRR of one address, padded
		return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(loose))
	}
	header := []byte{0, 4, 4, 1, 1, 0, 0, 0} // segment routing, of two addresses
	for range 2 {
		header = append(header, f.loopback.AsSlice()...)
	}
	return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_RTHDR, string(header))
}

// connectSourceRoute: the address that the socket was given is not the one that its packets carry.
func connectSourceRoute(w *work) error {
	for _, f := range []family{v4, v6} {
		peer, port, err := f.bound(unix.SOCK_DGRAM)
		if err != nil {
			return err
		}
		defer unix.Close(peer)
		fact := Fact{Kind: "connect", Transport: "udp", Address: f.loopback.String(), Port: port}
		fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		// Without a route, then with one: that this destination is known already is no reason to be silent.
		for _, fact.SourceRoute = range []bool{false, true} {
			if fact.SourceRoute {
				if err := f.sourceRoute(fd); err != nil {
					return fmt.Errorf("set a source route: %w", err)
				}
			}
			if err := unix.Sendto(fd, []byte("x"), 0, f.at(port)); err != nil {
				return err
			}
			if err := w.tell(fact); err != nil {
				return err
			}
		}
		if err := w.connected(fd, f.at(port), fact); err != nil {
			return err
		}
		// Nobody answers by that way: what counts is the attempt.
		tcp, err := unix.Socket(f.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		err = f.sourceRoute(tcp)
		if err == nil {
			err = unix.Connect(tcp, f.at(port))
		}
		if e := unix.Close(tcp); e != nil || !errors.Is(err, unix.EINPROGRESS) {
			return errors.Join(fmt.Errorf("got %w, the scenario expects a connect in progress", err), e)
		}
		fact.Transport, fact.Errno = "tcp", "ECANCELED"
		if err := w.tell(fact); err != nil {
			return err
		}
	}
	return nil
}
