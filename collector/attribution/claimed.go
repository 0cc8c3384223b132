// SPDX-License-Identifier: Apache-2.0

package attribution

import "github.com/sheetbend/sheetbend/collector/span"

// A Claim says which agent has had which session: a record that is left out may have told it.
type Claim struct {
	Agent          span.Image // its first program; zero: a harness
	UID            uint32
	Nested         bool   // the agent is within another one
	Place, Dialect string // as in holder
	Session        string // in the agent's word
}

// claimed tells the journal that an agent has a session from now on, when the record at hand is done.
func (c *Table) claimed(a *agent) {
	h := a.holder()
	c.claims = append(c.claims, Claim{a.First, h.uid, a.Outer.Agent != nil, h.place, h.dialect, a.OwnID})
}

// Advance tells the journal what the record at hand began. It is called between two records.
func (c *Table) Advance() {
	if c.Slicer.journal != nil && !c.Slicer.replaying {
		for _, k := range c.claims {
			c.Slicer.journal.Claimed(k)
		}
		for _, r := range c.reaches {
			c.Slicer.journal.Reached(r)
		}
	}
	c.claims, c.reaches = c.claims[:0], c.reaches[:0]
	c.Slicer.Advance()
}

// Remembers says whether it still counts who has had a session.
func (c *Table) Remembers(k Claim) bool {
	return c.agentOf(k.Session, k.UID) != nil || c.Sessions.BySession[c.Sessions.nameFor(k.Session, k.UID)] != nil
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *Table) SetClaim(k Claim) {
	if !k.Nested {
		c.DisplaceNested(k.Session)
	}
	if a := c.startedAs(k.Agent); a != nil {
		if a.OwnID != k.Session {
			c.name(a, k.Session)
		}
		return
	}
	// It is over.
	h := Holder{k.Place, k.UID, k.Dialect}
	o := c.Sessions.get(c.Sessions.nameFor(k.Session, k.UID), h)
	if o.Users > 0 {
		return
	}
	c.Sessions.restore(o)
	o.claimed, o.of = !k.Nested, h
	c.Sessions.retire(o)
}

// startedAs gives the agent whose first program this is; nil: none, or it is not known.
func (c *Table) startedAs(first span.Image) (found *agent) {
	if first == (span.Image{}) {
		return nil
	}
	c.Tree.EachSandbox(func(sb *Sandbox) {
		for _, a := range sb.Agents {
			if found == nil && a.First == first {
				found = a
			}
		}
	})
	return found
}
