// SPDX-License-Identifier: Apache-2.0

// Package story tells a person in one screen what an agent did: the sums of its session, and a line or two for each of
// its tool calls. It shows what the spans session, session.call, session.end and sandbox.end have, and counts nothing
// itself.
package story

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Options says how to draw.
type Options struct {
	Width int            // columns; 0 when there is no terminal: 100
	Color bool           // with the eight colours of every terminal
	ASCII bool           // no other characters than those of ASCII
	Zone  *time.Location // of the times that are shown; nil: local
	Home  string         // shown as ~; "": none is
}

// Bounds of what is kept. Calls and agents beyond are counted; for those that failed or have something notable some room
// is left.
const (
	maxAgents    = 256
	maxSandboxes = 256
	maxCalls     = 4000
	maxBytes     = 8 << 20 // of what is kept of spans
	reserved     = 8       // the last of so many parts is for what is to be looked at
	maxWord      = 64
	maxPath      = 1024
	maxCommand   = 512
)

// A Story is a span.Sink that keeps what it needs, bounded.
type Story struct {
	o          Options
	agents     []*agent // in the order of their first span
	byInstance map[string]*agent
	sandboxes  []*agent // what is no agent's
	where      map[string]*sandbox

	calls  int // kept
	seen   int // of session.call
	bytes  int
	beyond int // agents without a place
}

// An agent is what is told of one, or of a sandbox without any.
type agent struct {
	id            span.ID // of its session
	above         span.ID // of the session.call or session that it was started in
	sandbox       string
	name, session string
	command       string
	start, end    uint64 // end: of its last span
	told          bool   // session or session.end has come
	over          bool   // and its end with it
	account       span.Attrs
	calls         []*call
	beyond, wrong int                  // calls that are not kept, and of these those that failed
	nested        map[span.ID][]*agent // below its calls, and below itself; made for drawing
}

// A call is what is told of one.
type call struct {
	id         span.ID
	session    string // where it is not the agent's: a subagent's
	start, end uint64
	failed     bool
	account    span.Attrs
}

// A sandbox is what is known of one beside its agents.
type sandbox struct {
	directory string // of its first program
	since     uint64 // when that began
	lost      int64
	causes    []string
}

// New returns an empty Story.
func New(o Options) *Story {
	return &Story{o: o, byInstance: make(map[string]*agent), where: make(map[string]*sandbox)}
}

// Flush implements span.Sink.
func (*Story) Flush() {}

// Calls is how many tool calls the story has.
func (t *Story) Calls() int { return t.seen }

// Agents is how many agents it has.
func (t *Story) Agents() int { return len(t.agents) + t.beyond }

// Sandboxes is how many sandboxes it has an account of what no agent did there.
func (t *Story) Sandboxes() int { return len(t.sandboxes) }

// Span implements span.Sink.
func (t *Story) Span(s *span.Span) {
	if s.StandIn {
		return
	}
	a := span.Attrs(s.Attrs)
	switch s.Kind {
	case span.Session, span.SessionEnd:
		t.agent(s, a)
	case span.SessionCall:
		t.call(s, a)
	case span.SandboxEnd:
		t.sandboxEnd(s, a)
	case span.Loss:
		w := t.sandbox(a)
		if w == nil {
			return
		}
		n, _ := a.Int(span.KeyLost)
		w.lost += n
		if cause := a.Text(span.KeyLostCause); cause != "" && len(w.causes) < 4 && !slices.Contains(w.causes, cause) {
			w.causes = append(w.causes, span.Clip(cause, maxWord))
		}
	case span.Exec, span.Start:
		directory := a.Text(span.KeyWorkingDirectory)
		if w := t.sandbox(a); w != nil && directory != "" && len(directory) <= maxPath && (w.directory == "" || s.Start < w.since) {
			w.directory, w.since = directory, s.Start
		}
	}
}

func (t *Story) sandbox(a span.Attrs) *sandbox {
	id := a.Text(span.KeySandboxID)
	w := t.where[id]
	if w == nil && len(t.where) < maxSandboxes {
		w = &sandbox{}
		t.where[span.Clip(id, maxPath)] = w
	}
	return w
}

// of finds or makes the agent of an instance; nil if there is no room.
func (t *Story) of(s *span.Span) *agent {
	instance := span.Clip(s.Instance, maxWord)
	g := t.byInstance[instance]
	if g == nil {
		if len(t.agents) >= maxAgents {
			return nil
		}
		a := span.Attrs(s.Attrs)
		g = &agent{
			sandbox: span.Clip(a.Text(span.KeySandboxID), maxPath), start: s.Start,
			nested: make(map[span.ID][]*agent),
		}
		t.byInstance[instance] = g
		t.agents = append(t.agents, g)
	}
	g.start, g.end = min(g.start, s.Start), max(g.end, s.End)
	return g
}

func (t *Story) agent(s *span.Span, a span.Attrs) {
	g := t.of(s)
	if g == nil {
		if s.Kind == span.Session {
			t.beyond++
		}
		return
	}
	g.told = true
	g.name = span.Clip(cmp.Or(a.Text(span.KeyAgentName), g.name), maxWord)
	g.session = span.Clip(s.Session, maxPath)
	g.command = span.Clip(a.Text(span.KeyCommandLine), maxCommand)
	if s.Kind == span.Session {
		g.id = s.ID
		for _, l := range s.Links {
			if l.Rel == span.ToParent {
				g.above = l.Span
			}
		}
	}
	if s.Kind == span.SessionEnd || !a.Is(span.KeyPartial) {
		g.over = true
		g.account, _ = t.keep(a, false)
	}
}

func (t *Story) call(s *span.Span, a span.Attrs) {
	t.seen++
	g := t.of(s)
	if g == nil {
		return
	}
	n, _ := a.Int(span.KeyNotables)
	important := s.Failed || n > 0
	room := maxCalls
	if !important {
		room -= maxCalls / reserved
	}
	fits := t.calls < room
	var account span.Attrs
	if fits {
		account, fits = t.keep(a, !important)
	}
	if !fits {
		g.beyond++
		if s.Failed {
			g.wrong++
		}
		return
	}
	t.calls++
	g.calls = append(g.calls, &call{
		id: s.ID, session: span.Clip(s.Session, maxPath), start: s.Start, end: s.End, failed: s.Failed, account: account,
	})
}

func (t *Story) sandboxEnd(s *span.Span, a span.Attrs) {
	if len(t.sandboxes) >= maxSandboxes {
		t.beyond++
		return
	}
	account, _ := t.keep(a, false)
	t.sandboxes = append(t.sandboxes, &agent{
		sandbox: span.Clip(a.Text(span.KeySandboxID), maxPath), name: span.Clip(a.Text(span.KeyAgentName), maxWord),
		session: span.Clip(s.Session, maxPath), start: s.Start, end: s.End, told: true, over: true, account: account,
	})
}

// kept are the beginnings of the names of attributes that are drawn.
var kept = []string{
	"sheetbend.call.", "sheetbend.session.", "sheetbend.files.", "sheetbend.hosts", "sheetbend.bytes.", "sheetbend.programs",
	"sheetbend.cpu_ns", "sheetbend.memory.", "sheetbend.notable", "sheetbend.approval", "sheetbend.parent.",
	span.KeyWorkspace, span.KeyLost, span.KeyOutcome, span.KeyPartial, span.KeyCountPartial, span.KeyDeclared, span.KeyToolName,
}

// keep copies what is drawn of a span. What is ordinary has to fit; of the rest the texts are left out without room.
func (t *Story) keep(a span.Attrs, ordinary bool) (copied span.Attrs, fits bool) {
	room := maxBytes
	if ordinary {
		room -= maxBytes / reserved
	}
	for _, x := range a {
		if !slices.ContainsFunc(kept, func(p string) bool { return strings.HasPrefix(x.Key, p) }) {
			continue
		}
		size := len(x.Str)
		for _, s := range x.List {
			size += len(s) + 16
		}
		if t.bytes+size > room {
			x.Str, x.List = "", nil
			if ordinary {
				return nil, false
			}
		} else {
			t.bytes += size + 64
			x.List = slices.Clone(x.List)
		}
		copied = append(copied, x)
	}
	return copied, true
}
