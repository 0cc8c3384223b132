// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"strings"
)

// learn takes an agent's word for its session id; an agent may begin another one. A session that
// is in use elsewhere is refused: nobody may put his doings under another's name.
func (c *Table) learn(a *agent, session string) bool {
	session = strings.ToValidUTF8(session, "\uFFFD")
	if session == "" || session == a.OwnID {
		return true
	}
	if a.serves && a.OwnID != "" {
		c.serveSeveral(a)
	}
	if a.several {
		return c.thread(a, session, nil) != nil
	}
	if !c.mayHave(a, session) {
		c.stats.RefusedSessions++
		return false
	}
	c.name(a, session)
	c.claimed(a)
	return true
}

// name gives an agent a session that it may have.
func (c *Table) name(a *agent, session string) {
	c.unname(a)
	c.resume(a, session)
	a.OwnID = session
	c.Agents[session] = append(c.Agents[session], a)
	name := c.Sessions.nameFor(session, a.uid)
	if session == a.Session.SessionName || name == a.Session.SessionName {
		return
	}
	nested := a.Outer.Agent != nil
	o := c.Sessions.Acquire(name, a.holder())
	o.claimed = !nested
	if a.Sandbox.Fixed && !nested {
		c.Sessions.Release(o) // its spans are in the session that is configured; this one is not for others all the same
		return
	}
	c.SetSession(a, o)
}

// resume takes a session that an agent may have from the one that had it.
func (c *Table) resume(a *agent, session string) {
	if before := c.agentOf(session, a.uid); before != nil {
		c.unname(before) // what its calls have left running stays theirs
		c.forgetThreads(before)
		before.left = true
		before.Session.Left++
	}
}

// SetSession gives an agent an owner that was acquired for it.
func (c *Table) SetSession(a *agent, o *Session) {
	was := a.Session
	if a.left {
		was.Left--
		o.Left++
	}
	a.Session = o
	c.Sessions.Release(was)
}
