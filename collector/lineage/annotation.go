// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/config"
)

// openAnnotated opens the call that the pod's annotation names for what a container's processes do by themselves, below
// no agent: as a marker on its cgroup would.
func (c *Containers) openAnnotated(g *Cgroup) {
	call := config.Annotation(&g.container.Info, config.CallAnnotation)
	if call == "" {
		return
	}
	c.attribution.Marks.Annotated(&g.Cgroup, call)
}

// changed does what another word of a container says: the pod has new labels or annotations. What is a sandbox stays
// one.
func (c *Containers) changed(b *Container) {
	s, ok := config.ChooseContainer(c.config.Sandboxes, &b.Info)
	if !ok {
		return
	}
	*b.chosen = s
	for e := c.lineage.Sandboxes.Front(); e != nil; e = e.Next() {
		sb := e.Value.(*Sandbox)
		g := c.lineage.Cgroups[sb.cgroup]
		if sb.Container != &b.Container || sb.path != b.root || g == nil {
			continue
		}
		c.lineage.moveSession(sb, sb.configured(s))
		call := config.Annotation(&b.Info, config.CallAnnotation)
		for _, k := range slices.Clone(g.Marks.Open) {
			if k.Marking.Annotated && (k.ID != call || k.Session != sb.Session) {
				c.attribution.Marks.CloseMark(k)
			}
		}
		c.openAnnotated(g)
	}
}

// moveSession gives a sandbox another session for all further spans, and to the agents that were not started in a call.
// Open calls stay in the one that they began in.
func (c *Tree) moveSession(sb *Sandbox, session string) {
	if session == sb.Session.SessionName {
		return
	}
	for p := sb.Active.Oldest; p != nil; p = p.Newer {
		c.Above.Flush(p)
	}
	c.Attribution.DisplaceNested(session)
	was := sb.Session
	sb.Session = c.Attribution.Sessions.Acquire(session, sb.Holder())
	c.Attribution.Sessions.Release(was)
	for _, a := range sb.Agents {
		if a.Outer.Agent == nil {
			c.Attribution.SetSession(a, c.Attribution.Sessions.Acquire(session, sb.Holder()))
		}
	}
}
