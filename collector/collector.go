// SPDX-License-Identifier: Apache-2.0

// Package collector turns the record stream of package record into the spans of the
// span contract (docs/spans.md).
//
// It is deterministic: it has no clock, no randomness and no kernel, and nothing depends on the
// order of a map; the same configuration and records give the same spans. Time passes only by
// Tick records.
package collector

import (
	"container/list"
	"errors"
	"fmt"
	"slices"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Collector holds the process trees of all sandboxes. It is not safe for concurrent
// use: all methods are called from one goroutine, and the sink is called on it.
type Collector struct {
	config    Config
	sink      span.Sink
	noise     patterns
	sensitive patterns

	event  record.Event // the record at hand
	now    uint64       // boottime: the latest time that a record told of
	tick   uint64       // boottime of the last tick
	offset uint64       // added to boottime gives wall time; wraps
	closed bool

	alive     alive
	groups    map[uint64]*group // cgroups in sandboxes, by id
	sandboxes list.List         // of *sandbox, in the order they were seen
	crowds    crowds            // those of them with processes
	owners    owners
	dialects  *agents.Table
	variables map[string]bool // of the environment, that matter
	meanings  map[string]meaning
	agents    map[string][]*agent // live ones, by their own session id: one of each user
	inferred  map[string]bool     // agents whose calls were inferred

	calls      map[callKey]*call   // open ones, and ended ones for a while
	contexts   map[span.Link]*call // by the trace context that their first process was given
	endedCalls list.List           // of *call, in the order of their ends
	openMarks  int
	facts      facts
	resources  map[string]*span.Resource
	boxes      boxes

	chooses    bool // there are selectors by what runtimes say
	candidates candidates

	processes map[uint32]*process // by pid; an entry is replaced when the pid is reused
	arguments argPieces
	gone      goneGroups
	lastFound foundCgroup
	foundArgs foundArgs
	names     names

	held     holdQueue
	opens    map[openKey]*openSpan
	freeOpen []*openSpan
	acts     map[actKey]*actSpan
	connects map[uint64]*connectSpan // by socket cookie

	own       []ownLoss
	losses    lossCounts
	strangers strangers
	over      endedProcesses
	journal   Journal // or nil
	placed    uint32  // spans of the record at hand that were given a trace
	begun     bool    // the record at hand began a span that is held
	resumes   resuming
	refused   bool // what the record at hand asks for
	stats     Stats
	draft     draft
	path      []byte // scratch
	text      []byte // scratch
}

// Stats counts what the collector did and holds. What it lost is also told by sensor.loss spans.
type Stats struct {
	Records   uint64 // taken, malformed ones included
	Malformed uint64 // records that could not be decoded
	Ignored   uint64 // records of tasks that are in no sandbox
	Spans     uint64 // handed to the sink; also the last sheetbend.seq

	EvictedProcesses uint64 // forgotten because MaxProcesses were known
	RefusedCgroups   uint64 // not taken because MaxCgroups were known
	Unassigned       uint64 // escapes of processes whose sandbox was not known
	EarlySpans       uint64 // sent before their hold ended, because MaxPending waited
	KernelLost       uint64 // records lost before they reached the collector, as told by Loss records
	Lost             uint64 // these, and what the collector lost itself

	Calls           uint64 // seen
	AmbiguousCalls  uint64 // first processes of which it is not known to which of several open calls they belong
	Contradictions  uint64 // execs whose environment claims what lineage contradicts
	RefusedSessions uint64 // session ids claimed that are in use elsewhere
	RefusedMarks    uint64 // begin or end of a call, by whom may not, or of nothing known
	RefusedFacts    uint64 // telemetry about no call, or from inside of one
	RefusedSenders  uint64 // of telemetry, from inside of a call
	DroppedFacts    uint64 // telemetry about calls that never came, or beyond the bounds

	UnresolvedContainers uint64 // of which no runtime told within the hold

	// Live state.
	Agents       int
	EndedCalls   int // kept for what comes late
	WaitingFacts int
	WaitingSpans int // finished, for their container
	Containers   int
	Processes    int
	Held         int
	Cgroups      int
	Sandboxes    int
}

// New makes a collector that sends its spans to sink. The error tells what is wrong with the configuration.
func New(config Config, sink span.Sink) (*Collector, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.WithDefaults()
	noise, err := compilePatterns(config.Noise)
	if err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	sensitive, err := compilePatterns(config.Sensitive)
	if err != nil {
		return nil, fmt.Errorf("sensitive: %w", err)
	}
	return &Collector{
		config:    config,
		gone:      goneGroups{byID: make(map[uint64]*sandbox)},
		sink:      sink,
		noise:     noise,
		sensitive: sensitive,
		groups:    make(map[uint64]*group),
		owners:    owners{bySession: make(map[string]*owner), shares: make(map[share]*int)},
		dialects:  agents.NewTable(config.Agents),
		variables: variables(config.Agents),
		meanings:  meanings(config.Agents),
		agents:    make(map[string][]*agent),
		inferred:  make(map[string]bool),
		calls:     make(map[callKey]*call),
		contexts:  make(map[span.Link]*call),
		facts:     facts{byCall: make(map[callKey][]*list.Element), of: make(map[speaker]int)},
		resources: make(map[string]*span.Resource),
		processes: make(map[uint32]*process),
		names:     names{known: make(map[string]string)},
		opens:     make(map[openKey]*openSpan),
		acts:      make(map[actKey]*actSpan),
		connects:  make(map[uint64]*connectSpan),
		boxes:     boxes{known: make(map[string]*box)},

		chooses:    slices.ContainsFunc(config.Sandboxes, func(s Selector) bool { return s.Container != nil }),
		candidates: candidates{byCgroup: make(map[uint64]*box)},
	}, nil
}

// ErrRefused says that a mark, or a sender of telemetry, may not do what it asks for, or names a call that is not known.
var ErrRefused = errors.New("the collector refuses it")

// Record takes the next record of the stream; raw is not kept. An error is ErrRefused, or wraps
// record.ErrMalformed: the record was skipped. Either is counted, and the stream may go on.
func (c *Collector) Record(raw []byte) error {
	c.stats.Records++
	c.placed, c.begun, c.refused = 0, false, false
	e := &c.event
	if err := e.Decode(raw); err != nil {
		c.stats.Malformed++
		c.lose(e.Header.Type, record.CauseMalformed, nil)
		return err
	}
	c.now = max(c.now, e.Header.Time)
	if !c.undecided(e, raw) {
		c.apply()
	}
	if c.refused {
		return ErrRefused
	}
	return nil
}

// refuse counts what the record at hand asks for in vain.
func (c *Collector) refuse(counter *uint64) {
	c.refused = true
	*counter++
}

// apply does what the record at hand says.
func (c *Collector) apply() {
	e := &c.event
	h := &e.Header
	switch h.Type {
	case record.TypeFork:
		c.fork(h, &e.Fork)
	case record.TypeExec:
		c.exec(h, &e.Exec)
	case record.TypeExecArgs:
		c.arguments.add(h, &e.ExecArgs, c.config.MaxArgsBytes)
	case record.TypeExit:
		c.exit(h, &e.Exit)
	case record.TypeOpen:
		c.open(h, &e.Open)
	case record.TypeConnect:
		c.connect(h, &e.Connect)
	case record.TypeConnectEnd:
		c.connectEnd(h, &e.ConnectEnd)
	case record.TypeUnix:
		c.unixConnect(h, &e.Unix)
	case record.TypeCgroupMkdir, record.TypeCgroup:
		c.cgroupMade(h, &e.Cgroup)
	case record.TypeCgroupRmdir:
		c.cgroupRemoved(h, &e.Cgroup)
	case record.TypeCgroupAttach:
		c.attach(h, &e.Attach)
	case record.TypeProcess:
		c.existing(h, &e.Process)
	case record.TypeSocket:
		c.socket(h, &e.Socket)
	case record.TypeNamespace:
		c.namespace(h, &e.Namespace)
	case record.TypeAccess:
		c.access(h, &e.Access)
	case record.TypeCmdline:
		c.cmdline(h, &e.Cmdline)
	case record.TypeMark:
		c.mark(h, &e.Mark)
	case record.TypeSaid:
		c.said(h, &e.Said)
	case record.TypeContainer:
		c.told(&e.Container)
	case record.TypeClock:
		c.offset = uint64(e.Clock.Wall) - h.Time
		if c.tick == 0 {
			c.tick = h.Time
		}
	case record.TypeTick:
		c.tick = max(c.tick, h.Time)
		c.expire()
		c.expireBoxes()
		c.expireCandidates()
		c.expireCalls()
		c.expireFacts()
		c.gone.expire(c.tick)
		c.over.expire(c.tick)
		c.tellOwnLosses()
		c.sink.Flush()
	case record.TypeLoss:
		c.loss(h, &e.Loss)
	default: // has no handler
		c.lose(h.Type, record.CauseMalformed, nil)
	}
}

// Close sends everything that is still held, as far as it is known, and flushes the
// sink. Further calls do nothing.
func (c *Collector) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.Drain()
}

// Drain sends everything that is still held, as far as it is known, and flushes the sink.
func (c *Collector) Drain() {
	c.placed = 0
	c.tick = max(c.tick, c.now)
	for e := c.candidates.order.Front(); e != nil; e = c.candidates.order.Front() {
		c.loseCandidate(e.Value.(*box))
	}
	for c.held.oldest != nil {
		c.runOut(c.held.oldest)
	}
	c.tellOwnLosses()
	for e := c.boxes.pending.Front(); e != nil; e = c.boxes.pending.Front() {
		c.giveUp(e.Value.(*box))
	}
	c.sink.Flush()
}

// Stats gives the counters as they are now.
func (c *Collector) Stats() Stats {
	s := c.stats
	s.Lost = c.losses.total
	s.Processes = len(c.processes)
	s.Held = c.held.count
	s.Cgroups = len(c.groups)
	s.Sandboxes = c.sandboxes.Len()
	s.EndedCalls = c.endedCalls.Len()
	s.WaitingFacts = c.facts.order.Len()
	s.WaitingSpans = c.boxes.spans
	s.Containers = len(c.boxes.known)
	return s
}
