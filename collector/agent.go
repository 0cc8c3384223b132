// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// An agent is one running agent: the process whose program speaks a dialect, and its workers: what it starts
// directly of the same file. What helpers of the agent start is another agent, whatever it is called. A harness that names calls by markers
// for processes below no agent is one without a dialect.
type agent struct {
	name    string
	dialect *agents.Dialect // nil: a harness
	sandbox *aSandbox
	owner   *owner
	session string // the agent's own id; "" while not known
	uid     uint32
	box     *aBox      // where it was started; nil: in no container
	first   span.Image // its first process
	program agentProgram
	outer   whose // where it was started; an agent in it is this one's parent
	root    whose // the outermost of these; an agent in it is no other one's child

	open    []*call // by markers for whatever it starts next
	names   bool    // it has named a call
	started bool    // it has started a program that is not its worker
	base    *claims // of its first child, when its own environment is not known
	users   int     // processes that belong to it, and nested agents
	depth   int     // agents around it
	free    int     // of these processes those outside of calls, as is known: while there is one, the session is in use
	left    bool    // another agent has resumed its session
}

// pinned is true of an agent that is known by more than its name.
func (a *agent) pinned() bool {
	return a.dialect != nil && (a.dialect.Owner != nil || len(a.dialect.Path) > 0)
}

// whose says to whom the doings of a process belong at a moment. Without an agent: to the sandbox.
type whose struct {
	agent     *agent
	call      *call
	ambiguous bool // one of several open calls, and which is not known
}

// role is what a process is to its agent.
type role uint8

const (
	roleNone    role = iota // in a call, a helper of the agent, or below none
	roleAgent               // runs the agent
	roleFork                // forked by the agent, and still runs its program
	roleHook                // a shell that may be about to run a hook: maybeHook
	roleUnread              // older than the sensor; what it is was not asked yet
	roleUnclear             // below an agent, and perhaps of a call: older than the sensor, or its exec was lost
)

// An aProcess is what attribution knows of a process.
type aProcess struct {
	tgid  uint32
	start uint64  // boottime
	in    *aGroup // where it is now
	home  *aSandbox

	role        role
	ambiguous   bool
	agent       *agent
	call        *call
	free        bool // counted in agent.free
	marks       openCalls
	hook        *maybeHook // with roleHook
	runsHook    bool       // its program is sheetbend hook, started by its agent or by a hookShell
	hookShell   bool       // its program is a shell that its agent started for a hook alone, or it is a fork of one
	likeCommand bool       // it is a hook, but the agent starts the commands of calls alike
	parentTgid  uint32     // who forked it; 0: not known
	parentStart uint64
}

// An aGroup is what attribution knows of a cgroup.
type aGroup struct {
	id    uint64
	home  *aSandbox // nil: outside every sandbox
	box   *aBox     // nil: in no container
	marks openCalls
}

// An aBox is a container.
type aBox struct {
	id      string
	state   boxState
	info    record.Container // with boxKnown
	pending any              // what package spans keeps of it; nil: nothing
}

// boxState says what is known of a container.
type boxState uint8

const (
	boxWaiting    boxState = iota // nothing yet
	boxKnown                      // the runtime has told
	boxUnresolved                 // nothing, and spans do not wait for it any more
)

// An aSandbox is what attribution knows of a sandbox.
type aSandbox struct {
	id    string
	agent string
	found bool // by its program: it has no directory
	fixed bool // the session is configured
	owner *owner
	box   *aBox // that its topmost directory is, or lies in

	agents    []*agent // live
	harnesses []*agent // that name calls in it by markers
	ended     int      // calls that are kept
}

// whose gives the owner of what p does now.
func (p *aProcess) whose() whose {
	if len(p.marks.open) > 0 {
		return p.marks.whose()
	}
	if m := &p.in.marks; p.call == nil && p.agent == nil && len(m.open) > 0 {
		return m.whose()
	}
	return whose{agent: p.agent, call: p.call, ambiguous: p.ambiguous}
}

// ownerOf gives the session that spans go to. A call stays in the one that it began in.
func (sb *aSandbox) ownerOf(w whose) *owner {
	switch {
	case w.call != nil:
		return w.call.owner
	case w.agent != nil:
		return w.agent.owner
	}
	return sb.owner
}

// within says in what w was started: a call that a process of another call began, or an agent below another one.
func (w whose) within() whose {
	switch {
	case w.call != nil && w.call.outer != nil:
		return whose{agent: w.agent, call: w.call.outer}
	case w.agent != nil:
		return w.agent.outer
	}
	return whose{}
}

// outermost follows within to its end; w itself where it was started in nothing.
func (w whose) outermost() whose {
	switch {
	case w.agent != nil && w.agent.outer.agent != nil:
		return w.agent.root
	case w.call != nil && w.call.root != nil:
		return whose{agent: w.agent, call: w.call.root}
	}
	return whose{agent: w.agent, call: w.call}
}

// count keeps up with whether p has its agent's session in use: a process does that is outside of calls, and not
// perhaps of one.
func (p *aProcess) count() {
	free := p.agent != nil && p.call == nil && !p.ambiguous && p.role != roleUnclear
	if free == p.free {
		return
	}
	if p.free = free; free {
		p.agent.free++
	} else {
		p.agent.free--
	}
}

// startedInCall is true of what a call of another agent has started, at any depth: a call that a harness or a pod names
// may be an agent's whole work.
func (w whose) startedInCall() bool {
	for w = w.within(); w.agent != nil; w = w.within() {
		if w.call != nil && w.agent.dialect != nil {
			return true
		}
	}
	return false
}

// belong makes a process w's, for its descendants too.
func (c *attribution) belong(p *aProcess, w whose) {
	was := whose{agent: p.agent, call: p.call, ambiguous: p.ambiguous}
	if w.agent != nil {
		w.agent.users++
	}
	if w.call != nil {
		w.call.enter()
	}
	if p.free {
		p.free = false
		p.agent.free--
	}
	p.agent, p.call, p.ambiguous = w.agent, w.call, w.ambiguous
	p.count()
	if was.call != nil {
		c.leave(was.call)
	}
	if was.agent != nil {
		c.releaseAgent(was.agent)
	}
}

// inherit gives a forked child what its parent has.
func (c *attribution) inherit(parent, child *aProcess) {
	child.parentTgid, child.parentStart = parent.tgid, parent.start
	w := parent.whose()
	if w == (whose{}) {
		return
	}
	c.belong(child, w)
	child.hookShell = parent.hookShell
	switch parent.role {
	case roleAgent, roleFork:
		if w.call == nil {
			child.role = roleFork
		}
	case roleUnclear:
		if w.call == nil {
			child.role = roleUnclear
			child.count()
		}
	case roleHook:
		if w.call == nil {
			c.inheritHook(parent, child)
		}
	}
}

// An agentProgram tells an agent's own program from another one of its name: by the file, and by the script where
// that is an interpreter's.
type agentProgram struct {
	file   FileID
	script string
}

func programOf(file FileID, p agents.Program) agentProgram { return agentProgram{file, p.Script()} }

// mayWork says whether a program of the agent's dialect, which the agent itself or a direct fork of it starts, is the
// agent's worker: its own program. A script that has done nothing yet may be the launcher of the program proper,
// which takes its place: node that starts the agent's native program, or another script of the dialect.
func (a *agent) mayWork(d *agents.Dialect, x agentProgram) bool {
	if a.dialect != d {
		return false
	}
	if a.program.script != "" && !a.started && a.session == "" && !a.names && len(a.open) == 0 {
		a.program = x
	}
	return a.program == x
}

// becomeAgent makes an agent of a process whose program speaks a dialect. Where it was started below another one, it
// has a parent.
func (c *attribution) becomeAgent(p *aProcess, d *agents.Dialect, first span.Image, uid uint32, program agentProgram) {
	p.role = roleAgent
	outer := p.whose() // by a marker, too: one open on its cgroup holds for what was there before
	outer.ambiguous = false
	a := c.newAgent(p.home, d.Name, outer, first)
	a.dialect, a.uid, a.box, a.program = d, uid, p.in.box, program
	c.belong(p, whose{agent: a})
}

// maxNested bounds how deep agents nest: each keeps those around it, and a process can start one in its own place again and
// again. Beyond it the parent is the outermost agent.
const maxNested = 64

func (c *attribution) newAgent(sb *aSandbox, name string, outer whose, first span.Image) *agent {
	if outer.agent != nil && outer.agent.depth >= maxNested {
		outer = outer.outermost()
	}
	a := &agent{name: name, sandbox: sb, first: first, outer: outer, root: outer.outermost(), box: sb.box}
	if outer.agent == nil {
		a.owner = c.owners.acquire(sb.owner.session, sb.holder())
	} else {
		a.owner = c.owners.acquire(span.NestedSession(c.config.BootID, first), a.holder())
		a.depth = outer.agent.depth + 1
		outer.agent.users++
		if outer.call != nil {
			outer.call.enter()
		}
	}
	sb.agents = append(sb.agents, a)
	c.stats.Agents++
	return a
}

// releaseAgent counts a user less; with the last one the agent is over.
func (c *attribution) releaseAgent(a *agent) {
	a.users--
	if a.users > 0 {
		return
	}
	c.stats.Agents--
	for len(a.open) > 0 {
		c.closeMark(a.open[0])
	}
	c.unname(a)
	if i := slices.Index(a.sandbox.agents, a); i >= 0 {
		a.sandbox.agents = slices.Delete(a.sandbox.agents, i, i+1)
	}
	if a.left {
		a.owner.left--
	}
	if !a.owner.claimed && a.outer.agent != nil {
		a.owner.of = a.holder()
	}
	c.owners.release(a.owner)
	if a.outer.call != nil {
		c.leave(a.outer.call)
	}
	if a.outer.agent != nil {
		c.releaseAgent(a.outer.agent)
	}
}

// learn takes an agent's word for its session id; an agent may begin another one. A session that
// is in use elsewhere is refused: nobody may put his doings under another's name.
func (c *attribution) learn(a *agent, session string) bool {
	session = strings.ToValidUTF8(session, "\uFFFD")
	if session == "" || session == a.session {
		return true
	}
	if !c.mayHave(a, session) {
		c.stats.RefusedSessions++
		return false
	}
	c.name(a, session)
	c.slicer.claimed(a)
	return true
}

// name gives an agent a session that it may have.
func (c *attribution) name(a *agent, session string) {
	c.unname(a)
	if before := c.agentOf(session, a.uid); before != nil {
		c.unname(before) // resumed: what its calls have left running stays theirs
		before.left = true
		before.owner.left++
	}
	a.session = session
	c.agents[session] = append(c.agents[session], a)
	name := c.owners.nameFor(session, a.uid)
	if session == a.owner.session || name == a.owner.session {
		return
	}
	nested := a.outer.agent != nil
	o := c.owners.acquire(name, a.holder())
	o.claimed = !nested
	if a.sandbox.fixed && !nested {
		c.owners.release(o) // its spans are in the session that is configured; this one is not for others all the same
		return
	}
	c.setOwner(a, o)
}

// setOwner gives an agent an owner that was acquired for it.
func (c *attribution) setOwner(a *agent, o *owner) {
	was := a.owner
	if a.left {
		was.left--
		o.left++
	}
	a.owner = o
	c.owners.release(was)
}

// holder is whose an agent's session is.
func (a *agent) holder() holder {
	h := holder{place: a.sandbox.place(), uid: a.uid}
	if a.dialect != nil {
		h.dialect = a.dialect.Name
	}
	return h
}

// agentOf gives a user's agent that has this session id.
func (c *attribution) agentOf(session string, uid uint32) *agent {
	for _, a := range c.agents[session] {
		if a.uid == uid {
			return a
		}
	}
	return nil
}

// unname takes an agent's session id from it, in the table.
func (c *attribution) unname(a *agent) {
	list := c.agents[a.session]
	i := slices.Index(list, a)
	switch {
	case i < 0:
	case len(list) == 1:
		delete(c.agents, a.session)
	default:
		c.agents[a.session] = slices.Delete(list, i, i+1)
	}
}

// mayHave says whether an agent may take a session for its own. Nobody may have one that is in use by his user or configured; one within
// another agent, which may be anything that was started there, none that ever was another's. What such a one has
// claimed before is given back to an agent that nobody started in a call.
func (c *attribution) mayHave(a *agent, session string) bool {
	holder := c.agentOf(session, a.uid)
	resumes := holder != nil && a.resumes(holder)
	if session == a.owner.session {
		return holder == nil || resumes
	}
	if strings.Contains(session, ofUser) {
		return false
	}
	nested := a.outer.agent != nil
	for i := range c.config.Sandboxes {
		if c.config.Sandboxes[i].Session == session {
			return false
		}
	}
	if !nested {
		c.displaceNested(session)
	}
	if resumes {
		return true
	}
	name := c.owners.nameFor(session, a.uid)
	if c.agentOf(session, a.uid) != nil || c.owners.taken(name) || c.owners.another(name, a.holder()) {
		return false
	}
	return !nested || c.owners.bySession[session] == nil
}

// resumes says whether an agent may go on with the session that another one has: that is over but for what its calls have
// left running, and was of the same kind, user and place.
func (a *agent) resumes(b *agent) bool {
	return a != b && b.free == 0 && a.outer.agent == nil && b.outer.agent == nil &&
		a.dialect != nil && a.holder() == b.holder()
}

// place is what sessions are not taken out of: the sandbox, or the host outside of all sandboxes, where each agent that is
// found is one of its own.
func (sb *aSandbox) place() string {
	if sb.found {
		return ""
	}
	return sb.id
}

// holder is whose the session of a sandbox itself is.
func (sb *aSandbox) holder() holder { return holder{place: sb.place()} }

// displaceNested gives a session free that nested agents claimed.
func (c *attribution) displaceNested(session string) {
	for _, b := range slices.Clone(c.agents[session]) {
		if b.outer.agent != nil {
			c.displace(b)
		}
	}
}

// displace takes from a nested agent a session that it claimed.
func (c *attribution) displace(b *agent) {
	c.stats.RefusedSessions++
	c.unname(b)
	b.session = ""
	was := b.owner
	c.setOwner(b, c.owners.acquire(span.NestedSession(c.config.BootID, b.first), b.holder()))
	for _, k := range c.calls {
		if k.agent == b && k.owner == was {
			k.owner = b.owner
		}
	}
}

// Hints gives what users can do to get real call ids, a line for each kind of agent
// whose calls were inferred so far.
func (c *attribution) Hints() []string {
	var lines []string
	for i := range c.config.Agents {
		if d := &c.config.Agents[i]; c.inferred[d.Name] && d.Note != "" {
			lines = append(lines, d.Note)
		}
	}
	return lines
}
