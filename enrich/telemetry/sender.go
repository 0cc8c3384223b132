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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sender is the process that sends: the one that connected to the unix socket, or the one that has the other end of a TCP connection
// from this host open.
type Sender struct {
	PID uint32
	// Start is the process's start in ns of CLOCK_BOOTTIME; from a unix socket it is cut to the 10 ms that /proc tells.
	Start uint64
	UID   uint32 // who connected
}

// Known is false when nobody could tell who sends: from another host or network namespace, through a proxy, with an end that
// several processes have open or that is closed by now. Such a sender may be anybody.
func (s Sender) Known() bool { return s.PID != 0 }

// An end is the other end of a TCP connection within this host.
type end struct {
	uid   uint32
	inode uint32
}

// diagWithin bounds one question to the kernel, which answers at once.
const diagWithin = 100 * time.Millisecond

// otherEnd asks the kernel whose the other end of a connection is. Loopback does not cross network namespaces: it is in ours.
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
	// ENOENT says both that there is no such connection (any more) and that the kernel has no tcp_diag.
	if diagWorks.Load() || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return end{}, err
	}
	return lookInTable(remote, local)
}

// diagWorks once the kernel has answered: the table, which takes long to read, is not needed.
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
	if err := unix.Sendto(fd, diagRequest(remote, local), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
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

// tableAddress writes an address as the table does: in words of the machine, in hex.
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
		return end{}, fmt.Errorf("ask the kernel about a connection: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(b[nlHeader:]))))
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

// What bounds the time that searches take: each is a walk over all open files of the host.
const (
	maxHolders     = 16                    // of one socket: with more of them nobody can say who sends
	searchWait     = 10 * time.Second      // for the end of a walk: then the sender is told to try again
	searchedAtOnce = 1024                  // sockets that one walk looks for
	searchPause    = 50 * time.Millisecond // between walks, and at least
	searchShare    = 4                     // times as long as the last one took
)

// A Find yields the processes that have sockets open: of each the number of the socket's inode, its tgid and its start in ns of
// CLOCK_BOOTTIME; one process may come more than once.
type Find func(inodes []uint32, yield func(inode, tgid uint32, start uint64)) error

// searches are made one at a time; one walk serves all who wait for one when it begins.
type searches struct {
	find Find

	mu    sync.Mutex
	going sync.WaitGroup // walks
	ended chan struct{}  // closed: no walk begins

	next *walk // that has not begun; nil: nobody waits for one

	turn sync.Mutex // of the one walk that goes on, and of free
	free time.Time  // before then none begins
}

// A walk has its result when done is closed.
type walk struct {
	inodes []uint32
	done   chan struct{}
	found  map[uint32][]Sender // by inode; without users
	err    error
}

// holders finds the processes that have the end open: none if it is closed by now.
func (s *searches) holders(e end) ([]Sender, error) {
	if s.find == nil {
		return nil, nil
	}
	s.mu.Lock()
	w := s.next
	first := w == nil
	switch {
	case first:
		w = &walk{done: make(chan struct{})}
		s.next = w
	case len(w.inodes) >= searchedAtOnce:
		s.mu.Unlock()
		return nil, errBusy
	}
	w.inodes = append(w.inodes, e.inode)
	s.mu.Unlock()
	if first {
		s.going.Go(func() { s.walk(w) })
	}
	select {
	case <-w.done:
	case <-time.After(searchWait):
		return nil, errBusy
	}
	found := slices.Clone(w.found[e.inode])
	for i := range found {
		found[i].UID = e.uid
	}
	return found, w.err
}

func (s *searches) walk(w *walk) {
	s.turn.Lock()
	defer s.turn.Unlock()
	defer close(w.done)
	if pause := time.Until(s.free); pause > 0 {
		select {
		case <-time.After(pause):
		case <-s.ended:
			w.err = errEnding
			return
		}
	}
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	began := time.Now()
	w.found = map[uint32][]Sender{}
	w.err = s.find(w.inodes, func(inode, tgid uint32, start uint64) {
		if h := (Sender{PID: tgid, Start: start}); len(w.found[inode]) <= maxHolders && !slices.Contains(w.found[inode], h) {
			w.found[inode] = append(w.found[inode], h)
		}
	})
	s.free = time.Now().Add(max(searchPause, searchShare*time.Since(began)))
}
