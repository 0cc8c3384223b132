// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

func (c *spans) tellOwnLosses() {
	for n := range c.losses.own {
		l := &c.losses.own[n]
		c.tellLoss(&record.Header{}, l.sandbox, &record.Loss{Kind: l.kind, Cause: l.cause, Count: l.count, From: l.from, To: c.clock.tick})
	}
	c.losses.own = c.losses.own[:0]
}

// loss handles the word that records did not reach the collector.
func (c *spans) loss(h *record.Header, r *record.Loss) {
	c.stats.KernelLost += r.Count
	if r.Count == 0 {
		return
	}
	if r.Kind == record.TypeCgroupMkdir {
		c.losses.directoriesLost(r.From, r.To)
	}
	if v := c.lineage.victim(h.Tgid, h.Start); v != nil {
		c.losses.counts.count(r.Kind, r.Cause, v.sandbox, r.Count)
		c.sendLoss(h, v.sandbox, v.whose, v, r)
		return
	}
	var sb *sandbox
	if g := c.lineage.groups[h.Cgroup]; g != nil {
		sb = g.sandbox
	} else {
		sb = c.lineage.gone.sandbox(h.Cgroup)
	}
	c.losses.counts.count(r.Kind, r.Cause, sb, r.Count)
	c.tellLoss(h, sb, r)
}

// tellLoss tells a loss to the session of a sandbox, or to every session when it may be any's.
func (c *spans) tellLoss(h *record.Header, sb *sandbox, r *record.Loss) {
	told := make(map[*owner]bool)
	if sb != nil {
		c.tellSandbox(told, h, sb, r)
		return
	}
	for e := c.lineage.sandboxes.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, h, e.Value.(*sandbox), r)
	}
	// It may be of one that is over by now.
	for e := c.lineage.gone.order.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, h, c.lineage.gone.byID[e.Value.(goneGroup).id], r)
	}
}

// tellSandbox tells a loss to each session in a sandbox once.
func (c *spans) tellSandbox(told map[*owner]bool, h *record.Header, sb *sandbox, r *record.Loss) {
	if !told[sb.owner] {
		told[sb.owner] = true
		c.sendLoss(h, sb, whose{}, nil, r)
	}
	for _, a := range sb.agents {
		if !told[a.owner] {
			told[a.owner] = true
			c.sendLoss(h, sb, whose{agent: a}, nil, r)
		}
	}
}

// sendLoss tells a loss below the process that it was of, or to a session when v is nil: where none is known by the pid of h, for its
// fork was lost, too.
func (c *spans) sendLoss(h *record.Header, sb *sandbox, w whose, v *victim, r *record.Loss) {
	kind, cause := r.Kind.String(), r.Cause.String()
	var parent span.Link
	if v != nil {
		parent = span.Link{Trace: v.image.trace, Span: v.image.span}
	}
	id := span.LossSpan(c.config.BootID, sb.ownerOf(w).session, h.Cgroup, span.Image{Tgid: h.Tgid, Start: h.Start}, kind, cause, r.From, r.To)
	d := c.start(span.Loss, &sb.aSandbox, w, id, c.place(&sb.aSandbox, w), r.From, r.To, parent)
	c.rename("lost", kind)
	if v != nil {
		d.process(v.tgid, v.image, v.group)
	} else {
		g := c.lineage.groups[h.Cgroup]
		// Of a cgroup that is not known each session is told: then it is not said to be one of its processes.
		if h.Tgid != 0 && (g != nil && g.sandbox == sb || c.lineage.gone.sandbox(h.Cgroup) == sb) {
			d.int(span.KeyPID, int64(h.Tgid))
		}
		if g != nil {
			d.box = g.aGroup.box
			d.text(span.KeyCgroup, g.path)
		}
	}
	d.int(span.KeyLost, int64(r.Count))
	d.ours(span.KeyLostCause, cause)
	d.ours(span.KeyLostKind, kind)
	d.fail("records were lost: " + cause)
	c.send()
}
