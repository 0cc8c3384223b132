// SPDX-License-Identifier: Apache-2.0

// Package sessions keeps the newest spans of every session in bounded memory, to answer what runs now
// (sheetbend sessions, the local API).
package sessions

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Options bound what a View keeps. Zeros stand for the defaults.
type Options struct {
	Sessions int // 512; beyond it the session without a span for the longest time is forgotten
	Bytes    int // 8 MiB of spans; a session gets a quarter of it at most
	Calls    int // 256 in a session; the oldest are forgotten
	// User is the id of a user who sees everything, as root does.
	User uint32
}

const (
	// maxText bounds each string of a kept span, and a list of them, in bytes.
	maxText = 4096
	// maxLive bounds the processes of a session that are counted as running.
	maxLive = 4096
)

// A View is a span.Sink. Span and Flush are called from one goroutine, List and Tree from any.
type View struct {
	o Options

	mu       sync.Mutex
	sessions map[string]*session
	recent   list.List // of *session, the one without a span for the longest time first
	bytes    int
	packer   packer
}

type session struct {
	id, agent   string
	position    *list.Element
	start, last uint64
	spans       uint64
	user        uint32
	userKnown   bool
	live        map[span.ID]string // keys of their calls by the spans of running programs
	calls       []*call            // in the order they were seen
	byCall      map[string]*call

	// Programs and calls, and what they did: apart, so that many files push no program out.
	structure, activity queue
	dropped             uint64
}

type call struct {
	key                                      string // who names it, and its context if it has one, else its id
	id, context, tool, attribution, approval string
	start, last                              uint64
	processes                                int
	failed                                   bool
}

// keptSpan is a span as far as the view needs it.
type keptSpan struct {
	trace      span.TraceID
	id, parent span.ID // id: of a notice that of the span that follows, and takes its place
	kind       span.Kind
	start, end uint64
	failed     bool
	status     string
	attrs      []byte // packed
	bytes      int
}

// A queue drops at the front.
type queue struct {
	list  []keptSpan
	head  int
	bytes int
}

// New returns an empty View.
func New(o Options) *View {
	o.Sessions = cmp.Or(max(o.Sessions, 0), 512)
	o.Bytes = cmp.Or(max(o.Bytes, 0), 8<<20)
	o.Calls = cmp.Or(max(o.Calls, 0), 256)
	return &View{o: o, sessions: make(map[string]*session)}
}

// Flush implements span.Sink.
func (*View) Flush() {}

// Span implements span.Sink.
func (v *View) Span(s *span.Span) {
	if s.StandIn {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	se := v.session(s)
	se.spans++
	se.start, se.last = min(se.start, s.Start), max(se.last, s.End)
	v.recent.MoveToBack(se.position)
	a := span.Attrs(s.Attrs)
	if name := a.Text(span.KeyAgentName); name != "" {
		se.agent = name
	}
	se.owner(s)
	parent := s.Above
	c := se.call(s, a, v.o.Calls)
	se.process(s, a, parent, c)
	if !s.Kind.Story() { // it tells of what is kept
		v.keep(se, s, parent)
	}
}

func (v *View) session(s *span.Span) *session {
	if se := v.sessions[s.Session]; se != nil {
		return se
	}
	if len(v.sessions) >= v.o.Sessions {
		v.forget(v.leastRecent())
	}
	se := &session{
		id: strings.Clone(s.Session), start: s.Start, live: make(map[span.ID]string), byCall: make(map[string]*call),
	}
	se.position = v.recent.PushBack(se)
	v.sessions[se.id] = se
	return se
}

// leastRecent is the session to forget: one in which nothing runs, if there is one among the first.
func (v *View) leastRecent() *session {
	const looks = 64
	n := 0
	for e := v.recent.Front(); e != nil && n < looks; e, n = e.Next(), n+1 {
		if se := e.Value.(*session); len(se.live) == 0 {
			return se
		}
	}
	return v.recent.Front().Value.(*session)
}

func (v *View) forget(se *session) {
	v.bytes -= se.structure.bytes + se.activity.bytes
	v.recent.Remove(se.position)
	delete(v.sessions, se.id)
}

// owner is the user whose session it is.
func (se *session) owner(s *span.Span) {
	if uid, ok := span.UserOf(s); ok && !se.userKnown {
		se.user, se.userKnown = uid, true
	}
}

// claimed is the attribution of calls that only processes name, and not their agent.
const claimed = "claimed"

// markedBySelf is on all spans of such a call, also of what it has left running.
const markedBySelf = "self"

// call is the tool call that s belongs to; nil for a span outside of calls.
func (se *session) call(s *span.Span, a span.Attrs, most int) *call {
	// Of a call that has both, the context was known first.
	key := cmp.Or(a.Text(span.KeyCallContext), a.Text(span.KeyCallID))
	if key == "" {
		return nil
	}
	if key = clip(key); a.Text(span.KeyAttribution) == claimed || a.Text(span.KeyMarkedBy) == markedBySelf {
		// A process may name a call of the agent, and says nothing about that one.
		key = claimed + " " + key
	} else {
		key = " " + key
	}
	c := se.byCall[key]
	if c == nil {
		c = &call{key: key, start: s.Start}
		if len(se.calls) >= most {
			delete(se.byCall, se.calls[0].key)
			se.calls = slices.Delete(se.calls, 0, 1)
		}
		se.calls = append(se.calls, c)
		se.byCall[c.key] = c
	}
	c.start, c.last = min(c.start, s.Start), max(c.last, s.End)
	set := func(v *string, key string) {
		if t := a.Text(key); t != "" && *v != t {
			*v = clip(t)
		}
	}
	set(&c.id, span.KeyCallID)
	set(&c.context, span.KeyCallContext)
	set(&c.tool, span.KeyToolName)
	if a.Text(span.KeyStartedBy) == "" { // that says what it left running does
		set(&c.attribution, span.KeyAttribution)
	}
	set(&c.approval, span.KeyApproval)
	c.failed = c.failed || s.Failed && (s.Kind == span.Tool || s.Kind == span.ToolEnd || s.Kind == span.Telemetry || s.Kind == span.SessionCall)
	return c
}

// process counts what runs: programs of which a notice, or the span, came before their end.
func (se *session) process(s *span.Span, a span.Attrs, parent span.ID, c *call) {
	id := s.Subject()
	switch {
	case a.Is(span.KeyStandIn):
	case s.Kind == span.Start || s.Kind == span.Exec && a.Is(span.KeyPartial):
		if _, known := se.live[id]; !known && len(se.live) < maxLive {
			se.live[id] = ""
			if c != nil {
				se.live[id] = c.key
				c.processes++
			}
		}
	case s.Kind == span.Exec:
		se.ended(id)
	case s.Kind == span.Exit && !a.Is(span.KeyWorker):
		se.ended(parent)
	}
}

// ended notes the end of the program of a span.
func (se *session) ended(id span.ID) {
	key, running := se.live[id]
	if !running {
		return
	}
	delete(se.live, id)
	if c := se.byCall[key]; c != nil {
		c.processes--
	}
}

func (v *View) keep(se *session, s *span.Span, parent span.ID) {
	q := &se.activity
	switch s.Kind {
	case span.Exec, span.Start, span.Exit, span.Tool, span.ToolStart, span.ToolEnd:
		q = &se.structure
	}
	before := q.bytes
	var old []byte // memory to use again
	share := v.o.Bytes / 8
	for q.bytes > share && q.len() > 0 {
		old = q.drop()
		se.dropped++
	}
	k := keptSpan{
		trace: s.Trace, id: s.Subject(), parent: parent, kind: s.Kind, start: s.Start, end: s.End,
		failed: s.Failed, status: clip(s.Status), attrs: fill(old, v.packer.pack(s.Attrs)),
	}
	k.bytes = size(&k)
	q.push(k)
	v.bytes += q.bytes - before
	for v.bytes > v.o.Bytes && v.evict(se) {
	}
}

// evict drops the spans, not the summary, of the session without a span for the longest time. It reports false if no
// other than the one at hand has any.
func (v *View) evict(but *session) bool {
	for e := v.recent.Front(); e != nil; e = e.Next() {
		se := e.Value.(*session)
		if se == but || se.structure.bytes+se.activity.bytes == 0 {
			continue
		}
		v.bytes -= se.structure.bytes + se.activity.bytes
		se.dropped += uint64(se.structure.len() + se.activity.len())
		se.structure, se.activity = queue{}, queue{}
		return true
	}
	return false
}
