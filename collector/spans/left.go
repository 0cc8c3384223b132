// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
)

// leftOf gives what a call has left running: names of programs, and addresses that they listen at.
func (c *Spans) leftOf(k *attribution.Call, a *account) (programs, listens []string) {
	const most = 4096 // processes that are looked at
	n := 0
	left := make(map[uint32]bool)
	for _, sb := range c.lineage.ByProcesses {
		if &sb.Sandbox != k.Agent.Sandbox {
			continue
		}
		for p := sb.Active.Oldest; p != nil && n < most; p, n = p.Newer, n+1 {
			if w := p.Owner(); !within(w, k) {
				continue
			}
			left[p.Tgid] = true
			if name := p.Program.Name; name != "" {
				keepDistinct(&programs, c.out.builder.valid(name))
			}
		}
	}
	slices.Sort(programs)
	for _, l := range a.listens {
		if p := c.lineage.Processes[l.tgid]; left[l.tgid] && p != nil && c.createdAt(p) == l.start {
			keepDistinct(&listens, l.address)
		}
	}
	return programs, listens
}

// within says whether somebody is a call, or was started in it.
func within(w attribution.Owner, k *attribution.Call) bool {
	for n := 0; n < maxAround && w.Agent != nil; n++ {
		if w.Call == k {
			return true
		}
		w = w.Within()
	}
	return false
}

// createdAt is process.creation.time.
func (c *Spans) createdAt(p *lineage.Process) string {
	pending := pendingOf(p)
	if pending.created == "" {
		pending.created = c.wallTime(p.Start)
	}
	return pending.created
}
