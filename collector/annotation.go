// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
)

// openAnnotated opens the call that the pod's annotation names for what a container's processes do by themselves, below no agent: as a marker on its
// cgroup would.
func (c *containers) openAnnotated(g *group) {
	call := annotation(&g.box.info, CallAnnotation)
	if call == "" {
		return
	}
	c.attribution.annotated(&g.aGroup, call)
}

// retold does what another word of a container says: the pod has new labels or annotations. What is a sandbox stays one.
func (c *containers) retold(b *box) {
	s, ok := ChooseContainer(c.config.Sandboxes, &b.info)
	if !ok {
		return
	}
	*b.chosen = s
	for e := c.lineage.sandboxes.Front(); e != nil; e = e.Next() {
		sb := e.Value.(*sandbox)
		g := c.lineage.groups[sb.cgroup]
		if sb.box != &b.aBox || sb.path != b.root || g == nil {
			continue
		}
		c.lineage.moveSession(sb, sb.configured(s))
		call := annotation(&b.info, CallAnnotation)
		for _, k := range slices.Clone(g.marks.open) {
			if k.annotated && (k.id != call || k.owner != sb.owner) {
				c.attribution.closeMark(k)
			}
		}
		c.openAnnotated(g)
	}
}

// moveSession gives a sandbox another session for all further spans, and to the agents that were not started in a call. Open calls stay in
// the one that they began in.
func (c *lineage) moveSession(sb *sandbox, session string) {
	if session == sb.owner.session {
		return
	}
	for p := sb.active.oldest; p != nil; p = p.newer {
		c.above.flush(p)
	}
	c.attribution.displaceNested(session)
	was := sb.owner
	sb.owner = c.attribution.owners.acquire(session, sb.holder())
	c.attribution.owners.release(was)
	for _, a := range sb.agents {
		if a.outer.agent == nil {
			c.attribution.setOwner(a, c.attribution.owners.acquire(session, sb.holder()))
		}
	}
}
