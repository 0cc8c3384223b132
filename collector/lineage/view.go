// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
)

// A view is what attribution asks of the tree.
type view struct{ tree *Tree }

// Resolve finds out what a process older than the sensor is.
func (v view) Resolve(p *attribution.Process) { v.tree.Resolve(p) }

func (v view) Process(tgid uint32) *attribution.Process {
	if p := v.tree.Processes[tgid]; p != nil {
		return &p.Process
	}
	return nil
}

func (v view) Group(id uint64) *attribution.Cgroup {
	if g := v.tree.Cgroups[id]; g != nil {
		return &g.Cgroup
	}
	return nil
}

// Sender gives the process that a header names, as it came from a socket, or nil.
func (v view) Sender(h *record.Header) *attribution.Process {
	p := v.Process(h.Tgid)
	if h.Tgid == 0 || !attribution.Identified(p, h.Start) {
		return nil
	}
	v.tree.Resolve(p)
	return p
}

func (v view) User(p *attribution.Process) (uid uint32, known bool) {
	i := v.tree.Processes[p.Tgid].Program
	return i.uid, i.EnvRead
}

func (v view) EachSandbox(yield func(*attribution.Sandbox)) {
	for e := v.tree.Sandboxes.Front(); e != nil; e = e.Next() {
		yield(&e.Value.(*Sandbox).Sandbox)
	}
}

func (v view) SandboxCount() int { return v.tree.Sandboxes.Len() }
