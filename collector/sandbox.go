// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/heap"
	"container/list"
	"path"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A sandbox is a cgroup that a selector chose, with everything below it; or an agent that was found outside of
// these, with all that it starts.
type sandbox struct {
	aSandbox
	cgroup uint64 // of its topmost directory
	path   string

	processes int // known and alive
	active    activity
	removed   bool // its directory is gone
	element   *list.Element
	rank      int // index in crowds, while it has processes
}

// A group is one cgroup directory.
type group struct {
	aGroup
	box       *box // nil: in no container
	path      string
	sandbox   *sandbox // nil: outside every sandbox
	processes int      // known and alive, in this directory itself
}

func newGroup(id uint64, path string, sb *sandbox) *group {
	g := &group{aGroup: aGroup{id: id}, path: path, sandbox: sb}
	if sb != nil {
		g.home = &sb.aSandbox
	}
	return g
}

// cgroupMade handles a new or newly seen cgroup directory. Only those in sandboxes are kept.
func (c *lineage) cgroupMade(h *record.Header, r *record.Cgroup) {
	if old, ok := c.groups[r.ID]; ok {
		if old.path == string(r.Path) {
			return
		}
		// Ids are not reused within a boot: the removal was lost.
		c.cgroupRemoved(h, r)
	}
	var sb *sandbox
	if parent := c.groups[r.Parent]; parent != nil {
		sb = parent.sandbox
	}
	cgroup := string(r.Path)
	if sb == nil {
		var s Selector
		root, selector, ok := Select(c.config.Sandboxes, cgroup)
		if ok {
			s = c.config.Sandboxes[selector]
		} else if root, s, ok = c.containers.selectContainer(cgroup); !ok {
			if h.Type == record.TypeCgroup {
				c.lastFound = foundCgroup{r.ID, cgroup}
			}
			return
		}
		if root != cgroup {
			sb = c.sandboxAt(root)
		}
		if sb == nil && len(c.groups) < c.config.MaxCgroups {
			sb = c.newSandbox(r.ID, root, s)
		}
	}
	if len(c.groups) >= c.config.MaxCgroups {
		c.stats.RefusedCgroups++
		c.losses.lose(record.TypeCgroup, record.CauseTableFull, sb)
		return
	}
	b := c.containers.enter(cgroup)
	if sb != nil && sb.cgroup == r.ID {
		sb.aSandbox.box = b.view()
	}
	g := newGroup(r.ID, cgroup, sb)
	g.box, g.aGroup.box = b, b.view()
	c.groups[r.ID] = g
	if sb != nil && sb.cgroup == r.ID && b != nil && b.chosen != nil {
		c.containers.openAnnotated(g)
	}
}

// sandboxAt finds a live sandbox by path. It is needed only when directories are told
// of before their parents.
func (c *lineage) sandboxAt(root string) *sandbox {
	for e := c.sandboxes.Front(); e != nil; e = e.Next() {
		if sb := e.Value.(*sandbox); sb.path == root && !sb.removed {
			return sb
		}
	}
	return nil
}

func (c *lineage) newSandbox(id uint64, root string, s Selector) *sandbox {
	sb := &sandbox{
		aSandbox: aSandbox{id: span.SandboxID(c.config.BootID, id), agent: strings.ToValidUTF8(s.Agent, "\uFFFD")},
		cgroup:   id,
		path:     root,
	}
	session := sb.configured(s)
	c.attribution.displaceNested(session)
	c.addSandbox(sb, session)
	return sb
}

// configured gives the session that a selector says.
func (sb *sandbox) configured(s Selector) string {
	session := strings.ReplaceAll(s.Session, "{name}", path.Base(sb.path))
	if sb.fixed = session != ""; !sb.fixed {
		session = sb.id
	}
	// Session and agent are on every span: they have to be text as exporters take it.
	return strings.ToValidUTF8(session, "\uFFFD")
}

func (c *lineage) addSandbox(sb *sandbox, session string) {
	sb.owner = c.attribution.owners.acquire(session, sb.holder())
	sb.element = c.sandboxes.PushBack(sb)
}

func (c *lineage) cgroupRemoved(h *record.Header, r *record.Cgroup) {
	g := c.groups[r.ID]
	if g == nil {
		return
	}
	if g.processes > 0 {
		c.vacate(g, c.groups[r.Parent], h.Time)
	}
	c.attribution.unmark(&g.marks)
	delete(c.groups, r.ID)
	c.gone.add(r.ID, h.Time, g.sandbox)
	c.containers.leaveBox(g.box)
	if sb := g.sandbox; sb != nil && sb.cgroup == r.ID {
		sb.removed = true
		c.forgetIfDone(sb)
	}
}

// vacate lets no process be in a directory that is gone. The kernel removes one only when no task alive
// is in it: exits were lost. But of a process with threads in several directories only a thread may have been in
// this one; it goes on in the directory above, the nearest that is sure to be there.
func (c *lineage) vacate(g, above *group, at uint64) {
	for _, p := range c.inside(g) {
		if p.threaded && above != nil {
			c.moveTo(p, above)
		} else {
			c.end(p, at, ending{unknown: true})
		}
	}
}

// inside gives the processes in a directory itself; those that came from another sandbox are still that one's.
func (c *lineage) inside(g *group) []*process {
	list := make([]*process, 0, g.processes)
	for _, sb := range c.crowds {
		for p := sb.active.oldest; p != nil && len(list) < g.processes; p = p.newer {
			if p.group == g {
				list = append(list, p)
			}
		}
	}
	return list
}

// forgetIfDone drops a sandbox whose directory and processes are gone. Processes may
// outlive the directory when they were moved out of it.
func (c *lineage) forgetIfDone(sb *sandbox) {
	if !sb.removed || sb.processes > 0 || sb.element == nil {
		return
	}
	c.sandboxes.Remove(sb.element)
	sb.element = nil
	for _, a := range sb.harnesses {
		c.attribution.releaseAgent(a)
	}
	c.attribution.owners.release(sb.owner)
}

// crowds are the sandboxes that have processes as a heap (container/heap), the one with the most processes first.
type crowds []*sandbox

func (l crowds) Len() int           { return len(l) }
func (l crowds) Less(i, j int) bool { return l[i].processes > l[j].processes }

func (l crowds) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].rank, l[j].rank = i, j
}

func (l *crowds) Push(x any) {
	sb := x.(*sandbox)
	sb.rank = len(*l)
	*l = append(*l, sb)
}

func (l *crowds) Pop() any {
	last := len(*l) - 1
	sb := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return sb
}

// populate counts processes that came to a sandbox or, below zero, went.
func (c *lineage) populate(sb *sandbox, n int) {
	before := sb.processes
	sb.processes += n
	switch {
	case before == 0:
		heap.Push(&c.crowds, sb)
	case sb.processes == 0:
		heap.Remove(&c.crowds, sb.rank)
	default:
		heap.Fix(&c.crowds, sb.rank)
	}
}

// idlest gives the process to forget for a new one of a sandbox: that with the oldest record in the sandbox with
// the most processes, so that a storm of forks in one costs no other its agent. The
// new one's sandbox keeps its last process, which may be the parent.
func (c *lineage) idlest(newcomer *sandbox) *process {
	from := c.crowds[0]
	if newcomer.processes > 1 && newcomer.processes == from.processes {
		from = newcomer
	}
	if from == newcomer && from.processes == 1 {
		// The second of a heap is one of the two below the first.
		from = c.crowds[1]
		if len(c.crowds) > 2 && c.crowds.Less(2, 1) {
			from = c.crowds[2]
		}
	}
	return from.active.oldest
}
