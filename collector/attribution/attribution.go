// SPDX-License-Identifier: Apache-2.0

// Package attribution decides whose the doings of a process are: of which agent, in which session and call, and how
// surely. The rules are in docs/design/attribution.md. It knows neither spans nor the tables of processes: what it
// needs of processes, cgroups and sandboxes stands in the types Process, Cgroup and Sandbox, which those of package
// lineage contain, and it looks others up through the interface tree. It is deterministic and used by one goroutine.
package attribution

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Stats counts what attribution did.
type Stats struct {
	Calls           uint64 // seen
	AmbiguousCalls  uint64 // first processes of which it is not known to which of several open calls they belong
	Contradictions  uint64 // execs whose environment claims what lineage contradicts
	RefusedSessions uint64 // session ids claimed that are in use elsewhere
	RefusedMarks    uint64 // begin or end of a call, by whom may not, or of nothing known
	RefusedFacts    uint64 // telemetry about no call, or from inside of one
	RefusedSenders  uint64 // of telemetry, from inside of a call
	DroppedFacts    uint64 // telemetry about calls that never came, or beyond the bounds

	// Live state.
	Agents, OpenMarks         int
	KnownCalls, KnownContexts int // calls, ended ones included, by their ids; by their trace contexts
	EndedCalls                int // kept for what comes late
	WaitingFacts              int // telemetry about calls that are not known yet
	RetiredSessions           int // that nobody has, remembered

	// Hints say what users can do to get real call ids: a line for each kind of agent whose calls were inferred.
	Hints []string
}

// Table decides whose the doings of a process are: which agent's, in which session and call. It knows no spans.
type Table struct {
	config    *config.Config
	stats     Stats
	clock     *Clock
	Slicer    *Slicer
	Telemetry *Telemetry
	Environ   *Environ
	Marks     *Marks
	Tree      tree
	Above     callSpans

	Sessions sessions
	Dialects *agents.Table
	Agents   map[string][]*agent        // live ones, by their own session id: one of each user
	threads  map[string][]*Thread       // of them, by the names of their sessions
	inferred map[string]bool            // agents whose calls were inferred
	unknown  map[string]*agents.Dialect // of agents that no dialect knows, by their names

	Calls      map[callKey]*Call   // open ones, and ended ones for a while
	contexts   map[span.Link]*Call // by the trace context that their first process was given
	endedCalls list.List           // of *Call, in the order of their ends
	claims     []Claim             // by the record at hand
	reaches    []Reach             // as claims
	Refused    bool                // what the record at hand asks for
}

// Telemetry is what agents report of their calls.
type Telemetry struct {
	config      *config.Config
	stats       *Stats
	clock       *Clock
	attribution *Table

	Waiting waitingEvents
}

// Environ reads what environments claim.
type Environ struct {
	stats     *Stats
	variables map[string]bool // that matter
	meanings  map[string]meaning
	text      []byte // scratch
}

// Marks are the calls that somebody opened: the agent, its hooks, a process of the sandbox, or somebody outside.
type Marks struct {
	table *Table
	open  int
}

// A tree finds processes and cgroups: lineage.
type tree interface {
	Process(tgid uint32) *Process // nil: not known
	Sender(h *record.Header) *Process
	// Resolve finds out what a process older than the sensor is.
	Resolve(p *Process)
	// User is who runs a process's program, if that is known.
	User(p *Process) (uid uint32, known bool)
	Group(id uint64) *Cgroup // nil: in no sandbox
	SandboxCount() int
	EachSandbox(func(*Sandbox))
}

// callSpans is what attribution asks package spans to do about calls.
type callSpans interface {
	// AgentBegan and AgentOver are called once for each agent; of one that was never told to begin, only the latter.
	AgentBegan(w Owner)
	AgentOver(w Owner)
	CallBegan(k *Call)
	// CallEnded is called again when a call is entered once more and ends.
	CallEnded(k *Call)
	// CallIsAnother is told of a call of which nothing was sent, and nothing is to be: its spans are another call's.
	CallIsAnother(k *Call)
	SendTelemetry(k *Call, at uint64, s *record.Said, unverified bool)
	// FlushMarked sends what is counted of all that a mark is on: before its owner changes.
	FlushMarked(m *Mark)
	// Flush sends what is counted of a process: before its owner changes.
	Flush(p *Process)
	// Reassign gives what is not sent yet of processes that run one program to their new owner. The first of them is that of
	// a call.
	Reassign(members []*Process)
	// MayName says whether there is room for the name of an agent.
	MayName(agent string) bool
}

// New makes a Table that knows nobody. Tree and Above have to be set before its first use.
func New(config *config.Config, clock *Clock, slicer *Slicer) *Table {
	c := &Table{
		config: config, clock: clock, Slicer: slicer,
		Sessions: sessions{BySession: make(map[string]*Session), Shares: make(map[share]*int)},
		Dialects: agents.NewTable(config.Agents),
		Agents:   make(map[string][]*agent),
		threads:  make(map[string][]*Thread),
		inferred: make(map[string]bool),
		unknown:  make(map[string]*agents.Dialect),
		Calls:    make(map[callKey]*Call),
		contexts: make(map[span.Link]*Call),
	}
	c.Environ = &Environ{stats: &c.stats, variables: variables(config.Agents), meanings: meanings(config.Agents)}
	c.Marks = &Marks{table: c}
	c.Telemetry = &Telemetry{config: config, stats: &c.stats, clock: clock, attribution: c}
	c.Telemetry.Waiting = waitingEvents{ByCall: make(map[callKey][]*list.Element), Of: make(map[source]int)}
	return c
}

// Expire forgets calls that ended long ago, and telemetry about calls that never came.
func (c *Table) Expire() {
	c.expireCalls()
	c.Telemetry.expire()
}

// Stats gives the counters as they are now.
func (c *Table) Stats() Stats {
	s := c.stats
	s.OpenMarks, s.KnownCalls, s.KnownContexts = c.Marks.open, len(c.Calls), len(c.contexts)
	s.EndedCalls, s.WaitingFacts = c.endedCalls.Len(), c.Telemetry.Waiting.order.Len()
	s.Hints = c.hints()
	s.RetiredSessions = c.Sessions.retired.Len()
	return s
}

// refuse counts what the record at hand asks for in vain.
func (c *Table) refuse(counter *uint64) {
	c.Refused = true
	*counter++
}
