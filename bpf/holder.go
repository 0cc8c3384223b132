// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// MaxSought is how many sockets one walk looks for.
const MaxSought = 1024

// Holders finds the processes that have a socket open, by a walk over all open files of the host's processes: those
// in this process's pid namespace and below. A walk needs no capability, but before Linux 5.19 CAP_BPF as every look
// into a map does.
type Holders struct {
	mu      sync.Mutex
	program *ebpf.Program
	sought  *ebpf.Map
	walk    *link.Iter
}

// LoadHolders needs what Load needs.
func LoadHolders() (_ *Holders, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("load the search for who has a socket open: %w", explain(err))
		}
	}()
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	spec, err := loadHolder()
	if err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	h := &Holders{}
	if h.walk, err = link.AttachIter(link.IterOptions{Program: c.Programs["holder_each"]}); err != nil {
		return nil, err
	}
	h.program, h.sought = c.DetachProgram("holder_each"), c.DetachMap("sought")
	return h, nil
}

// Find yields each process that has one of the sockets open, once or more often: the number of the socket's inode,
// the process's tgid, and its start in ns of CLOCK_BOOTTIME. At most MaxSought sockets. The time that it takes grows
// with the open files of the host.
func (h *Holders) Find(inodes []uint32, yield func(inode, tgid uint32, start uint64)) (err error) {
	if len(inodes) > MaxSought {
		return fmt.Errorf("look for who has %d sockets open: at most %d can be sought", len(inodes), MaxSought)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() {
		for _, inode := range inodes {
			if gone := h.sought.Delete(inode); gone != nil && !errors.Is(gone, ebpf.ErrKeyNotExist) {
				err = errors.Join(err, gone)
			}
		}
		if err != nil {
			err = fmt.Errorf("look for who has a socket open: %w", err)
		}
	}()
	for _, inode := range inodes {
		if err := h.sought.Put(inode, uint8(1)); err != nil {
			return err
		}
	}
	r, err := h.walk.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return eachHolder(r, yield)
}

func eachHolder(r io.Reader, yield func(inode, tgid uint32, start uint64)) error {
	const size = 16 // struct holder
	buf := make([]byte, 256*size)
	for have := 0; ; {
		n, err := r.Read(buf[have:])
		have += n
		whole := have - have%size
		for b := buf[:whole]; len(b) > 0; b = b[size:] {
			yield(binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b))
		}
		have = copy(buf, buf[whole:have])
		switch {
		case errors.Is(err, io.EOF) && have == 0:
			return nil
		case errors.Is(err, unix.EAGAIN): // a million files with nothing to tell of: the kernel goes on where it was
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
}

// Close unloads it.
func (h *Holders) Close() error {
	if h == nil {
		return nil
	}
	return errors.Join(h.walk.Close(), h.program.Close(), h.sought.Close())
}
