// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
)

// ownLoss counts what the collector itself lost since the last tick.
type ownLoss struct {
	Kind    record.Type
	Cause   record.Cause
	Sandbox *Sandbox // nil: not known
	Count   uint64
	From    uint64 // boottime of the first
}

// maxOwnLosses bounds the kinds and sandboxes told apart: malformed records may claim any type.
const maxOwnLosses = 32

// Lose counts a loss of the collector's own; the next tick tells it. sb: whose it was; nil: not known.
func (c *Losses) Lose(kind record.Type, cause record.Cause, sb *Sandbox) {
	c.loseMany(kind, cause, sb, 1)
}

func (c *Losses) loseMany(kind record.Type, cause record.Cause, sb *Sandbox, n uint64) {
	if n == 0 {
		return
	}
	c.Counts.Count(kind, cause, sb, n)
	if len(c.Own) >= maxOwnLosses {
		sb = nil
	}
	for i := range c.Own {
		if l := &c.Own[i]; l.Cause == cause && l.Sandbox == sb && (l.Kind == kind || len(c.Own) >= maxOwnLosses) {
			l.Count += n
			return
		}
	}
	c.Own = append(c.Own, ownLoss{Kind: kind, Cause: cause, Sandbox: sb, Count: n, From: c.clock.Now})
}

// A ProcessRef is a process whose records were lost, as it is or was at its end.
type ProcessRef struct {
	Tgid    uint32
	Start   uint64
	at      uint64 // boottime of its end
	Sandbox *Sandbox
	Owner   attribution.Owner
	Program *Program
	Cgroup  *Cgroup
}

func refOf(p *Process) ProcessRef {
	return ProcessRef{Tgid: p.Tgid, Start: p.Start, Sandbox: p.Sandbox, Owner: p.Owner(), Program: p.Program, Cgroup: p.Cgroup}
}

// Ref finds the process that a loss is reported; nil if it is not known.
func (c *Tree) Ref(tgid uint32, start uint64) *ProcessRef {
	if tgid == 0 {
		return nil
	}
	if p := c.Processes[tgid]; p != nil && p.Start == start {
		c.Resolve(&p.Process)
		v := refOf(p)
		return &v
	}
	return c.Over.find(tgid, start)
}

// endedProcesses remembers those that ended lately, for their losses are told up to a second later. The newest take the
// places of the oldest: where there are too many, their losses are told to their sessions.
type endedProcesses struct {
	List []ProcessRef // oldest first
}

const maxEnded = 4096

func (e *endedProcesses) add(v ProcessRef) {
	if len(e.List) >= maxEnded {
		e.drop()
	}
	e.List = append(e.List, v)
}

func (e *endedProcesses) drop() {
	e.List[0] = ProcessRef{}
	e.List = e.List[1:]
}

func (e *endedProcesses) expire(now uint64) {
	for len(e.List) > 0 && e.List[0].at+goneForNs < now {
		e.drop()
	}
}

func (e *endedProcesses) find(tgid uint32, start uint64) *ProcessRef {
	for n := range e.List {
		if v := &e.List[n]; v.Tgid == tgid && v.Start == start {
			return v
		}
	}
	return nil
}

// lossCounts are all losses that were told, for metrics.
type lossCounts struct {
	ByKind    map[LossKind]uint64
	bySandbox []sandboxLosses
	others    uint64 // of sandboxes beyond the bound
	unknown   uint64 // whose is not known
	total     uint64
}

// A LossKind is what was lost, and why.
type LossKind struct {
	Kind  record.Type
	Cause record.Cause
}

type sandboxLosses struct {
	sandbox *Sandbox
	count   uint64
}

// Bounds of what is told apart, for each is a series of its own.
const (
	maxLossKinds     = 256
	MaxLossSandboxes = 64
)

func (l *lossCounts) Count(kind record.Type, cause record.Cause, sb *Sandbox, n uint64) {
	l.total += n
	if l.ByKind == nil {
		l.ByKind = map[LossKind]uint64{}
	}
	k := LossKind{kind, cause}
	if _, known := l.ByKind[k]; !known && len(l.ByKind) >= maxLossKinds {
		k.Kind = 0
	}
	l.ByKind[k] += n
	if sb == nil {
		l.unknown += n
		return
	}
	gone := -1
	for i := range l.bySandbox {
		s := &l.bySandbox[i]
		if s.sandbox == sb {
			s.count += n
			return
		}
		if gone < 0 && s.sandbox.element == nil {
			gone = i
		}
	}
	switch {
	case len(l.bySandbox) < MaxLossSandboxes:
		l.bySandbox = append(l.bySandbox, sandboxLosses{sb, n})
	case gone >= 0:
		l.others += l.bySandbox[gone].count
		l.bySandbox[gone] = sandboxLosses{sb, n}
	default:
		l.others += n
	}
}

// LossCount is how many records were lost, of a kind for a cause, or in a sandbox.
type LossCount struct {
	Kind, Cause string
	Sandbox     string // "other": of those beyond the bound; "unknown": whose is not known
	Count       uint64
}

// LossCounts gives what sensor.loss spans reported and will at the next tick: by kind and cause, and by sandbox. It
// changes with Stats.Lost.
func (c *Losses) LossCounts() (byKind, bySandbox []LossCount) {
	l := &c.Counts
	for k, n := range l.ByKind {
		byKind = append(byKind, LossCount{Kind: k.Kind.String(), Cause: k.Cause.String(), Count: n})
	}
	for _, s := range l.bySandbox {
		bySandbox = append(bySandbox, LossCount{Sandbox: s.sandbox.ID, Count: s.count})
	}
	if l.others > 0 {
		bySandbox = append(bySandbox, LossCount{Sandbox: "other", Count: l.others})
	}
	if l.unknown > 0 {
		bySandbox = append(bySandbox, LossCount{Sandbox: "unknown", Count: l.unknown})
	}
	return byKind, bySandbox
}

// goneGroups remembers whose a removed cgroup was: its losses are told up to a second after its end.
type goneGroups struct {
	ByID  map[uint64]*Sandbox
	Order list.List // of GoneGroup, oldest first
}

// A GoneGroup is a cgroup that was removed.
type GoneGroup struct {
	ID uint64
	at uint64 // boottime
}

// Bounds of what is remembered. The loss counters are read once a second (collector/live).
const (
	maxGone   = 4096
	goneForNs = 3e9
)

func (g *goneGroups) add(id, at uint64, sb *Sandbox) {
	if g.ByID[id] != nil {
		return
	}
	if g.Order.Len() >= maxGone {
		g.drop()
	}
	g.ByID[id] = sb
	g.Order.PushBack(GoneGroup{id, at})
}

func (g *goneGroups) drop() {
	delete(g.ByID, g.Order.Remove(g.Order.Front()).(GoneGroup).ID)
}

func (g *goneGroups) expire(now uint64) {
	for e := g.Order.Front(); e != nil && e.Value.(GoneGroup).at+goneForNs < now; e = g.Order.Front() {
		g.drop()
	}
}

func (g *goneGroups) Sandbox(id uint64) *Sandbox { return g.ByID[id] }
