// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

func (c *lossSpans) own() {
	for n := range c.spans.losses.Own {
		l := &c.spans.losses.Own[n]
		c.tellLoss(&record.Header{}, l.Sandbox, &record.Loss{Kind: l.Kind, Cause: l.Cause, Count: l.Count, From: l.From, To: c.spans.clock.Tick})
	}
	c.spans.losses.Own = c.spans.losses.Own[:0]
}

// loss handles the word that records did not reach the collector.
func (c *lossSpans) loss(h *record.Header, r *record.Loss) {
	c.spans.stats.KernelLost += r.Count
	if r.Count == 0 {
		return
	}
	if r.Kind == record.TypeCgroupMkdir {
		c.spans.losses.DirectoriesLost(r.From, r.To)
	}
	if v := c.spans.lineage.Ref(h.Tgid, h.Start); v != nil {
		c.spans.losses.Counts.Count(r.Kind, r.Cause, v.Sandbox, r.Count)
		c.sendLoss(h, v.Sandbox, v.Owner, v, r)
		return
	}
	var sb *lineage.Sandbox
	if g := c.spans.lineage.Cgroups[h.Cgroup]; g != nil {
		sb = g.Sandbox
	} else {
		sb = c.spans.lineage.Gone.Sandbox(h.Cgroup)
	}
	c.spans.losses.Counts.Count(r.Kind, r.Cause, sb, r.Count)
	c.tellLoss(h, sb, r)
}

// tellLoss tells a loss to the session of a sandbox, or to every session when it may be any's.
func (c *lossSpans) tellLoss(h *record.Header, sb *lineage.Sandbox, r *record.Loss) {
	told := make(map[*attribution.Session]bool)
	if sb != nil {
		c.tellSandbox(told, h, sb, r)
		return
	}
	for e := c.spans.lineage.Sandboxes.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, h, e.Value.(*lineage.Sandbox), r)
	}
	// It may be of one that is over by now.
	for e := c.spans.lineage.Gone.Order.Front(); e != nil; e = e.Next() {
		c.tellSandbox(told, h, c.spans.lineage.Gone.ByID[e.Value.(lineage.GoneGroup).ID], r)
	}
}

// tellSandbox tells a loss to each agent in a sandbox, and to the sandbox itself where its session is that of none.
func (c *lossSpans) tellSandbox(told map[*attribution.Session]bool, h *record.Header, sb *lineage.Sandbox, r *record.Loss) {
	for _, a := range sb.Agents {
		told[a.Session] = true
		c.sendLoss(h, sb, attribution.Owner{Agent: a}, nil, r)
	}
	if !told[sb.Session] {
		told[sb.Session] = true
		c.sendLoss(h, sb, attribution.Owner{}, nil, r)
	}
}

// sendLoss tells a loss below the process that it was of, or to a session when v is nil: where none is known by the pid
// of h, for its fork was lost, too.
func (c *lossSpans) sendLoss(h *record.Header, sb *lineage.Sandbox, w attribution.Owner, v *lineage.ProcessRef, r *record.Loss) {
	kind, cause := r.Kind.String(), r.Cause.String()
	var program *lineage.Program
	cgroup := c.spans.lineage.Cgroups[h.Cgroup]
	if v != nil {
		program, cgroup = v.Program, v.Cgroup
	}
	id := span.LossSpan(c.spans.config.BootID, sb.TracesOf(w).Instance(), h.Cgroup, span.Image{Tgid: h.Tgid, Start: h.Start}, kind, cause, r.From, r.To)
	d := c.spans.out.start(span.Loss, &sb.Sandbox, w, id, c.spans.place(&sb.Sandbox, w, program, cgroup, 0), r.From, r.To)
	if v != nil {
		d.process(v.Tgid, c.spans.wallTime(v.Start), v.Program, v.Cgroup)
	} else {
		g := c.spans.lineage.Cgroups[h.Cgroup]
		// Of a cgroup that is not known each session is told: then it is not said to be one of its processes.
		if h.Tgid != 0 && (g != nil && g.Sandbox == sb || c.spans.lineage.Gone.Sandbox(h.Cgroup) == sb) {
			d.int(span.KeyPID, int64(h.Tgid))
			d.trusted(span.KeyCreationTime, c.spans.wallTime(h.Start))
		}
		if g != nil {
			d.container = g.Cgroup.Container
			d.text(span.KeyCgroup, g.Path)
		}
	}
	d.int(span.KeyLost, int64(r.Count))
	d.trusted(span.KeyLostCause, cause)
	d.trusted(span.KeyLostKind, kind)
	d.fail("records were lost: " + cause)
	d.each = v == nil
	c.spans.out.send()
}
