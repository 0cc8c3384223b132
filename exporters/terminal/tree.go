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
	sessions []*session          // in order of their first span
	byID     map[string]*session // by sandbox, whose agents may have sessions of their own
	beyond   int64               // spans without a row
	missed   int64               // of these, those that nobody should miss

	important bool // the span at hand is one of those
}

// NewTree returns an empty Tree.
func NewTree(o Options) *Tree {
	if o.MaxRows <= 0 {
		o.MaxRows = defaultRows
	}
	return &Tree{o: o, byID: make(map[string]*session)}
}

// session is what one sandbox did: a run of an agent, and whatever that started.
type session struct {
	id         string             // the agent's own once it is known
	links      map[string]span.ID // by session id: what root spans link to besides a parent in another trace
	agent      string
	calls      int64
	start, end uint64
	nodes      map[span.ID]*node
	strays     map[int64]*node // processes whose start was not seen, by pid
	order      []*node         // of creation, so that nothing depends on the order of maps
	loss       items
}

// node is a process image, a tool call, or something that only its children's or files' spans speak of.
type node struct {
	id     span.ID
	parent span.ID // zero: none
	seen   bool    // its own span came
	tool   bool
	forked bool // a process that runs on without an exec of its own

	name, args     string // escaped
	hint           string // the executable, according to spans that belong to it; not escaped
	cwd            string
	note           string
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

	// Set while drawing.
	agent    *node // of a tool call: the process that made it
	children []*node
	drawn    bool
}

// class orders the rows below a process.
type class uint8

const (
	classLoss class = iota
	classEscape
	classOutside // reached into a process outside of the sandbox
	classAccess  // … into one within
	classNamespace
	classSocket
	classWrite
	classRefused
	classFailed    // for a reason that programs live with: EEXIST, EISDIR
	classSensitive // a successful read of the sensitive list
	classRead
	classMissing // a name that does not exist: programs try many
	classConnect
)

// Verbs, weakest first: of several uses of one file the strongest is shown.
const (
	verbPath uint8 = iota
	verbRead
	verbWrite
	verbTruncate
	verbCreate
)

type itemKey struct {
	class   class
	folded  bool
	pending bool // a connection without an outcome
	pid     int64
	word    string // what was done, where the class does not say it
	text    string // a path or peer as it came, or an escaped sentence
	err     string
}

type item struct {
	itemKey
	verb       uint8
	sensitive  bool
	failed     bool
	count      int64
	start, end uint64

	shortest, longest uint64 // of the merged ones, ns
}

// items merges equal ones.
type items struct {
	list  []*item
	byKey map[itemKey]*item
}

// Span implements span.Sink.
func (t *Tree) Span(s *span.Span) {
	a := span.Attrs(s.Attrs)
	t.important = s.Kind == span.Escape || s.Kind == span.Loss || a.Is(span.KeySensitive)
	sandbox := a.Text(span.KeySandboxID)
	if sandbox == "" {
		sandbox = s.Session
	}
	se := t.byID[sandbox]
	if se == nil {
		if !t.room() {
			t.over()
			return
		}
		se = &session{
			id:     s.Session,
			links:  make(map[string]span.ID),
			start:  s.Start,
			nodes:  make(map[span.ID]*node),
			strays: make(map[int64]*node),
		}
		t.byID[sandbox] = se
		t.sessions = append(t.sessions, se)
	}
	if _, known := se.links[s.Session]; !known && len(se.links) < maxSessions {
		se.links[s.Session] = span.SessionSpan(s.Session)
	}
	if s.Session != sandbox && a.Text(span.KeyParentSession) == "" {
		se.id = clip(s.Session, maxPath)
	}
	if se.agent == "" {
		se.agent = clip(a.Text(span.KeyAgentName), maxWord)
	}
	se.start, se.end = min(se.start, s.Start), max(se.end, s.End)

	switch s.Kind {
	case span.Exec:
		t.exec(se, s, a)
	case span.Exit:
		t.exit(se, s, a)
	case span.Tool:
		if n := t.node(se, s.ID); n != nil {
			n.parent = se.parent(s)
			n.start, n.end = s.Start, s.End
			n.ended = !a.Is(span.KeyPartial)
			t.call(se, n, a)
			n.seen, n.failed = true, s.Failed
		}
	case span.ToolEnd:
		// Of a call whose own span went out before.
		if n := t.node(se, s.Parent); n != nil {
			if !n.tool {
				t.call(se, n, a)
			}
			n.start, n.end = s.Start, s.End
			n.approve(a)
			n.seen, n.ended, n.failed = true, true, n.failed || s.Failed
		}
	case span.Telemetry:
		// What the agent said of a call later on.
		if n := se.nodes[s.Parent]; n != nil && n.tool {
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

func (t *Tree) room() bool {
	limit := t.o.MaxRows
	if t.important {
		limit += reservedRows
	}
	if t.rows >= limit {
		return false
	}
	t.rows++
	return true
}

// over counts a span without a row.
func (t *Tree) over() {
	t.beyond++
	if t.important {
		t.missed++
	}
}

// parent is the span that s stands under: its parent, or, when that is in an earlier trace, the one it
// links to. Zero: a root.
func (se *session) parent(s *span.Span) span.ID {
	if s.Parent != (span.ID{}) {
		return s.Parent
	}
	for _, l := range s.Links {
		if l.Span != se.links[s.Session] {
			return l.Span
		}
	}
	return span.ID{}
}

// call makes n the node of a tool call, from its own span or from one that stands under the agent's.
func (t *Tree) call(se *session, n *node, a span.Attrs) {
	if !n.tool {
		n.tool = true
		se.calls++
	}
	n.name = "call"
	n.args = callWords(a)
	if by := a.Text(span.KeyAttribution); by == "inferred" || by == "ambiguous" {
		n.note = by
	}
	n.approve(a)
}

// callWords are a call's id and tool, as far as they are known.
func callWords(a span.Attrs) string {
	var words []string
	for _, key := range []string{span.KeyCallID, span.KeyToolName} {
		if text := a.Text(key); text != "" {
			words = append(words, Quote(clip(text, maxWord)))
		}
	}
	return strings.Join(words, " ")
}

// approve takes what the agent said of its permission.
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
		t.over()
		return nil
	}
	n := &node{id: id}
	se.nodes[id] = n
	se.order = append(se.order, n)
	return n
}

func (t *Tree) exec(se *session, s *span.Span, a span.Attrs) {
	n := t.node(se, s.ID)
	if n == nil {
		return
	}
	n.seen = true
	n.parent = se.parent(s)
	n.name, n.args = command(a)
	if cwd := a.Text(span.KeyWorkingDirectory); len(cwd) <= maxPath {
		n.cwd = cwd
	}
	n.pid, _ = a.Int(span.KeyPID)
	n.parentPID, _ = a.Int(span.KeyParentPID)
	n.start = s.Start
	switch {
	case a.Is(span.KeyFileless):
		n.note = "fileless"
	case a.Is(span.KeyPrivilegedExec):
		n.note = "privileged"
	case a.Is(span.KeyPreexisting):
		n.note = "older than the sensor"
	}
	if !a.Is(span.KeyPartial) {
		n.finish(s, a)
	}
	t.noise(n, a)
	// Under its execute_tool, which comes later, or the agent's own span of the call, which goes another way to the backend.
	if a.Is(span.KeyCallRoot) && n.parent != (span.ID{}) && se.nodes[n.parent] == nil {
		if call := t.node(se, n.parent); call != nil {
			t.call(se, call, a)
			call.seen, call.start = true, s.Start
		}
	}
	// So that a child whose parent never shows up still says what it was.
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
	t.noise(n, a)
}

func (*Tree) noise(n *node, a span.Attrs) {
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
}

// owner is the node of the process that s belongs to.
func (t *Tree) owner(se *session, s *span.Span, a span.Attrs) *node {
	pid, _ := a.Int(span.KeyPID)
	var n *node
	if p := se.parent(s); p != (span.ID{}) {
		n = t.node(se, p)
	} else if n = se.strays[pid]; n == nil {
		if !t.room() {
			t.over()
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
	if s.Kind != span.Loss || se.parent(s) != (span.ID{}) {
		n := t.owner(se, s, a)
		if n == nil {
			return
		}
		list = &n.items
	}
	if old := list.byKey[it.itemKey]; old != nil {
		old.count += it.count
		old.verb = max(old.verb, it.verb)
		old.sensitive = old.sensitive || it.sensitive
		old.shortest, old.longest = min(old.shortest, it.shortest), max(old.longest, it.longest)
		old.start, old.end = min(old.start, it.start), max(old.end, it.end)
		return
	}
	if !t.room() {
		t.over()
		return
	}
	list.add(&it)
}

func (l *items) add(it *item) {
	if l.byKey == nil {
		l.byKey = make(map[itemKey]*item)
	}
	l.byKey[it.itemKey] = it
	l.list = append(l.list, it)
}

// isNowhere is true of what shells do all the time and nobody wants to read of: throwing output away,
// and asking for a terminal that they do not have.
func (it *item) isNowhere() bool {
	return it.class == classWrite && it.text == "/dev/null" || it.class == classFailed && it.text == "/dev/tty"
}

// newItem reads a span that is a row below a process.
func newItem(s *span.Span, a span.Attrs) item {
	it := item{count: 1, start: s.Start, end: s.End, failed: s.Failed, sensitive: a.Is(span.KeySensitive)}
	if s.End > s.Start {
		it.shortest, it.longest = s.End-s.Start, s.End-s.Start
	}
	it.pid, _ = a.Int(span.KeyPID)
	it.err = escape(clip(a.Text(span.KeyErrorType), maxWord))
	if n, ok := a.Int(span.KeyCount); ok && n > 1 {
		it.count = n
	}
	switch s.Kind {
	case span.Loss:
		it.class, it.text, it.count = classLoss, lost(a), 1
	case span.Escape:
		it.class, it.text = classEscape, "ESCAPED from its cgroup"
		if to := a.Text(span.KeyCgroupTo); to != "" {
			it.text = "ESCAPED to " + escape(clipPath(to))
		}
	case span.Socket:
		it.class, it.word, it.text = classSocket, "socket", socket(a)
	case span.Namespace:
		it.class, it.word, it.text = classNamespace, escape(clip(a.Text(span.KeyNamespaceOp), maxWord)), namespaces(a)
	case span.Access:
		it.class, it.word, it.text = classAccess, accessVerb(a.Text(span.KeyAccessOp)), reached(a)
		if a.Is(span.KeyAccessOutside) {
			it.class = classOutside
		}
	case span.Connect:
		it.class, it.text = classConnect, peer(a)
		if it.err == "ENOENT" { // a service that is not installed, such as nscd
			it.class = classMissing
		}
		it.pending = it.err == "" && a.Is(span.KeyPartial)
	default:
		it.text = clipPath(a.Text(span.KeyFilePath))
		it.folded = a.Is(span.KeyFolded)
		it.class, it.verb = classRead, verbRead
		switch access := a.Text(span.KeyFileAccess); {
		case s.Failed:
			it.class = classRefused
		case it.err == "ENOENT" || it.err == "ENOTDIR":
			it.class = classMissing
		case it.err != "":
			it.class = classFailed
		case access == "write" || access == "read_write":
			it.class, it.verb = classWrite, verbWrite
		case access == "truncate":
			it.class, it.verb = classWrite, verbTruncate
		case access == "create":
			it.class, it.verb = classWrite, verbCreate
		case it.sensitive:
			it.class = classSensitive
		case access == "path_only":
			it.verb = verbPath
		}
	}
	return it
}
