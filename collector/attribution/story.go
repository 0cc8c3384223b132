// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// agentTold is what the story of an agent needs besides.
type agentTold struct {
	Pending any    // what package spans keeps of it; nil: it has no story yet
	Reports bool   // its telemetry or a mark by a hook of it was seen
	Late    uint64 // facts about calls whose session.call was sent
	void    bool   // it has begun at another time, as is known now
}

// Void says whether the agent is told as another one of the same instance.
func (a *agent) Void() bool { return a.Told.void }

// Wrappers are what the agent puts around commands.
func (a *agent) Wrappers() *agents.Wrappers {
	if a.dialect == nil {
		return &agents.Wrappers{}
	}
	return &a.dialect.Wrappers
}

// Keeps says whether a file is one that the agent keeps for itself, by its dialect.
func (a *agent) Keeps(name string) bool { return a.dialect != nil && a.dialect.Tools.Keeps(name) }

// NotBegun is said of a process that a look has found: the records of how it began come after all. An agent that began
// with this program does so once more.
func (p *Process) NotBegun(id span.Image) {
	if p.Role == RoleAgent && p.Agent.First == id {
		p.Agent.Told.void = true
	}
}
