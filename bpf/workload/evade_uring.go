// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uringScenarios ask the kernel through io_uring, where no system call names the file or the address.
func uringScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-open-uring":         func(w *work) error { return w.uringOpens(0, 0) },
		"evade-open-uring-worker":  func(w *work) error { return w.uringOpens(0, sqeAsync) },
		"evade-open-uring-sqpoll":  func(w *work) error { return w.uringOpens(setupSQPoll, 0) },
		"evade-connect-uring":      func(w *work) error { return w.uringConnect(0) },
		"evade-connect-uring-work": func(w *work) error { return w.uringConnect(sqeAsync) },
		"evade-unix-uring":         uringUnix,
	}
}

// include/uapi/linux/io_uring.h
const (
	setupSQPoll     = 1 << 1
	enterGetEvents  = 1 << 0
	enterSQWakeup   = 1 << 1
	sqNeedWakeup    = 1 << 0
	sqeAsync        = 1 << 4
	opConnect       = 16
	opOpenat        = 18
	opOpenat2       = 28
	opRenameat      = 35
	opUnlinkat      = 36
	opMkdirat       = 37
	opSymlinkat     = 38
	opLinkat        = 39
	opSetxattr      = 42
	offsetSQRing    = 0
	offsetCQRing    = 0x8000000
	offsetSQEs      = 0x10000000
	sqPollIdle      = 100 // ms
	ringEntries     = 4
	sizeofSQE       = 64
	sizeofCQE       = 16
	sizeofRingIndex = 4
)

type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	_                                                                      [3]uint32
	sqOff                                                                  struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cqOff struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

type submission struct {
	opcode, flags uint8
	_             uint16
	fd            int32
	off, addr     uint64
	len, opFlags  uint32
	userData      uint64
	_             uint64
	addr3         uint64
	_             uint64
}

// uring is an io_uring that is asked one thing at a time.
type uring struct {
	fd           int
	params       uringParams
	sq, cq, sqes []byte
}

func newUring(flags uint32) (*uring, error) {
	r := &uring{params: uringParams{flags: flags, sqThreadIdle: sqPollIdle}}
	fd, _, code := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&r.params)), 0)
	if code != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", code)
	}
	r.fd = int(fd)
	p := &r.params
	for _, m := range []struct {
		to     *[]byte
		offset int64
		size   uint32
	}{
		{&r.sq, offsetSQRing, p.sqOff.array + p.sqEntries*sizeofRingIndex},
		{&r.cq, offsetCQRing, p.cqOff.cqes + p.cqEntries*sizeofCQE},
		{&r.sqes, offsetSQEs, p.sqEntries * sizeofSQE},
	} {
		var err error
		if *m.to, err = unix.Mmap(r.fd, m.offset, int(m.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			return nil, errors.Join(fmt.Errorf("map the ring: %w", err), r.close())
		}
	}
	return r, nil
}

func (r *uring) close() error {
	for _, m := range [][]byte{r.sq, r.cq, r.sqes} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	return unix.Close(r.fd)
}

func word(ring []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&ring[offset])) }

// do submits s and returns its result.
func (r *uring) do(s submission) (int32, error) {
	sq, cq := &r.params.sqOff, &r.params.cqOff
	tail := word(r.sq, sq.tail)
	index := *tail & *word(r.sq, sq.ringMask)
	*(*submission)(unsafe.Pointer(&r.sqes[index*sizeofSQE])) = s
	*word(r.sq, sq.array+index*sizeofRingIndex) = index
	atomic.AddUint32(tail, 1)

	submit := uintptr(1)
	for {
		flags := uintptr(enterGetEvents)
		if r.params.flags&setupSQPoll != 0 {
			submit = 0
			if atomic.LoadUint32(word(r.sq, sq.flags))&sqNeedWakeup != 0 {
				flags |= enterSQWakeup
			}
		}
		_, _, code := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 1, flags, 0, 0)
		if code != 0 && code != unix.EINTR {
			return 0, fmt.Errorf("io_uring_enter: %w", code)
		}
		head := word(r.cq, cq.head)
		if *head != atomic.LoadUint32(word(r.cq, cq.tail)) {
			at := cq.cqes + (*head&*word(r.cq, cq.ringMask))*sizeofCQE
			result := int32(*word(r.cq, at+8))
			atomic.AddUint32(head, 1)
			return result, nil
		}
		submit = 0
	}
}

// uringOpens opens by IORING_OP_OPENAT, absolute and relative to a descriptor, and by IORING_OP_OPENAT2.
// No inode is told: where only the submission is seen, the sensor has none.
func (w *work) uringOpens(setup uint32, flags uint8) error {
	ring, err := newUring(setup)
	if err != nil {
		return err
	}
	defer func() { _ = ring.close() }()
	dir, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: unix.O_RDWR}
	for _, o := range []struct {
		op     uint8
		dirfd  int
		name   string
		path   string
		access string
	}{
		{opOpenat, unix.AT_FDCWD, w.path("by-ring"), w.path("by-ring"), "read"},
		{opOpenat, dir, "by-ring-at", w.path("by-ring-at"), "write"},
		{opOpenat2, unix.AT_FDCWD, w.path("by-ring-2"), w.path("by-ring-2"), "read_write"},
	} {
		if _, err := w.file(filepath.Base(o.path)); err != nil {
			return err
		}
		name, err := unix.BytePtrFromString(o.name)
		if err != nil {
			return err
		}
		s := submission{opcode: o.op, flags: flags, fd: int32(o.dirfd), addr: uint64(uintptr(unsafe.Pointer(name)))}
		switch {
		case o.op == opOpenat2:
			s.off, s.len = uint64(uintptr(unsafe.Pointer(&how))), uint32(unsafe.Sizeof(how))
		case o.access == "write":
			s.opFlags = unix.O_WRONLY
		}
		fd, err := ring.do(s)
		runtime.KeepAlive(name)
		runtime.KeepAlive(&how)
		if err != nil {
			return err
		}
		if setup&setupSQPoll != 0 && fd == -int32(unix.EINVAL) {
			return w.tellSelf("") // not before 5.11: nothing was opened
		}
		if fd < 0 {
			return fmt.Errorf("open %s by io_uring: %w", o.name, unix.Errno(-fd))
		}
		_ = unix.Close(int(fd))
		f := Fact{Kind: "open", Path: o.path, Access: o.access, Submitted: true}
		if o.name != o.path {
			f.Requested = o.name
		}
		if err := w.tell(f); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) uringConnect(flags uint8) error {
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 8); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(port)<<8 | uint16(port)>>8, Addr: v4.loopback.As4()}
	if err := ringConnect(fd, flags, unsafe.Pointer(&to), unsafe.Sizeof(to)); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "tcp", Address: "127.0.0.1", Port: port})
}

func ringConnect(fd int, flags uint8, to unsafe.Pointer, size uintptr) error {
	ring, err := newUring(0)
	if err != nil {
		return err
	}
	defer func() { _ = ring.close() }()
	result, err := ring.do(submission{opcode: opConnect, flags: flags, fd: int32(fd), addr: uint64(uintptr(to)), off: uint64(size)})
	runtime.KeepAlive(to)
	if err == nil && result < 0 {
		err = fmt.Errorf("connect by io_uring: %w", unix.Errno(-result))
	}
	return err
}

func uringUnix(w *work) error {
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
	to := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range len(p) {
		to.Path[i] = int8(p[i])
	}
	if err := ringConnect(fd, 0, unsafe.Pointer(&to), uintptr(2+len(p)+1)); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "connect", Transport: "unix", Address: p, Submitted: true})
}
