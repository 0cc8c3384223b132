// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/record"
)

// ownLoss counts what the collector itself lost since the last tick.
type ownLoss struct {
	kind    record.Type
	cause   record.Cause
	sandbox *sandbox // nil: not known
	count   uint64
	from    uint64 // boottime of the first
}

// maxOwnLosses bounds the kinds and sandboxes told apart: malformed records may claim any type.
const maxOwnLosses = 32

// lose counts a loss of the collector's own; the next tick tells it. sb: whose it was; nil: not known.
func (c *losses) lose(kind record.Type, cause record.Cause, sb *sandbox) {
	c.loseMany(kind, cause, sb, 1)
}

func (c *losses) loseMany(kind record.Type, cause record.Cause, sb *sandbox, n uint64) {
	if n == 0 {
		return
	}
	c.counts.count(kind, cause, sb, n)
	if len(c.own) >= maxOwnLosses {
		sb = nil
	}
	for i := range c.own {
		if l := &c.own[i]; l.cause == cause && l.sandbox == sb && (l.kind == kind || len(c.own) >= maxOwnLosses) {
			l.count += n
			return
		}
	}
	c.own = append(c.own, ownLoss{kind: kind, cause: cause, sandbox: sb, count: n, from: c.clock.now})
}

// A victim is a process whose records were lost, as it is or was at its end.
type victim struct {
	tgid    uint32
	start   uint64
	at      uint64 // boottime of its end
	sandbox *sandbox
	whose   whose
	image   *image
	group   *group
}

func victimOf(p *process) victim {
	return victim{tgid: p.tgid, start: p.start, sandbox: p.sandbox, whose: p.whose(), image: p.image, group: p.group}
}

// victim finds the process that a loss is told of; nil if it is not known.
func (c *lineage) victim(tgid uint32, start uint64) *victim {
	if tgid == 0 {
		return nil
	}
	if p := c.processes[tgid]; p != nil && p.start == start {
		v := victimOf(p)
		return &v
	}
	return c.over.find(tgid, start)
}

// endedProcesses remembers those that ended lately, for their losses are told up to a second later. The newest take the places of the
// oldest: where there are too many, their losses are told to their sessions.
type endedProcesses struct {
	list []victim // oldest first
}

const maxEnded = 4096

func (e *endedProcesses) add(v victim) {
	if len(e.list) >= maxEnded {
		e.drop()
	}
	e.list = append(e.list, v)
}

func (e *endedProcesses) drop() {
	e.list[0] = victim{}
	e.list = e.list[1:]
}

func (e *endedProcesses) expire(now uint64) {
	for len(e.list) > 0 && e.list[0].at+goneForNs < now {
		e.drop()
	}
}

func (e *endedProcesses) find(tgid uint32, start uint64) *victim {
	for n := range e.list {
		if v := &e.list[n]; v.tgid == tgid && v.start == start {
			return v
		}
	}
	return nil
}

// lossCounts are all losses that were told, for metrics.
type lossCounts struct {
	byKind    map[lossKind]uint64
	bySandbox []sandboxLosses
	others    uint64 // of sandboxes beyond the bound
	unknown   uint64 // whose is not known
	total     uint64
}

type lossKind struct {
	kind  record.Type
	cause record.Cause
}

type sandboxLosses struct {
	sandbox *sandbox
	count   uint64
}

// Bounds of what is told apart, for each is a series of its own.
const (
	maxLossKinds     = 256
	maxLossSandboxes = 64
)

func (l *lossCounts) count(kind record.Type, cause record.Cause, sb *sandbox, n uint64) {
	l.total += n
	if l.byKind == nil {
		l.byKind = map[lossKind]uint64{}
	}
	k := lossKind{kind, cause}
	if _, known := l.byKind[k]; !known && len(l.byKind) >= maxLossKinds {
		k.kind = 0
	}
	l.byKind[k] += n
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
	case len(l.bySandbox) < maxLossSandboxes:
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

// LossCounts gives what sensor.loss spans told of and will at the next tick: by kind and cause, and by sandbox. It changes with Stats.Lost.
func (c *losses) LossCounts() (byKind, bySandbox []LossCount) {
	l := &c.counts
	for k, n := range l.byKind {
		byKind = append(byKind, LossCount{Kind: k.kind.String(), Cause: k.cause.String(), Count: n})
	}
	for _, s := range l.bySandbox {
		bySandbox = append(bySandbox, LossCount{Sandbox: s.sandbox.id, Count: s.count})
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
	byID  map[uint64]*sandbox
	order list.List // of goneGroup, oldest first
}

type goneGroup struct {
	id uint64
	at uint64 // boottime
}

// Bounds of what is remembered. The loss counters are read once a second (collector/live).
const (
	maxGone   = 4096
	goneForNs = 3e9
)

func (g *goneGroups) add(id, at uint64, sb *sandbox) {
	if g.byID[id] != nil {
		return
	}
	if g.order.Len() >= maxGone {
		g.drop()
	}
	g.byID[id] = sb
	g.order.PushBack(goneGroup{id, at})
}

func (g *goneGroups) drop() {
	delete(g.byID, g.order.Remove(g.order.Front()).(goneGroup).id)
}

func (g *goneGroups) expire(now uint64) {
	for e := g.order.Front(); e != nil && e.Value.(goneGroup).at+goneForNs < now; e = g.order.Front() {
		g.drop()
	}
}

func (g *goneGroups) sandbox(id uint64) *sandbox { return g.byID[id] }
