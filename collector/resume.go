// SPDX-License-Identifier: Apache-2.0

package collector

import "github.com/sheetbend/sheetbend/collector/span"

// A collector that is given a journal of the stream (collector/journal) comes to the state of the one that was killed. The
// journal leaves out records of which all spans are sent, so what is only counted of them is told to it besides.

// Reads are what a process has read and its spans have not told yet.
type Reads struct {
	Tgid        uint32
	Start       uint64
	Noise       uint64
	WindowStart uint64
	Files       uint32
}

// SetJournal has j told of everything that is not resumed. To be called before Record.
func (c *Collector) SetJournal(j Journal) { c.slicer.journal = j }

// Resuming begins or ends the time in which slices are only begun as Next says.
func (c *Collector) Resuming(on bool) {
	c.slicer.rollLeft()
	c.slicer.resumes = resuming{on: on}
}

// Next says what the next record did when it was taken the first time: which slices it began, and whether it began to hold a span.
// whole says that what was before it is all there, end that it is the last, in the middle of which a kill may have come: what it begins
// besides is told.
func (c *Collector) Next(rolls []Slice, begun, whole, end bool) {
	c.slicer.rollLeft()
	c.slicer.resumes.rolls, c.slicer.resumes.any, c.slicer.resumes.joined = rolls, !whole, !begun && !whole
	c.slicer.resumes.begun, c.slicer.resumes.end = begun, whole && end
}

// Seq is the number of the last span.
func (c *Collector) Seq() uint64 { return c.spans.stats.Spans }

// SetSeq has the next span be n+1.
func (c *Collector) SetSeq(n uint64) { c.spans.stats.Spans = n }

// Counted gives what SetSlice and SetReads take back.
func (c *Collector) Counted(slice func(Slice), reads func(Reads)) {
	for e := c.attribution.owners.retired.Front(); e != nil; e = e.Next() { // those that are in use come when their agents do
		slice(e.Value.(*owner).state())
	}
	for _, o := range c.attribution.owners.bySession {
		if o.retired == nil {
			slice(o.state())
		}
	}
	for key, k := range c.attribution.calls {
		if key.call == k.call { // it may be there by its id, too
			slice(k.state())
		}
	}
	for _, p := range c.lineage.processes {
		if r, ok := p.reads(); ok {
			reads(r)
		}
	}
}

// ReadsOf gives what a process has read, if that is anything.
func (c *Collector) ReadsOf(tgid uint32, start uint64) (Reads, bool) {
	p := c.lineage.processes[tgid]
	if p == nil || p.start != start {
		return Reads{}, false
	}
	return p.reads()
}

func (p *process) reads() (r Reads, ok bool) {
	r = Reads{p.tgid, p.start, p.image.noise, pendingOf(p).windowStart, uint32(pendingOf(p).filesRead)}
	ok = r.Noise > 0 || r.Files > 0
	if !p.owns(p.image) {
		r.Noise = 0 // its parent's, which has it
	}
	return r, ok
}

// Remembers says whether it still counts who has had a session.
func (c *Collector) Remembers(k Claim) bool {
	return c.attribution.agentOf(k.Session, k.UID) != nil || c.attribution.owners.bySession[c.attribution.owners.nameFor(k.Session, k.UID)] != nil
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *Collector) SetClaim(k Claim) {
	if !k.Nested {
		c.attribution.displaceNested(k.Session)
	}
	for e := c.lineage.sandboxes.Front(); e != nil && k.Agent != (span.Image{}); e = e.Next() {
		for _, a := range e.Value.(*sandbox).agents {
			if a.first == k.Agent {
				if a.session != k.Session {
					c.attribution.name(a, k.Session)
				}
				return
			}
		}
	}
	// It is over.
	h := holder{k.Place, k.UID, k.Dialect}
	o := c.attribution.owners.get(c.attribution.owners.nameFor(k.Session, k.UID), h)
	if o.users > 0 {
		return
	}
	c.attribution.owners.restore(o)
	o.claimed, o.of = !k.Nested, h
	c.attribution.owners.retire(o)
}

// SetReads says what a process has read.
func (c *Collector) SetReads(r Reads) {
	p := c.lineage.processes[r.Tgid]
	if p == nil || p.start != r.Start {
		return
	}
	pendingOf(p).windowStart, pendingOf(p).filesRead = r.WindowStart, int(r.Files)
	if p.owns(p.image) {
		p.image.noise = r.Noise
	}
}
