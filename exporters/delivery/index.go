// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"sort"
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// kind is what waits in one line: a signal, of the sensor or of agents.
type kind uint8

const (
	spans kind = 0 // the sensor's own
	kinds kind = 6 // three signals of the sensor, and three of agents
)

func kindOf(b otlp.Batch) kind {
	k := kind(b.Signal - otlp.Traces)
	if b.PassedOn {
		k += kinds / 2
	}
	return k
}

func (k kind) signal() otlp.Signal { return otlp.Traces + otlp.Signal(k%(kinds/2)) }

func (k kind) origin() origin { return origin(k / (kinds / 2)) }

// origin is who made the telemetry.
type origin uint8

const (
	own origin = iota
	passedOn
)

// unit is the name of a count in the log.
func (k kind) unit() string {
	switch {
	case k == spans:
		return "spans"
	case k.origin() == own:
		return "records"
	}
	return "requests"
}

// String says for people what waits, in the plural.
func (k kind) String() string {
	return [kinds]string{"spans", "log records", "metrics", "agents' traces", "agents' logs", "agents' metrics"}[k]
}

// head is what the index knows of a batch.
type head struct {
	seq     uint64
	kind    kind
	created int64 // Unix time in nanoseconds
	spans   int   // otlp.Batch.Spans
	size    int   // bytes encoded as an entry
}

// item is a batch in the index.
type item struct {
	head
	batch otlp.Batch // in memory; empty for what is stored
	after uint64     // in memory: Through of the batch of its kind before it
}

// inMemory is what a batch takes there, in bytes.
func (it item) inMemory() int { return it.size + partSize*len(it.batch.Resources) }

// line has the batches of one kind, the oldest first.
type line struct {
	stored  []item // on disk
	pending []item // in memory only, all younger than those on disk
	writing int    // so many of pending are being written
	through uint64 // otlp.Batch.Through of the last one offered
}

// passed notes a batch that was offered, whatever became of it.
func (l *line) passed(b otlp.Batch) { l.through = max(l.through, b.Through) }

func stored(l *line) []item { return l.stored }

func unwritten(l *line) []item { return l.pending[l.writing:] }

// index has all batches that wait. Queue.mu guards it.
type index struct {
	lines   [kinds]line
	disk    [2]int64 // by origin: bytes, in whole pages
	memory  [2]int   // by origin: bytes
	items   int      // spans in memory
	writing bool
	since   time.Time // writing
	garbage []head    // on disk: nobody needs them any more, and the next commit removes them
}

func (x *index) add(h head, b otlp.Batch) {
	l := &x.lines[h.kind]
	it := item{h, b, l.through}
	l.pending = append(l.pending, it)
	x.memory[h.kind.origin()] += it.inMemory()
	x.items += h.spans
}

func (x *index) addStored(h head) {
	l := &x.lines[h.kind]
	l.stored = append(l.stored, item{head: h})
	x.disk[h.kind.origin()] += pages(h.size)
}

// take removes the batch at a place in a line's memory.
func (x *index) take(k kind, at int) item {
	l := &x.lines[k]
	it := l.pending[at]
	copy(l.pending[1:at+1], l.pending[:at])
	l.pending[0] = item{}
	l.pending = l.pending[1:]
	x.memory[k.origin()] -= it.inMemory()
	x.items -= it.spans
	return it
}

// shiftStored makes the oldest of a kind on disk garbage.
func (x *index) shiftStored(k kind) item {
	l := &x.lines[k]
	it := l.stored[0]
	l.stored[0] = item{}
	l.stored = l.stored[1:]
	x.disk[k.origin()] -= pages(it.size)
	x.garbage = append(x.garbage, it.head)
	return it
}

// oldest is the kind of an origin that has the oldest of the batches that list gives.
func (x *index) oldest(o origin, list func(*line) []item) (found kind, ok bool) {
	var seq uint64
	for k := kind(o) * (kinds / 2); k.origin() == o && k < kinds; k++ {
		if l := list(&x.lines[k]); len(l) > 0 && (!ok || l[0].seq < seq) {
			found, seq, ok = k, l[0].seq, true
		}
	}
	return found, ok
}

// group marks batches that are only in memory as being written, of the first kinds before those of the later, and
// gives copies of them.
func (x *index) group(wanted func(kind) bool, maxBytes, maxSpans int, maxPassedOn int64) (group []item, size [2]int64) {
	bytes, spans := 0, 0
	for k := range kinds {
		if !wanted(k) {
			continue
		}
		for l := &x.lines[k]; l.writing < len(l.pending); l.writing++ {
			it := l.pending[l.writing]
			bytes, spans = bytes+it.size, spans+it.spans
			after := size[k.origin()] + pages(it.size)
			if len(group) > 0 && (len(group) == groupBatches || bytes > maxBytes || spans > maxSpans) ||
				k.origin() == passedOn && after > maxPassedOn {
				return group, size
			}
			group, size[k.origin()] = append(group, it), after
		}
	}
	return group, size
}

// ungroup says that nothing is being written any more.
func (x *index) ungroup() {
	x.writing = false
	for k := range x.lines {
		x.lines[k].writing = 0
	}
}

// from is the place in a list of the first batch after a position.
func from(list []item, position uint64) int {
	return sort.Search(len(list), func(i int) bool { return list[i].seq > position })
}

// pages is what an entry of size bytes takes in the file.
func pages(size int) int64 {
	const page = 4096
	return int64((size+64+page-1)/page) * page
}
