// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// ownLoss counts what the collector itself lost since the last tick.
type ownLoss struct {
	kind  record.Type
	cause record.Cause
	count uint64
	from  uint64 // boottime of the first
}

// maxOwnLosses bounds the kinds told apart: malformed records may claim any type.
const maxOwnLosses = 32

// lose counts a loss of the collector's own; the next tick tells it.
func (c *Collector) lose(kind record.Type, cause record.Cause) {
	for n := range c.own {
		if l := &c.own[n]; l.cause == cause && (l.kind == kind || len(c.own) >= maxOwnLosses) {
			l.count++
			return
		}
	}
	c.own = append(c.own, ownLoss{kind: kind, cause: cause, count: 1, from: c.now})
}

func (c *Collector) tellOwnLosses() {
	for n := range c.own {
		l := &c.own[n]
		c.tellLoss(0, nil, &record.Loss{Kind: l.kind, Cause: l.cause, Count: l.count, From: l.from, To: c.tick})
	}
	c.own = c.own[:0]
}

// loss handles the word that records did not reach the collector.
func (c *Collector) loss(h *record.Header, r *record.Loss) {
	c.stats.KernelLost += r.Count
	if r.Count == 0 {
		return
	}
	var sb *sandbox
	if g := c.groups[h.Cgroup]; g != nil {
		sb = g.sandbox
	} else {
		sb = c.gone.sandbox(h.Cgroup)
	}
	c.tellLoss(h.Cgroup, sb, r)
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

// tellLoss tells a loss to the session of a sandbox, or to every session when it may be any's.
func (c *Collector) tellLoss(cgroup uint64, sb *sandbox, r *record.Loss) {
	told := make(map[*owner]bool)
	if sb != nil {
		c.tellSandbox(told, cgroup, sb, r)
		return
	}
	for e := c.sandboxes.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, cgroup, e.Value.(*sandbox), r)
	}
	// It may be of one that is over by now.
	for e := c.gone.order.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, cgroup, c.gone.byID[e.Value.(goneGroup).id], r)
	}
}

// tellSandbox tells a loss to each session in a sandbox once.
func (c *Collector) tellSandbox(told map[*owner]bool, cgroup uint64, sb *sandbox, r *record.Loss) {
	if !told[sb.owner] {
		told[sb.owner] = true
		c.sendLoss(cgroup, sb, whose{}, r)
	}
	for _, a := range sb.agents {
		if !told[a.owner] {
			told[a.owner] = true
			c.sendLoss(cgroup, sb, whose{agent: a}, r)
		}
	}
}

func (c *Collector) sendLoss(cgroup uint64, sb *sandbox, w whose, r *record.Loss) {
	kind, cause := r.Kind.String(), r.Cause.String()
	id := span.LossSpan(c.config.BootID, sb.ownerOf(w).session, cgroup, kind, cause, r.From, r.To)
	d := c.start(span.Loss, sb, w, id, c.place(sb, w), r.From, r.To, span.Link{})
	c.rename("lost", kind)
	if g := c.groups[cgroup]; g != nil {
		d.box = g.box
		d.text(span.KeyCgroup, g.path)
	}
	d.int(span.KeyLost, int64(r.Count))
	d.ours(span.KeyLostCause, cause)
	d.ours(span.KeyLostKind, kind)
	d.fail("records were lost: " + cause)
	c.send()
}
