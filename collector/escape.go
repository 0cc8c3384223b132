// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

type escape struct {
	from, to string // cgroup paths; to is empty when not known
	mover    uint32 // pid of who moved it
	execID   uint64
}

// attach handles a task that was moved to another cgroup.
func (c *lineage) attach(h *record.Header, r *record.Attach) {
	g := c.groups[h.Cgroup]
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		if c.processes[h.Tgid] != nil {
			return
		}
		if g == nil {
			if r.Watched {
				// It left a sandbox; which one only its lost fork could tell.
				c.stats.Unassigned++
				c.losses.lose(record.TypeCgroupAttach, record.CauseUnassigned, nil)
			}
			return
		}
		p = c.admit(h.Tgid, h.Start, g.sandbox, g, &image{
			id: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, start: h.Time, unknown: r.Watched,
		})
		p.vpid = r.Vpid
		return
	}
	p.sandbox.active.touch(p)
	if p.group.id == h.Cgroup {
		return
	}
	p.threaded = p.threaded || h.Tid != h.Tgid
	from := p.group.path
	if g == nil {
		var sb *sandbox
		if p.sandbox.found {
			sb = p.sandbox // it has no cgroup that could be left
		}
		g = newGroup(h.Cgroup, string(r.Path), sb)
	}
	c.moveTo(p, g)
	if g.sandbox != p.sandbox {
		c.above.sendEscape(p, h.Time, h.Tid, escape{from: from, to: g.path, mover: r.MoverTgid, execID: h.ExecID})
	}
}
