// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// openCalls are the calls open on a process or a cgroup: what that does, and whom it starts, is theirs.
type openCalls struct{ open []*call }

// whose: of two open calls nobody can say which one it is.
func (m *openCalls) whose() whose {
	if len(m.open) == 1 {
		return whose{agent: m.open[0].agent, call: m.open[0]}
	}
	return whose{agent: m.open[0].agent, ambiguous: true}
}

// maxOpen bounds the calls open on one process, cgroup or agent.
const maxOpen = 64

// A mark is what keeps a call open.
type mark struct {
	by      authority
	process *aProcess // one of these three is where
	group   *aGroup
	agent   *agent
}

// markedBy says who began a call, on all spans of it. Empty: nobody did, it was seen to begin.
type markedBy string

const (
	markedByAgent      markedBy = "agent"      // the agent's own program
	markedByHook       markedBy = "hook"       // sheetbend hook, which the agent started
	markedByOutside    markedBy = "outside"    // a process outside of all sandboxes
	markedBySelf       markedBy = "self"       // a process of the sandbox, of itself and its children
	markedByAnnotation markedBy = "annotation" // of the pod
)

// authority is who began a call: only the same may end it.
type authority struct {
	agent *agent // the agent or a hook of it
	// Otherwise a single process of a sandbox, or, without a pid, any of this user outside of all.
	tgid  uint32
	start uint64
	uid   uint32
}

// A place is where a mark puts a call.
type place struct {
	by    authority
	owner *agent // of the call
	outer *call  // the marker itself runs in this one
	// own: it is the word of a process of the sandbox about itself, not of the agent, its hook or somebody outside.
	own  bool
	who  markedBy
	box  string // id of the container whose pod's annotation names the call, if another's did so before
	mark mark
	list *[]*call
}

// name is what the ids of the call are made of, and by which it is found. A process's own calls have names that no agent can
// mean: each begins with whom it says it of, and a space.
func (at *place) name(call string) string {
	switch {
	case at.box != "":
		return call + " " + at.box
	case !at.own:
		return call
	case at.outer != nil:
		return at.outer.call + " " + call
	}
	return " " + call
}

func (c *attribution) mark(h *record.Header, m *record.Mark) {
	m.Call = strings.ToValidUTF8(m.Call, "\uFFFD")
	done := false
	if at, ok := c.placeOf(h, m); ok && m.Call != "" {
		switch m.Op {
		case record.MarkBegin:
			done = c.beginCall(at, m)
		case record.MarkEnd:
			k := c.calls[callKey{at.owner.owner.session, at.name(m.Call)}]
			for _, open := range *at.list {
				if open.id == m.Call {
					k = open // the session may have another id since
				}
			}
			if done = k != nil && k.mark != nil && k.mark.by == at.by; done {
				c.closeMark(k)
			}
		}
	}
	if !done {
		c.refuse(&c.stats.RefusedMarks)
	}
}

// placeOf finds where a mark belongs, and whether its sender may put it there. Lineage
// decides: the agent and its hooks for whatever is the agent's, a process in a call (or below no agent)
// for itself and its children, a process outside of all sandboxes for what runs as its user.
func (c *attribution) placeOf(h *record.Header, m *record.Mark) (at place, ok bool) {
	var target *aProcess
	if m.TargetTgid != 0 {
		target = c.tree.process(m.TargetTgid)
		if !identified(target, m.TargetStart) {
			if m.Op == record.MarkBegin {
				return at, false
			}
			target = nil // it is gone; its call may still be ended
		} else {
			c.tree.settle(target)
		}
	}
	peer := c.tree.peer(h)
	if peer == nil {
		return c.placeFromOutside(m, target)
	}
	c.notHook(peer) // it speaks before it has run the hook
	w := peer.whose()
	speaks := peer.speaksFor()
	at.owner, at.outer, at.who = w.agent, w.call, speaks
	switch {
	case m.Cgroup != 0:
		return at, false
	case speaks != markedBySelf:
		at.by = authority{agent: w.agent}
		if peer.likeCommand {
			// Perhaps a call has run the hook, with an input of its own: that renames nothing, and marks nothing in a call.
			if target != nil && target.call != nil {
				return at, false
			}
		}
		if w.agent.session != "" {
			m.Session = w.agent.session // known: no mark renames it
		}
		if target == nil || target.agent == w.agent && (target.role == roleAgent || target.role == roleFork) {
			return onAgent(at), c.learn(w.agent, m.Session)
		}
		if target.agent != w.agent {
			return at, false
		}
		at.outer = target.call
		return onProcess(at, target), c.learn(w.agent, m.Session)
	default:
		if target == nil && m.TargetTgid == 0 {
			target = peer
		}
		at.by, at.own = authority{tgid: peer.tgid, start: peer.start}, true
		if target == nil || target != peer && (target.parentTgid != peer.tgid || target.parentStart != peer.start) {
			return at, false
		}
		if at.owner == nil {
			// What it says of its agent and session is not taken: it could be anybody's.
			at.owner = c.harness(peer.home, &record.Mark{Op: m.Op})
		}
		return onProcess(at, target), at.owner != nil
	}
}

// speaksFor says whether a process speaks for its agent: the agent's own program does, and a hook that it started, directly
// or by a shell that does nothing else. Whatever else runs below an agent, outside of calls, may be what a call has planted
// there (a hook of git, a program in PATH, an MCP server), and speaks of itself alone, whatever it runs.
func (p *aProcess) speaksFor() markedBy {
	a := p.agent
	switch {
	case a == nil || a.dialect == nil || p.call != nil || p.ambiguous || len(p.marks.open) > 0:
		return markedBySelf
	case p.role == roleAgent || p.role == roleFork:
		return markedByAgent
	case p.runsHook:
		return markedByHook
	}
	return markedBySelf
}

func (c *attribution) placeFromOutside(m *record.Mark, target *aProcess) (at place, ok bool) {
	if m.PeerCgroup == 0 || c.tree.group(m.PeerCgroup) != nil {
		return at, false // perhaps inside: its fork was lost
	}
	at.by, at.who = authority{uid: m.UID}, markedByOutside
	switch {
	case target != nil:
		if uid, known := c.tree.user(target); m.UID != 0 && (m.UID != uid || !known) {
			return at, false
		}
		at.outer = target.call
		if at.owner = target.agent; at.owner == nil || at.owner.dialect == nil {
			at.owner = c.harness(target.home, m)
			at.outer = nil
		} else if m.Session != "" && m.Session != at.owner.session && (at.owner.session != "" || !c.learn(at.owner, m.Session)) {
			return at, false
		}
		return onProcess(at, target), at.owner != nil
	case m.Cgroup != 0:
		g := c.tree.group(m.Cgroup)
		if g == nil || g.home == nil || m.UID != 0 {
			return at, false
		}
		at.owner = c.harness(g.home, m)
		at.mark.group, at.list = g, &g.marks.open
		return at, at.owner != nil
	}
	at.owner = c.agentOf(m.Session, m.UID)
	if list := c.agents[m.Session]; at.owner == nil && m.UID == 0 && len(list) == 1 {
		at.owner = list[0]
	}
	if m.Session == "" || at.owner == nil || m.UID != 0 && m.UID != at.owner.uid {
		return at, false
	}
	return onAgent(at), true
}

func onAgent(at place) place {
	at.mark.agent, at.list = at.owner, &at.owner.open
	return at
}

func onProcess(at place, p *aProcess) place {
	at.mark.process, at.list = p, &p.marks.open
	return at
}

// harness gives the agent that stands for whoever names calls below no agent: one for each session in a sandbox.
// nil: the session is in use elsewhere, or there are too many.
func (c *attribution) harness(sb *aSandbox, m *record.Mark) *agent {
	session := strings.ToValidUTF8(m.Session, "\uFFFD")
	for _, a := range sb.harnesses {
		if a.session == session {
			return a
		}
	}
	if len(sb.harnesses) >= maxOpen || m.Op != record.MarkBegin {
		return nil
	}
	name := strings.ToValidUTF8(m.Agent, "\uFFFD")
	if name == "" || !c.above.mayName(name) {
		name = sb.agent
	}
	a := c.newAgent(sb, name, whose{}, span.Image{})
	a.uid = m.UID
	a.users++ // until the sandbox is gone
	if !c.learn(a, session) {
		c.releaseAgent(a)
		return nil
	}
	sb.harnesses = append(sb.harnesses, a)
	return a
}

// beginCall opens a call. Doing so twice is harmless; taking over one that another began is refused.
func (c *attribution) beginCall(at place, m *record.Mark) bool {
	a := at.owner
	k := c.calls[callKey{a.owner.session, at.name(m.Call)}]
	switch {
	case k == nil && c.openMarks >= c.config.MaxCalls, len(*at.list) >= maxOpen:
		return false
	case k == nil:
		by := byMarker
		if at.own {
			by = claimed
		}
		k = c.newCall(a, m.Call, at.name(m.Call), by)
		if k.outer = at.outer; k.outer != nil {
			k.root = whose{agent: a, call: k.outer}.outermost().call
		}
	case k.agent != a:
		return false
	case k.mark != nil:
		same := at.mark
		same.by = at.by
		return *k.mark == same
	case at.by.agent != a && at.by.tgid != 0:
		return false // a call that it did not begin, or that is over
	}
	if k.tool == "" {
		k.tool = m.Tool
	}
	if link, sampled, ok := span.ParseTraceparent(m.Traceparent); ok {
		c.join(k, link, sampled)
	}
	at.mark.by = at.by
	k.markedBy = at.who
	k.mark, k.marked = &at.mark, true
	k.over = false
	c.above.flushMarked(k.mark)
	*at.list = append(*at.list, k)
	c.openMarks++
	return true
}

// closeMark ends a marker. Processes that the call started stay its own.
func (c *attribution) closeMark(k *call) {
	m := k.mark
	c.above.flushMarked(m)
	var list *[]*call
	switch {
	case m.process != nil:
		list = &m.process.marks.open
	case m.group != nil:
		list = &m.group.marks.open
	default:
		list = &m.agent.open
	}
	if i := slices.Index(*list, k); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	k.mark = nil
	c.openMarks--
	c.endIfDone(k)
}

// closeStale ends markers of calls that never ran: agents begin a call before they ask the user, and say
// nothing when the answer is no.
func (c *attribution) closeStale(a *agent) {
	for _, k := range slices.Clone(a.open) {
		if !k.ran && c.clock.now >= k.began+uint64(c.config.CallRetention) {
			c.closeMark(k)
		}
	}
}

// annotated opens a call that the annotation of a pod names, on the cgroup of a container.
func (c *attribution) annotated(g *aGroup, call string) {
	m := &record.Mark{Op: record.MarkBegin, Call: call, Cgroup: g.id}
	owner := c.harness(g.home, m)
	if owner == nil {
		return
	}
	at := place{owner: owner, who: markedByAnnotation, mark: mark{group: g}, list: &g.marks.open}
	if k := c.calls[callKey{owner.owner.session, at.name(call)}]; k != nil && k.agent != owner {
		at.box = g.box.id
	}
	if !c.beginCall(at, m) {
		c.stats.RefusedMarks++
		return
	}
	c.calls[callKey{owner.owner.session, at.name(call)}].annotated = true
}

// unmark ends the markers on a process or cgroup that is gone.
func (c *attribution) unmark(m *openCalls) {
	for len(m.open) > 0 {
		c.closeMark(m.open[0])
	}
}

// identified says whether h's process is p: start times from /proc are rounded down to a clock tick.
func identified(p *aProcess, start uint64) bool {
	const tick = 10_000_000
	return p != nil && (p.start == start || p.start-p.start%tick == start)
}
