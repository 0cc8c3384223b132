// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// An agent that is started outside of every sandbox is a sandbox itself if a selector says so: its process with all
// that is below it, in whatever cgroup. The kernel side follows each program that has the name of an agent or of an
// interpreter of some; here it is decided which are agents. The reader of the stream asks Knows, and has the kernel
// side leave the others alone.

// Knows says whether the collector takes what this process does.
func (c *Tree) Knows(tgid uint32, start uint64) bool {
	p := c.Processes[tgid]
	return p != nil && p.Start == start
}

// A foundCgroup is what the stream told last of a cgroup outside of all sandboxes: of the process that comes next.
type foundCgroup struct {
	id   uint64
	path string
}

// foundArgs are the arguments of a process older than the sensor, told before it because they decide what it is.
type foundArgs struct {
	id        span.Image
	args      string
	argc      uint32
	truncated bool
}

// found makes the sandbox of a program outside of all others. nil: it is no agent, or none that is asked for.
func (c *Tree) found(h *record.Header, program agents.Program) *Cgroup {
	if h.Flags&record.ExecFound == 0 {
		return nil
	}
	d := c.Attribution.Dialects.Find(program)
	if d == nil || !slices.ContainsFunc(c.Config.Sandboxes, func(s config.Selector) bool { return s.Finds(d.Name) }) {
		return nil
	}
	// removed: there is no directory to wait for, it is over with its last process.
	sb := &Sandbox{Sandbox: attribution.Sandbox{ID: span.FoundSandboxID(c.Config.BootID, imageOf(h)), Agent: d.Name, Found: true}, removed: true}
	c.addSandbox(sb, sb.ID)
	return c.foundGroup(sb, h.Cgroup)
}

// foundGroup is a directory in which processes of such a sandbox are. It is theirs alone: others there are none of
// ours.
func (c *Tree) foundGroup(sb *Sandbox, cgroup uint64) *Cgroup {
	g := newCgroup(cgroup, "", sb)
	if c.lastFound.id == cgroup {
		g.Path = c.lastFound.path
	}
	return g
}

// foundExisting gives the place of a process outside of all sandboxes that is older than the sensor: below an agent, or
// one itself. nil: it is none of ours.
func (c *Tree) foundExisting(h *record.Header, r *record.Process) *Cgroup {
	if parent := c.Processes[r.ParentTgid]; parent != nil && parent.Start == r.ParentStart && parent.Sandbox.Found {
		if parent.Cgroup.ID == h.Cgroup {
			return parent.Cgroup
		}
		return c.foundGroup(parent.Sandbox, h.Cgroup)
	}
	c.Path = paths.AppendResolved(c.Path[:0], r.Exe, paths.ExecMarks(h.Flags))
	p := agents.Program{
		Executable: string(paths.Plain(c.Path, h.Flags&record.ExecUnlinked != 0)), Owner: r.ExeUID, Unproven: paths.Unproven(h.Flags),
	}
	if c.foundArgs.id == imageOf(h) {
		p.Args = c.foundArgs.args
	}
	return c.found(h, p)
}

func imageOf(h *record.Header) span.Image {
	return span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}
}
