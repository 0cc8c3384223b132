// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"net/netip"
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A countedEvent is what a net.socket, net.listen, net.accept, process.namespace, process.access or process.exec.refused span tells, but for time
// and thread. Events of one process that are equal are repeats of one another.
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
	signal     uint32

	path  string // process.exec.refused: what was asked for; net.listen: of a unix socket
	flags uint16

	dns dnsEvent

	local netip.AddrPort // net.listen, net.accept; protocol as of a socket
	peer  netip.Addr     // net.accept
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

	until   uint64   // boottime: when the first was over; 0: it is a point
	answers []string // of lookups
	dnsID   uint16   // of the first lookup's query

	peerPort uint16 // net.accept: of the first

	search bool // process.exec.refused: it is part of a search
}

// count gives the span that counts the event; it is to be changed only before the next record.
func (c *Spans) count(h *record.Header, p *lineage.Process, a countedEvent) *countedSpan {
	s := c.repeat(countedKey{p, a}, p.Owner(), h.Time)
	if s == nil {
		s = c.newCounted(h, p, a)
		c.keepCounted(s)
	}
	return s
}

// repeat counts an event at a time (boottime) that repeats others of its owner. Nil: it does not.
func (c *Spans) repeat(key countedKey, w attribution.Owner, at uint64) *countedSpan {
	s := c.counted[key]
	switch {
	case s == nil:
	case s.owner != w:
		c.queue.runOutOf(&s.held, 0)
		return nil
	default:
		s.count++
		s.last = max(s.last, at)
	}
	return s
}

// newCounted places the span of an event that is the first of its kind.
func (c *Spans) newCounted(h *record.Header, p *lineage.Process, a countedEvent) *countedSpan {
	s := &countedSpan{
		key: countedKey{p, a}, program: p.Program, cgroup: p.Cgroup, owner: p.Owner(), first: h.Time, last: h.Time, tid: h.Tid, count: 1,
	}
	s.spot = c.place(&p.Sandbox.Sandbox, s.owner, s.program, s.cgroup, weightOf(a.executable)+weightOf(a.path)+weightOf(a.dns.name)+answersWeight(a.kind))
	return s
}

// keepCounted has a span count repeats from now on.
func (c *Spans) keepCounted(s *countedSpan) {
	p, a := s.key.process, &s.key.event
	c.queue.holdRepeats(&s.held, s, p, len(a.executable)+len(a.path)+len(a.dns.name), s.first)
	c.counted[s.key] = s
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

func (c *Spans) countedID(s *countedSpan) (id span.ID) { // a kind without a case has none: TestSpansAreWellFormed fails
	p := s.key.process
	of := span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: s.program.ID.ExecID}
	switch s.key.event.kind {
	case span.Socket:
		id = span.SocketSpan(c.config.BootID, of, s.tid, s.first)
	case span.Listen:
		id = span.ListenSpan(c.config.BootID, of, s.tid, s.first)
	case span.Accept:
		id = span.AcceptSpan(c.config.BootID, of, s.tid, s.first)
	case span.Namespace:
		id = span.NamespaceSpan(c.config.BootID, of, s.tid, s.first)
	case span.Access:
		id = span.AccessSpan(c.config.BootID, of, s.tid, s.first)
	case span.ExecRefused:
		id = span.RefusedSpan(c.config.BootID, of, s.tid, s.first)
	case span.Lookup:
		e := &s.key.event.dns
		id = span.LookupSpan(c.config.BootID, of, s.tid, s.first, s.dnsID, e.kind, e.name)
	}
	return id
}

func (c *Spans) sendCounted(s *countedSpan) {
	p, i, a := s.key.process, s.program, &s.key.event
	d := c.out.start(a.kind, &p.Sandbox.Sandbox, s.owner, c.countedID(s), s.spot, s.first, max(s.first, s.until))
	c.out.process(p, i, s.cgroup)
	switch a.kind {
	case span.Socket:
		c.tellSocket(d, a)
	case span.Listen:
		c.tellListen(d, a)
	case span.Accept:
		c.tellAccept(d, a, s.peerPort)
	case span.Namespace:
		c.tellNamespace(d, a)
	case span.Access:
		c.tellAccess(d, a)
	case span.ExecRefused:
		c.tellRefused(d, a)
	case span.Lookup:
		c.tellAnswer(d, s)
	}
	c.repeated(d, s.count, s.last)
	if a.kind != span.Lookup {
		d.returned(a.errno)
	}
	if s.search {
		d.flag(span.KeySearch)
		d.span.Failed, d.span.Status = false, ""
	}
	c.out.send()
}

// repeated says how often something was done, and when for the last time.
func (c *Spans) repeated(d *builder, count, last uint64) {
	d.int(span.KeyCount, int64(count))
	if count > 1 {
		d.trusted(span.KeyLast, c.wallTime(last))
	}
}
