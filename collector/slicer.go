// SPDX-License-Identifier: Apache-2.0

package collector

import "github.com/sheetbend/sheetbend/collector/span"

// slicer deals out the traces: it cuts what goes into one, and tells the journal of it.
type slicer struct {
	config      *Config
	clock       *clock
	attribution *attribution

	journal Journal // or nil
	placed  uint32  // spans of the record at hand that were given a trace
	begun   bool    // the record at hand began a span that is held
	resumes resuming
}

// Slice says how far a session's trace has come, or that of a call in it.
type Slice struct {
	Session, Call string
	Number        uint64
	Began         uint64 // boottime
	Spans         uint32 // in it
	Within        uint32 // it was begun by so many spans of one record; from 1
	Foreign       bool   // the agent's own trace, before the first slice
}

// A Journal is told what a record begins, at once: before a span that tells it goes to the sink, where a kill does not reach it.
type Journal interface {
	// Slice is called when a slice begins.
	Slice(Slice)
	// Began is called when a record begins to hold a span, once for each record.
	Began()
	// Claimed is called when an agent has a session from now on.
	Claimed(Claim)
}

// A Claim says which agent has had which session: a record that is left out may have told it.
type Claim struct {
	Agent          span.Image // its first program; zero: a harness
	UID            uint32
	Nested         bool   // the agent is within another one
	Place, Dialect string // as in holder
	Session        string // in the agent's word
}

// resuming is what a collector does otherwise while it is given a journal.
type resuming struct {
	on    bool
	rolls []Slice // of the record that comes
	any   bool    // whichever of its spans it was: some are left out
	// joined: it was counted in a span that was begun before. If there is none here, that was sent.
	joined bool
	begun  bool
	end    bool // it may have begun more than was kept
}

// rollLeft begins the slices that a record began with spans that are not made of it any more.
func (c *slicer) rollLeft() {
	for _, s := range c.resumes.rolls {
		s.Spans = 0
		c.SetSlice(s)
	}
	c.resumes.rolls = nil
}

// begin notes that the record at hand begins to hold a span.
func (c *slicer) begin() {
	if c.begun {
		return
	}
	c.begun = true
	if c.journal != nil && (!c.resumes.on || c.resumes.end && !c.resumes.begun) {
		c.journal.Began()
	}
}

func (t *traces) state() Slice {
	return Slice{Session: t.session, Call: t.call, Number: t.slice, Began: t.began, Spans: uint32(t.spans), Foreign: t.foreign}
}

func (t *traces) set(s Slice) {
	t.slice, t.began, t.spans = s.Number, s.Began, int(s.Spans)
	if t.foreign && !s.Foreign || !t.foreign {
		t.foreign = false
		t.trace = span.TraceFor(t.session, t.call, t.slice)
	}
}

// SetSlice says how far a trace has come.
func (c *slicer) SetSlice(s Slice) {
	if s.Call == "" {
		// Whoever had the session may be over and left out; it is remembered as long as others are.
		o := c.attribution.owners.get(s.Session, holder{place: nowhere})
		o.set(s)
		if o.users == 0 {
			c.attribution.owners.restore(o)
			c.attribution.owners.retire(o)
		}
	} else if k := c.attribution.calls[callKey{s.Session, s.Call}]; k != nil {
		k.set(s)
	}
}

// claimed tells the journal that an agent has a session from now on.
func (c *slicer) claimed(a *agent) {
	if c.journal == nil || c.resumes.on && !c.resumes.end {
		return
	}
	h := a.holder()
	c.journal.Claimed(Claim{a.first, h.uid, a.outer.agent != nil, h.place, h.dialect, a.session})
}

// placeIn counts a span of now in, and says which trace it goes to.
func (c *slicer) placeIn(t *traces) span.TraceID {
	c.placed++
	if c.resumes.on && !(c.resumes.end && len(c.resumes.rolls) == 0) {
		for i, s := range c.resumes.rolls {
			if s.Session == t.session && s.Call == t.call && (c.resumes.any || s.Within == c.placed) {
				// Those before it were begun by spans that are not made any more.
				left := c.resumes.rolls[i+1:]
				c.resumes.rolls = c.resumes.rolls[:i]
				c.rollLeft()
				c.resumes.rolls = left
				s.Spans = 0
				t.set(s)
				break
			}
		}
		if t.spans == 0 {
			t.began = c.clock.now
		}
		t.spans++
		return t.trace
	}
	slice, foreign := t.slice, t.foreign
	trace := t.place(c.clock.now, c.config.MaxSpansPerTrace, c.config.Slice)
	if (t.slice != slice || t.foreign != foreign) && c.journal != nil {
		s := t.state()
		s.Within = c.placed
		c.journal.Slice(s)
	}
	return trace
}

// counted gives what SetSlice takes back.
func (c *slicer) counted(slice func(Slice)) {
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
}

// resuming begins or ends the time in which slices are only begun as next says.
func (c *slicer) resuming(on bool) {
	c.rollLeft()
	c.resumes = resuming{on: on}
}

// next says what the next record did when it was taken the first time: see Collector.Next.
func (c *slicer) next(rolls []Slice, begun, whole, end bool) {
	c.rollLeft()
	c.resumes.rolls, c.resumes.any, c.resumes.joined = rolls, !whole, !begun && !whole
	c.resumes.begun, c.resumes.end = begun, whole && end
}

// remembers says whether it still counts who has had a session.
func (c *attribution) remembers(k Claim) bool {
	return c.agentOf(k.Session, k.UID) != nil || c.owners.bySession[c.owners.nameFor(k.Session, k.UID)] != nil
}

// setClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *attribution) setClaim(k Claim) {
	if !k.Nested {
		c.displaceNested(k.Session)
	}
	if a := c.startedAs(k.Agent); a != nil {
		if a.session != k.Session {
			c.name(a, k.Session)
		}
		return
	}
	// It is over.
	h := holder{k.Place, k.UID, k.Dialect}
	o := c.owners.get(c.owners.nameFor(k.Session, k.UID), h)
	if o.users > 0 {
		return
	}
	c.owners.restore(o)
	o.claimed, o.of = !k.Nested, h
	c.owners.retire(o)
}

// startedAs gives the agent whose first program this is; nil: none, or it is not known.
func (c *attribution) startedAs(first span.Image) (found *agent) {
	if first == (span.Image{}) {
		return nil
	}
	c.tree.eachSandbox(func(sb *aSandbox) {
		for _, a := range sb.agents {
			if found == nil && a.first == first {
				found = a
			}
		}
	})
	return found
}
