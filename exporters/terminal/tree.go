// SPDX-License-Identifier: Apache-2.0

// Package terminal shows spans to a person: as a tree when all is over, or line by line as they come.
package terminal

import (
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Options says how to draw.
type Options struct {
	Width   int  // columns of the terminal; 0 when there is none: laid out for 120, paths are not cut
	Color   bool // with the eight colours of every terminal
	ASCII   bool // no other characters than those of ASCII
	Fold    bool // programs of one name, files by directory, and what agents do for themselves
	MaxRows int  // rows kept, 20,000 by default; further ones are counted
}

const (
	defaultRows  = 20_000
	reservedRows = 1_000 // further ones, for what others must not crowd out: sensitive files, escapes, losses
	defaultWidth = 120
	leastWidth   = 40
)

// Tree is a span.Sink that keeps what it needs for a tree, bounded by Options.MaxRows. Spans may come in
// any order. Render draws what came so far.
type Tree struct {
	o        Options
	rows     int
	sessions []*session              // in order of their first span
	changed  map[string][]span.Attrs // by sandbox: what spans say of the changes in the end
	byID     map[string]*session     // by sandbox, whose agents may have sessions of their own
	beyond   int64                   // spans without a row
	missed   int64                   // of these, those that nobody should miss

	brief     bool // the headings have no sums
	important bool // the span at hand is one of those
}

// NewTree returns an empty Tree.
func NewTree(o Options) *Tree {
	if o.MaxRows <= 0 {
		o.MaxRows = defaultRows
	}
	return &Tree{o: o, byID: make(map[string]*session), changed: make(map[string][]span.Attrs)}
}

// BelowStory leaves out of the headings what a story above the tree has told.
func (t *Tree) BelowStory() { t.brief = true }

// session is what one sandbox did: a run of an agent, and whatever that started.
type session struct {
	sandbox    string
	id         string // the agent's own once it is known
	agent      string
	calls      int64
	start, end uint64
	nodes      map[span.ID]*node
	strays     map[int64]*node // processes whose start was not seen, by pid
	order      []*node         // of creation, so that nothing depends on the order of maps
	loss       items
}

// node is a process image, a tool call, or a program that only the spans of its children and files name.
type node struct {
	id     span.ID
	parent span.ID // zero: none
	seen   bool    // its own span came
	tool   bool
	forkOf *node // of a process that runs on without an exec of its own: its parent; made for drawing

	name, args     string // escaped
	title          string // of a call; escaped
	hint           string // the executable, according to spans that belong to it; not escaped
	cwd            string
	note           string
	instance       string // whose doing it is
	own            bool   // an agent's own program, in no call
	pid, parentPID int64
	start, end     uint64

	ended    bool
	replaced bool
	code     int64
	hasCode  bool
	signal   string
	failed   bool
	noise    int64

	items items

	// Of several that are drawn as one: how many, and how long they took at least and at most, in ns.
	times             int
	shortest, longest uint64
}

// Span implements span.Sink.
func (t *Tree) Span(s *span.Span) {
	if s.StandIn {
		return
	}
	a := span.Attrs(s.Attrs)
	if s.Kind.Story() { // they tell of what is here
		t.keepChanges(s, a)
		return
	}
	t.important = s.Kind == span.Escape || s.Kind == span.Loss || a.Is(span.KeySensitive)
	sandbox := a.Text(span.KeySandboxID)
	if sandbox == "" {
		sandbox = s.Session
	}
	se := t.byID[sandbox]
	if se == nil {
		if !t.room() {
			return
		}
		se = &session{
			sandbox: sandbox,
			id:      s.Session,
			start:   s.Start,
			nodes:   make(map[span.ID]*node),
			strays:  make(map[int64]*node),
		}
		t.byID[sandbox] = se
		t.sessions = append(t.sessions, se)
	}
	if s.Session != sandbox && a.Text(span.KeyParentSession) == "" {
		se.id = span.Clip(s.Session, maxPath)
	}
	if se.agent == "" {
		se.agent = span.Clip(a.Text(span.KeyAgentName), maxWord)
	}
	se.start, se.end = min(se.start, s.Start), max(se.end, s.End)

	switch s.Kind {
	case span.Exec, span.Start:
		t.exec(se, s, a)
	case span.Exit:
		if a.Is(span.KeyWorker) {
			t.item(se, s, a)
			break
		}
		t.exit(se, s, a)
	case span.Tool, span.ToolStart:
		if n := t.node(se, s.Subject()); n != nil {
			if s.Kind == span.Tool {
				n.parent = s.Above
			}
			n.start, n.end = s.Start, s.End
			n.ended = s.Kind == span.Tool && !a.Is(span.KeyPartial)
			t.call(se, n, a)
			n.seen, n.failed = true, s.Failed
		}
	case span.ToolEnd:
		// The end of a call that has a span already.
		if n := t.node(se, s.Above); n != nil {
			if !n.tool {
				t.call(se, n, a)
			}
			n.start, n.end = s.Start, s.End
			n.approve(a)
			n.seen, n.ended, n.failed = true, true, n.failed || s.Failed
		}
	case span.Telemetry:
		// What the agent reported of a call later on.
		if n := se.nodes[s.Above]; n != nil && n.tool {
			if n.args == "" { // only its trace context was known
				t.call(se, n, a)
			}
			n.approve(a)
			n.failed = n.failed || s.Failed
		}
	default:
		t.item(se, s, a)
	}
}

// Flush implements span.Sink.
func (*Tree) Flush() {}

// room takes a row, or counts the span at hand as one without.
func (t *Tree) room() bool {
	limit := t.o.MaxRows
	if t.important {
		limit += reservedRows
	}
	if t.rows < limit {
		t.rows++
		return true
	}
	t.beyond++
	if t.important {
		t.missed++
	}
	return false
}

// call makes n the node of a tool call, from its own span or from one that stands under the agent's.
func (t *Tree) call(se *session, n *node, a span.Attrs) {
	if !n.tool {
		n.tool = true
		se.calls++
	}
	n.name = "call"
	n.args = callName(a)
	n.title = Escape(span.Clip(a.Text(span.KeyCallTitle), maxCommand))
	if by := a.Text(span.KeyAttribution); by == "inferred" || by == "ambiguous" {
		n.note = by
	}
	n.approve(a)
}

// callName is a call's id and tool, as far as they are known.
func callName(a span.Attrs) string {
	var words []string
	for _, key := range []string{span.KeyCallID, span.KeyToolName} {
		if text := a.Text(key); text != "" {
			words = append(words, Quote(span.Clip(text, maxWord)))
		}
	}
	return strings.Join(words, " ")
}

// approve notes what the agent reported of its permission.
func (n *node) approve(a span.Attrs) {
	switch approval := a.Text(span.KeyApproval); {
	case a.Is(span.KeyApprovalViolated):
		n.note = "RAN ALTHOUGH DENIED"
	case approval == "denied" || approval == "conflict":
		n.note = approval
	}
}

// node finds or makes the node of a span; nil when there is no room for another row.
func (t *Tree) node(se *session, id span.ID) *node {
	if n := se.nodes[id]; n != nil {
		return n
	}
	if !t.room() {
		return nil
	}
	n := &node{id: id}
	se.nodes[id] = n
	se.order = append(se.order, n)
	return n
}

func (t *Tree) exec(se *session, s *span.Span, a span.Attrs) {
	n := t.node(se, s.Subject())
	if n == nil {
		return
	}
	n.seen = true
	if n.parent = s.Above; n.parent == n.id { // the notice of a root
		n.parent = span.ID{}
	}
	n.name, n.args = command(a)
	if cwd := a.Text(span.KeyWorkingDirectory); len(cwd) <= maxPath {
		n.cwd = cwd
	}
	n.pid, _ = a.Int(span.KeyPID)
	n.parentPID, _ = a.Int(span.KeyParentPID)
	n.instance = span.Clip(s.Instance, maxWord)
	n.own = strings.HasPrefix(n.instance, "agent-") && a.Text(span.KeyCallID) == "" && a.Text(span.KeyCallContext) == ""
	n.start = s.Start
	switch {
	case a.Is(span.KeyFileless):
		n.note = "fileless"
	case a.Is(span.KeyPrivilegedExec):
		n.note = "privileged"
	case a.Is(span.KeyPreexisting):
		n.note = "older than the sensor"
	}
	if s.Kind == span.Exec && !a.Is(span.KeyPartial) {
		n.finish(s, a)
	}
	n.countNoise(a)
	// Under its execute_tool, which comes later, or the agent's own span of the call, which goes another way to the
	// backend.
	if a.Is(span.KeyCallRoot) && n.parent != (span.ID{}) && se.nodes[n.parent] == nil {
		if call := t.node(se, n.parent); call != nil {
			t.call(se, call, a)
			call.seen, call.start = true, s.Start
		}
	}
	// A parent whose own span never comes has a name by this.
	if p := n.parent; p != (span.ID{}) {
		if parent := se.nodes[p]; parent != nil && parent.hint == "" {
			parent.hint = clipPath(a.Text(span.KeyParentExecutable))
		} else if parent == nil {
			if parent = t.node(se, p); parent != nil {
				parent.hint = clipPath(a.Text(span.KeyParentExecutable))
			}
		}
	}
}

func (t *Tree) exit(se *session, s *span.Span, a span.Attrs) {
	n := t.owner(se, s, a)
	if n == nil {
		return
	}
	if !n.seen {
		n.start = s.Start
	}
	n.finish(s, a)
	n.countNoise(a)
}

func (n *node) countNoise(a span.Attrs) {
	more, _ := a.Int(span.KeyNoiseOpens)
	n.noise += more
}

func (n *node) finish(s *span.Span, a span.Attrs) {
	n.ended = true
	n.end = s.End
	n.failed = s.Failed
	n.replaced = a.Is(span.KeyReplaced)
	n.code, n.hasCode = a.Int(span.KeyExitCode)
	n.signal = signal(a)
	if a.Is(span.KeyOOMKilled) {
		n.note = "out of memory"
	}
}

// owner is the node of the process that s belongs to.
func (t *Tree) owner(se *session, s *span.Span, a span.Attrs) *node {
	pid, _ := a.Int(span.KeyPID)
	var n *node
	if p := s.Above; p != (span.ID{}) {
		n = t.node(se, p)
	} else if n = se.strays[pid]; n == nil {
		if !t.room() {
			return nil
		}
		n = &node{pid: pid, start: s.Start}
		se.strays[pid] = n
		se.order = append(se.order, n)
	}
	if n != nil && !n.seen {
		if n.hint == "" {
			n.hint = clipPath(a.Text(span.KeyExecutablePath))
		}
		if n.pid == 0 {
			n.pid = pid
		}
		if n.start == 0 {
			n.start = s.Start
		}
	}
	return n
}

func (t *Tree) item(se *session, s *span.Span, a span.Attrs) {
	it := newItem(s, a)
	if it.isNowhere() {
		return
	}
	list := &se.loss
	if s.Kind != span.Loss && s.Kind != span.Limit || s.Above != (span.ID{}) {
		n := t.owner(se, s, a)
		if n == nil {
			return
		}
		list = &n.items
	}
	if a.Is(span.KeyNoticed) {
		list.settle(&it)
	}
	if old := list.byKey[it.itemKey]; old != nil {
		old.merge(&it)
		return
	}
	if !t.room() {
		return
	}
	list.add(&it)
}
