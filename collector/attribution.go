// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// attribution decides whose the doings of a process are: which agent's, in which session and call. It knows no spans.
type attribution struct {
	config    *Config
	stats     *Stats
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

// telemetry is what agents report of their calls.
type telemetry struct {
	config      *Config
	stats       *Stats
	clock       *clock
	attribution *attribution

	facts facts
}

// environ reads what environments claim.
type environ struct {
	stats     *Stats
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

func newAttribution(config *Config, stats *Stats, clock *clock, slicer *slicer) *attribution {
	c := &attribution{
		config: config, stats: stats, clock: clock, slicer: slicer,
		owners:   owners{bySession: make(map[string]*owner), shares: make(map[share]*int)},
		dialects: agents.NewTable(config.Agents),
		agents:   make(map[string][]*agent),
		inferred: make(map[string]bool),
		calls:    make(map[callKey]*call),
		contexts: make(map[span.Link]*call),
	}
	c.environ = &environ{stats: stats, variables: variables(config.Agents), meanings: meanings(config.Agents)}
	c.telemetry = &telemetry{config: config, stats: stats, clock: clock, attribution: c}
	c.telemetry.facts = facts{byCall: make(map[callKey][]*list.Element), of: make(map[speaker]int)}
	return c
}
