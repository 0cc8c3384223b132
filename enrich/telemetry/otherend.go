// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// An end is the other end of a TCP connection within this host.
type end struct {
	uid   uint32
	inode uint32
}

// diagWithin bounds one question to the kernel, which answers at once.
const diagWithin = 100 * time.Millisecond

// otherEnd asks the kernel for the other end of a connection. Loopback does not cross network namespaces: it is in
// ours.
func otherEnd(c *net.TCPConn) (end, error) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return end{}, errors.New("no TCP addresses")
	}
	e, err := askDiag(remote, local)
	if err == nil {
		diagWorks.Store(true)
		return e, nil
	}
	// ENOENT means either that there is no such connection (any more) or that the kernel has no tcp_diag.
	if diagWorks.Load() || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return end{}, err
	}
	return lookInTable(remote, local)
}

// diagWorks is true once the kernel has answered: the table, which is slow to read, is not needed then.
var diagWorks atomic.Bool

func askDiag(remote, local *net.TCPAddr) (end, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return end{}, fmt.Errorf("ask the kernel about a connection: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(diagWithin))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return end{}, err
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, diagRequest(remote, local), 0, kernel); err != nil {
		return end{}, fmt.Errorf("ask the kernel about a connection: %w", err)
	}
	var answer [4096]byte
	n, _, err := unix.Recvfrom(fd, answer[:], 0)
	if err != nil {
		return end{}, fmt.Errorf("ask the kernel about a connection: %w", err)
	}
	return parseDiag(answer[:n])
}

// maxTable bounds what is read of a table of connections: some 50,000.
const maxTable = 8 << 20

// lookInTable finds a socket, seen from its side, in /proc/net/tcp or tcp6.
func lookInTable(src, dst *net.TCPAddr) (end, error) {
	name := "/proc/self/net/tcp6"
	if src.IP.To4() != nil && dst.IP.To4() != nil {
		name = "/proc/self/net/tcp"
	}
	f, err := os.Open(name)
	if err != nil {
		return end{}, fmt.Errorf("look for a connection: %w", err)
	}
	defer f.Close()
	e, err := findInTable(f, tableAddress(src), tableAddress(dst))
	if err != nil {
		return end{}, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

func findInTable(table io.Reader, from, to string) (end, error) {
	for lines := bufio.NewScanner(io.LimitReader(table, maxTable)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[1] != from || fields[2] != to {
			continue
		}
		uid, uidErr := strconv.ParseUint(fields[7], 10, 32)
		inode, inodeErr := strconv.ParseUint(fields[9], 10, 32)
		if err := errors.Join(uidErr, inodeErr); err != nil || inode == 0 {
			return end{}, errors.Join(errors.New("the other end is closed"), err)
		}
		return end{uint32(uid), uint32(inode)}, nil
	}
	return end{}, errors.New("no such connection in it")
}

// tableAddress writes an address as the table does: 32 bits at a time in the machine's byte order, in hex.
func tableAddress(a *net.TCPAddr) string {
	ip := a.IP.To4()
	if ip == nil {
		ip = a.IP.To16()
	}
	var out strings.Builder
	for len(ip) >= 4 {
		fmt.Fprintf(&out, "%08X", binary.NativeEndian.Uint32(ip))
		ip = ip[4:]
	}
	fmt.Fprintf(&out, ":%04X", a.Port)
	return out.String()
}

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	nlHeader         = 16 // bytes of struct nlmsghdr
	diagRequestBytes = 56 // of struct inet_diag_req_v2
	diagAnswerBytes  = 72 // of struct inet_diag_msg
)

// diagRequest asks for the one socket that has these addresses, seen from its side.
func diagRequest(src, dst *net.TCPAddr) []byte {
	b := make([]byte, nlHeader+diagRequestBytes)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[nlHeader:]
	r[0], r[1] = unix.AF_INET6, unix.IPPROTO_TCP
	from, to := src.IP.To16(), dst.IP.To16()
	if v4, w4 := src.IP.To4(), dst.IP.To4(); v4 != nil && w4 != nil {
		r[0], from, to = unix.AF_INET, v4, w4
	}
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // any state
	binary.BigEndian.PutUint16(r[8:], uint16(src.Port))
	binary.BigEndian.PutUint16(r[10:], uint16(dst.Port))
	copy(r[12:28], from)
	copy(r[28:44], to)
	binary.NativeEndian.PutUint64(r[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

func parseDiag(b []byte) (end, error) {
	if len(b) < nlHeader+4 {
		return end{}, errors.New("the kernel's answer about a connection is cut off")
	}
	if kind := binary.NativeEndian.Uint16(b[4:]); kind != sockDiagByFamily {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[nlHeader:])))
		return end{}, fmt.Errorf("ask the kernel about a connection: %w", errno)
	}
	if len(b) < nlHeader+diagAnswerBytes {
		return end{}, errors.New("the kernel's answer about a connection is cut off")
	}
	m := b[nlHeader:]
	e := end{uid: binary.NativeEndian.Uint32(m[64:]), inode: binary.NativeEndian.Uint32(m[68:])}
	if e.inode == 0 {
		return end{}, errors.New("the other end is closed")
	}
	return e, nil
}
