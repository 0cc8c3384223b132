// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"container/list"
	"maps"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// An agent is one running agent: the process whose program speaks a dialect, and its workers: what it starts directly
// of the same file. What helpers of the agent start is another agent, whatever it is called. A harness that names calls
// by markers for processes below no agent is one without a dialect.
type agent struct {
	Name      string
	dialect   *agents.Dialect // nil: a harness
	Sandbox   *Sandbox
	Session   *Session
	OwnID     string // the agent's own id; "" while not known
	Traces    Traces // of what it does outside of calls
	Story     Traces
	Told      agentTold
	uid       uint32
	Container *Container // where it was started; nil: in no container
	First     span.Image // its first process
	program   agentProgram
	Outer     Owner // where it was started; an agent in it is this one's parent
	root      Owner // the outermost of these; an agent in it is no other one's child

	open    []*Call // by markers for whatever it starts next
	inside  []*Call // by markers, that work in its own process or in an MCP server
	helpers []*helper
	kept    kept    // files of its own
	names   bool    // it has named a call
	started bool    // it has started a program that is not its worker
	base    *Claims // of its first child, when its own environment is not known
	// setsCommands: it has introduced a variable of commands. passesHelpers: all of its children so far had a variable of
	// helpers, when its own environment is not known.
	setsCommands, passesHelpers bool
	users                       int  // processes that belong to it, and nested agents
	depth                       int  // agents around it
	free                        int  // of these processes those outside of calls, as is known: while there is one, the session is in use
	left                        bool // another agent has resumed its session

	threads list.List // of *Thread, the one that was not used for longest first
	serves  bool      // its process may serve several sessions at once
	several bool      // and does: each is a thread, and Session stands for what may be of any
	taint   *Taint
}

// pinned is true of an agent that is known by more than its name.
func (a *agent) pinned() bool {
	return a.dialect != nil && (a.dialect.Owner != nil || len(a.dialect.Path) > 0)
}

// Owner says to whom the doings of a process belong at a moment. Without an agent: to the sandbox.
type Owner struct {
	Agent     *agent
	Call      *Call
	Ambiguous bool // one of several open calls, and which is not known
	Left      bool // the call was over: something that it has left running does this
	Taint     *Taint
}

// role is what a process is to its agent.
type role uint8

const (
	RoleNone    role = iota // in a call, a helper of the agent, or below none
	RoleAgent               // runs the agent
	roleFork                // forked by the agent, and still runs its program
	roleHook                // a shell that may be about to run a hook: pendingHook
	RoleUnread              // older than the sensor; what it is was not asked yet
	RoleUnclear             // below an agent, and perhaps of a call: older than the sensor, or its exec was lost
)

// Owner gives the owner of what p does now.
func (p *Process) Owner() Owner {
	w := Owner{Agent: p.Agent, Call: p.Call, Ambiguous: p.ambiguous, Left: p.Call != nil && p.Call.Life.Left}
	if len(p.Marks.Open) > 0 {
		w = p.Marks.Owner()
	} else if m := &p.In.Marks; p.Call == nil && p.Agent == nil && len(m.Open) > 0 {
		w = m.Owner()
	} else if p.helper != nil && len(p.helper.calls) > 0 {
		w = p.helper.owner()
	}
	w.Taint = p.tainted()
	return w
}

// SessionOf gives the session that spans go to. A call stays in the one that it began in.
func (sb *Sandbox) SessionOf(w Owner) *Session {
	switch {
	case w.Call != nil:
		return w.Call.Session
	case w.Agent != nil:
		return w.Agent.Session
	}
	return sb.Session
}

// TracesOf gives the traces that spans go to.
func (sb *Sandbox) TracesOf(w Owner) *Traces {
	switch {
	case w.Call != nil:
		return &w.Call.Traces
	case w.Agent != nil:
		return &w.Agent.Traces
	}
	return &sb.Traces
}

// Within says in what w was started: a call that a process of another call began, or an agent below another one.
func (w Owner) Within() Owner {
	switch {
	case w.Call != nil && w.Call.Outer != nil:
		return Owner{Agent: w.Agent, Call: w.Call.Outer}
	case w.Agent != nil:
		return w.Agent.Outer
	}
	return Owner{}
}

// Outermost follows within to its end; w itself where it was started in nothing.
func (w Owner) Outermost() Owner {
	switch {
	case w.Agent != nil && w.Agent.Outer.Agent != nil:
		return w.Agent.root
	case w.Call != nil && w.Call.root != nil:
		return Owner{Agent: w.Agent, Call: w.Call.root}
	}
	return Owner{Agent: w.Agent, Call: w.Call}
}

// Count keeps up with whether p has its agent's session in use: a process does that is outside of calls, and not
// perhaps of one.
func (p *Process) Count() {
	free := p.Agent != nil && p.Call == nil && !p.ambiguous && p.Role != RoleUnclear
	if free == p.free {
		return
	}
	if p.free = free; free {
		p.Agent.free++
	} else {
		p.Agent.free--
	}
}

// startedInCall is true of what a call of another agent has started, at any depth: a call that a harness or a pod names
// may be an agent's whole work.
func (w Owner) startedInCall() bool {
	for w = w.Within(); w.Agent != nil; w = w.Within() {
		if w.Call != nil && w.Agent.dialect != nil {
			return true
		}
	}
	return false
}

// Belong makes a process w's, for its descendants too.
func (c *Table) Belong(p *Process, w Owner) {
	was := Owner{Agent: p.Agent, Call: p.Call, Ambiguous: p.ambiguous}
	if w.Agent != nil {
		w.Agent.users++
	}
	if w.Call != nil {
		w.Call.enter()
	}
	if p.free {
		p.free = false
		p.Agent.free--
	}
	p.leaveHelper()
	p.Agent, p.Call, p.ambiguous = w.Agent, w.Call, w.Ambiguous
	p.Count()
	if k := p.command; k != nil && w.Agent == nil {
		p.command = nil
		k.commandOver()
	}
	if was.Call != nil {
		c.leave(was.Call)
	}
	if was.Agent != nil {
		c.ReleaseAgent(was.Agent)
	}
}

// Inherit gives a forked child what its parent has.
func (c *Table) Inherit(parent, child *Process) {
	child.ParentTgid, child.ParentStart = parent.Tgid, parent.Start
	child.taint = parent.tainted()
	w := parent.Owner()
	if w.Agent == nil {
		return
	}
	c.Belong(child, w)
	child.hookShell = parent.hookShell
	// Where marks on the parent are of another agent, as one that it named itself, the child is that one's.
	if w.Call != nil || w.Agent != parent.Agent {
		return
	}
	if parent.helper != nil && !w.Ambiguous {
		parent.helper.add(child)
	}
	switch parent.Role {
	case RoleAgent, roleFork:
		child.Role = roleFork
	case RoleUnclear:
		child.Role = RoleUnclear
		child.Count()
	case roleHook:
		c.inheritHook(parent, child)
	}
}

// An agentProgram tells an agent's own program from another one of its name: by the file, and by the script where
// that is an interpreter's.
type agentProgram struct {
	file   config.FileID
	script string
}

// ProgramOf gives the identity of a program that a dialect recognises.
func ProgramOf(file config.FileID, p agents.Program) agentProgram {
	return agentProgram{file, p.Script()}
}

// MayWork says whether a program of the agent's dialect, which the agent itself or a direct fork of it starts, is the
// agent's worker: its own program. A script that has done nothing yet may be the launcher of the program proper,
// which takes its place: node that starts the agent's native program, or another script of the dialect.
func (a *agent) MayWork(d *agents.Dialect, x agentProgram) bool {
	if a.dialect != d {
		return false
	}
	if a.program.script != "" && !a.started && a.OwnID == "" && !a.names && len(a.open)+len(a.inside) == 0 {
		a.program = x
	}
	return a.program == x
}

// BecomeAgent makes an agent of a process whose program speaks a dialect. Where it was started below another one, it
// has a parent.
func (c *Table) BecomeAgent(p *Process, d *agents.Dialect, first span.Image, uid uint32, program agentProgram, args string) {
	p.Role = RoleAgent
	outer := p.Owner() // by a marker, too: one open on its cgroup holds for what was there before
	outer = Owner{Agent: outer.Agent, Call: outer.Call}
	a := c.newAgent(p.Home, d.Name, span.AgentInstance(c.config.BootID, first), outer, first)
	a.dialect, a.uid, a.Container, a.program, a.taint = d, uid, p.In.Container, program, p.tainted()
	a.serves = d.Serving(args)
	c.Belong(p, Owner{Agent: a})
	c.Above.AgentBegan(Owner{Agent: a})
}

// User is who ran the agent's first program: the real user id, as the host counts it.
func (a *agent) User() uint32 { return a.uid }

// maxUnknown bounds the names of agents that no dialect knows.
const maxUnknown = 64

// Adopt makes an agent of a process that no dialect knows, and of child, which it has forked, a direct child of that, if
// what child runs can be a tool call's. Both are no agent's.
func (c *Table) Adopt(p, child *Process, name string, x agents.Program, first span.Image, uid uint32, file config.FileID) bool {
	d := c.unknown[name]
	if d == nil {
		if len(c.unknown) >= maxUnknown {
			name = "unknown" // all further ones
		}
		if d = c.unknown[name]; d == nil {
			d = agents.UnknownDialect(name)
		}
	}
	if !d.StartsCommand(x) {
		return false
	}
	c.unknown[name] = d
	c.BecomeAgent(p, d, first, uid, agentProgram{file: file}, "")
	c.Belong(child, Owner{Agent: p.Agent})
	child.Role = roleFork
	return true
}

// maxNested bounds how deep agents nest: each keeps those around it, and a process can start one in its own place again
// and again. Beyond it the parent is the outermost agent.
const maxNested = 64

func (c *Table) newAgent(sb *Sandbox, name, instance string, outer Owner, first span.Image) *agent {
	if outer.Agent != nil && outer.Agent.depth >= maxNested {
		outer = outer.Outermost()
	}
	a := &agent{Name: name, Sandbox: sb, First: first, Outer: outer, root: outer.Outermost(), Container: sb.Container}
	if outer.Agent == nil {
		a.Session = c.Sessions.Acquire(sb.Session.SessionName, sb.Holder())
	} else {
		a.Session = c.Sessions.Acquire(instance, a.holder())
		a.depth = outer.Agent.depth + 1
		outer.Agent.users++
		if outer.Call != nil {
			outer.Call.enter()
		}
	}
	c.Slicer.open(&a.Traces, traceKey{instance: instance})
	c.Slicer.open(&a.Story, traceKey{instance: instance, story: true})
	sb.Agents = append(sb.Agents, a)
	c.stats.Agents++
	return a
}

// ReleaseAgent counts a user less; with the last one the agent is over.
func (c *Table) ReleaseAgent(a *agent) {
	a.users--
	if a.users > 0 {
		return
	}
	c.stats.Agents--
	for _, list := range []*[]*Call{&a.open, &a.inside} {
		for len(*list) > 0 {
			c.Marks.CloseMark((*list)[0])
		}
	}
	c.unname(a)
	c.forgetThreads(a)
	c.Above.AgentOver(Owner{Agent: a})
	c.Slicer.close(&a.Traces)
	c.Slicer.close(&a.Story)
	if i := slices.Index(a.Sandbox.Agents, a); i >= 0 {
		a.Sandbox.Agents = slices.Delete(a.Sandbox.Agents, i, i+1)
	}
	if a.left {
		a.Session.Left--
	}
	if !a.Session.claimed && a.Outer.Agent != nil {
		a.Session.of = a.holder()
	}
	c.Sessions.Release(a.Session)
	if a.Outer.Call != nil {
		c.leave(a.Outer.Call)
	}
	if a.Outer.Agent != nil {
		c.ReleaseAgent(a.Outer.Agent)
	}
}

// holder is whose an agent's session is.
func (a *agent) holder() Holder {
	h := Holder{place: a.Sandbox.place(), uid: a.uid}
	if a.dialect != nil {
		h.dialect = a.dialect.Name
	}
	return h
}

// agentOf gives a user's agent that has this session id.
func (c *Table) agentOf(session string, uid uint32) *agent {
	for _, a := range c.Agents[session] {
		if a.uid == uid {
			return a
		}
	}
	return nil
}

// unname takes an agent's session id from it, in the table.
func (c *Table) unname(a *agent) {
	list := c.Agents[a.OwnID]
	i := slices.Index(list, a)
	switch {
	case i < 0:
	case len(list) == 1:
		delete(c.Agents, a.OwnID)
	default:
		c.Agents[a.OwnID] = slices.Delete(list, i, i+1)
	}
}

// mayHave says whether an agent may take a session for its own. Nobody may have one that is in use by his user or
// configured; one within another agent, which may be anything that was started there, none that ever was another's.
// What such a one has claimed before is given back to an agent that nobody started in a call.
func (c *Table) mayHave(a *agent, session string) bool {
	holder := c.agentOf(session, a.uid)
	resumes := holder != nil && a.resumes(holder)
	if session == a.Session.SessionName {
		return holder == nil || resumes
	}
	if strings.Contains(session, ofUser) {
		return false
	}
	nested := a.Outer.Agent != nil
	for i := range c.config.Sandboxes {
		if c.config.Sandboxes[i].Session == session {
			return false
		}
	}
	if !nested {
		c.DisplaceNested(session)
	}
	if resumes {
		return true
	}
	name := c.Sessions.nameFor(session, a.uid)
	if c.agentOf(session, a.uid) != nil || c.Sessions.taken(name) || c.Sessions.another(name, a.holder()) {
		return false
	}
	return !nested || c.Sessions.BySession[session] == nil
}

// resumes says whether an agent may go on with the session that another one has: that is over but for what its calls
// have left running, and was of the same kind, user and place.
func (a *agent) resumes(b *agent) bool {
	return a != b && b.free == 0 && a.Outer.Agent == nil && b.Outer.Agent == nil &&
		a.dialect != nil && a.holder() == b.holder()
}

// place is what sessions are not taken out of: the sandbox, or the host outside of all sandboxes, where each agent that
// is found is one of its own.
func (sb *Sandbox) place() string {
	if sb.Found {
		return ""
	}
	return sb.ID
}

// Holder is whose the session of a sandbox itself is.
func (sb *Sandbox) Holder() Holder { return Holder{place: sb.place()} }

// DisplaceNested gives a session free that nested agents claimed.
func (c *Table) DisplaceNested(session string) {
	for _, b := range slices.Clone(c.Agents[session]) {
		if b.Outer.Agent != nil {
			c.displace(b)
		}
	}
	for _, t := range slices.Clone(c.threads[session]) {
		if t.agent.Outer.Agent != nil {
			c.displaceThread(t)
		}
	}
}

// displace takes from a nested agent a session that it claimed.
func (c *Table) displace(b *agent) {
	c.stats.RefusedSessions++
	c.unname(b)
	b.OwnID = ""
	was := b.Session
	c.SetSession(b, c.Sessions.Acquire(b.Traces.Instance(), b.holder()))
	for _, k := range c.Calls {
		if k.Agent == b && k.Session == was {
			k.Session = b.Session
		}
	}
}

// hints gives what users can do to get real call ids, a line for each kind of agent
// whose calls were inferred so far.
func (c *Table) hints() []string {
	var lines []string
	for i := range c.config.Agents {
		if d := &c.config.Agents[i]; c.inferred[d.Name] && d.Note != "" {
			lines = append(lines, d.Note)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.unknown)) {
		lines = append(lines, c.unknown[name].Note)
	}
	return lines
}

// LostExec is told when the record of a program that p ran was lost: it may have been the first program of a call, or a
// helper.
func (p *Process) LostExec() {
	if p.Hook != nil {
		p.Hook.Remove(p)
	}
	if p.Role == RoleAgent || p.Role == roleFork || p.Role == roleHook {
		p.Role = RoleUnclear
	}
	p.runsHook, p.hookShell = false, false
	p.Count()
}
