// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// openCalls are the calls open on a process or a cgroup: what that does, and whom it starts, is theirs.
type openCalls struct{ Open []*Call }

// Owner is the open call; of two nobody can say which one it is.
func (m *openCalls) Owner() Owner {
	if len(m.Open) == 1 {
		return Owner{Agent: m.Open[0].Agent, Call: m.Open[0]}
	}
	return Owner{Agent: m.Open[0].Agent, Ambiguous: true}
}

// maxOpen bounds the calls open on one process, cgroup or agent.
const maxOpen = 64

// A Mark is what keeps a call open.
type Mark struct {
	by      authority
	Process *Process // one of these three is where
	Group   *Cgroup
	agent   *agent
}

// MarkedBy says who began a call, on all spans of it. Empty: nobody did, it was seen to begin.
type MarkedBy string

const (
	markedByAgent      MarkedBy = "agent"      // the agent's own program
	MarkedByHook       MarkedBy = "hook"       // sheetbend hook, which the agent started
	markedByOutside    MarkedBy = "outside"    // a process outside of all sandboxes
	MarkedBySelf       MarkedBy = "self"       // a process of the sandbox, of itself and its children
	markedByAnnotation MarkedBy = "annotation" // of the pod
)

// authority is who began a call: only the same may end it.
type authority struct {
	agent *agent // the agent or a hook of it
	// Otherwise a single process of a sandbox, or, without a pid, any of this user outside of all.
	tgid  uint32
	start uint64
	uid   uint32
}

// A target is where a mark puts a call.
type target struct {
	by    authority
	agent *agent  // of the call
	in    *Thread // of the agent; nil: its own session
	outer *Call   // the marker itself runs in this one
	// own: it is the word of a process of the sandbox about itself, not of the agent, its hook or somebody outside.
	own         bool
	taint       *Taint // of who marks
	who         MarkedBy
	containerID string // id of the container whose pod's annotation names the call, if another's did so before
	mark        Mark
	list        *[]*Call
	inside      *Inside // nil: the call runs commands, or is not known to work elsewhere
}

// name is what the ids of the call are made of, and by which it is found. A process's own calls have names that no
// agent can mean: each begins with whom it says it of, and a space.
func (at *target) name(call string) string {
	switch {
	case at.containerID != "":
		return call + " " + at.containerID
	case !at.own:
		return call
	case at.outer != nil:
		return at.outer.CallName + " " + call
	}
	return " " + call
}

// Mark opens or ends a call as a mark asks; what is refused is counted, and in Table.Refused.
func (c *Marks) Mark(h *record.Header, m *record.Mark) {
	m.Call = strings.ToValidUTF8(m.Call, "\uFFFD")
	done := false
	m.Tool = span.Clip(m.Tool, MaxTool)
	if len(m.Call) > MaxName || len(m.Session) > MaxName {
		c.table.refuse(&c.table.stats.RefusedMarks)
		return
	}
	if at, ok := c.targetOf(h, m); ok && m.Call != "" {
		kind := at.tool(m)
		switch {
		case kind == agents.ToolAgent:
			if m.Op == record.MarkEnd && at.in != nil && at.in.Parent != "" {
				at.in.Call = cmp.Or(at.in.Call, m.Call)
			}
			done = true // its calls tell what it does
		case m.Op == record.MarkBegin:
			if at.mark.agent != nil && at.who == MarkedByHook {
				c.closeOver(at.agent)
			}
			done = c.beginCall(at, m)
		case m.Op == record.MarkEnd:
			k := c.table.Calls[callKey{at.agent.Session.SessionName, at.name(m.Call)}]
			for _, open := range slices.Concat(*at.list, at.agent.inside) {
				if open.ID == m.Call {
					k = open // the session may have another id since
				}
			}
			done = c.endCall(k, &at)
		}
	}
	if !done {
		c.table.refuse(&c.table.stats.RefusedMarks)
	}
}

// endCall ends a call, which may be nil: not known. A call that is over may be ended by the same once more; hooks tell the
// end of each in several ways, and of those, too, whose begin did not get here.
func (c *Marks) endCall(k *Call, at *target) bool {
	switch {
	case k == nil:
		return at.who == MarkedByHook
	case k.Marking.mark == nil && k.Marking.marked:
		return k.Marking.by == at.by
	case k.Marking.mark == nil:
		return at.who == MarkedByHook && k.Agent == at.agent
	case k.Marking.by != at.by:
		return false
	}
	c.CloseMark(k)
	return true
}

// targetOf finds where a mark belongs, and whether its sender may put it there. Lineage
// decides: the agent and its hooks for whatever is the agent's, a process in a call (or below no agent)
// for itself and its children, a process outside of all sandboxes for what runs as its user.
func (c *Marks) targetOf(h *record.Header, m *record.Mark) (at target, ok bool) {
	var target *Process
	if m.TargetTgid != 0 {
		target = c.table.Tree.Process(m.TargetTgid)
		if !Identified(target, m.TargetStart) {
			if m.Op == record.MarkBegin {
				return at, false
			}
			target = nil // it is gone; its call may still be ended
		} else {
			c.table.Tree.Resolve(target)
		}
	}
	peer := c.table.Tree.Sender(h)
	if peer == nil {
		return c.targetFromOutside(m, target)
	}
	c.table.NotHook(peer) // it speaks before it has run the hook
	w := peer.Owner()
	speaks := peer.speaksFor()
	at.agent, at.outer, at.who, at.taint = w.Agent, w.Call, speaks, w.Taint
	switch {
	case m.Cgroup != 0:
		return at, false
	case speaks != MarkedBySelf:
		at.by = authority{agent: w.Agent}
		if peer.likeCommand {
			// Perhaps a call has run the hook, with an input of its own: that renames nothing, and marks nothing in a
			// call.
			if target != nil && target.Call != nil {
				return at, false
			}
		}
		if w.Agent.OwnID != "" {
			m.Session = w.Agent.OwnID // known: no mark renames it
		}
		if target == nil || target.Agent == w.Agent && (target.Role == RoleAgent || target.Role == roleFork) {
			return c.inThread(onAgent(at), m, peer.likeCommand)
		}
		if target.Agent != w.Agent {
			return at, false
		}
		at.outer = target.Call
		return c.inThread(onProcess(at, target), m, peer.likeCommand)
	default:
		if target == nil && m.TargetTgid == 0 {
			target = peer
		}
		at.by, at.own = authority{tgid: peer.Tgid, start: peer.Start}, true
		if target == nil || target != peer && (target.ParentTgid != peer.Tgid || target.ParentStart != peer.Start) {
			return at, false
		}
		if at.agent == nil {
			// What it says of its agent and session is not taken: it could be anybody's.
			at.agent = c.markerAgent(peer.Home, &record.Mark{Op: m.Op})
		}
		return onProcess(at, target), at.agent != nil
	}
}

// inThread adds which of the agent's sessions a mark by it, or by a hook of it, is for. What a call may have run opens no
// session.
func (c *Marks) inThread(at target, m *record.Mark, likeCommand bool) (target, bool) {
	if !c.table.learn(at.agent, m.Session) {
		return at, false
	}
	thread := m.More.Get(record.MoreThread)
	kind, _ := at.agent.dialect.Tools.Kind(m.Tool)
	if likeCommand || m.Op == record.MarkEnd && kind != agents.ToolAgent { // what other tools give is not the agent's word
		thread = ""
	}
	at.in = c.table.threadOf(at.agent, Claims{Session: m.Session, Thread: thread})
	return at, true
}

// speaksFor says whether a process speaks for its agent: the agent's own program does, and a hook that it started,
// directly or by a shell that does nothing else. Whatever else runs below an agent, outside of calls, may be what a
// call has planted there (a hook of git, a program in PATH, an MCP server), and speaks of itself alone, whatever it
// runs.
func (p *Process) speaksFor() MarkedBy {
	a := p.Agent
	switch {
	case a == nil || a.dialect == nil || p.Call != nil || p.ambiguous || len(p.Marks.Open) > 0:
		return MarkedBySelf
	case p.Role == RoleAgent || p.Role == roleFork:
		return markedByAgent
	case p.runsHook:
		return MarkedByHook
	}
	return MarkedBySelf
}

func (c *Marks) targetFromOutside(m *record.Mark, target *Process) (at target, ok bool) {
	if m.PeerCgroup == 0 || c.table.Tree.Group(m.PeerCgroup) != nil {
		return at, false // perhaps inside: its fork was lost
	}
	at.by, at.who = authority{uid: m.UID}, markedByOutside
	switch {
	case target != nil:
		if uid, known := c.table.Tree.User(target); m.UID != 0 && (m.UID != uid || !known) {
			return at, false
		}
		at.outer = target.Call
		if at.agent = target.Agent; at.agent == nil || at.agent.dialect == nil {
			at.agent = c.markerAgent(target.Home, m)
			at.outer = nil
		} else if m.Session != "" && m.Session != at.agent.OwnID && (at.agent.OwnID != "" || !c.table.learn(at.agent, m.Session)) {
			return at, false
		}
		return onProcess(at, target), at.agent != nil
	case m.Cgroup != 0:
		g := c.table.Tree.Group(m.Cgroup)
		if g == nil || g.Home == nil || m.UID != 0 {
			return at, false
		}
		at.agent = c.markerAgent(g.Home, m)
		at.mark.Group, at.list = g, &g.Marks.Open
		return at, at.agent != nil
	}
	at.agent = c.table.agentOf(m.Session, m.UID)
	if list := c.table.Agents[m.Session]; at.agent == nil && m.UID == 0 && len(list) == 1 {
		at.agent = list[0]
	}
	if m.Session == "" || at.agent == nil || m.UID != 0 && m.UID != at.agent.uid {
		return at, false
	}
	return onAgent(at), true
}

func onAgent(at target) target {
	at.mark.agent, at.list = at.agent, &at.agent.open
	return at
}

func onProcess(at target, p *Process) target {
	at.mark.Process, at.list = p, &p.Marks.Open
	return at
}

// markerAgent gives the agent that stands for whoever names calls below no agent: one for each session in a sandbox.
// nil: the session is in use elsewhere, or there are too many.
func (c *Marks) markerAgent(sb *Sandbox, m *record.Mark) *agent {
	session := strings.ToValidUTF8(m.Session, "\uFFFD")
	for _, a := range sb.MarkerAgents {
		if a.OwnID == session {
			return a
		}
	}
	if len(sb.MarkerAgents) >= maxOpen || m.Op != record.MarkBegin {
		return nil
	}
	name := strings.ToValidUTF8(m.Agent, "\uFFFD")
	if name == "" || !c.table.Above.MayName(name) {
		name = sb.Agent
	}
	a := c.table.newAgent(sb, name, span.HarnessInstance(sb.ID, session), Owner{}, span.Image{})
	a.uid = m.UID
	a.users++ // until the sandbox is gone
	if !c.table.learn(a, session) {
		c.table.ReleaseAgent(a)
		return nil
	}
	sb.MarkerAgents = append(sb.MarkerAgents, a)
	c.table.Above.AgentBegan(Owner{Agent: a})
	return a
}

// beginCall opens a call. Doing so twice is harmless; taking over one that another began is refused.
func (c *Marks) beginCall(at target, m *record.Mark) bool {
	a := at.agent
	k := c.table.Calls[callKey{a.sessionIn(at.in).SessionName, at.name(m.Call)}]
	if at.inside != nil {
		if k != nil && k.Inside == nil {
			at.inside = nil // it runs commands
		} else {
			at.list = &a.inside
			c.closeOld(a)
		}
	}
	switch {
	case k == nil && c.open >= c.table.config.MaxCalls, len(*at.list) >= maxOpen:
		return false
	case k == nil:
		by := byMarker
		switch {
		case at.own:
			by = claimed
		case at.inside != nil:
			by = declared
		}
		k = c.table.newCallIn(a, at.in, m.Call, at.name(m.Call), by, c.table.clock.At)
		if k.Outer = at.outer; k.Outer != nil {
			k.root = Owner{Agent: a, Call: k.Outer}.Outermost().Call
		}
	case k.Agent != a:
		return false
	case k.Marking.mark != nil:
		same := at.mark
		same.by = at.by
		return *k.Marking.mark == same
	case at.by.agent != a && at.by.tgid != 0:
		return false // a call that it did not begin, or that is over
	}
	if k.Tool == "" {
		k.Tool = m.Tool
	}
	if link, sampled, ok := span.ParseTraceparent(m.Traceparent); ok {
		c.table.join(k, link, sampled)
	}
	at.mark.by = at.by
	k.Marking.MarkedBy, k.Marking.by = at.who, at.by
	k.Marking.command, k.Marking.files = m.More.Get(record.MoreCommand), m.More.Get(record.MorePath) != ""
	a.Told.Reports = a.Told.Reports || at.who == MarkedByHook
	k.Marking.mark, k.Marking.marked = &at.mark, true
	k.Life.Over, k.Life.Left = false, false
	k.Taint = cmp.Or(k.Taint, at.taint)
	c.table.Above.FlushMarked(k.Marking.mark)
	if k.Inside = at.inside; k.Inside != nil {
		c.serve(k)
	}
	*at.list = append(*at.list, k)
	c.open++
	return true
}

// CloseMark ends a marker. Processes that the call started stay its own.
func (c *Marks) CloseMark(k *Call) {
	m := k.Marking.mark
	c.table.Above.FlushMarked(m)
	if k.Inside != nil {
		c.served(k)
	}
	list := c.listOf(k)
	if i := slices.Index(*list, k); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	k.Marking.mark, k.Life.Left = nil, true
	c.open--
	c.table.endIfDone(k)
}

// listOf is where a call that a mark keeps open stands, with the others that are open there.
func (c *Marks) listOf(k *Call) *[]*Call {
	switch m := k.Marking.mark; {
	case m.Process != nil:
		return &m.Process.Marks.Open
	case m.Group != nil:
		return &m.Group.Marks.Open
	case k.Inside != nil:
		return &m.agent.inside
	default:
		return &m.agent.open
	}
}

// closeStale ends markers of commands that never ran: agents begin a call before they ask the user, and say
// nothing when the answer is no.
func (c *Marks) closeStale(a *agent) {
	for _, k := range slices.Clone(a.open) {
		if !k.Life.Ran && (k.Marking.command != "" || a.mayRun(k)) && c.table.clock.Now >= k.Life.Began+uint64(c.table.config.CallRetention) {
			c.CloseMark(k)
		}
	}
}

// Annotated opens a call that the annotation of a pod names, on the cgroup of a container.
func (c *Marks) Annotated(g *Cgroup, call string) {
	m := &record.Mark{Op: record.MarkBegin, Call: call, Cgroup: g.ID}
	owner := c.markerAgent(g.Home, m)
	if owner == nil {
		return
	}
	at := target{agent: owner, who: markedByAnnotation, mark: Mark{Group: g}, list: &g.Marks.Open}
	if k := c.table.Calls[callKey{owner.Session.SessionName, at.name(call)}]; k != nil && k.Agent != owner {
		at.containerID = g.Container.ID
	}
	if !c.beginCall(at, m) {
		c.table.stats.RefusedMarks++
		return
	}
	c.table.Calls[callKey{owner.Session.SessionName, at.name(call)}].Marking.Annotated = true
}

// Unmark ends the markers on a process or cgroup that is gone.
func (c *Marks) Unmark(m *openCalls) {
	for len(m.Open) > 0 {
		c.CloseMark(m.Open[0])
	}
}

// Identified says whether h's process is p: start times from /proc are rounded down to a clock tick.
func Identified(p *Process, start uint64) bool {
	const tick = 10_000_000
	return p != nil && (p.Start == start || p.Start-p.Start%tick == start)
}
