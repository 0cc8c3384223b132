// SPDX-License-Identifier: Apache-2.0

// Package report writes what agents did as one HTML file that needs nothing else: for a ticket, a mail, an archive. Sums
// are those of the spans session, session.call, session.end and sandbox.end; it counts nothing that these have.
package report

import (
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// What a report holds at most, so that a browser opens it and a flood of spans does not fill the memory. What is beyond
// is counted. The reserves are for what others must not crowd out: what is notable, losses, and what calls are.
const (
	maxLines    = 40_000 // programs, and what stands below them
	moreLines   = 4_000
	maxText     = 24 << 20 // bytes of their strings
	moreText    = 4 << 20
	maxCalls    = 2_000
	maxStories  = 256
	maxValue    = 4 << 10 // bytes of one string
	maxListed   = 64      // strings of a list
	maxName     = 1 << 10 // bytes of one of those
	maxList     = 8 << 10 // bytes of a list, about
	maxLineText = 4 * maxValue
)

// A Report is a span.Sink that keeps what the file shows, bounded. Spans may come in any order.
type Report struct {
	version string
	stories []*story // in order of their first span
	byID    map[string]*story
	nodes   map[span.ID]*node
	order   []*node
	lines   map[lineKey]*line
	rows    []*line
	pending map[span.ID]*line // connections that a notice has told of

	calls int
	kept  int // programs and lines
	text  int // bytes
	left  left
}

// left is what was left out.
type left struct {
	Lines   int `json:"lines"`   // spans without a line
	Notable int `json:"notable"` // of these, those that nobody should miss
	Calls   int `json:"calls"`   // tool calls
	Stories int `json:"stories"` // spans of further agents and sandboxes
}

// story is what one agent did, or a sandbox without one.
type story struct {
	id         string // sheetbend.agent.instance
	session    string
	sandbox    string
	agent      string
	parent     string // the call or session that it was started in
	start, end uint64 // of its spans, ns since the epoch
	began      uint64 // as session and session.end say
	over       bool
	facts      facts
	where      facts // of the resource
	calls      []*call
}

// call is one tool call.
type call struct {
	index      int // in the report
	key        int64
	detail     span.ID
	id, ctx    string
	start, end uint64
	over       bool
	failed     bool
	status     string
	facts      facts
	told       bool // by its session.call
}

// facts are attributes of one span, or of several that tell of one thing.
type facts map[string]any

// node is a program.
type node struct {
	id, parent span.ID // parent zero: none
	at         place
	seen       bool // its own span came
	exe        string
	command    string
	cwd        string
	pid        int64
	start, end uint64
	ended      bool
	failed     bool
	flags      flags
	ending     string
	more       facts
	index      int // in the report
}

// place says whose doing something is: of a call by its id, or the trace context by which it is known.
type place struct {
	story   *story
	id, ctx string
}

// flags of a line or program, for filters; the page has the same numbers.
type flags uint16

const (
	isChange flags = 1 << iota // it changed a file
	isSecret
	isRefused
	isFailed // or ended badly
	isMissing
	isHost // a connection, a listening socket, a lookup
	isNotable
	isLoss
	isOutside // of the workspace
	isFile
	isDecision  // what an agent's telemetry said
	isStartedBy // after the end of its call
	isTainted
	isClose // the end of a connection
	isPending
)

// line is what stands below a program: a file, a connection and the like.
type line struct {
	lineKey
	start, last uint64
	longest     uint64 // ns
	count       int64
	more        facts
}

// lineKey is what agrees in spans that are one line.
type lineKey struct {
	owner  span.ID
	at     place
	verb   string
	object string
	err    string
	pid    int64
	flags  flags
}

// New returns an empty Report. version is that of the program that makes it.
func New(version string) *Report {
	return &Report{
		version: version, byID: make(map[string]*story), nodes: make(map[span.ID]*node),
		lines: make(map[lineKey]*line), pending: make(map[span.ID]*line),
	}
}

// Flush implements span.Sink.
func (*Report) Flush() {}

// Span implements span.Sink.
func (r *Report) Span(s *span.Span) {
	if s.StandIn {
		return
	}
	a := span.Attrs(s.Attrs)
	st := r.story(s, a)
	if st == nil {
		r.left.Stories++
		return
	}
	switch s.Kind {
	case span.Session, span.SessionEnd, span.SandboxEnd:
		st.tell(s, a)
	case span.SessionCall, span.Tool, span.ToolStart, span.ToolEnd:
		r.call(st, s, a)
	case span.Exec, span.Start:
		r.program(st, s, a)
	case span.Exit:
		if a.Is(span.KeyWorker) {
			r.line(st, s, a)
		} else if n := r.node(s.Above); n != nil {
			n.at = placeOf(st, a)
			n.finish(s, a)
		}
	default:
		r.line(st, s, a)
	}
}

func (r *Report) story(s *span.Span, a span.Attrs) *story {
	id := s.Instance
	if id == "" {
		id = s.Session
	}
	id = span.Clip(id, maxName)
	st := r.byID[id]
	if st == nil {
		if len(r.stories) >= maxStories {
			return nil
		}
		st = &story{id: id, start: s.Start, end: s.End, facts: facts{}, where: facts{}}
		r.byID[id], r.stories = st, append(r.stories, st)
		if s.Resource != nil {
			st.where.add(s.Resource.Attrs)
		}
	}
	st.start, st.end = min(st.start, s.Start), max(st.end, s.End)
	if s.Session != "" {
		st.session = span.Clip(s.Session, maxName)
	}
	if st.sandbox == "" {
		st.sandbox = span.Clip(a.Text(span.KeySandboxID), maxName)
	}
	if st.agent == "" {
		st.agent = span.Clip(a.Text(span.KeyAgentName), maxName)
	}
	if st.parent == "" && s.Kind == span.Session {
		st.parent = span.Clip(a.Text(span.KeyParentSession), maxName)
		if c := a.Text(span.KeyParentCall); c != "" {
			st.parent = span.Clip(c, maxName)
		}
	}
	return st
}

// tell reads session, session.end or sandbox.end.
func (st *story) tell(s *span.Span, a span.Attrs) {
	st.facts.add(s.Attrs)
	if s.Kind != span.SandboxEnd {
		if st.began == 0 || s.Start < st.began {
			st.began = s.Start
		}
	}
	if s.Kind == span.SessionEnd || !a.Is(span.KeyPartial) {
		st.over = true
		delete(st.facts, short(span.KeyPartial))
	}
}

// call reads session.call, or what the detail tells of a call, which may come alone.
func (r *Report) call(st *story, s *span.Span, a span.Attrs) {
	key, _ := a.Int(span.KeyCallBegan)
	detail := s.Subject()
	switch s.Kind {
	case span.SessionCall:
		detail = span.ID{}
		for _, l := range s.Links {
			if l.Rel == span.ToDetail {
				detail = l.Span
			}
		}
	case span.ToolEnd:
		detail = s.Above
	}
	id, ctx := span.Clip(a.Text(span.KeyCallID), maxName), span.Clip(a.Text(span.KeyCallContext), maxName)
	var c *call
	for _, other := range st.calls { // the newest first would be quicker; there are 2,000 at most
		if key != 0 && other.key == key || key == 0 && id != "" && other.id == id {
			c = other
		}
	}
	if c == nil {
		if r.calls >= maxCalls {
			r.left.Calls++
			return
		}
		r.calls++
		c = &call{key: key, start: s.Start, end: s.End, facts: facts{}}
		st.calls = append(st.calls, c)
	}
	if id != "" {
		c.id = id
	}
	if ctx != "" {
		c.ctx = ctx
	}
	if detail != (span.ID{}) {
		c.detail = detail
	}
	if c.told { // nothing knows better
		return
	}
	c.told = s.Kind == span.SessionCall
	c.facts.add(s.Attrs)
	c.start, c.end = s.Start, s.End
	c.failed, c.status = s.Failed, span.Clip(s.Status, maxName)
	if c.over = !a.Is(span.KeyPartial) && s.Kind != span.ToolStart; c.over {
		delete(c.facts, short(span.KeyPartial))
	}
}

func placeOf(st *story, a span.Attrs) place {
	id := a.Text(span.KeyCallID)
	if id == "" {
		id = a.Text(span.KeyStartedBy)
	}
	return place{st, span.Clip(id, maxName), span.Clip(a.Text(span.KeyCallContext), maxName)}
}

// room takes n bytes of text and, if fresh, a line; false if there is no room for them.
func (r *Report) room(fresh bool, n int, important bool) bool {
	lines, text := maxLines, maxText
	if important {
		lines, text = lines+moreLines, text+moreText
	}
	if fresh && r.kept >= lines || r.text+n > text {
		return false
	}
	if fresh {
		r.kept++
	}
	r.text += n
	return true
}

// leave counts the span at hand as one without a line.
func (r *Report) leave(important bool) {
	r.left.Lines++
	if important {
		r.left.Notable++
	}
}

// node finds or makes the program of a span; nil when there is no room for another one, or no program.
func (r *Report) node(id span.ID) *node {
	n := r.nodes[id]
	if n == nil && id != (span.ID{}) && r.room(true, 0, true) {
		n = &node{id: id}
		r.nodes[id], r.order = n, append(r.order, n)
	}
	return n
}

func (r *Report) program(st *story, s *span.Span, a span.Attrs) {
	more := facts{}
	more.ofCall(s.Attrs)
	// The line of the command has these.
	delete(more, short(span.KeyCommandArgs))
	delete(more, short(span.KeyCommandLine))
	delete(more, short(span.KeyWorkingDirectory))
	event, important := notable.Of(s)
	if important {
		more["notable"] = span.Clip(event.Sentence, maxName)
	}
	fresh := r.nodes[s.Subject()] == nil
	if !r.room(fresh, more.size()+len(a.Text(span.KeyCommandLine)), important) {
		r.leave(important)
		return
	}
	n := r.nodes[s.Subject()]
	if fresh {
		n = &node{id: s.Subject()}
		r.nodes[n.id], r.order = n, append(r.order, n)
	}
	if n.seen && s.Kind == span.Start { // a notice that is late
		return
	}
	n.seen, n.at = true, placeOf(st, a)
	if n.parent = s.Above; n.parent == n.id { // the notice of a root
		n.parent = span.ID{}
	}
	n.exe = span.Clip(a.Text(span.KeyExecutablePath), maxName)
	n.command = span.Clip(a.Text(span.KeyCommandLine), maxValue)
	n.cwd = span.Clip(a.Text(span.KeyWorkingDirectory), maxName)
	n.pid, _ = a.Int(span.KeyPID)
	n.start, n.more = s.Start, more
	n.flags |= common(s, a) &^ isFailed
	if s.Kind == span.Exec && !a.Is(span.KeyPartial) {
		n.finish(s, a)
	}
}

func (n *node) finish(s *span.Span, a span.Attrs) {
	if !n.seen {
		n.start, n.exe = s.Start, span.Clip(a.Text(span.KeyExecutablePath), maxName)
		n.pid, _ = a.Int(span.KeyPID)
	}
	n.ended, n.end, n.failed = true, s.End, s.Failed
	n.ending = ending(a)
	if s.Failed {
		n.flags |= isFailed
	}
	if n.more == nil {
		n.more = facts{}
	}
	n.more.ofCall(s.Attrs)
	for _, key := range []string{span.KeyCommandArgs, span.KeyCommandLine, span.KeyWorkingDirectory, span.KeyExitCode, span.KeyExitSignal} {
		delete(n.more, short(key))
	}
}

func (r *Report) line(st *story, s *span.Span, a span.Attrs) {
	verb, object := words(s, a)
	event, is := notable.Of(s)
	important := is || s.Kind == span.Loss
	l := &line{
		lineKey: lineKey{
			owner: s.Above, at: placeOf(st, a), verb: verb, object: span.Clip(object, maxValue),
			err: span.Clip(a.Text(span.KeyErrorType), maxName), flags: common(s, a) | flagsOf(s, a),
		},
		start: s.Start, last: s.End, longest: s.End - s.Start, count: 1, more: facts{},
	}
	l.pid, _ = a.Int(span.KeyPID)
	if n, ok := a.Int(span.KeyCount); ok && n > 1 {
		l.count = n
	}
	if a.Is(span.KeyNoticed) {
		if p := r.pending[s.ID]; p != nil { // the connection that a notice has told of
			delete(r.lines, p.lineKey)
			delete(r.pending, s.ID)
			p.lineKey, p.last, p.longest = l.lineKey, l.last, l.longest
			p.more.ofCall(s.Attrs)
			return
		}
	}
	if old := r.lines[l.lineKey]; old != nil && s.Kind != span.ConnectStart && !a.Is(span.KeyNoticed) {
		old.count += l.count
		old.start, old.last = min(old.start, l.start), max(old.last, l.last)
		old.longest = max(old.longest, l.longest)
		for _, key := range []string{span.KeyBytesSent, span.KeyBytesReceived} {
			if n, ok := a.Int(key); ok {
				had, _ := old.more[short(key)].(int64)
				old.more[short(key)] = had + n
			}
		}
		return
	}
	l.more.ofCall(s.Attrs)
	delete(l.more, short(span.KeyFilePath))
	delete(l.more, short(span.KeyCount))
	if is {
		l.more["notable"] = span.Clip(event.Sentence, maxName)
	}
	if !r.room(true, l.more.size()+len(l.object), important) {
		r.leave(important)
		return
	}
	r.rows = append(r.rows, l)
	r.lines[l.lineKey] = l
	if s.Kind == span.ConnectStart {
		r.pending[s.Subject()] = l
	}
}
