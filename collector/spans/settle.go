// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
)

// Settle sends what is held of a sandbox, by its id: nobody waits for more of it. What still runs there goes on, and is
// told of when it ends. sb is nil when the sandbox is over.
func (c *Spans) Settle(id string, sb *lineage.Sandbox) {
	running := sb != nil && sb.Processes > 0
	waits := func(h *held) bool {
		if h.in == nil || h.span.of().ID != id {
			return false
		}
		_, long := h.span.(longWaiting)
		return !long || !running
	}
	for _, q := range c.queue.all() {
		var found []*held
		for h := q.oldest; h != nil; h = h.next {
			if waits(h) {
				found = append(found, h)
			}
		}
		for _, h := range found {
			if waits(h) { // another one may have taken it along
				c.queue.runOutOf(h, c.clock.Now)
			}
		}
	}
	if running {
		if s := c.toldOf(&sb.Sandbox); !s.over && (s.account.did() || s.net.scope != nil) {
			c.endSandbox(s, sb)
			s.runOut(c, c.clock.Now)
		}
	}
}

// The sandboxes of what waits.

func (s *callSpan) of() *attribution.Sandbox    { return s.call.Agent.Sandbox }
func (s *changeSpan) of() *attribution.Sandbox  { return &s.process.Sandbox.Sandbox }
func (s *connectSpan) of() *attribution.Sandbox { return &s.process.Sandbox.Sandbox }
func (s *countedSpan) of() *attribution.Sandbox { return &s.key.process.Sandbox.Sandbox }
func (s *sandboxTold) of() *attribution.Sandbox { return &s.sandbox.Sandbox }
func (x *execSpan) of() *attribution.Sandbox    { return &x.exec.Process.Sandbox.Sandbox }
func (l *lookup) of() *attribution.Sandbox      { return l.span.of() }
func (o *oldNames) of() *attribution.Sandbox    { return o.sandbox }
func (s *openSpan) of() *attribution.Sandbox    { return &s.process.Sandbox.Sandbox }
func (s *agentStory) of() *attribution.Sandbox  { return s.owner.Agent.Sandbox }
func (s *callStory) of() *attribution.Sandbox   { return s.call.Agent.Sandbox }
