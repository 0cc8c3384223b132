// SPDX-License-Identifier: Apache-2.0

package attribution

import "github.com/sheetbend/sheetbend/collector/span"

// A Taint says who has reached into a process, so that what it does may be that one's doing: another one of the same
// sandbox, or of another. It is not changed, and the first one stays.
type Taint struct {
	Call string // of who reached in; "": none
	Tgid uint32 // its process
}

// tainted says who has reached into p, or into its agent where it runs that; nil: nobody.
func (p *Process) tainted() *Taint {
	if p.taint == nil && p.runsAgent() {
		return p.Agent.taint
	}
	return p.taint
}

// runsAgent is true of what runs the agent's own program.
func (p *Process) runsAgent() bool {
	return p.Agent != nil && (p.Role == RoleAgent || p.Role == roleFork)
}

// Tainted says who has reached into the agent's own program; nil: nobody.
func (a *agent) Tainted() *Taint { return a.taint }

// Reached is told that a process has got into another one, so that it can have it do anything. From then on what that
// does, and what it starts, is tainted; of an agent, the whole agent and the calls that it begins.
func (c *Table) Reached(by, into *Process) {
	c.NotHook(by)
	if by.mayReach(into) {
		return
	}
	t := &Taint{Tgid: by.Tgid}
	if k := by.Owner().Call; k != nil {
		t.Call = k.Name()
	}
	switch a := into.Agent; {
	case into.tainted() != nil:
	case into.runsAgent():
		a.taint = t
		c.reaches = append(c.reaches, Reach{Of: a.First, Agent: true, By: *t})
	default:
		into.taint = t
		c.reaches = append(c.reaches, Reach{Of: span.Image{Tgid: into.Tgid, Start: into.Start}, By: *t})
	}
}

// A Reach says who has reached into a process or an agent: the record that told it may be left out.
type Reach struct {
	Of    span.Image // the process, without an exec id; with Agent the first program of the agent
	Agent bool
	By    Taint
}

// SetReach says who had reached into a process or an agent before then.
func (c *Table) SetReach(r Reach) {
	if !r.Agent {
		if p := c.Tree.Process(r.Of.Tgid); p != nil && p.Start == r.Of.Start && p.taint == nil {
			p.taint = &r.By
		}
	} else if a := c.startedAs(r.Of); a != nil && a.taint == nil {
		a.taint = &r.By
	}
}

// mayReach says whether it is the same one's doing what either process does: both are of one call, or of none, and of
// one agent. The agent itself may do as it likes with what it has started. A helper of it is not the agent: it reaches
// into it, and into a hook of it, as a call does.
func (p *Process) mayReach(into *Process) bool {
	switch {
	case p.Agent != into.Agent:
		return false
	case p.Agent == nil || p.runsAgent():
		return true
	case into.runsAgent() || into.runsHook || into.hookShell || into.Role == roleHook:
		return false
	case p.ambiguous || into.ambiguous:
		return p.Call != into.Call || p.ambiguous == into.ambiguous // they may be of one call
	}
	return p.Call == into.Call
}
