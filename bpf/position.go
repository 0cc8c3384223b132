// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A ringPosition is how far a ring has been read, as its consumer page says: the reader moves on with each record
// that it copies, so a process that is killed before it has kept the copy leaves one that only the next process can
// still find in the ring.
type ringPosition struct {
	ring     *ebpf.Map
	id       uint64
	consumer []byte // mapped
}

// positionBits is what of a position is told, below the id of the ring.
const positionBits = 40

func newRingPosition(ring *ebpf.Map) (*ringPosition, error) {
	info, err := ring.Info()
	if err != nil {
		return nil, fmt.Errorf("look at the ring: %w", err)
	}
	id, _ := info.ID()
	consumer, err := unix.Mmap(ring.FD(), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring's position: %w", err)
	}
	kept, err := ring.Clone()
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(consumer))
	}
	return &ringPosition{ring: kept, id: uint64(id) << positionBits, consumer: consumer}, nil
}

func (p *ringPosition) close() error {
	if p == nil {
		return nil
	}
	return errors.Join(unix.Munmap(p.consumer), p.ring.Close())
}

func (p *ringPosition) position() uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&p.consumer[0])))
}

// told is the position with the ring's id.
func (p *ringPosition) told() uint64 {
	if p == nil {
		return 0
	}
	return p.id | p.position()&(1<<positionBits-1)
}

// unread gives the records from a position up to where the ring was read. The kernel writes over them only when the
// ring has gone round, so there they are, or it is seen that they are not.
func (p *ringPosition) unread(told uint64, yield func(raw []byte)) (lost int, err error) {
	const header, busy, discard = 8, 1 << 31, 1 << 30 // struct bpf_ringbuf_hdr
	size := uint64(p.ring.MaxEntries())
	to := p.position()
	from := to - (to-told)&(1<<positionBits-1)
	if from == to {
		return 0, nil
	}
	page := os.Getpagesize()
	all, err := unix.Mmap(p.ring.FD(), int64(page), page+2*int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("map the ring: %w", err)
	}
	defer func() { _ = unix.Munmap(all) }()
	producer := (*uint64)(unsafe.Pointer(&all[0]))
	data := all[page:]
	for from != to {
		// One record that was read and not kept is all that there can be.
		if to-from > size || atomic.LoadUint64(producer)-from > size {
			return lost + 1, nil
		}
		at := from & (size - 1)
		word := binary.LittleEndian.Uint32(data[at:])
		n := uint64(word &^ (busy | discard))
		next := from + header + (n+7)&^7
		if n > MaxRecord || word&busy != 0 || to-from < next-from {
			return lost + 1, nil
		}
		raw := append([]byte(nil), data[at+header:at+header+n]...)
		if atomic.LoadUint64(producer)-from > size {
			return lost + 1, nil // written over meanwhile
		}
		if word&discard == 0 {
			yield(raw)
		}
		from = next
	}
	return lost, nil
}

// Position is up to where the ring has been read, for Unread.
func (s *Sensor) Position() uint64 { return s.handover.position(s.position).told() }

// Unread gives what an earlier process had read of a ring behind a position, before that is read which came after.
// lost counts what cannot be found any more.
func (s *Sensor) Unread(from uint64, yield func(raw []byte)) (lost int, err error) {
	for _, p := range s.handover.old {
		if p.position != nil && p.position.id == from>>positionBits<<positionBits && p.readable {
			return p.position.unread(from, yield)
		}
	}
	if s.position != nil && s.position.id == from>>positionBits<<positionBits {
		return s.position.unread(from, yield)
	}
	return 0, nil
}

// Format names the layout of the records: what was read from a kernel side of another one says nothing to this one.
func Format() (string, error) {
	spec, err := loadObject()
	if err != nil {
		return "", fmt.Errorf("read the embedded object: %w", err)
	}
	return formatOf(spec), nil
}
