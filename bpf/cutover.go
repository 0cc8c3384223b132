// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// A cutover divides what two kernel sides see alike at one instant: what was before it is taken from the old one's
// ring, what was after it from the new one's. Both read the clock for themselves, some microseconds apart, so one and
// the same event of a thread may be before it for one and after it for the other. Which comes first is known:
// trampolines run the newest program first, all other hooks the oldest.
type cutover struct {
	at         uint64 // boottime, ns
	both       uint64 // since then both saw what happened
	newFirst   map[uint16]bool
	boundaries map[boundaryKey]*boundary
}

type boundaryKey struct {
	tid  uint32
	kind uint16
}

// A boundary is what a thread did last before the cutover, as both saw it.
type boundary struct {
	old, new uint64
	after    []byte // the first after the cutover, of the old one
	dropped  bool
}

const (
	// cutoverWindow is how far apart two hooks on one event may be, preempted in between.
	cutoverWindow = 100e6
	// cutoverMargin is for how long both are let see the same before the cutover.
	cutoverMargin = 20 * time.Millisecond
	headBytes     = 48 // struct header
	maxBoundaries = 1 << 16
)

func newCutover(at, both uint64, hooks []Hook) *cutover {
	c := &cutover{at: at, both: both, newFirst: map[uint16]bool{}, boundaries: map[boundaryKey]*boundary{}}
	for _, h := range hooks {
		if kind, ok := programRecords[h.Name]; ok && h.Form == string(FormTrampoline) {
			c.newFirst[uint16(kind)] = true
		}
	}
	return c
}

func (c *cutover) boundary(raw []byte) (at uint64, e *boundary, near bool) {
	if len(raw) < headBytes {
		return 0, nil, false
	}
	at = binary.LittleEndian.Uint64(raw[8:])
	if near = at+cutoverWindow > c.at && at < c.at+cutoverWindow; !near {
		return at, nil, false
	}
	key := boundaryKey{binary.LittleEndian.Uint32(raw[44:]), binary.LittleEndian.Uint16(raw)}
	if e = c.boundaries[key]; e == nil {
		if e = new(boundary); len(c.boundaries) < maxBoundaries {
			c.boundaries[key] = e
		}
	}
	return at, e, true
}

// takesOld says whether to take a record of the old kernel side.
func (c *cutover) takesOld(raw []byte) bool {
	at, e, near := c.boundary(raw)
	if near && at <= c.at && at > c.both {
		e.old = max(e.old, at)
	} else if near && at > c.at && e.after == nil {
		e.after = bytes.Clone(raw)
	}
	return at <= c.at
}

// takesNew says whether to take a record of the new kernel side.
func (c *cutover) takesNew(raw []byte) bool {
	at, e, near := c.boundary(raw)
	if !near {
		return at > c.at
	}
	if at <= c.at {
		e.new = max(e.new, at)
		return false
	}
	if e.old > e.new && !e.dropped && !c.newFirst[binary.LittleEndian.Uint16(raw)] {
		e.dropped = true // it is the last that the old one saw
		return false
	}
	return true
}

// end gives what neither has given: of the old one, after the cutover, while the new one saw it before. It is to be
// called when nothing of before the cutover comes any more.
func (c *cutover) end() (found [][]byte) {
	for key, e := range c.boundaries {
		if e.new > e.old && e.after != nil && c.newFirst[key.kind] {
			found = append(found, e.after)
		}
	}
	slices.SortFunc(found, func(a, b []byte) int {
		return cmp.Compare(binary.LittleEndian.Uint64(a[8:]), binary.LittleEndian.Uint64(b[8:]))
	})
	return found
}
