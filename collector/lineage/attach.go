// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An Escape is a move of a process out of its sandbox.
type Escape struct {
	From, To string // cgroup paths; to is empty when not known
	Mover    uint32 // pid of who moved it
	ExecID   uint64
}

// Attach handles a task that was moved to another cgroup.
func (c *Tree) Attach(h *record.Header, r *record.Attach) {
	g := c.Cgroups[h.Cgroup]
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		if c.Processes[h.Tgid] != nil {
			return
		}
		if g == nil {
			if r.Watched {
				// It left a sandbox; which one only its lost fork could tell.
				c.stats.Unassigned++
				c.Losses.Lose(record.TypeCgroupAttach, record.CauseUnassigned, nil)
			}
			return
		}
		p = c.admit(h.Tgid, h.Start, g.Sandbox, g, &Program{
			ID: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, Start: h.Time, Unknown: r.Watched,
		})
		p.vpid = r.Vpid
		return
	}
	p.Sandbox.Active.touch(p)
	if p.Cgroup.ID == h.Cgroup {
		return
	}
	p.threaded = p.threaded || h.Tid != h.Tgid
	from := p.Cgroup.Path
	if g == nil {
		var sb *Sandbox
		if p.Sandbox.Found {
			sb = p.Sandbox // it has no cgroup that could be left
		}
		g = newCgroup(h.Cgroup, string(r.Path), sb)
	}
	c.moveTo(p, g)
	if g.Sandbox != p.Sandbox {
		c.Above.SendEscape(p, h.Time, h.Tid, Escape{From: from, To: g.Path, Mover: r.MoverTgid, ExecID: h.ExecID})
	}
}
