// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"
	"container/list"
	"encoding/hex"
	"slices"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Traces deals out the traces of what an agent instance does by itself, of one call, or of a story: a trace ends when
// it is full, because backends keep only so much of one. The next one is its next slice; of a story, its next part.
type Traces struct {
	key    traceKey
	trace  span.TraceID
	Number uint64  // of the slice
	joined *joined // the trace is the agent's own; the next one is slice 0
	spans  int     // placed in this slice, as far as this process knows
	bytes  int     // of them, about
	full   bool    // it is in Slicer.full
	Rooted bool    // package spans has sent what stands for the call in this slice
}

// A traceKey says whose traces they are.
type traceKey struct {
	instance, call string
	story          bool
}

// joined counts what is placed in an agent's own trace, by all its calls.
type joined struct {
	trace        span.TraceID
	instance     string // whose it is: the first that was in it
	spans, bytes int
	full         bool // nothing more is placed in it
	queued       bool // it is in Slicer.fullOwn
	element      *list.Element
}

// Bounds of the agents' own traces that are counted, and of those that count as full since: what is beyond the first is
// full from then on.
const (
	maxJoined = 4096
	maxFull   = 1 << 16
)

// Instance names the agent or sandbox, as on spans.
func (t *Traces) Instance() string { return t.key.instance }

// Call is what the ids of the call are made of; "": none.
func (t *Traces) Call() string { return t.key.call }

// Current is the trace that spans are placed in now.
func (t *Traces) Current() span.TraceID { return t.trace }

// Used says whether a span was placed.
func (t *Traces) Used() bool { return t.spans > 0 || t.Number > 0 }

func (t *Traces) set(number uint64) {
	t.Number, t.joined, t.spans, t.bytes, t.Rooted = number, nil, 0, 0, false
	if t.key.story {
		t.trace = span.StoryFor(t.key.instance, number)
	} else {
		t.trace = span.TraceFor(t.key.instance, t.key.call, number)
	}
}

// Slicer deals out the traces, and tells the journal where one ends. A slice always begins between two records, and a
// span is placed by the record that begins it: so a later process that reads these and the entries of the journal
// places each span as it was.
type Slicer struct {
	config    *config.Config
	journal   Journal // or nil
	replaying bool    // slices begin as SetSlice says, and not otherwise
	byKey     map[traceKey]*Traces
	full      []*Traces
	fullOwn   []*joined
	own       map[span.TraceID]*joined
	ownOrder  list.List // of *joined that are not full, oldest first
	shut      list.List // of the others
}

// NewSlicer makes a Slicer that knows no traces.
func NewSlicer(conf *config.Config) *Slicer {
	return &Slicer{config: conf, byKey: make(map[traceKey]*Traces), own: make(map[span.TraceID]*joined)}
}

// Slice says where the traces of an agent instance, of a call or of a story go on.
type Slice struct {
	Instance, Call string
	Story          bool
	Number         uint64
	// Joined says that nothing more is placed in an agent's own trace, whose id Instance is, in hex digits.
	Joined bool
}

// A Journal is told what a later process has to know besides the records. It is called between two records: after the
// one that it follows from.
type Journal interface {
	// Slice is called when a slice begins.
	Slice(Slice)
	// Claimed is called when an agent has a session from now on.
	Claimed(Claim)
	// Reached is called when somebody has reached into a process or an agent.
	Reached(Reach)
}

func (c *Slicer) open(t *Traces, k traceKey) {
	t.key = k
	t.set(0)
	c.byKey[k] = t
}

// OpenSandbox gives a sandbox its traces.
func (c *Slicer) OpenSandbox(sb *Sandbox) { c.open(&sb.Traces, traceKey{instance: sb.ID}) }

// CloseSandbox forgets them.
func (c *Slicer) CloseSandbox(sb *Sandbox) { c.close(&sb.Traces) }

func (c *Slicer) close(t *Traces) {
	if c.byKey[t.key] == t {
		delete(c.byKey, t.key)
	}
}

// Place counts a span of about so many encoded bytes in, and says which trace it goes to.
func (c *Slicer) Place(t *Traces, bytes int) span.TraceID {
	if t.joined != nil && t.joined.full {
		t.set(0)
	}
	c.count(t, 1, bytes)
	return t.trace
}

// Grow counts so many more bytes in for a span that was placed in a trace, unless others go to a later one by now.
func (c *Slicer) Grow(t *Traces, trace span.TraceID, bytes int) {
	if t.trace == trace && (t.joined == nil || !t.joined.full) {
		c.count(t, 0, bytes)
	}
}

func (c *Slicer) count(t *Traces, spans, bytes int) {
	if j := t.joined; j != nil {
		j.spans, j.bytes = j.spans+spans, j.bytes+bytes
		if !j.queued && c.over(j.spans, j.bytes) {
			j.queued, c.fullOwn = true, append(c.fullOwn, j)
		}
	}
	t.spans, t.bytes = t.spans+spans, t.bytes+bytes
	if t.joined == nil && !t.full && (c.over(t.spans, t.bytes) || t.key.story && storyOver(t.spans, t.bytes)) {
		t.full, c.full = true, append(c.full, t)
	}
}

func (c *Slicer) over(spans, bytes int) bool {
	return spans >= c.config.MaxSpansPerTrace || bytes >= c.config.MaxTraceBytes
}

// storyOver says whether a part of a story is full: after 200 calls, and what it begins with, or 2 MiB.
func storyOver(spans, bytes int) bool { return spans > 200 || bytes >= 2<<20 }

// Advance begins the slices that are due. It is called between two records.
func (c *Slicer) Advance() {
	for _, t := range c.full {
		if t.full = false; !c.replaying && t.joined == nil {
			c.next(t)
		}
	}
	for _, j := range c.fullOwn {
		if j.queued = false; !c.replaying {
			c.leave(j)
		}
	}
	c.full, c.fullOwn = c.full[:0], c.fullOwn[:0]
}

func (c *Slicer) next(t *Traces) {
	t.set(t.Number + 1)
	if c.journal != nil {
		c.journal.Slice(Slice{Instance: t.key.instance, Call: t.key.call, Story: t.key.story, Number: t.Number})
	}
}

func (c *Slicer) leave(j *joined) {
	c.shutOwn(j)
	if c.journal != nil {
		c.journal.Slice(Slice{Instance: hex.EncodeToString(j.trace[:]), Joined: true})
	}
}

// join has a call go on in the agent's own trace. It reports false if there is no room in it.
func (c *Slicer) join(t *Traces, trace span.TraceID) bool {
	j := c.ownTrace(trace)
	if j.instance == "" {
		j.instance = t.key.instance
	}
	if j.full || j.instance != t.key.instance {
		return false
	}
	t.joined, t.trace = j, trace
	return true
}

func (c *Slicer) ownTrace(trace span.TraceID) *joined {
	j := c.own[trace]
	if j == nil {
		if c.ownOrder.Len() >= maxJoined {
			if oldest := c.ownOrder.Front().Value.(*joined); !oldest.queued {
				oldest.queued, c.fullOwn = true, append(c.fullOwn, oldest)
			}
		}
		j = &joined{trace: trace}
		j.element = c.ownOrder.PushBack(j)
		c.own[trace] = j
	}
	return j
}

// shutOwn has nothing more placed in an agent's own trace.
func (c *Slicer) shutOwn(j *joined) {
	if j.full {
		return
	}
	j.full = true
	c.ownOrder.Remove(j.element)
	if j.element = c.shut.PushBack(j); c.shut.Len() > maxFull {
		delete(c.own, c.shut.Remove(c.shut.Front()).(*joined).trace)
	}
}

// SetJournal has j told of everything that is not replayed.
func (c *Slicer) SetJournal(j Journal) { c.journal = j }

// Replaying begins or ends the time in which slices begin only as SetSlice says. How full they are is not known
// afterwards: so each goes on with its next one.
func (c *Slicer) Replaying(on bool) {
	c.Advance()
	if c.replaying = on; on {
		return
	}
	all := make([]*Traces, 0, len(c.byKey))
	for _, t := range c.byKey {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Traces) int {
		story := func(t *Traces) int {
			if t.key.story {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.key.instance, b.key.instance), cmp.Compare(a.key.call, b.key.call), story(a)-story(b))
	})
	for _, t := range all {
		if t.joined == nil {
			c.next(t)
		}
	}
	for e := c.ownOrder.Front(); e != nil; e = c.ownOrder.Front() {
		c.leave(e.Value.(*joined))
	}
}

// SetSlice says that the record before it began a slice.
func (c *Slicer) SetSlice(s Slice) {
	c.Advance()
	if s.Joined {
		var trace span.TraceID
		if n, err := hex.Decode(trace[:], []byte(s.Instance)); err == nil && n == len(trace) {
			c.shutOwn(c.ownTrace(trace))
		}
	} else if t := c.byKey[traceKey{s.Instance, s.Call, s.Story}]; t != nil {
		t.set(s.Number)
	}
}

// RemembersSlice says whether there is still what goes on there.
func (c *Slicer) RemembersSlice(s Slice) bool {
	if s.Joined {
		var trace span.TraceID
		n, err := hex.Decode(trace[:], []byte(s.Instance))
		return err == nil && n == len(trace) && c.own[trace] != nil
	}
	return c.byKey[traceKey{s.Instance, s.Call, s.Story}] != nil
}
