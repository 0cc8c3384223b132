// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A Process belongs to a sandbox from its fork, its first sight or its move into one, and stays
// there wherever it goes.
type Process struct {
	attribution.Process
	vpid    uint32 // 0: not known
	Sandbox *Sandbox
	Cgroup  *Cgroup  // where it is now
	Program *Program // never nil
	OOM     bool     // the kernel has chosen it to free memory
	Refused bool     // an exec of it has failed
	Told    bool     // and a span tells of that
	Child   uint32   // exit code of its child that ended last, as wait(2) gives it; 0: ended well or by a signal, or there is none

	given    bool   // what a person has given in a sandbox for that, or what this has launched
	launches bool   // it is that, and only starts what it is told to
	unknown  string // its name as an agent that no dialect knows; "": it is none

	scanned  bool // known by a look at the existing processes; its fork may wait in the ring
	threaded bool // a thread other than the first was seen in another directory: its threads may be in several

	Pending any // what package spans keeps of it; nil: nothing

	older, Newer *Process // in activity
}

// Owns says whether the program is the process's own, not that of the process that forked it.
func (p *Process) Owns(i *Program) bool {
	return i.ID.Tgid == p.Tgid && i.ID.Start == p.Start
}

// activity orders the processes of a sandbox by their last record, for forgetting the idlest.
type activity struct {
	Oldest, newest *Process
}

func (a *activity) push(p *Process) {
	p.older, p.Newer = a.newest, nil
	if a.newest != nil {
		a.newest.Newer = p
	} else {
		a.Oldest = p
	}
	a.newest = p
}

func (a *activity) remove(p *Process) {
	if p.older != nil {
		p.older.Newer = p.Newer
	} else {
		a.Oldest = p.Newer
	}
	if p.Newer != nil {
		p.Newer.older = p.older
	} else {
		a.newest = p.older
	}
	p.older, p.Newer = nil, nil
}

func (a *activity) touch(p *Process) {
	if a.newest != p {
		a.remove(p)
		a.push(p)
	}
}

// find gives the process with this identity, or nil. A process of the same pid that started
// earlier is over: its exit was lost.
func (c *Tree) find(tgid uint32, start uint64) *Process {
	p := c.Processes[tgid]
	switch {
	case p == nil:
		return nil
	case p.Start == start:
		return p
	case p.Start < start:
		c.End(p, c.Clock.Now, Ending{Unknown: true})
	}
	return nil
}

// Late gives the process of a record that may come late, and says nothing of what the process runs by then. Nil: it is not
// known, which is counted.
func (c *Tree) Late(h *record.Header) *Process {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		c.Losses.ignore(h)
	}
	return p
}

// Actor gives the process that a record speaks of. One that is not known but acts in a sandbox is
// taken in: its fork was lost. Nil: it is none of ours.
func (c *Tree) Actor(h *record.Header) *Process {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		if c.Processes[h.Tgid] != nil {
			return nil // a late word about an older process of this pid
		}
		g := c.Cgroups[h.Cgroup]
		if g == nil {
			c.Losses.ignore(h)
			return nil
		}
		return c.admit(h.Tgid, h.Start, g.Sandbox, g, &Program{
			ID: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, Start: h.Start, Unknown: true,
		})
	}
	p.Sandbox.Active.touch(p)
	c.follow(p, h)
	if h.ExecID < p.Program.ID.ExecID {
		c.forgetSeen(p, h)
	}
	c.Resolve(&p.Process)
	if h.Type != record.TypeExit && h.Type != record.TypeExecFailed && h.ExecID > p.Program.ID.ExecID {
		// An exec was lost: what runs now is not the program that we know. An exit, or the word that
		// an exec failed, may come with a count one higher when that was halfway.
		c.replaceProgram(p, h.Time, &Program{
			ID: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, Start: h.Time, Unknown: true,
			Parent: p.Program.Shown, Owner: p.Owner(),
		})
		p.LostExec()
	}
	return p
}

// Resolve finds out what a process older than the sensor is. Parents may be reported after their
// children, so it is asked when it is needed.
func (c *Tree) Resolve(a *attribution.Process) {
	if a.Role != attribution.RoleUnread {
		return
	}
	p := c.Processes[a.Tgid]
	p.Role = attribution.RoleNone
	parent := c.Processes[p.ParentTgid]
	if parent != nil && parent != p && parent.Start == p.ParentStart && parent.Sandbox == p.Sandbox && parent.Start <= p.Start {
		c.Resolve(&parent.Process)
		c.Attribution.Belong(a, parent.Owner())
		if p.Agent != nil && p.Call == nil {
			p.Role = attribution.RoleUnclear
		}
	}
	i := p.Program
	ofAgent := p.Role == attribution.RoleUnclear && parent.Role == attribution.RoleAgent
	program := agents.Program{Executable: i.executable, Owner: i.exeUID, Unproven: i.unproven}
	if i.Exec != nil {
		program.Args = i.Exec.Args
	}
	if d := c.Attribution.Dialects.Find(program); d != nil {
		uid := i.uid
		if i.Exec != nil && !i.EnvRead {
			uid = i.Exec.Uid
		}
		if x := attribution.ProgramOf(i.file, program); ofAgent && p.Agent.MayWork(d, x) {
			p.Role = attribution.RoleAgent
		} else {
			c.Attribution.BecomeAgent(a, d, i.ID, uid, x, program.Args)
		}
	}
	p.Count()
	if w := p.Owner(); p.Owns(i) && i.Owner != w {
		if i.Owner = w; i.Exec != nil {
			c.Above.PlaceProgram(i.Exec, nil)
		}
	}
}

// admit makes a process known. The caller has made sure that its pid is free.
func (c *Tree) admit(tgid uint32, start uint64, sb *Sandbox, g *Cgroup, i *Program) *Process {
	if len(c.Processes) >= c.Config.MaxProcesses {
		c.stats.EvictedProcesses++
		idlest := c.ByProcesses.leastActive(sb)
		c.Losses.Lose(record.TypeProcess, record.CauseTableFull, idlest.Sandbox)
		c.End(idlest, c.Clock.Now, Ending{Unknown: true})
	}
	p := &Process{Process: attribution.Process{Tgid: tgid, Start: start, In: &g.Cgroup, Home: &sb.Sandbox}, Sandbox: sb, Cgroup: g, Program: i}
	c.Processes[tgid] = p
	c.alive.add(tgid, start)
	sb.Active.push(p)
	if len(g.Marks.Open) > 0 {
		c.Attribution.Belong(&p.Process, g.Marks.Owner())
	}
	c.ByProcesses.populate(sb, 1)
	g.Processes++
	return p
}

// follow keeps up with a process that moves within its sandbox. A move out of it is
// left to the attach record, which may come after the first record from the new place.
func (c *Tree) follow(p *Process, h *record.Header) {
	if p.Cgroup.ID == h.Cgroup {
		return
	}
	if g := c.Cgroups[h.Cgroup]; g != nil && g.Sandbox == p.Sandbox {
		p.threaded = p.threaded || h.Tid != h.Tgid
		c.moveTo(p, g)
	}
}

func (c *Tree) moveTo(p *Process, g *Cgroup) {
	p.Cgroup.Processes--
	p.Cgroup, p.In = g, &g.Cgroup
	g.Processes++
}

// Ending says how an image ended.
type Ending struct {
	Exit     *record.Exit // nil: it was replaced, or how is not known
	Replaced bool
	Unknown  bool
	OOM      bool // the kernel had chosen the process to free memory
	Child    bool // the last of its children that ended did so with the same exit code, which is not 0
}

// KilledForMemory says whether that was the end: what is over anyway may be chosen, too.
func (e *Ending) KilledForMemory() bool {
	return e.OOM && e.Exit != nil && e.Exit.Status&0x7f == uint32(unix.SIGKILL)
}

// End finishes a process and forgets it.
func (c *Tree) End(p *Process, at uint64, how Ending) {
	c.Attribution.HookOver(&p.Process)
	if p.Hook != nil {
		p.Hook.Remove(&p.Process)
	}
	c.Above.EndProgram(p, at, how)
	c.Attribution.Marks.Unmark(&p.Marks)
	v := refOf(p)
	v.at = at
	c.Over.add(v)
	c.Attribution.Belong(&p.Process, attribution.Owner{})
	c.Arguments.drop(p.Tgid)
	delete(c.Processes, p.Tgid)
	c.alive.remove(p.Tgid)
	p.Sandbox.Active.remove(p)
	p.Cgroup.Processes--
	c.ByProcesses.populate(p.Sandbox, -1)
	c.forgetIfDone(p.Sandbox)
}

// replaceProgram is what an exec does: the process goes on, its program ends.
func (c *Tree) replaceProgram(p *Process, at uint64, i *Program) {
	c.Above.ReplaceProgram(p, at, i)
	p.Program = i
}

// Fork makes a child known, with what its parent has.
func (c *Tree) Fork(h *record.Header, r *record.Fork) {
	parent := c.find(h.Tgid, h.Start)
	if parent != nil || c.Cgroups[h.Cgroup] != nil {
		parent = c.Actor(h)
	}
	child := c.find(r.ChildTgid, r.ChildStart)
	g := c.Cgroups[r.ChildCgroup]
	if child == nil && c.Processes[r.ChildTgid] != nil || child != nil && (parent == nil && g == nil || !child.scanned) {
		return // known
	}
	if child != nil {
		c.forgetScan(child)
	}
	if parent == nil {
		// Started from outside into a sandbox (CLONE_INTO_CGROUP): what it runs until its
		// first exec is not part of the sandbox.
		if g == nil {
			c.Losses.ignore(h)
			return
		}
		child = c.admit(r.ChildTgid, r.ChildStart, g.Sandbox, g, &Program{
			ID:    span.Image{Tgid: r.ChildTgid, Start: r.ChildStart, ExecID: h.ExecID},
			Start: r.ChildStart, outside: true,
		})
		child.vpid, child.given = r.ChildVpid, true
		return
	}
	from := parent.Cgroup
	if g == nil {
		g = c.beside(parent, r.ChildCgroup)
	}
	child = c.admit(r.ChildTgid, r.ChildStart, parent.Sandbox, g, parent.Program)
	child.vpid, child.given, child.launches = r.ChildVpid, parent.launches, parent.launches
	c.Attribution.Inherit(&parent.Process, &child.Process)
	if r.ChildCgroup != h.Cgroup && g.Sandbox != parent.Sandbox {
		c.Above.SendEscape(child, h.Time, h.Tid, Escape{From: from.Path, To: g.Path, Mover: h.Tgid, ExecID: h.ExecID})
	}
}

// forgetScan forgets what a look has found of a process whose fork comes only now, as it waited in the ring: this
// record and those behind it say whose the process is, and what it ran from its start. A span of the look that has not
// gone out is dropped; the exec's own will come.
func (c *Tree) forgetScan(p *Process) {
	if i := p.Program; p.Owns(i) {
		c.Above.ForgetProgram(i)
		if i.Exec != nil {
			c.Above.DropExec(i.Exec)
			i.Exec = nil
		}
		i.Span = span.ID{}
		p.NotBegun(i.ID)
	}
	c.End(p, c.Clock.Now, Ending{Unknown: true})
}

// forgetSeen forgets the program that a look has found p running, when the record of its exec comes, or one of before
// it: what p did until then and what it ran come from the ring.
func (c *Tree) forgetSeen(p *Process, h *record.Header) {
	i := p.Program
	if !i.seen || !p.Owns(i) {
		return
	}
	c.Above.ForgetProgram(i)
	if i.Exec != nil {
		c.Above.DropExec(i.Exec)
	}
	if a := p.Agent; p.Role == attribution.RoleAgent && a.First == i.ID && h.ExecID < i.ID.ExecID {
		p.NotBegun(i.ID)
		// It is not the agent yet.
		if p.Role = attribution.RoleNone; a.Outer.Agent != nil && a.Outer.Call == nil {
			p.Role = attribution.RoleUnclear
		}
		c.Attribution.Belong(&p.Process, a.Outer)
	}
	p.Program = &Program{ID: imageOf(h), Start: p.Start, Unknown: true, Owner: p.Owner()}
}

// beside gives the group of a process that is outside of all sandboxes' cgroups as its parent's child.
func (c *Tree) beside(parent *Process, cgroup uint64) *Cgroup {
	if parent.Cgroup.ID == cgroup {
		return parent.Cgroup
	}
	if parent.Sandbox.Found {
		return newCgroup(cgroup, "", parent.Sandbox)
	}
	return newCgroup(cgroup, "", nil)
}

// Exit ends a process.
func (c *Tree) Exit(h *record.Header, r *record.Exit) {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		c.Losses.ignore(h)
		return
	}
	c.End(p, h.Time, Ending{Exit: r, OOM: p.OOM})
}

// looksUnknown is told of each program before it is attributed, and looks for agents that no dialect knows: what was given
// is one from its first child on that is a shell in a kernel session of its own.
func (c *Tree) looksUnknown(p *Process, x agents.Program, leader bool) {
	if p.unknown, p.launches = "", false; p.given {
		p.unknown, p.launches = agents.Unknown(x)
	}
	if !leader || p.Role != attribution.RoleNone || p.Owner() != (attribution.Owner{}) {
		return
	}
	parent := c.Processes[p.ParentTgid]
	if parent == nil || parent.Start != p.ParentStart || parent.unknown == "" || parent.Role != attribution.RoleNone ||
		parent.Owner() != (attribution.Owner{}) || !parent.Owns(parent.Program) {
		return
	}
	i := parent.Program
	if !c.Attribution.Adopt(&parent.Process, &p.Process, parent.unknown, x, i.ID, i.uid, i.file) {
		return
	}
	if i.Owner = parent.Owner(); i.Exec != nil {
		c.Above.PlaceProgram(i.Exec, nil)
	}
}
