// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"slices"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A clock is the time of the stream, which all rooms share.
type clock struct {
	now    uint64 // boottime: the latest time of a record
	tick   uint64 // boottime of the last tick
	offset uint64 // added to boottime gives wall time; wraps
}

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

// lineage follows processes, their programs and cgroups, from records alone.
type lineage struct {
	config      *Config
	stats       *Stats
	clock       *clock
	losses      *losses
	attribution *attribution
	environ     *environ
	containers  *containers
	above       programSpans

	alive     alive
	processes map[uint32]*process // by pid; an entry is replaced when the pid is reused
	groups    map[uint64]*group   // cgroups in sandboxes, by id
	sandboxes list.List           // of *sandbox, in the order they were seen
	crowds    crowds              // those of them with processes

	arguments argPieces
	gone      goneGroups
	over      endedProcesses
	lastFound foundCgroup
	foundArgs foundArgs
	names     names
	path      []byte // scratch
}

// programSpans is what lineage has done about spans of programs: spans.
type programSpans interface {
	// place counts a span into its call or session, and says which trace it goes to.
	place(sb *aSandbox, w whose) span.TraceID
	holdExec(x *execStart)
	// dropExec forgets a span that is held.
	dropExec(x *execStart)
	replaceProgram(p *process, at uint64)
	endProgram(p *process, at uint64, how ending)
	sendEscape(p *process, at uint64, tid uint32, e escape)
	flush(p *process)
}

func newLineage(config *Config, stats *Stats, clock *clock, losses *losses, a *attribution) *lineage {
	c := &lineage{
		config: config, stats: stats, clock: clock, losses: losses, attribution: a, environ: a.environ,
		processes: make(map[uint32]*process),
		groups:    make(map[uint64]*group),
		gone:      goneGroups{byID: make(map[uint64]*sandbox)},
		names:     names{known: make(map[string]string)},
	}
	c.containers = &containers{
		config: config, stats: stats, clock: clock, losses: losses, lineage: c, attribution: a,
		chooses:    slices.ContainsFunc(config.Sandboxes, func(s Selector) bool { return s.Container != nil }),
		boxes:      boxes{known: make(map[string]*box)},
		candidates: candidates{byCgroup: make(map[uint64]*box)},
	}
	return c
}

func (c *lineage) process(tgid uint32) *aProcess {
	if p := c.processes[tgid]; p != nil {
		return &p.aProcess
	}
	return nil
}

func (c *lineage) group(id uint64) *aGroup {
	if g := c.groups[id]; g != nil {
		return &g.aGroup
	}
	return nil
}

// peer gives the process that a header names, as it came from a socket, or nil.
func (c *lineage) peer(h *record.Header) *aProcess {
	p := c.process(h.Tgid)
	if h.Tgid == 0 || !identified(p, h.Start) {
		return nil
	}
	c.settle(p)
	return p
}

func (c *lineage) user(p *aProcess) (uid uint32, known bool) {
	i := c.processes[p.tgid].image
	return i.uid, i.envRead
}

func (c *lineage) sandboxCount() int { return c.sandboxes.Len() }

// containers are the containers of sandboxes, and those of which it is not known yet whether they are sandboxes.
type containers struct {
	config      *Config
	stats       *Stats
	clock       *clock
	losses      *losses
	lineage     *lineage
	attribution *attribution
	above       containerSpans
	replay      func(raw []byte) // takes a record that was kept

	boxes      boxes
	chooses    bool // there are selectors by what runtimes say
	candidates candidates
}

// containerSpans is what containers have done about spans: spans.
type containerSpans interface {
	// release sends the spans that waited for a container.
	release(b *aBox)
	// containerChanged is called when a runtime has reported a container once more.
	containerChanged(b *aBox)
	// connecting says whether the outcome of a connect is awaited.
	connecting(cookie uint64) bool
	flush(p *process)
}

// losses counts what was lost.
type losses struct {
	stats *Stats
	clock *clock

	own       []ownLoss
	counts    lossCounts
	strangers strangers
}

// spans makes the spans.
type spans struct {
	config      *Config
	stats       *Stats
	clock       *clock
	losses      *losses
	slicer      *slicer
	attribution *attribution
	lineage     *lineage
	containers  *containers

	sink      span.Sink
	noise     patterns
	sensitive patterns
	resources map[string]*span.Resource
	waiting   struct{ spans, bytes int } // for their containers

	held     holdQueue
	opens    map[openKey]*openSpan
	freeOpen []*openSpan
	acts     map[actKey]*actSpan
	connects map[uint64]*connectSpan // by socket cookie

	draft draft
	path  []byte // scratch
	text  []byte // scratch
}

func newSpans(l *lineage, sink span.Sink, noise, sensitive patterns) *spans {
	return &spans{
		config: l.config, stats: l.stats, clock: l.clock, losses: l.losses, slicer: l.attribution.slicer,
		attribution: l.attribution, lineage: l, containers: l.containers,
		sink: sink, noise: noise, sensitive: sensitive,
		resources: make(map[string]*span.Resource),
		opens:     make(map[openKey]*openSpan),
		acts:      make(map[actKey]*actSpan),
		connects:  make(map[uint64]*connectSpan),
	}
}

func (c *spans) callBegan(k *call) {
	s := &callSpan{call: k}
	c.hold(&s.held, s, len(k.id))
	k.waiting = true
}

func (c *spans) connecting(cookie uint64) bool { return c.connects[cookie] != nil }

func (c *spans) mayName(agent string) bool {
	return len(c.resources) < maxResources || c.resources[agent] != nil
}

// flushMarked sends what is counted, so that those of two calls do not become one.
func (c *spans) flushMarked(m *mark) {
	switch {
	case m.process != nil:
		c.flush(c.lineage.processes[m.process.tgid])
	case m.group != nil:
		for _, p := range c.lineage.inside(c.lineage.groups[m.group.id]) {
			c.flush(p)
		}
	}
}
