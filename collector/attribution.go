// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// attributionStats counts what attribution did.
type attributionStats struct {
	Calls           uint64 // seen
	AmbiguousCalls  uint64 // first processes of which it is not known to which of several open calls they belong
	Contradictions  uint64 // execs whose environment claims what lineage contradicts
	RefusedSessions uint64 // session ids claimed that are in use elsewhere
	RefusedMarks    uint64 // begin or end of a call, by whom may not, or of nothing known
	RefusedFacts    uint64 // telemetry about no call, or from inside of one
	RefusedSenders  uint64 // of telemetry, from inside of a call
	DroppedFacts    uint64 // telemetry about calls that never came, or beyond the bounds
	Agents          int    // live
}

// attribution decides whose the doings of a process are: which agent's, in which session and call. It knows no spans.
type attribution struct {
	config    *Config
	stats     attributionStats
	clock     *clock
	slicer    *slicer
	telemetry *telemetry
	environ   *environ
	tree      tree
	above     callSpans

	owners   owners
	dialects *agents.Table
	agents   map[string][]*agent // live ones, by their own session id: one of each user
	inferred map[string]bool     // agents whose calls were inferred

	calls      map[callKey]*call   // open ones, and ended ones for a while
	contexts   map[span.Link]*call // by the trace context that their first process was given
	endedCalls list.List           // of *call, in the order of their ends
	openMarks  int
	refused    bool // what the record at hand asks for
}

// telemetry is what agents report of their calls.
type telemetry struct {
	config      *Config
	stats       *attributionStats
	clock       *clock
	attribution *attribution

	facts facts
}

// environ reads what environments claim.
type environ struct {
	stats     *attributionStats
	variables map[string]bool // that matter
	meanings  map[string]meaning
	text      []byte // scratch
}

// A tree finds processes and cgroups: lineage.
type tree interface {
	process(tgid uint32) *aProcess // nil: not known
	peer(h *record.Header) *aProcess
	// settle finds out what a process older than the sensor is.
	settle(p *aProcess)
	// user is who runs a process's program, if that is known.
	user(p *aProcess) (uid uint32, known bool)
	group(id uint64) *aGroup // nil: in no sandbox
	sandboxCount() int
	eachSandbox(func(*aSandbox))
}

// callSpans is what attribution has done about spans of calls: spans.
type callSpans interface {
	callBegan(k *call)
	sendToolEnd(k *call)
	sendTelemetry(k *call, at uint64, s *record.Said, unverified bool)
	// flushMarked sends what is counted of all that a mark is on: before its owner changes.
	flushMarked(m *mark)
	// reassign gives what is not sent yet of a process to its new owner.
	reassign(p *aProcess, first bool)
	// mayName says whether there is room for the name of an agent.
	mayName(agent string) bool
}

func newAttribution(config *Config, clock *clock, slicer *slicer) *attribution {
	c := &attribution{
		config: config, clock: clock, slicer: slicer,
		owners:   owners{bySession: make(map[string]*owner), shares: make(map[share]*int)},
		dialects: agents.NewTable(config.Agents),
		agents:   make(map[string][]*agent),
		inferred: make(map[string]bool),
		calls:    make(map[callKey]*call),
		contexts: make(map[span.Link]*call),
	}
	c.environ = &environ{stats: &c.stats, variables: variables(config.Agents), meanings: meanings(config.Agents)}
	c.telemetry = &telemetry{config: config, stats: &c.stats, clock: clock, attribution: c}
	c.telemetry.facts = facts{byCall: make(map[callKey][]*list.Element), of: make(map[speaker]int)}
	return c
}
