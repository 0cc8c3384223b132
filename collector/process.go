// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"path"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A process belongs to a sandbox from its fork, its first sight or its move into one, and stays
// there wherever it goes.
type process struct {
	aProcess
	vpid    uint32 // 0: not known
	sandbox *sandbox
	group   *group // where it is now
	image   *image // never nil

	looked   bool // known by a look at the existing processes; its fork may wait in the ring
	threaded bool // a thread other than the first was seen in another directory: its threads may be in several

	pending any // what package spans keeps of it; nil: nothing

	older, newer *process // in activity
}

// An image is a program that a process runs. Forked children share their parent's until they exec. It
// names what it came from by value, so that a chain of execs holds no memory.
type image struct {
	id         span.Image
	span       span.ID // its process.exec span; zero when the program is not known
	trace      span.TraceID
	executable string // without the mark of a file that has no name any more; "" when not known
	shown      string // as /proc shows it
	unproven   bool   // no pin holds for it
	seen       bool   // a look has told of it; the record of its exec, and of others before, may wait in the ring
	name       string
	parent     string // executable of the image before, as /proc shows it
	start      uint64 // boottime of the exec; of the process when it is older than the sensor
	unknown    bool   // its fork or exec was lost
	outside    bool   // what a process was forked with from outside into the sandbox
	noise      uint64 // noise reads not yet told
	ended      bool
	exec       *execStart // while its process.exec span is held
	whose      whose

	environment
	uid    uint32 // real; only with envRead
	exeUID uint32
	file   FileID // of the executable

	peakBefore uint32 // pages; of what the process ran before it
}

func (p *process) owns(i *image) bool {
	return i.id.Tgid == p.tgid && i.id.Start == p.start
}

// activity orders the processes of a sandbox by their last record, for forgetting the idlest.
type activity struct {
	oldest, newest *process
}

func (a *activity) push(p *process) {
	p.older, p.newer = a.newest, nil
	if a.newest != nil {
		a.newest.newer = p
	} else {
		a.oldest = p
	}
	a.newest = p
}

func (a *activity) remove(p *process) {
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		a.oldest = p.newer
	}
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		a.newest = p.older
	}
	p.older, p.newer = nil, nil
}

func (a *activity) touch(p *process) {
	if a.newest != p {
		a.remove(p)
		a.push(p)
	}
}

// find gives the process with this identity, or nil. A process of the same pid that started
// earlier is over: its exit was lost.
func (c *lineage) find(tgid uint32, start uint64) *process {
	p := c.processes[tgid]
	switch {
	case p == nil:
		return nil
	case p.start == start:
		return p
	case p.start < start:
		c.end(p, c.clock.now, ending{unknown: true})
	}
	return nil
}

// actor gives the process that a record speaks of. One that is not known but acts in a sandbox is
// taken in: its fork was lost. Nil: it is none of ours.
func (c *lineage) actor(h *record.Header) *process {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		if c.processes[h.Tgid] != nil {
			return nil // a late word about an older process of this pid
		}
		g := c.groups[h.Cgroup]
		if g == nil {
			c.losses.ignore(h)
			return nil
		}
		return c.admit(h.Tgid, h.Start, g.sandbox, g, &image{
			id: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, start: h.Start, unknown: true,
		})
	}
	p.sandbox.active.touch(p)
	c.follow(p, h)
	if h.ExecID < p.image.id.ExecID {
		c.unsee(p, h)
	}
	c.settle(&p.aProcess)
	if h.Type != record.TypeExit && h.ExecID > p.image.id.ExecID {
		// An exec was lost: what runs now is not the program that we know. An exit
		// may come with a count one higher when an exec failed halfway.
		c.replaceImage(p, h.Time, &image{
			id: span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, start: h.Time, unknown: true,
			parent: p.image.shown, whose: p.whose(),
		})
		p.lostExec()
		p.count()
	}
	return p
}

// settle finds out what a process older than the sensor is. Parents may be told of after their
// children, so it is asked when it is needed.
func (c *lineage) settle(a *aProcess) {
	if a.role != roleUnread {
		return
	}
	p := c.processes[a.tgid]
	p.role = roleNone
	parent := c.processes[p.parentTgid]
	if parent != nil && parent != p && parent.start == p.parentStart && parent.sandbox == p.sandbox && parent.start <= p.start {
		c.settle(&parent.aProcess)
		c.attribution.belong(a, parent.whose())
		if p.agent != nil && p.call == nil {
			p.role = roleUnclear
		}
	}
	i := p.image
	ofAgent := p.role == roleUnclear && parent.role == roleAgent
	program := agents.Program{Executable: i.executable, Owner: i.exeUID, Unproven: i.unproven}
	if i.exec != nil {
		program.Args = i.exec.args
	}
	if d := c.attribution.dialects.Find(program); d != nil {
		uid := i.uid
		if i.exec != nil && !i.envRead {
			uid = i.exec.uid
		}
		if x := programOf(i.file, program); ofAgent && p.agent.mayWork(d, x) {
			p.role = roleAgent
		} else {
			c.attribution.becomeAgent(a, d, i.id, uid, x)
		}
	}
	p.count()
	if p.owns(i) {
		i.whose = p.whose()
	}
}

// lostExec is told when the record of a program that p ran was lost: it may have been the first program of a call, or a helper.
func (p *aProcess) lostExec() {
	if p.hook != nil {
		p.hook.remove(p)
	}
	if p.role == roleAgent || p.role == roleFork || p.role == roleHook {
		p.role = roleUnclear
	}
	p.runsHook, p.hookShell = false, false
}

// admit makes a process known. The caller has made sure that its pid is free.
func (c *lineage) admit(tgid uint32, start uint64, sb *sandbox, g *group, i *image) *process {
	if len(c.processes) >= c.config.MaxProcesses {
		c.stats.EvictedProcesses++
		idlest := c.idlest(sb)
		c.losses.lose(record.TypeProcess, record.CauseTableFull, idlest.sandbox)
		c.end(idlest, c.clock.now, ending{unknown: true})
	}
	p := &process{aProcess: aProcess{tgid: tgid, start: start, in: &g.aGroup, home: &sb.aSandbox}, sandbox: sb, group: g, image: i}
	c.processes[tgid] = p
	c.alive.add(tgid, start)
	sb.active.push(p)
	if len(g.marks.open) > 0 {
		c.attribution.belong(&p.aProcess, g.marks.whose())
	}
	c.populate(sb, 1)
	g.processes++
	return p
}

// follow keeps up with a process that moves within its sandbox. A move out of it is
// left to the attach record, which may come after the first record from the new place.
func (c *lineage) follow(p *process, h *record.Header) {
	if p.group.id == h.Cgroup {
		return
	}
	if g := c.groups[h.Cgroup]; g != nil && g.sandbox == p.sandbox {
		p.threaded = p.threaded || h.Tid != h.Tgid
		c.moveTo(p, g)
	}
}

func (c *lineage) moveTo(p *process, g *group) {
	p.group.processes--
	p.group, p.in = g, &g.aGroup
	g.processes++
}

// ending says how an image ended.
type ending struct {
	exit     *record.Exit // nil: it was replaced, or how is not known
	replaced bool
	unknown  bool
}

// end finishes a process and forgets it.
func (c *lineage) end(p *process, at uint64, how ending) {
	c.attribution.hookOver(&p.aProcess)
	if p.hook != nil {
		p.hook.remove(&p.aProcess)
	}
	c.above.endProgram(p, at, how)
	c.attribution.unmark(&p.marks)
	v := victimOf(p)
	v.at = at
	c.over.add(v)
	c.attribution.belong(&p.aProcess, whose{})
	c.arguments.drop(p.tgid)
	delete(c.processes, p.tgid)
	c.alive.remove(p.tgid)
	p.sandbox.active.remove(p)
	p.group.processes--
	c.populate(p.sandbox, -1)
	c.forgetIfDone(p.sandbox)
}

// replaceImage is what an exec does: the process goes on, its program ends.
func (c *lineage) replaceImage(p *process, at uint64, i *image) {
	c.above.replaceProgram(p, at)
	p.image = i
}

func (c *lineage) fork(h *record.Header, r *record.Fork) {
	parent := c.find(h.Tgid, h.Start)
	if parent != nil || c.groups[h.Cgroup] != nil {
		parent = c.actor(h)
	}
	child := c.find(r.ChildTgid, r.ChildStart)
	g := c.groups[r.ChildCgroup]
	if child == nil && c.processes[r.ChildTgid] != nil || child != nil && (parent == nil && g == nil || !child.looked) {
		return // known
	}
	if child != nil {
		c.unlook(child)
	}
	if parent == nil {
		// Started from outside into a sandbox (CLONE_INTO_CGROUP): what it runs until its
		// first exec is not part of the sandbox.
		if g == nil {
			c.losses.ignore(h)
			return
		}
		child = c.admit(r.ChildTgid, r.ChildStart, g.sandbox, g, &image{
			id:    span.Image{Tgid: r.ChildTgid, Start: r.ChildStart, ExecID: h.ExecID},
			start: r.ChildStart, outside: true,
		})
		child.vpid = r.ChildVpid
		return
	}
	from := parent.group
	if g == nil {
		g = c.beside(parent, r.ChildCgroup)
	}
	child = c.admit(r.ChildTgid, r.ChildStart, parent.sandbox, g, parent.image)
	child.vpid = r.ChildVpid
	c.attribution.inherit(&parent.aProcess, &child.aProcess)
	if r.ChildCgroup != h.Cgroup && g.sandbox != parent.sandbox {
		c.above.sendEscape(child, h.Time, h.Tid, escape{from: from.path, to: g.path, mover: h.Tgid, execID: h.ExecID})
	}
}

// unlook forgets what a look has found of a process whose fork comes only now, as it waited in the ring: this record and
// those behind it say whose the process is, and what it ran from its start. A span of the look that has not gone out is
// dropped; the exec's own will come.
func (c *lineage) unlook(p *process) {
	if i := p.image; p.owns(i) {
		if i.exec != nil {
			c.above.dropExec(i.exec)
			i.exec = nil
		}
		i.span = span.ID{}
	}
	c.end(p, c.clock.now, ending{unknown: true})
}

// unsee forgets the program that a look has found p running, when the record of its exec comes, or one of before it: what
// p did until then and what it ran come from the ring.
func (c *lineage) unsee(p *process, h *record.Header) {
	i := p.image
	if !i.seen || !p.owns(i) {
		return
	}
	if i.exec != nil {
		c.above.dropExec(i.exec)
	}
	if a := p.agent; p.role == roleAgent && a.first == i.id && h.ExecID < i.id.ExecID {
		// It is not the agent yet.
		if p.role = roleNone; a.outer.agent != nil && a.outer.call == nil {
			p.role = roleUnclear
		}
		c.attribution.belong(&p.aProcess, a.outer)
	}
	p.image = &image{id: imageOf(h), start: p.start, unknown: true, whose: p.whose()}
}

// beside gives the group of a process that is outside of all sandboxes' cgroups as its parent's child.
func (c *lineage) beside(parent *process, cgroup uint64) *group {
	if parent.group.id == cgroup {
		return parent.group
	}
	if parent.sandbox.found {
		return newGroup(cgroup, "", parent.sandbox)
	}
	return newGroup(cgroup, "", nil)
}

func (c *lineage) exec(h *record.Header, r *record.Exec) {
	args := c.arguments.take(h, r, c.config.MaxArgsBytes)
	c.path = appendResolved(c.path[:0], r.Exe, execMarks(h.Flags))
	shown := c.names.intern(c.path)
	program := agents.Program{
		Executable: plain(shown, h.Flags&record.ExecUnlinked != 0), Owner: r.ExeUID, Args: args.bytes, Unproven: unproven(h.Flags),
	}
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		g := c.groups[h.Cgroup]
		var sb *sandbox
		var parent *process
		if g != nil {
			sb = g.sandbox
		} else if c.processes[h.Tgid] == nil {
			if parent = c.processes[r.ParentTgid]; parent != nil && parent.start == r.ParentStart {
				// Outside of the sandbox's cgroups, and its fork was lost.
				g, sb = c.beside(parent, h.Cgroup), parent.sandbox
			} else if parent, g = nil, c.found(h, program); g != nil {
				sb = g.sandbox
			}
		}
		if g == nil || c.processes[h.Tgid] != nil {
			c.losses.ignore(h)
			return
		}
		p = c.admit(h.Tgid, h.Start, sb, g, &image{id: span.Image{Tgid: h.Tgid, Start: h.Start}})
		if parent != nil {
			// Whom it was below when it was forked is not known for sure.
			p.role, p.parentTgid, p.parentStart = roleUnread, r.ParentTgid, r.ParentStart
		}
	}
	p.sandbox.active.touch(p)
	c.follow(p, h)
	// A look may have told of the program already: what that saw stays unproven, as the process may have named another
	// file since.
	look := p.image
	same := look.seen && p.owns(look) && look.id.ExecID == h.ExecID
	renamed := same && look.unproven
	program.Unproven = program.Unproven || renamed
	if same && look.exec == nil { // and its span has gone out
		look.env, look.envRead, look.uid = c.environ.environment(r.Env, look.env), true, r.UID
		c.settle(&p.aProcess)
		return
	}
	if h.ExecID <= look.id.ExecID {
		c.unsee(p, h)
	}
	c.settle(&p.aProcess)
	if h.ExecID > p.image.id.ExecID+1 {
		p.lostExec()
		p.count()
	}
	before := p.image
	if before.span == (span.ID{}) {
		// Its fork was lost, or it came from outside: the parent may be known all the same.
		if parent := c.processes[r.ParentTgid]; parent != nil && parent != p && parent.start == r.ParentStart && parent.sandbox == p.sandbox {
			before = parent.image
		}
	}
	env := c.environ.environment(r.Env, before.env)
	denied := c.attribution.attribute(&p.aProcess, &programStart{
		Program: program, file: FileID{r.Dev, r.Inode},
		env: env, before: before.environment, leader: h.Flags&record.ExecSessionLeader != 0,
		id: imageOf(h), uid: r.UID,
	})
	x := &execStart{
		process:     p,
		group:       p.group,
		parent:      before.span,
		parentTrace: before.trace,
		args:        args.bytes,
		argc:        r.Argc,
		truncated:   args.truncated || h.Flags&record.ExecArgsMissing != 0,
		ppid:        r.ParentTgid,
		uid:         r.UID,
		euid:        r.EUID,
		egid:        r.EGID,
		flags:       h.Flags,
		filename:    string(r.Filename),
		credentials: true,
	}
	if denied != (claims{}) {
		x.denied = &denied
	}
	x.callRoot = p.call != nil && p.call != before.whose.call
	c.newImage(p, x, h, shown, before.shown)
	p.image.unproven = p.image.unproven || renamed
	p.image.env, p.image.envRead, p.image.uid, p.image.exeUID, p.image.file = env, true, r.UID, r.ExeUID, FileID{r.Dev, r.Inode}
	p.image.peakBefore = r.PeakRSS
	p.vpid = r.Vpid
	x.vpid = r.Vpid
	c.path = appendDirectory(c.path[:0], r.Cwd, h.Flags)
	x.cwd = c.names.intern(c.path)
	c.above.holdExec(x)
}

// newImage gives the process a program, and a place in a trace for its span.
func (c *lineage) newImage(p *process, x *execStart, h *record.Header, shown, parent string) {
	i := &image{
		id:         imageOf(h),
		executable: plain(shown, h.Flags&record.ExecUnlinked != 0),
		shown:      shown,
		unproven:   unproven(h.Flags),
		parent:     parent,
		start:      h.Time,
		exec:       x,
	}
	i.name = path.Base(i.executable)
	i.span = span.ExecSpan(c.config.BootID, i.id)
	i.whose = p.whose()
	c.replaceImage(p, h.Time, i)
	i.trace = c.above.place(&p.sandbox.aSandbox, i.whose)
	x.image = i
}

func (c *lineage) exit(h *record.Header, r *record.Exit) {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		c.losses.ignore(h)
		return
	}
	c.end(p, h.Time, ending{exit: r})
}

// existing handles a process that is older than the sensor.
func (c *lineage) existing(h *record.Header, r *record.Process) {
	p := c.find(h.Tgid, h.Start)
	if p == nil {
		g := c.groups[h.Cgroup]
		if g == nil && c.processes[h.Tgid] == nil {
			g = c.foundExisting(h, r)
		}
		if g == nil || c.processes[h.Tgid] != nil {
			c.stats.Ignored++
			return
		}
		p = c.admit(h.Tgid, h.Start, g.sandbox, g, &image{id: imageOf(h), start: h.Start, unknown: true})
		p.looked = true
	} else if p.image.span != (span.ID{}) || p.image.outside {
		return // known from its own records
	}
	p.vpid = r.Vpid
	if p.role == roleNone && p.agent == nil {
		p.role, p.parentTgid, p.parentStart = roleUnread, r.ParentTgid, r.ParentStart
	}
	if len(r.Exe) == 0 {
		return // no memory of its own any more, only threads or a parent that has not waited
	}
	c.path = appendResolved(c.path[:0], r.Exe, execMarks(h.Flags))
	x := &execStart{
		process:     p,
		group:       p.group,
		ppid:        r.ParentTgid,
		parentStart: r.ParentStart,
		preexisting: true,
		uid:         r.UID,
		vpid:        r.Vpid,
		flags:       h.Flags,
	}
	c.newImage(p, x, h, c.names.intern(c.path), "")
	x.image.start, x.image.exeUID, x.image.file, x.image.seen = h.Start, r.ExeUID, FileID{r.Dev, r.Inode}, true
	c.findParent(x)
	x.image.span = span.SeenSpan(c.config.BootID, x.image.id, h.Time)
	c.path = appendDirectory(c.path[:0], r.Cwd, h.Flags)
	x.cwd = c.names.intern(c.path)
	c.above.holdExec(x)
	if c.foundArgs.id == x.image.id {
		c.addArgs(p, &c.foundArgs)
	}
}

// cmdline adds argv to a process that existing told of just before, or is going to tell of.
func (c *lineage) cmdline(h *record.Header, r *record.Cmdline) {
	said := foundArgs{id: imageOf(h), args: string(r.Args[:min(len(r.Args), c.config.MaxArgsBytes)]), argc: r.Argc}
	said.truncated = len(said.args) < len(r.Args) || len(r.Args) >= record.MaxCmdline
	p := c.processes[h.Tgid]
	if p == nil {
		c.foundArgs = said
	} else if p.image.id == said.id {
		c.addArgs(p, &said)
	}
}

func (c *lineage) addArgs(p *process, said *foundArgs) {
	x := p.image.exec
	if x == nil || !x.preexisting || x.args != "" {
		return
	}
	x.args, x.argc, x.truncated = said.args, said.argc, said.truncated
	// The bytes it holds have changed: hold again, with the old deadline's place given up.
	c.above.dropExec(x)
	c.above.holdExec(x)
}

// An execStart is what is known of the start of a program, until its process.exec span goes out.
type execStart struct {
	span    any // of package spans, while that is held
	process *process
	image   *image
	group   *group // where the exec was

	parent      span.ID
	parentTrace span.TraceID

	args        string // "arg\0arg\0"
	argc        uint32 // true count
	truncated   bool   // bytes of args are missing
	cwd         string
	filename    string // what execve was asked to run
	ppid        uint32
	parentStart uint64 // only when preexisting
	vpid        uint32
	uid         uint32
	euid, egid  uint32 // only with credentials
	credentials bool
	preexisting bool // found by a look at the existing processes
	flags       uint16
	callRoot    bool    // the first program of its call
	denied      *claims // of its environment, that contradict lineage
}

// findParent looks for the parent of a process that is older than the sensor. Parents
// may be told of after their children, so it is asked again when the span goes out.
func (c *lineage) findParent(x *execStart) {
	if x.parent != (span.ID{}) || !x.preexisting {
		return
	}
	parent := c.processes[x.ppid]
	if parent == nil || parent == x.process || parent.start != x.parentStart || parent.sandbox != x.process.sandbox ||
		parent.image.start > x.image.start {
		return
	}
	x.parent, x.parentTrace = parent.image.span, parent.image.trace
	x.image.parent = parent.image.shown
}
