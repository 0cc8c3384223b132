// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"strconv"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// OutOfMemory takes the word that the kernel chose a process to free memory.
func (c *Spans) OutOfMemory(h *record.Header, _ *record.OOM) {
	if p := c.lineage.Actor(h); p != nil {
		p.OOM = true
	}
}

// Limit takes the word that a limit of a cgroup was hit. It is told to the one agent of the sandbox, or to the sandbox.
func (c *Spans) Limit(h *record.Header, r *record.Limit) {
	g := c.lineage.Cgroups[h.Cgroup]
	if g == nil || g.Sandbox == nil {
		return
	}
	sb := &g.Sandbox.Sandbox
	var w attribution.Owner
	if len(sb.Agents) == 1 {
		w.Agent = sb.Agents[0]
	}
	limit, refuses := limitName(r.Which)
	id := span.LimitSpan(c.config.BootID, sb.TracesOf(w).Instance(), h.Cgroup, limit, h.Time)
	d := c.out.start(span.Limit, sb, w, id, c.place(sb, w, nil, g, 0), h.Time, h.Time)
	d.container = g.Cgroup.Container
	d.text(span.KeyCgroup, g.Path)
	d.trusted(span.KeyLimit, limit)
	d.int(span.KeyCount, int64(r.Count))
	if refuses {
		d.fail("limit hit: " + limit)
	}
	c.out.send()
}

// limitName names a limit, and says whether somebody is refused something, or is killed, when it is hit.
func limitName(which uint16) (name string, refuses bool) {
	switch which {
	case record.LimitMemoryHigh:
		return "memory.high", false
	case record.LimitMemoryMax:
		return "memory.max", false
	case record.LimitOOM:
		return "memory.oom", true
	case record.LimitOOMKill:
		return "memory.oom_kill", true
	case record.LimitPids:
		return "pids.max", true
	case record.LimitCPU:
		return "cpu.max", false
	}
	return "limit_" + strconv.Itoa(int(which)), false
}
