// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A countedEvent is what a net.socket, process.namespace or process.access span tells, but for time and thread. Events
// of one process that are equal are repeats of one another.
type countedEvent struct {
	kind  span.Kind
	op    uint16
	errno int32

	family, sockType uint16 // net.socket
	protocol         uint32

	types uint32 // process.namespace

	target     uint32 // process.access
	start      uint64 // of the target
	executable string // as /proc shows it
	program    string // its name
	outside    bool
}

type countedKey struct {
	process *lineage.Process
	event   countedEvent
}

// A countedSpan counts repeats until its hold runs out.
type countedSpan struct {
	held    held
	key     countedKey
	program *lineage.Program
	cgroup  *lineage.Cgroup
	owner   attribution.Owner
	spot    spot

	first, last uint64 // boottime
	tid         uint32 // of the first
	count       uint64
}

func (c *Spans) count(h *record.Header, p *lineage.Process, a countedEvent) {
	key := countedKey{p, a}
	if s := c.counted[key]; s != nil {
		s.count++
		s.last = max(s.last, h.Time)
		return
	}
	s := &countedSpan{key: key, program: p.Program, cgroup: p.Cgroup, owner: p.Owner(), first: h.Time, last: h.Time, tid: h.Tid, count: 1}
	s.spot = c.place(&p.Sandbox.Sandbox, s.owner, s.program, s.cgroup, weightOf(a.executable))
	c.queue.holdRepeats(&s.held, s, p, len(a.executable), h.Time)
	c.counted[key] = s
	pending := pendingOf(p)
	pending.counted = append(pending.counted, s)
}

// Flush sends what counts repeats of a process.
func (c *Spans) Flush(p *lineage.Process) {
	if p.Pending == nil {
		return
	}
	c.files.flushOpens(p)
	pending := pendingOf(p)
	for len(pending.changes) > 0 {
		c.queue.runOutOf(&pending.changes[0].held, 0)
	}
	for len(pending.counted) > 0 {
		c.queue.runOutOf(&pending.counted[0].held, 0)
	}
}

func (s *countedSpan) runOut(c *Spans, _ uint64) {
	c.sendCounted(s)
	delete(c.counted, s.key)
	p := pendingOf(s.key.process)
	if n := slices.Index(p.counted, s); n == 0 { // as all are held equally long
		p.counted[0] = nil
		p.counted = p.counted[1:]
	} else if n > 0 {
		p.counted = slices.Delete(p.counted, n, n+1)
	}
}

func (c *Spans) sendCounted(s *countedSpan) {
	p, i, a := s.key.process, s.program, &s.key.event
	of := span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}
	var id span.ID // a kind without a case has none: TestSpansAreWellFormed fails
	switch a.kind {
	case span.Socket:
		id = span.SocketSpan(c.config.BootID, of, s.tid, s.first)
	case span.Namespace:
		id = span.NamespaceSpan(c.config.BootID, of, s.tid, s.first)
	case span.Access:
		id = span.AccessSpan(c.config.BootID, of, s.tid, s.first)
	}
	d := c.out.start(a.kind, &p.Sandbox.Sandbox, s.owner, id, s.spot, s.first, s.first)
	c.out.process(p, i, s.cgroup)
	switch a.kind {
	case span.Socket:
		c.tellSocket(d, a)
	case span.Namespace:
		c.tellNamespace(d, a)
	case span.Access:
		c.tellAccess(d, a)
	}
	c.repeated(d, s.count, s.last)
	d.returned(a.errno)
	c.out.send()
}

// repeated says how often something was done, and when for the last time.
func (c *Spans) repeated(d *builder, count, last uint64) {
	d.int(span.KeyCount, int64(count))
	if count > 1 {
		d.trusted(span.KeyLast, c.wallTime(last))
	}
}
