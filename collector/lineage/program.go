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

// A Program is a program that a process runs. Forked children share their parent's until they exec. It
// names what it came from by value, so that a chain of execs holds no memory.
type Program struct {
	ID         span.Image
	Span       span.ID // its process.exec span; zero when the program is not known
	Trace      span.TraceID
	StandIn    span.Link // what stood for it last, in another trace than its own
	Below      int       // spans that were placed under it, or lead to it: it stays where it is then
	Weight     int       // of package spans; 0: not known yet
	executable string    // without the mark of a file that has no name any more; "" when not known
	Shown      string    // as /proc shows it
	unproven   bool      // no pin holds for it
	seen       bool      // a look has reported it; the record of its exec, and of others before, may wait in the ring
	Name       string
	Cwd        string // at the exec, or of a process older than the sensor; "" when not known
	Parent     string // executable of the image before, as /proc shows it
	Start      uint64 // boottime of the exec; of the process when it is older than the sensor
	Unknown    bool   // its fork or exec was lost
	outside    bool   // what a process was forked with from outside into the sandbox
	Noise      uint64 // noise opens not yet told
	Missing    uint64 // looks for files that are not there, not yet told
	NoConnects uint64 // connects to a name service that is not there, not yet told
	Workers    Workers
	// ExecsMissing are execs of files that are not there, not yet told.
	ExecsMissing uint64
	Ended        bool
	Exec         *ExecStart // while its process.exec span is held
	Owner        attribution.Owner
	Known        string // of notable: what it is by its file and by who started it; "": nothing of that kind
	wraps        wrapping
	Pending      any // what package spans keeps of what it changes; nil: nothing

	attribution.Environment
	User   span.User // effective, at the exec
	uid    uint32    // real; only with EnvRead
	exeUID uint32
	file   config.FileID // of the executable

	PeakBefore uint32 // pages; of what the process ran before it
}

// Workers are processes that were forked, have run nothing but their parent's program, and have ended.
type Workers struct {
	Ended, Failed uint64 // not yet told; of these, not with exit code 0
	Window        uint64 // of package spans: Told counts in it
	Told          int
}

// Exec gives a process another program, and has attribution decide whose it is from now on.
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
		p = c.admit(h.Tgid, h.Start, sb, g, &Program{ID: span.Image{Tgid: h.Tgid, Start: h.Start}})
		p.given, sb.asked = sb.asked, false
		if parent != nil {
			// Whom it was below when it was forked is not known for sure.
			p.Role, p.ParentTgid, p.ParentStart = attribution.RoleUnread, r.ParentTgid, r.ParentStart
		}
	}
	p.Sandbox.Active.touch(p)
	c.follow(p, h)
	// A look may have reported the program already: what that saw stays unproven, as the process may have named another
	// file since.
	look := p.Program
	same := look.seen && p.Owns(look) && look.ID.ExecID == h.ExecID
	renamed := same && look.unproven
	program.Unproven = program.Unproven || renamed
	if same && (look.Exec == nil || look.Exec.Noticed) { // and its span, or the notice of it, has gone out
		look.Env, look.EnvRead, look.uid = c.environ.Environment(r.Env, look.Env), true, r.UID
		c.Resolve(&p.Process)
		return
	}
	if p.Owns(look) && look.ID.ExecID == h.ExecID && look.Span != (span.ID{}) && !look.seen {
		return // reported twice: by the hooks of two versions, in an upgrade
	}
	if h.ExecID <= look.ID.ExecID {
		c.forgetSeen(p, h)
	}
	c.Resolve(&p.Process)
	if h.ExecID > p.Program.ID.ExecID+1 {
		p.LostExec()
	}
	before := p.Program
	if before.Span == (span.ID{}) {
		// Its fork was lost, or it came from outside: the parent may be known all the same.
		if parent := c.Processes[r.ParentTgid]; parent != nil && parent != p && parent.Start == r.ParentStart && parent.Sandbox == p.Sandbox {
			before = parent.Program
		}
	}
	leader := h.Flags&record.ExecSessionLeader != 0
	if p.Sandbox.unknown {
		c.looksUnknown(p, program, leader)
	}
	env := c.environ.Environment(r.Env, before.Env)
	denied := c.Attribution.Attribute(&p.Process, &attribution.ProgramStart{
		Program: program, File: config.FileID{Dev: r.Dev, Inode: r.Inode},
		Env: env, Before: before.Environment, Leader: leader,
		ID: imageOf(h), Uid: r.UID, At: h.Time,
	})
	x := &ExecStart{
		Process:     p,
		Cgroup:      p.Cgroup,
		Args:        args.bytes,
		Argc:        r.Argc,
		ArgsBytes:   r.ArgsSize,
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
	c.Path = paths.AppendDirectory(c.Path[:0], r.Cwd, h.Flags)
	x.Cwd = c.Names.Intern(c.Path)
	c.newProgram(p, x, h, shown, before)
	p.Program.unproven = p.Program.unproven || renamed
	p.Program.Env, p.Program.EnvRead, p.Program.uid, p.Program.exeUID, p.Program.file = env, true, r.UID, r.ExeUID, config.FileID{Dev: r.Dev, Inode: r.Inode}
	p.Program.Known = c.knownAs(x, before, h, r)
	p.Program.PeakBefore = r.PeakRSS
	p.Program.User = span.User{Known: true, ID: r.EUID}
	p.vpid = r.Vpid
	x.Vpid = r.Vpid
	c.Above.HoldExec(x, h.Time)
}

// newProgram gives the process a program, and a place in a trace for its span. before is what started it, or nil.
func (c *Tree) newProgram(p *Process, x *ExecStart, h *record.Header, shown string, before *Program) {
	i := &Program{
		ID:         imageOf(h),
		executable: paths.Plain(shown, h.Flags&record.ExecUnlinked != 0),
		Shown:      shown,
		Cwd:        x.Cwd,
		unproven:   paths.Unproven(h.Flags),
		Start:      h.Time,
		Exec:       x,
	}
	i.Name = path.Base(i.executable)
	if before != nil {
		i.Parent = before.Shown
	}
	i.Span = span.ExecSpan(c.Config.BootID, i.ID)
	i.Owner = p.Owner()
	c.replaceProgram(p, h.Time, i)
	x.Program = i
	c.Above.PlaceProgram(x, before)
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
		p = c.admit(h.Tgid, h.Start, g.Sandbox, g, &Program{ID: imageOf(h), Start: h.Start, Unknown: true})
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
	shown := c.Names.Intern(c.Path)
	c.Path = paths.AppendDirectory(c.Path[:0], r.Cwd, h.Flags)
	x.Cwd = c.Names.Intern(c.Path)
	c.newProgram(p, x, h, shown, nil)
	x.Program.Start, x.Program.exeUID, x.Program.file, x.Program.seen = h.Start, r.ExeUID, config.FileID{Dev: r.Dev, Inode: r.Inode}, true
	c.FindParent(x)
	x.Program.Span = span.SeenSpan(c.Config.BootID, x.Program.ID, h.Time)
	c.Above.HoldExec(x, h.Time)
	if c.foundArgs.id == x.Program.ID {
		c.addArgs(p, &c.foundArgs)
	}
}

// Cmdline adds argv to a process that existing reported just before, or is going to tell of.
func (c *Tree) Cmdline(h *record.Header, r *record.Cmdline) {
	said := foundArgs{id: imageOf(h), args: string(r.Args[:min(len(r.Args), c.Config.MaxArgsBytes)]), argc: r.Argc}
	said.truncated = len(said.args) < len(r.Args) || len(r.Args) >= record.MaxCmdline
	p := c.Processes[h.Tgid]
	if p == nil {
		c.foundArgs = said
	} else if p.Program.ID == said.id {
		c.addArgs(p, &said)
	}
}

func (c *Tree) addArgs(p *Process, said *foundArgs) {
	x := p.Program.Exec
	if x == nil || !x.Preexisting || x.Noticed || x.Args != "" {
		return
	}
	x.Args, x.Argc, x.Truncated, x.ArgsBytes = said.args, said.argc, said.truncated, uint32(len(said.args))
	// The bytes it holds have changed: hold again, with the old deadline's place given up.
	c.Above.DropExec(x)
	c.Above.HoldExec(x, c.Clock.Now)
}

// An ExecStart is what is known of the start of a program, until its process.exec span goes out.
type ExecStart struct {
	Span    any  // of package spans, while that is held
	Noticed bool // package spans has sent a notice of it
	Process *Process
	Program *Program
	Cgroup  *Cgroup // where the exec was

	Parent span.Link
	below  *Program // only when preexisting: of its parent; nil: not known
	Above  span.ID  // the span of the program that Parent stands for
	Top    span.ID  // what stands for its call in its trace

	Args        string // "arg\0arg\0"
	Argc        uint32 // true count
	ArgsBytes   uint32 // true length of all, each with its NUL
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
// may be reported after their children, and turn out to be an agent's after that, so it is asked again when the span goes
// out.
func (c *Tree) FindParent(x *ExecStart) {
	if !x.Preexisting {
		return
	}
	if x.below == nil {
		parent := c.Processes[x.Ppid]
		if parent == nil || parent == x.Process || parent.Start != x.parentStart || parent.Sandbox != x.Process.Sandbox ||
			parent.Program.Start > x.Program.Start {
			return
		}
		x.below = parent.Program
		x.Program.Parent, x.Program.Weight = parent.Program.Shown, 0
	}
	x.Parent, x.Above = span.Link{Trace: x.below.Trace, Span: x.below.Span}, x.below.Span
}
