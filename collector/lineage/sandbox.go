// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"container/heap"
	"container/list"
	"path"
	"strings"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A Sandbox is a cgroup that a selector chose, with everything below it; or an agent that was found outside of
// these, with all that it starts.
type Sandbox struct {
	attribution.Sandbox
	cgroup uint64 // of its topmost directory
	path   string

	Processes int // known and alive
	Active    activity
	removed   bool // its directory is gone
	unknown   bool // agents that nobody knows are looked for
	asked     bool // a user had it watched: what comes into it first is what that one has started
	element   *list.Element
	rank      int // index in Tree.ByProcesses, while it has processes

	Root *Program // the first that is no agent's and stands under no other; nil: none yet
}

// Number tells it apart from others of this boot that are known.
func (sb *Sandbox) Number() uint64 { return sb.cgroup }

// A Cgroup is one cgroup directory.
type Cgroup struct {
	attribution.Cgroup
	container *Container // nil: in no container
	Path      string
	Sandbox   *Sandbox // nil: outside every sandbox
	Processes int      // known and alive, in this directory itself
}

func newCgroup(id uint64, path string, sb *Sandbox) *Cgroup {
	g := &Cgroup{Cgroup: attribution.Cgroup{ID: id}, Path: path, Sandbox: sb}
	if sb != nil {
		g.Home = &sb.Sandbox
	}
	return g
}

// CgroupMade handles a new or newly seen cgroup directory. Only those in sandboxes are kept.
func (c *Tree) CgroupMade(h *record.Header, r *record.Cgroup) {
	if old, ok := c.Cgroups[r.ID]; ok {
		if old.Path == string(r.Path) {
			return
		}
		// Ids are not reused within a boot: the removal was lost.
		c.CgroupRemoved(h, r)
	}
	var sb *Sandbox
	if parent := c.Cgroups[r.Parent]; parent != nil {
		sb = parent.Sandbox
	}
	cgroup := string(r.Path)
	if sb == nil {
		var s config.Selector
		root, selector, ok := config.Select(c.Config.Sandboxes, cgroup)
		if ok {
			s = c.Config.Sandboxes[selector]
		} else if root, s, ok = c.Containers.selectContainer(cgroup); !ok {
			if h.Type == record.TypeCgroup {
				c.lastFound = foundCgroup{r.ID, cgroup}
			}
			return
		}
		if root != cgroup {
			sb = c.sandboxAt(root)
		}
		if sb == nil && len(c.Cgroups) < c.Config.MaxCgroups {
			sb = c.newSandbox(r.ID, root, s)
		}
	}
	if len(c.Cgroups) >= c.Config.MaxCgroups {
		c.stats.RefusedCgroups++
		c.Losses.Lose(record.TypeCgroup, record.CauseTableFull, sb)
		return
	}
	b := c.Containers.enter(cgroup)
	if sb != nil && sb.cgroup == r.ID {
		sb.Sandbox.Container = b.view()
	}
	g := newCgroup(r.ID, cgroup, sb)
	g.container, g.Cgroup.Container = b, b.view()
	c.Cgroups[r.ID] = g
	if sb != nil && sb.cgroup == r.ID && b != nil && b.chosen != nil {
		c.Containers.openAnnotated(g)
	}
}

// sandboxAt finds a live sandbox by path. It is needed only when directories are told
// of before their parents.
func (c *Tree) sandboxAt(root string) *Sandbox {
	for e := c.Sandboxes.Front(); e != nil; e = e.Next() {
		if sb := e.Value.(*Sandbox); sb.path == root && !sb.removed {
			return sb
		}
	}
	return nil
}

func (c *Tree) newSandbox(id uint64, root string, s config.Selector) *Sandbox {
	sb := &Sandbox{
		Sandbox: attribution.Sandbox{ID: span.SandboxID(c.Config.BootID, id), Agent: strings.ToValidUTF8(s.Agent, "\uFFFD")},
		cgroup:  id,
		path:    root,
		unknown: s.Unknown,
	}
	session := sb.configured(s)
	c.Attribution.DisplaceNested(session)
	c.addSandbox(sb, session)
	return sb
}

// configured gives the session that a selector says.
func (sb *Sandbox) configured(s config.Selector) string {
	session := strings.ReplaceAll(s.Session, "{name}", path.Base(sb.path))
	if sb.Fixed = session != ""; !sb.Fixed {
		session = sb.ID
	}
	// Session and agent are on every span: they have to be text as exporters take it.
	return strings.ToValidUTF8(session, "\uFFFD")
}

func (c *Tree) addSandbox(sb *Sandbox, session string) {
	sb.Session = c.Attribution.Sessions.Acquire(session, sb.Holder())
	c.Attribution.Slicer.OpenSandbox(&sb.Sandbox)
	sb.element = c.Sandboxes.PushBack(sb)
}

// CgroupRemoved forgets a directory and who was in it.
func (c *Tree) CgroupRemoved(h *record.Header, r *record.Cgroup) {
	g := c.Cgroups[r.ID]
	if g == nil {
		return
	}
	if g.Processes > 0 {
		c.vacate(g, c.Cgroups[r.Parent], h.Time)
	}
	c.Attribution.Marks.Unmark(&g.Marks)
	delete(c.Cgroups, r.ID)
	c.Gone.add(r.ID, h.Time, g.Sandbox)
	c.Containers.leave(g.container)
	if sb := g.Sandbox; sb != nil && sb.cgroup == r.ID {
		sb.removed = true
		c.forgetIfDone(sb)
	}
}

// vacate lets no process be in a directory that is gone. The kernel removes one only when no task alive
// is in it: exits were lost. But of a process with threads in several directories only a thread may have been in
// this one; it goes on in the directory above, the nearest that is sure to be there.
func (c *Tree) vacate(g, above *Cgroup, at uint64) {
	for _, p := range c.Inside(g) {
		if p.threaded && above != nil {
			c.moveTo(p, above)
		} else {
			c.End(p, at, Ending{Unknown: true})
		}
	}
}

// Inside gives the processes in a directory itself; those that came from another sandbox are still that one's.
func (c *Tree) Inside(g *Cgroup) []*Process {
	list := make([]*Process, 0, g.Processes)
	for _, sb := range c.ByProcesses {
		for p := sb.Active.Oldest; p != nil && len(list) < g.Processes; p = p.Newer {
			if p.Cgroup == g {
				list = append(list, p)
			}
		}
	}
	return list
}

// forgetIfDone drops a sandbox whose directory and processes are gone. Processes may
// outlive the directory when they were moved out of it.
func (c *Tree) forgetIfDone(sb *Sandbox) {
	if !sb.removed || sb.Processes > 0 || sb.element == nil {
		return
	}
	c.Above.SandboxOver(sb)
	c.Sandboxes.Remove(sb.element)
	sb.element = nil
	c.Attribution.Slicer.CloseSandbox(&sb.Sandbox)
	for _, a := range sb.MarkerAgents {
		c.Attribution.ReleaseAgent(a)
	}
	c.Attribution.Sessions.Release(sb.Session)
}

// byProcesses are the sandboxes that have processes as a heap (container/heap), the one with the most processes first.
type byProcesses []*Sandbox

func (l byProcesses) Len() int           { return len(l) }
func (l byProcesses) Less(i, j int) bool { return l[i].Processes > l[j].Processes }

func (l byProcesses) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].rank, l[j].rank = i, j
}

func (l *byProcesses) Push(x any) {
	sb := x.(*Sandbox)
	sb.rank = len(*l)
	*l = append(*l, sb)
}

func (l *byProcesses) Pop() any {
	last := len(*l) - 1
	sb := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return sb
}

// populate counts processes that came to a sandbox or, below zero, went.
func (l *byProcesses) populate(sb *Sandbox, n int) {
	before := sb.Processes
	sb.Processes += n
	switch {
	case before == 0:
		heap.Push(l, sb)
	case sb.Processes == 0:
		heap.Remove(l, sb.rank)
	default:
		heap.Fix(l, sb.rank)
	}
}

// leastActive gives the process to forget for a new one of a sandbox: that with the oldest record in the sandbox with
// the most processes, so that a storm of forks in one costs no other its agent. The
// new one's sandbox keeps its last process, which may be the parent.
func (l byProcesses) leastActive(newcomer *Sandbox) *Process {
	from := l[0]
	if newcomer.Processes > 1 && newcomer.Processes == from.Processes {
		from = newcomer
	}
	if from == newcomer && from.Processes == 1 {
		// The second of a heap is one of the two below the first.
		from = l[1]
		if len(l) > 2 && l.Less(2, 1) {
			from = l[2]
		}
	}
	return from.Active.Oldest
}
