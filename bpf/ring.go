// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// A ring is read in such a way that the next process reads a record again if this one is killed before it asked for the
// one after it. The library moves the consumer's position when it copies a record. So how far the records were handled
// is kept behind that position: the page is user space's own, and lives as long as the ring.
type ring struct {
	*ringbuf.Reader
	mu   sync.Mutex // of page: Close may be called while somebody reads
	page []byte     // nil: closed
	lost []Loss     // a record that was read and not handled, and that cannot be read again
}

// openRing opens a ring where the records that were handled end.
func openRing(m *ebpf.Map) (*ring, error) {
	page, err := unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the position in the ring: %w", err)
	}
	r := &ring{page: page}
	if r.Reader, err = ringbuf.NewReader(m); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ring buffer: %w", err), unix.Munmap(page))
	}
	consumed, handled := r.consumed().Load(), r.handled().Load()
	if handled&1 == 0 || handled-1 == consumed {
		return r, nil
	}
	r.consumed().Store(handled - 1)
	// A program that reserves at this moment may still count with the position of before: one at a time does.
	if uint64(r.AvailableBytes())+8+MaxRecord > uint64(m.MaxEntries()) {
		r.consumed().Store(consumed)
		r.lost = []Loss{{Cause: LossNotRead, Count: 1}}
	}
	return r, nil
}

func (r *ring) consumed() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&r.page[0])) }

// handled has the lowest bit set, which no position has: 0 means that nobody has written it.
func (r *ring) handled() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&r.page[8])) }

// next reads the next record. What was read before is handled by then.
func (r *ring) next(record *ringbuf.Record) error {
	r.release()
	return r.ReadInto(record)
}

func (r *ring) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.page != nil {
		r.handled().Store(r.consumed().Load() | 1)
	}
}

func (r *ring) close() error {
	if r == nil {
		return nil
	}
	r.release()
	err := r.Reader.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.page != nil {
		err = errors.Join(err, unix.Munmap(r.page))
	}
	r.page = nil
	return err
}

// timeOf is the time in a record's header, in ns of CLOCK_BOOTTIME.
func timeOf(raw []byte) uint64 {
	if len(raw) < 16 {
		return math.MaxUint64
	}
	return binary.LittleEndian.Uint64(raw[8:])
}
