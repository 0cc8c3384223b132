// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"container/list"
	"slices"
	"strings"
)

// A Thread is a further session of a running agent: that of a subagent, which has a parent, or one of several that the
// process serves at once. Its calls are the agent's own calls, with ids that follow from the same instance: only their
// session is another one.
type Thread struct {
	ID      string   // as the agent calls it
	Session *Session // of its calls
	Parent  string   // the session that began it, as on spans; "": it is no subagent's
	Call    string   // the call of that session which began it; "": not known
	agent   *agent
	name    string        // of its session, before nameFor
	kept    *list.Element // in agent.threads
}

// maxThreads bounds those of one agent. Beyond it the one that was not used for longest is forgotten; it comes back
// under the same session when it does something.
const maxThreads = 256

// threadOf gives the thread of a command that an agent starts; nil: it is of the agent's own session.
func (c *Table) threadOf(a *agent, in Claims) *Thread {
	above := a.Session
	var t *Thread
	if a.several {
		if t = c.thread(a, in.Session, nil); t != nil {
			above = t.Session
		}
	}
	if in.Thread != "" && in.Thread != in.Session {
		if sub := c.thread(a, in.Thread, above); sub != nil {
			return sub
		}
	}
	return t
}

// thread gives an agent's thread, which is made if there is none. Only the agent's word counts. nil: it is the agent's
// own session, that is not known yet, or the thread's is in use elsewhere.
func (c *Table) thread(a *agent, id string, above *Session) *Thread {
	id = strings.ToValidUTF8(id, "\uFFFD")
	if id == "" || id == a.OwnID || a.OwnID == "" && !a.several || a.dialect == nil {
		return nil
	}
	name := id
	if above != nil && a.dialect.Env.ThreadsWithin {
		name = above.SessionName + "/" + id
	}
	for e := a.threads.Back(); e != nil; e = e.Prev() {
		if t := e.Value.(*Thread); t.name == name {
			a.threads.MoveToBack(e)
			return t
		}
	}
	if len(name) > 2*MaxName || !c.mayHave(a, name) {
		c.stats.RefusedSessions++
		return nil
	}
	c.resume(a, name)
	if a.threads.Len() >= maxThreads {
		c.forgetThread(a.threads.Front().Value.(*Thread))
	}
	t := &Thread{ID: id, agent: a, name: name}
	if above != nil {
		t.Parent = above.SessionName
	}
	if nested := a.Outer.Agent != nil; a.Sandbox.Fixed && !nested {
		t.Session = c.Sessions.Acquire(a.Session.SessionName, a.holder())
		t.Parent = ""
	} else {
		t.Session = c.Sessions.Acquire(c.Sessions.nameFor(name, a.uid), a.holder())
		t.Session.claimed = !nested
	}
	t.kept = a.threads.PushBack(t)
	c.threads[name] = append(c.threads[name], t)
	return t
}

// forgetThread gives the session of a thread back. Its calls stay in it.
func (c *Table) forgetThread(t *Thread) {
	t.agent.threads.Remove(t.kept)
	list := c.threads[t.name]
	if i := slices.Index(list, t); len(list) > 1 {
		c.threads[t.name] = slices.Delete(list, i, i+1)
	} else {
		delete(c.threads, t.name)
	}
	c.Sessions.Release(t.Session)
}

func (c *Table) forgetThreads(a *agent) {
	for e := a.threads.Front(); e != nil; e = a.threads.Front() {
		c.forgetThread(e.Value.(*Thread))
	}
}

// displaceThread takes from an agent within a call the session that a thread of it claimed.
func (c *Table) displaceThread(t *Thread) {
	c.stats.RefusedSessions++
	for _, k := range c.Calls {
		if k.Thread == t {
			k.Session, k.Thread = t.agent.Session, nil
		}
	}
	c.forgetThread(t)
}

// enter has a call that a mark began go on in the thread that its command names.
func (c *Table) enter(k *Call, t *Thread) {
	for _, name := range []string{k.CallName, k.ID} {
		if key := (callKey{k.SessionName, name}); c.Calls[key] == k {
			delete(c.Calls, key)
			c.Calls[callKey{t.Session.SessionName, name}] = k
		}
	}
	k.SessionName, k.Session, k.Thread = t.Session.SessionName, t.Session, t
}

// agentsCall gives the call of this id in any session of an agent.
func (c *Table) agentsCall(a *agent, id string) *Call {
	if k := c.Calls[callKey{a.Session.SessionName, id}]; k != nil && k.Agent == a {
		return k
	}
	for e := a.threads.Back(); e != nil; e = e.Prev() {
		if k := c.Calls[callKey{e.Value.(*Thread).Session.SessionName, id}]; k != nil && k.Agent == a {
			return k
		}
	}
	return nil
}

// session is what the agent calls the call's session.
func (k *Call) session() string {
	if k.Thread != nil {
		return k.Thread.ID
	}
	return k.Agent.OwnID
}

// has says whether a session, in the agent's word, is known to be the agent's.
func (a *agent) has(session string) bool {
	if session == a.OwnID {
		return true
	}
	for e := a.threads.Front(); e != nil; e = e.Next() {
		if e.Value.(*Thread).ID == session {
			return true
		}
	}
	return false
}

// is says whether a session, in the agent's word, may be the call's.
func (k *Call) is(session string) bool {
	return session == "" || session == k.Agent.OwnID || k.Thread != nil && session == k.Thread.ID ||
		k.Thread == nil && k.Agent.OwnID == ""
}

// Several says whether an agent serves several sessions at once: what its own process does may be for any of them.
func (a *agent) Several() bool { return a.several }

// serveSeveral has each session of an agent be one of several, from the second one on.
func (c *Table) serveSeveral(a *agent) {
	first := a.OwnID
	c.unname(a)
	a.OwnID, a.several = "", true
	if !a.Sandbox.Fixed || a.Outer.Agent != nil {
		c.SetSession(a, c.Sessions.Acquire(a.Traces.Instance(), a.holder()))
	}
	c.thread(a, first, nil)
}
