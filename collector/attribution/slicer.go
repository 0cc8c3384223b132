// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Slicer deals out the traces: it cuts what goes into one, and tells the journal of it.
type Slicer struct {
	Config      *config.Config
	Clock       *Clock
	Attribution *Table

	Journal Journal // or nil
	Placed  uint32  // spans of the record at hand that were given a trace
	Begun   bool    // the record at hand began a span that is held
	Resumes resuming
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

// A Journal is told what a record begins, at once: before a span that tells it goes to the sink, where a kill does not
// reach it.
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
	Joined bool
	begun  bool
	end    bool // it may have begun more than was kept
}

// rollLeft begins the slices that a record began with spans that are not made of it any more.
func (c *Slicer) rollLeft() {
	for _, s := range c.Resumes.rolls {
		s.Spans = 0
		c.SetSlice(s)
	}
	c.Resumes.rolls = nil
}

// Begin notes that the record at hand begins to hold a span.
func (c *Slicer) Begin() {
	if c.Begun {
		return
	}
	c.Begun = true
	if c.Journal != nil && (!c.Resumes.on || c.Resumes.end && !c.Resumes.begun) {
		c.Journal.Began()
	}
}

func (t *Traces) state() Slice {
	return Slice{Session: t.SessionName, Call: t.CallName, Number: t.Slice, Began: t.began, Spans: uint32(t.spans), Foreign: t.foreign}
}

func (t *Traces) set(s Slice) {
	t.Slice, t.began, t.spans = s.Number, s.Began, int(s.Spans)
	if t.foreign && !s.Foreign || !t.foreign {
		t.foreign = false
		t.trace = span.TraceFor(t.SessionName, t.CallName, t.Slice)
	}
}

// SetSlice says how far a trace has come.
func (c *Slicer) SetSlice(s Slice) {
	if s.Call == "" {
		// Whoever had the session may be over and left out; it is remembered as long as others are.
		o := c.Attribution.Sessions.get(s.Session, Holder{place: nowhere})
		o.set(s)
		if o.Users == 0 {
			c.Attribution.Sessions.restore(o)
			c.Attribution.Sessions.retire(o)
		}
	} else if k := c.Attribution.Calls[callKey{s.Session, s.Call}]; k != nil {
		k.set(s)
	}
}

// claimed tells the journal that an agent has a session from now on.
func (c *Slicer) claimed(a *agent) {
	if c.Journal == nil || c.Resumes.on && !c.Resumes.end {
		return
	}
	h := a.holder()
	c.Journal.Claimed(Claim{a.First, h.uid, a.Outer.Agent != nil, h.place, h.dialect, a.OwnID})
}

// PlaceIn counts a span of now in, and says which trace it goes to.
func (c *Slicer) PlaceIn(t *Traces) span.TraceID {
	c.Placed++
	if c.Resumes.on && !(c.Resumes.end && len(c.Resumes.rolls) == 0) {
		for i, s := range c.Resumes.rolls {
			if s.Session == t.SessionName && s.Call == t.CallName && (c.Resumes.any || s.Within == c.Placed) {
				// Those before it were begun by spans that are not made any more.
				left := c.Resumes.rolls[i+1:]
				c.Resumes.rolls = c.Resumes.rolls[:i]
				c.rollLeft()
				c.Resumes.rolls = left
				s.Spans = 0
				t.set(s)
				break
			}
		}
		if t.spans == 0 {
			t.began = c.Clock.Now
		}
		t.spans++
		return t.trace
	}
	slice, foreign := t.Slice, t.foreign
	trace := t.place(c.Clock.Now, c.Config.MaxSpansPerTrace, c.Config.Slice)
	if (t.Slice != slice || t.foreign != foreign) && c.Journal != nil {
		s := t.state()
		s.Within = c.Placed
		c.Journal.Slice(s)
	}
	return trace
}

// Counted gives what SetSlice takes back.
func (c *Slicer) Counted(slice func(Slice)) {
	for e := c.Attribution.Sessions.retired.Front(); e != nil; e = e.Next() { // those that are in use come when their agents do
		slice(e.Value.(*Session).state())
	}
	for _, o := range c.Attribution.Sessions.BySession {
		if o.retired == nil {
			slice(o.state())
		}
	}
	for key, k := range c.Attribution.Calls {
		if key.call == k.CallName { // it may be there by its id, too
			slice(k.state())
		}
	}
}

// Resuming begins or ends the time in which slices are only begun as next says.
func (c *Slicer) Resuming(on bool) {
	c.rollLeft()
	c.Resumes = resuming{on: on}
}

// Next says what the next record did when it was taken the first time: see Collector.Next.
func (c *Slicer) Next(rolls []Slice, begun, whole, end bool) {
	c.rollLeft()
	c.Resumes.rolls, c.Resumes.any, c.Resumes.Joined = rolls, !whole, !begun && !whole
	c.Resumes.begun, c.Resumes.end = begun, whole && end
}

// Remembers says whether it still counts who has had a session.
func (c *Table) Remembers(k Claim) bool {
	return c.agentOf(k.Session, k.UID) != nil || c.Sessions.BySession[c.Sessions.nameFor(k.Session, k.UID)] != nil
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *Table) SetClaim(k Claim) {
	if !k.Nested {
		c.DisplaceNested(k.Session)
	}
	if a := c.startedAs(k.Agent); a != nil {
		if a.OwnID != k.Session {
			c.name(a, k.Session)
		}
		return
	}
	// It is over.
	h := Holder{k.Place, k.UID, k.Dialect}
	o := c.Sessions.get(c.Sessions.nameFor(k.Session, k.UID), h)
	if o.Users > 0 {
		return
	}
	c.Sessions.restore(o)
	o.claimed, o.of = !k.Nested, h
	c.Sessions.retire(o)
}

// startedAs gives the agent whose first program this is; nil: none, or it is not known.
func (c *Table) startedAs(first span.Image) (found *agent) {
	if first == (span.Image{}) {
		return nil
	}
	c.Tree.EachSandbox(func(sb *Sandbox) {
		for _, a := range sb.Agents {
			if found == nil && a.First == first {
				found = a
			}
		}
	})
	return found
}
