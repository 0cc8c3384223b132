// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/binary"
	"slices"
	"sync"
)

// maxInjected bounds the records of other goroutines that wait for their place in the stream.
const maxInjected = 4096

// An injected record waits until the ring has been read up to its time: what happened before it
// may still lie there.
type injected struct {
	time  uint64 // ns of CLOCK_BOOTTIME, of its header
	raw   []byte
	reply func(accepted bool) // nil: nobody asks
}

// inbox holds injected records in the order of their time.
type inbox struct {
	mu      sync.Mutex
	waiting []injected
	refused uint64
	closed  bool
}

// Inject puts a record that was made elsewhere into the stream, before all kernel records
// that are younger. Its header's time is that of SystemClock. raw is copied. It returns false, and
// counts the record in Stats.NotInjected, when too many wait, and when Run has returned. Safe for
// concurrent use; it waits for nothing.
func (f *Feed) Inject(raw []byte) bool { return f.InjectAnd(raw, nil) }

// InjectAnd is Inject, and calls reply afterwards with whether the collector accepted the record: on the goroutine of
// Run, so reply must not wait for anything. It is not called when false is returned.
func (f *Feed) InjectAnd(raw []byte, reply func(accepted bool)) bool {
	const timeEnd = 16 // of struct header in bpf/records.h
	b := &f.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(raw) < timeEnd || len(b.waiting) >= maxInjected {
		b.refused++
		return false
	}
	i := injected{time: binary.LittleEndian.Uint64(raw[timeEnd-8:]), raw: slices.Clone(raw), reply: reply}
	at := len(b.waiting)
	for at > 0 && b.waiting[at-1].time > i.time {
		at--
	}
	b.waiting = slices.Insert(b.waiting, at, i)
	return true
}

// take moves the records up to a time to dst.
func (b *inbox) take(dst []injected, until uint64) []injected {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.waiting) && b.waiting[n].time <= until {
		n++
	}
	dst = append(dst, b.waiting[:n]...)
	b.waiting = slices.Delete(b.waiting, 0, n)
	return dst
}

// close makes Inject refuse everything from now on.
func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}

func (b *inbox) refusals() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// injected passes on the injected records up to a time.
func (f *Feed) injected(until uint64) {
	f.due = f.inbox.take(f.due[:0], until)
	for _, i := range f.due {
		accepted := f.emit(i.raw)
		if i.reply != nil {
			i.reply(accepted)
		}
		f.containerEvent(i.raw)
	}
	clear(f.due)
}
