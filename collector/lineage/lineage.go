// SPDX-License-Identifier: Apache-2.0

// Package lineage follows processes, their programs, cgroups, containers and sandboxes from records alone, and counts
// the records that did not come. It asks package attribution whose a process is, and tells package spans, through
// interfaces, what begins and ends. It is deterministic and used by one goroutine, but for Tree.Started.
package lineage

import (
	"container/list"
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Stats counts what lineage did.
type Stats struct {
	Ignored              uint64 // records of tasks that are in no sandbox
	EvictedProcesses     uint64 // forgotten because MaxProcesses were known
	RefusedCgroups       uint64 // not taken because MaxCgroups were known
	Unassigned           uint64 // escapes of processes whose sandbox was not known
	UnresolvedContainers uint64 // of which no runtime reported within the hold
	Lost                 uint64 // records that did not reach the collector, and those that it lost itself

	// Live state.
	Processes, Cgroups, Sandboxes int
	Containers                    int
	Undecided, UndecidedBytes     int // cgroups of containers that may be sandboxes; their records
}

// Tree follows processes, their programs and cgroups, from records alone.
type Tree struct {
	Config      *config.Config
	stats       Stats
	Clock       *attribution.Clock
	Losses      *Losses
	Attribution *attribution.Table
	environ     *attribution.Environ
	Containers  *Containers
	Above       programSpans

	alive       alive
	Processes   map[uint32]*Process // by pid; an entry is replaced when the pid is reused
	Cgroups     map[uint64]*Cgroup  // cgroups in sandboxes, by id
	Sandboxes   list.List           // of *Sandbox, in the order they were seen
	ByProcesses byProcesses         // those of them with processes

	Arguments argPieces
	Gone      goneGroups
	Over      endedProcesses
	lastFound foundCgroup
	foundArgs foundArgs
	Names     names
	Path      []byte // scratch
}

// programSpans is what lineage asks package spans to do about programs.
type programSpans interface {
	// PlaceProgram finds the place of the span of a program, which before started, if that is known.
	PlaceProgram(x *ExecStart, before *Program)
	HoldExec(x *ExecStart, at uint64)
	// DropExec forgets a span that is held. One that a notice has told of goes out.
	DropExec(x *ExecStart)
	ReplaceProgram(p *Process, at uint64, by *Program)
	EndProgram(p *Process, at uint64, how Ending)
	SendEscape(p *Process, at uint64, tid uint32, e Escape)
	Flush(p *Process)
	// ForgetProgram is told of a program that was none.
	ForgetProgram(i *Program)
	// SandboxOver is told when nothing runs in a sandbox any more, and nothing can.
	SandboxOver(sb *Sandbox)
}

// New makes a Tree that knows no process. Above has to be set before its first use.
func New(conf *config.Config, clock *attribution.Clock, a *attribution.Table) *Tree {
	c := &Tree{
		Config: conf, Clock: clock, Attribution: a, environ: a.Environ,
		Processes: make(map[uint32]*Process),
		Cgroups:   make(map[uint64]*Cgroup),
		Gone:      goneGroups{ByID: make(map[uint64]*Sandbox)},
		Names:     names{known: make(map[string]string)},
	}
	a.Tree = view{c}
	c.Losses = &Losses{stats: &c.stats, clock: clock}
	c.Containers = &Containers{
		config: conf, stats: &c.stats, clock: clock, losses: c.Losses, lineage: c, attribution: a,
		chooses:    slices.ContainsFunc(conf.Sandboxes, func(s config.Selector) bool { return s.Container != nil }),
		Containers: knownContainers{known: make(map[string]*Container)},
		candidates: candidates{byCgroup: make(map[uint64]*Container)},
	}
	return c
}

// Expire forgets what is over and waits no more for what has not come.
func (c *Tree) Expire() {
	c.Containers.expire()
	c.Containers.expireCandidates()
	c.Gone.expire(c.Clock.Tick)
	c.Over.expire(c.Clock.Tick)
}

// Stats gives the counters as they are now.
func (c *Tree) Stats() Stats {
	s := c.stats
	s.Lost = c.Losses.Counts.total
	s.Processes, s.Cgroups, s.Sandboxes = len(c.Processes), len(c.Cgroups), c.Sandboxes.Len()
	s.Containers = len(c.Containers.Containers.known)
	s.Undecided, s.UndecidedBytes = len(c.Containers.candidates.byCgroup), c.Containers.candidates.bytes
	return s
}

// ExecArgs takes a piece of the arguments of an exec whose record follows.
func (c *Tree) ExecArgs(h *record.Header, r *record.ExecArgs) {
	c.Arguments.add(h, r, c.Config.MaxArgsBytes)
}

// Containers are the containers of sandboxes, and those of which it is not known yet whether they are sandboxes.
type Containers struct {
	config      *config.Config
	stats       *Stats
	clock       *attribution.Clock
	losses      *Losses
	lineage     *Tree
	attribution *attribution.Table
	Above       containerSpans
	Replay      func(raw []byte) // takes a record that was kept

	Containers knownContainers
	chooses    bool // there are selectors by what runtimes say
	candidates candidates
}

// containerSpans is what containers ask package spans to do.
type containerSpans interface {
	// Release sends the spans that waited for a container.
	Release(b *attribution.Container)
	// ContainerChanged is called when a runtime has reported a container once more.
	ContainerChanged(b *attribution.Container)
	// Connecting says whether the outcome of a connect is awaited.
	Connecting(cookie uint64) bool
}

// Losses counts what was lost.
type Losses struct {
	stats *Stats
	clock *attribution.Clock

	Own     []ownLoss
	Counts  lossCounts
	unknown unknownCgroups
}
