// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func socketScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"socket-raw":            socketRaw,
		"socket-packet":         socketPacket,
		"socket-other-families": socketOtherFamilies,
		"socket-other-protocol": socketOtherProtocol,
		"socket-refused":        func(w *work) error { return w.runAsNobody("role-socket-refused") },
		"socket-repeated":       socketRepeated,
		"socket-ordinary":       socketOrdinary,
		"connect-vsock":         connectVsock,
	}
}

func socketRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-socket-refused": func(w *work, _ []string) error {
			return w.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP,
				Fact{Family: "inet", SockType: "raw", Protocol: "icmp", Errno: "EPERM"})
		},
	}
}

// runAsNobody runs a role as a user without any capability.
func (w *work) runAsNobody(role string, args ...string) error {
	p, err := w.copyOfSelf()
	if err != nil {
		return err
	}
	cmd := self(role, args...)
	cmd.Path = p // as in execAsNobody
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	return w.run(cmd)
}

// socket makes a socket and tells of it. Whether a kernel has a family is its own matter: without an expected
// error the fact says what it answered.
func (w *work) socket(family, kind, protocol int, f Fact) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	code, err := errno(err)
	if err != nil {
		return err
	}
	if code == "" {
		defer unix.Close(fd)
	}
	if f.Errno != "" && code != f.Errno {
		return fmt.Errorf("socket: got %q, the scenario expects %q", code, f.Errno)
	}
	f.Kind, f.Errno = "socket", code
	return w.tell(f)
}

func socketRaw(w *work) error {
	if err := w.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, Fact{Family: "inet", SockType: "raw", Protocol: "icmp"}); err != nil {
		return err
	}
	if err := w.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW, Fact{Family: "inet", SockType: "raw", Protocol: "ip_protocol_255"}); err != nil {
		return err
	}
	return w.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, Fact{Family: "inet6", SockType: "raw", Protocol: "icmpv6"})
}

func socketPacket(w *work) error {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	if err := w.socket(unix.AF_PACKET, unix.SOCK_RAW, all, Fact{Family: "packet", SockType: "raw", Protocol: "0x0003"}); err != nil {
		return err
	}
	// The way in which it was done before Linux 2.2.
	return w.socket(unix.AF_INET, unix.SOCK_PACKET, all, Fact{Family: "packet", SockType: "packet", Protocol: "0x0003"})
}

func socketOtherFamilies(w *work) error {
	for _, s := range []struct {
		family, kind, protocol int
		fact                   Fact
	}{
		{unix.AF_VSOCK, unix.SOCK_STREAM, 0, Fact{Family: "vsock", SockType: "stream"}},
		{unix.AF_ALG, unix.SOCK_SEQPACKET, 0, Fact{Family: "alg", SockType: "seqpacket"}},
		{unix.AF_BLUETOOTH, unix.SOCK_RAW, 1, Fact{Family: "bluetooth", SockType: "raw", Protocol: "1"}},
		{unix.AF_XDP, unix.SOCK_RAW, 0, Fact{Family: "xdp", SockType: "raw"}},
		{unix.AF_CAN, unix.SOCK_RAW, 1, Fact{Family: "can", SockType: "raw", Protocol: "1"}},
		{63, unix.SOCK_STREAM, 0, Fact{Family: "family_63", SockType: "stream", Errno: "EAFNOSUPPORT"}},
	} {
		if err := w.socket(s.family, s.kind, s.protocol, s.fact); err != nil {
			return err
		}
	}
	return nil
}

// socketOtherProtocol: datagram and stream sockets of the internet that pass no connection hook.
func socketOtherProtocol(w *work) error {
	if err := w.socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, Fact{Family: "inet", SockType: "dgram", Protocol: "icmp"}); err != nil {
		return err
	}
	return w.socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, Fact{Family: "inet", SockType: "stream", Protocol: "sctp"})
}

func socketRepeated(w *work) error {
	const times = 20
	for range times {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "socket", Family: "inet", SockType: "raw", Protocol: "icmp", Count: times})
}

// socketOrdinary makes only sockets whose traffic is seen in other ways, or leads nowhere.
func socketOrdinary(w *work) error {
	for _, s := range [][3]int{
		{unix.AF_INET, unix.SOCK_STREAM, 0},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		{unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	} {
		fd, err := unix.Socket(s[0], s[1]|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, s[2])
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return w.tellSelf("")
}

// connectVsock connects to a port of the own machine on which nobody listens, if the kernel has vsock at all.
func connectVsock(w *work) error {
	f := Fact{Family: "vsock", SockType: "stream"}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	code, err := errno(err)
	if err != nil {
		return err
	}
	f.Kind, f.Errno = "socket", code
	if err := w.tell(f); err != nil || code != "" {
		return err
	}
	defer unix.Close(fd)
	// Without a loopback transport nobody answers; 2 s would pass.
	timeout := unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout); err != nil {
		return fmt.Errorf("set the timeout of a vsock connect: %w", err)
	}
	const port = 987654
	code, err = errno(unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: port}))
	if err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "vsock", Address: fmt.Sprint(unix.VMADDR_CID_LOCAL), Port: port, Errno: code})
}
