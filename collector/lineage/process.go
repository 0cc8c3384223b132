// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"path"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/paths"
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

	scanned  bool // known by a look at the existing processes; its fork may wait in the ring
	threaded bool // a thread other than the first was seen in another directory: its threads may be in several

	Pending any // what package spans keeps of it; nil: nothing

	older, Newer *Process // in activity
}

// A Program is a program that a process runs. Forked children share their parent's until they exec. It
// names what it came from by value, so that a chain of execs holds no memory.
type Program struct {
	Id         span.Image
	Span       span.ID // its process.exec span; zero when the program is not known
	Trace      span.TraceID
	executable string // without the mark of a file that has no name any more; "" when not known
	Shown      string // as /proc shows it
	unproven   bool   // no pin holds for it
	seen       bool   // a look has told of it; the record of its exec, and of others before, may wait in the ring
	Name       string
	Parent     string // executable of the image before, as /proc shows it
	Start      uint64 // boottime of the exec; of the process when it is older than the sensor
	Unknown    bool   // its fork or exec was lost
	outside    bool   // what a process was forked with from outside into the sandbox
	Noise      uint64 // noise reads not yet told
	Ended      bool
	Exec       *ExecStart // while its process.exec span is held
	Owner      attribution.Owner

	attribution.Environment
	uid    uint32 // real; only with envRead
	exeUID uint32
	file   config.FileID // of the executable

	PeakBefore uint32 // pages; of what the process ran before it
}

func (p *Process) Owns(i *Program) bool {
	return i.Id.Tgid == p.Tgid && i.Id.Start == p.Start
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
			Id: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, Start: h.Start, Unknown: true,
		})
	}
	p.Sandbox.Active.touch(p)
	c.follow(p, h)
	if h.ExecID < p.Program.Id.ExecID {
		c.forgetSeen(p, h)
	}
	c.Resolve(&p.Process)
	if h.Type != record.TypeExit && h.ExecID > p.Program.Id.ExecID {
		// An exec was lost: what runs now is not the program that we know. An exit
		// may come with a count one higher when an exec failed halfway.
		c.replaceProgram(p, h.Time, &Program{
			Id: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, Start: h.Time, Unknown: true,
			Parent: p.Program.Shown, Owner: p.Owner(),
		})
		p.LostExec()
	}
	return p
}

// Resolve finds out what a process older than the sensor is. Parents may be told of after their
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
			c.Attribution.BecomeAgent(a, d, i.Id, uid, x)
		}
	}
	p.Count()
	if p.Owns(i) {
		i.Owner = p.Owner()
	}
}

// admit makes a process known. The caller has made sure that its pid is free.
func (c *Tree) admit(tgid uint32, start uint64, sb *Sandbox, g *Cgroup, i *Program) *Process {
	if len(c.Processes) >= c.Config.MaxProcesses {
		c.stats.EvictedProcesses++
		idlest := c.leastActive(sb)
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
	c.populate(sb, 1)
	g.Processes++
	return p
}

// follow keeps up with a process that moves within its sandbox. A move out of it is
// left to the attach record, which may come after the first record from the new place.
func (c *Tree) follow(p *Process, h *record.Header) {
	if p.Cgroup.Id == h.Cgroup {
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
	c.populate(p.Sandbox, -1)
	c.forgetIfDone(p.Sandbox)
}

// replaceProgram is what an exec does: the process goes on, its program ends.
func (c *Tree) replaceProgram(p *Process, at uint64, i *Program) {
	c.Above.ReplaceProgram(p, at)
	p.Program = i
}

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
			Id:    span.Image{Tgid: r.ChildTgid, Start: r.ChildStart, ExecID: h.ExecID},
			Start: r.ChildStart, outside: true,
		})
		child.vpid = r.ChildVpid
		return
	}
	from := parent.Cgroup
	if g == nil {
		g = c.beside(parent, r.ChildCgroup)
	}
	child = c.admit(r.ChildTgid, r.ChildStart, parent.Sandbox, g, parent.Program)
	child.vpid = r.ChildVpid
	c.Attribution.Inherit(&parent.Process, &child.Process)
	if r.ChildCgroup != h.Cgroup && g.Sandbox != parent.Sandbox {
		c.Above.SendEscape(child, h.Time, h.Tid, Escape{From: from.Path, To: g.Path, Mover: h.Tgid, ExecID: h.ExecID})
	}
}

// forgetScan forgets what a look has found of a process whose fork comes only now, as it waited in the ring: this record and
// those behind it say whose the process is, and what it ran from its start. A span of the look that has not gone out is
// dropped; the exec's own will come.
func (c *Tree) forgetScan(p *Process) {
	if i := p.Program; p.Owns(i) {
		if i.Exec != nil {
			c.Above.DropExec(i.Exec)
			i.Exec = nil
		}
		i.Span = span.ID{}
	}
	c.End(p, c.Clock.Now, Ending{Unknown: true})
}

// forgetSeen forgets the program that a look has found p running, when the record of its exec comes, or one of before it: what
// p did until then and what it ran come from the ring.
func (c *Tree) forgetSeen(p *Process, h *record.Header) {
	i := p.Program
	if !i.seen || !p.Owns(i) {
		return
	}
	if i.Exec != nil {
		c.Above.DropExec(i.Exec)
	}
	if a := p.Agent; p.Role == attribution.RoleAgent && a.First == i.Id && h.ExecID < i.Id.ExecID {
		// It is not the agent yet.
		if p.Role = attribution.RoleNone; a.Outer.Agent != nil && a.Outer.Call == nil {
			p.Role = attribution.RoleUnclear
		}
		c.Attribution.Belong(&p.Process, a.Outer)
	}
	p.Program = &Program{Id: imageOf(h), Start: p.Start, Unknown: true, Owner: p.Owner()}
}

// beside gives the group of a process that is outside of all sandboxes' cgroups as its parent's child.
func (c *Tree) beside(parent *Process, cgroup uint64) *Cgroup {
	if parent.Cgroup.Id == cgroup {
		return parent.Cgroup
	}
	if parent.Sandbox.Found {
		return newCgroup(cgroup, "", parent.Sandbox)
	}
	return newCgroup(cgroup, "", nil)
}

func (c *Tree) Exec(h *record.Header, r *record.Exec) {
	args := c.Arguments.take(h, r, c.Config.MaxArgsBytes)
	c.Path = paths.AppendResolved(c.Path[:0], r.Exe, paths.ExecMarks(h.Flags))
	shown := c.Names.Intern(c.Path)
	program := agents.Program{
		Executable: paths.Plain(shown, h.Flags&record.ExecUnlinked != 0), Owner: r.ExeUID, Args: args.bytes, Unproven: paths.Unproven(h.Flags),
	}
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		g := c.Cgroups[h.Cgroup]
		var sb *Sandbox
		var parent *Process
		if g != nil {
			sb = g.Sandbox
		} else if c.Processes[h.Tgid] == nil {
			if parent = c.Processes[r.ParentTgid]; parent != nil && parent.Start == r.ParentStart {
				// Outside of the sandbox's cgroups, and its fork was lost.
				g, sb = c.beside(parent, h.Cgroup), parent.Sandbox
			} else if parent, g = nil, c.found(h, program); g != nil {
				sb = g.Sandbox
			}
		}
		if g == nil || c.Processes[h.Tgid] != nil {
			c.Losses.ignore(h)
			return
		}
		p = c.admit(h.Tgid, h.Start, sb, g, &Program{Id: span.Image{Tgid: h.Tgid, Start: h.Start}})
		if parent != nil {
			// Whom it was below when it was forked is not known for sure.
			p.Role, p.ParentTgid, p.ParentStart = attribution.RoleUnread, r.ParentTgid, r.ParentStart
		}
	}
	p.Sandbox.Active.touch(p)
	c.follow(p, h)
	// A look may have told of the program already: what that saw stays unproven, as the process may have named another
	// file since.
	look := p.Program
	same := look.seen && p.Owns(look) && look.Id.ExecID == h.ExecID
	renamed := same && look.unproven
	program.Unproven = program.Unproven || renamed
	if same && look.Exec == nil { // and its span has gone out
		look.Env, look.EnvRead, look.uid = c.environ.Environment(r.Env, look.Env), true, r.UID
		c.Resolve(&p.Process)
		return
	}
	if h.ExecID <= look.Id.ExecID {
		c.forgetSeen(p, h)
	}
	c.Resolve(&p.Process)
	if h.ExecID > p.Program.Id.ExecID+1 {
		p.LostExec()
	}
	before := p.Program
	if before.Span == (span.ID{}) {
		// Its fork was lost, or it came from outside: the parent may be known all the same.
		if parent := c.Processes[r.ParentTgid]; parent != nil && parent != p && parent.Start == r.ParentStart && parent.Sandbox == p.Sandbox {
			before = parent.Program
		}
	}
	env := c.environ.Environment(r.Env, before.Env)
	denied := c.Attribution.Attribute(&p.Process, &attribution.ProgramStart{
		Program: program, File: config.FileID{Dev: r.Dev, Inode: r.Inode},
		Env: env, Before: before.Environment, Leader: h.Flags&record.ExecSessionLeader != 0,
		Id: imageOf(h), Uid: r.UID,
	})
	x := &ExecStart{
		Process:     p,
		Cgroup:      p.Cgroup,
		Parent:      before.Span,
		ParentTrace: before.Trace,
		Args:        args.bytes,
		Argc:        r.Argc,
		Truncated:   args.truncated || h.Flags&record.ExecArgsMissing != 0,
		Ppid:        r.ParentTgid,
		Uid:         r.UID,
		Euid:        r.EUID,
		Egid:        r.EGID,
		Flags:       h.Flags,
		Filename:    string(r.Filename),
		Credentials: true,
	}
	if denied != (attribution.Claims{}) {
		x.Denied = &denied
	}
	x.CallRoot = p.Call != nil && p.Call != before.Owner.Call
	c.newProgram(p, x, h, shown, before.Shown)
	p.Program.unproven = p.Program.unproven || renamed
	p.Program.Env, p.Program.EnvRead, p.Program.uid, p.Program.exeUID, p.Program.file = env, true, r.UID, r.ExeUID, config.FileID{Dev: r.Dev, Inode: r.Inode}
	p.Program.PeakBefore = r.PeakRSS
	p.vpid = r.Vpid
	x.Vpid = r.Vpid
	c.Path = paths.AppendDirectory(c.Path[:0], r.Cwd, h.Flags)
	x.Cwd = c.Names.Intern(c.Path)
	c.Above.HoldExec(x)
}

// newProgram gives the process a program, and a place in a trace for its span.
func (c *Tree) newProgram(p *Process, x *ExecStart, h *record.Header, shown, parent string) {
	i := &Program{
		Id:         imageOf(h),
		executable: paths.Plain(shown, h.Flags&record.ExecUnlinked != 0),
		Shown:      shown,
		unproven:   paths.Unproven(h.Flags),
		Parent:     parent,
		Start:      h.Time,
		Exec:       x,
	}
	i.Name = path.Base(i.executable)
	i.Span = span.ExecSpan(c.Config.BootID, i.Id)
	i.Owner = p.Owner()
	c.replaceProgram(p, h.Time, i)
	i.Trace = c.Above.Place(&p.Sandbox.Sandbox, i.Owner)
	x.Program = i
}

func (c *Tree) Exit(h *record.Header, r *record.Exit) {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		c.Losses.ignore(h)
		return
	}
	c.End(p, h.Time, Ending{Exit: r})
}

// Existing handles a process that is older than the sensor.
func (c *Tree) Existing(h *record.Header, r *record.Process) {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		g := c.Cgroups[h.Cgroup]
		if g == nil && c.Processes[h.Tgid] == nil {
			g = c.foundExisting(h, r)
		}
		if g == nil || c.Processes[h.Tgid] != nil {
			c.stats.Ignored++
			return
		}
		p = c.admit(h.Tgid, h.Start, g.Sandbox, g, &Program{Id: imageOf(h), Start: h.Start, Unknown: true})
		p.scanned = true
	} else if p.Program.Span != (span.ID{}) || p.Program.outside {
		return // known from its own records
	}
	p.vpid = r.Vpid
	if p.Role == attribution.RoleNone && p.Agent == nil {
		p.Role, p.ParentTgid, p.ParentStart = attribution.RoleUnread, r.ParentTgid, r.ParentStart
	}
	if len(r.Exe) == 0 {
		return // no memory of its own any more, only threads or a parent that has not waited
	}
	c.Path = paths.AppendResolved(c.Path[:0], r.Exe, paths.ExecMarks(h.Flags))
	x := &ExecStart{
		Process:     p,
		Cgroup:      p.Cgroup,
		Ppid:        r.ParentTgid,
		parentStart: r.ParentStart,
		Preexisting: true,
		Uid:         r.UID,
		Vpid:        r.Vpid,
		Flags:       h.Flags,
	}
	c.newProgram(p, x, h, c.Names.Intern(c.Path), "")
	x.Program.Start, x.Program.exeUID, x.Program.file, x.Program.seen = h.Start, r.ExeUID, config.FileID{Dev: r.Dev, Inode: r.Inode}, true
	c.FindParent(x)
	x.Program.Span = span.SeenSpan(c.Config.BootID, x.Program.Id, h.Time)
	c.Path = paths.AppendDirectory(c.Path[:0], r.Cwd, h.Flags)
	x.Cwd = c.Names.Intern(c.Path)
	c.Above.HoldExec(x)
	if c.foundArgs.id == x.Program.Id {
		c.addArgs(p, &c.foundArgs)
	}
}

// Cmdline adds argv to a process that existing told of just before, or is going to tell of.
func (c *Tree) Cmdline(h *record.Header, r *record.Cmdline) {
	said := foundArgs{id: imageOf(h), args: string(r.Args[:min(len(r.Args), c.Config.MaxArgsBytes)]), argc: r.Argc}
	said.truncated = len(said.args) < len(r.Args) || len(r.Args) >= record.MaxCmdline
	p := c.Processes[h.Tgid]
	if p == nil {
		c.foundArgs = said
	} else if p.Program.Id == said.id {
		c.addArgs(p, &said)
	}
}

func (c *Tree) addArgs(p *Process, said *foundArgs) {
	x := p.Program.Exec
	if x == nil || !x.Preexisting || x.Args != "" {
		return
	}
	x.Args, x.Argc, x.Truncated = said.args, said.argc, said.truncated
	// The bytes it holds have changed: hold again, with the old deadline's place given up.
	c.Above.DropExec(x)
	c.Above.HoldExec(x)
}

// An ExecStart is what is known of the start of a program, until its process.exec span goes out.
type ExecStart struct {
	Span    any // of package spans, while that is held
	Process *Process
	Program *Program
	Cgroup  *Cgroup // where the exec was

	Parent      span.ID
	ParentTrace span.TraceID

	Args        string // "arg\0arg\0"
	Argc        uint32 // true count
	Truncated   bool   // bytes of args are missing
	Cwd         string
	Filename    string // what execve was asked to run
	Ppid        uint32
	parentStart uint64 // only when preexisting
	Vpid        uint32
	Uid         uint32
	Euid, Egid  uint32 // only with credentials
	Credentials bool
	Preexisting bool // found by a look at the existing processes
	Flags       uint16
	CallRoot    bool                // the first program of its call
	Denied      *attribution.Claims // of its environment, that contradict lineage
}

// FindParent looks for the parent of a process that is older than the sensor. Parents
// may be told of after their children, so it is asked again when the span goes out.
func (c *Tree) FindParent(x *ExecStart) {
	if x.Parent != (span.ID{}) || !x.Preexisting {
		return
	}
	parent := c.Processes[x.Ppid]
	if parent == nil || parent == x.Process || parent.Start != x.parentStart || parent.Sandbox != x.Process.Sandbox ||
		parent.Program.Start > x.Program.Start {
		return
	}
	x.Parent, x.ParentTrace = parent.Program.Span, parent.Program.Trace
	x.Program.Parent = parent.Program.Shown
}
