// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"slices"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// lineageStats counts what lineage did.
type lineageStats struct {
	Ignored              uint64 // records of tasks that are in no sandbox
	EvictedProcesses     uint64 // forgotten because MaxProcesses were known
	RefusedCgroups       uint64 // not taken because MaxCgroups were known
	Unassigned           uint64 // escapes of processes whose sandbox was not known
	UnresolvedContainers uint64 // of which no runtime told within the hold
}

// lineage follows processes, their programs and cgroups, from records alone.
type lineage struct {
	config      *Config
	stats       lineageStats
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

func newLineage(config *Config, clock *clock, a *attribution) *lineage {
	c := &lineage{
		config: config, clock: clock, attribution: a, environ: a.environ,
		processes: make(map[uint32]*process),
		groups:    make(map[uint64]*group),
		gone:      goneGroups{byID: make(map[uint64]*sandbox)},
		names:     names{known: make(map[string]string)},
	}
	c.losses = &losses{stats: &c.stats, clock: clock}
	c.containers = &containers{
		config: config, stats: &c.stats, clock: clock, losses: c.losses, lineage: c, attribution: a,
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

func (c *lineage) eachSandbox(yield func(*aSandbox)) {
	for e := c.sandboxes.Front(); e != nil; e = e.Next() {
		yield(&e.Value.(*sandbox).aSandbox)
	}
}

func (c *lineage) sandboxCount() int { return c.sandboxes.Len() }

// containers are the containers of sandboxes, and those of which it is not known yet whether they are sandboxes.
type containers struct {
	config      *Config
	stats       *lineageStats
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
	stats *lineageStats
	clock *clock

	own       []ownLoss
	counts    lossCounts
	strangers strangers
}
