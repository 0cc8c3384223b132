// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Watch makes a cgroup that a user had watched a sandbox, and says whether there is room for one.
func (c *Tree) Watch(r *record.Watch) bool {
	if c.Cgroups[r.Cgroup] != nil {
		return true
	}
	if len(c.Cgroups) >= c.Config.MaxCgroups {
		c.stats.RefusedCgroups++
		c.Losses.Lose(record.TypeCgroup, record.CauseTableFull, nil)
		return false
	}
	s := config.Selector{Cgroup: r.Path, Session: r.Session, Agent: r.Agent, Unknown: true}
	if !c.Attribution.Above.MayName(s.Agent) {
		s.Agent = ""
	}
	sb := c.newSandbox(r.Cgroup, r.Path, s)
	sb.asked = true
	c.Cgroups[r.Cgroup] = newCgroup(r.Cgroup, r.Path, sb)
	return true
}

// Watched is the sandbox with this topmost directory; nil: it is over, or there never was one.
func (c *Tree) Watched(cgroup uint64) *Sandbox {
	for e := c.Sandboxes.Front(); e != nil; e = e.Next() {
		if sb := e.Value.(*Sandbox); sb.cgroup == cgroup && !sb.Found {
			return sb
		}
	}
	return nil
}
