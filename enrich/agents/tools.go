// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"slices"
	"strings"
)

// ToolKind is where a tool works.
type ToolKind uint8

// The kinds.
const (
	ToolUnknown ToolKind = iota // the dialect says nothing of its tools, or the tool has no name
	ToolCommand                 // a process of its own
	ToolAgent                   // a subagent
	ToolMCP                     // an MCP server
	ToolInside                  // the agent's own process
)

// Known says whether the dialect tells its tools apart.
func (t *Tools) Known() bool { return len(t.Commands)+len(t.Agents) > 0 || t.MCP != "" }

// Kind says where the tool of a name works and, with ToolMCP, what its server is called.
func (t *Tools) Kind(name string) (kind ToolKind, server string) {
	if name == "" || !t.Known() {
		return ToolUnknown, ""
	}
	if matchesTool(t.Commands, name) {
		return ToolCommand, ""
	}
	if matchesTool(t.Agents, name) {
		return ToolAgent, ""
	}
	if server = t.server(name); server != "" {
		return ToolMCP, server
	}
	return ToolInside, ""
}

func matchesTool(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		begin, any := strings.CutSuffix(s, "*")
		return s == name || any && strings.HasPrefix(name, begin)
	})
}

// server reads the name of a tool as MCP has it: up to the first place where what stands between the two words comes.
func (t *Tools) server(name string) string {
	before, rest, ok := strings.Cut(t.MCP, "{server}")
	between, after, ok2 := strings.Cut(rest, "{tool}")
	name, ok3 := strings.CutPrefix(name, before)
	name, ok4 := strings.CutSuffix(name, after)
	server, tool, ok5 := strings.Cut(name, between)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || between == "" || tool == "" {
		return ""
	}
	return server
}

// Keeps says whether a path is in what the agent keeps for itself.
func (t *Tools) Keeps(name string) bool {
	return slices.ContainsFunc(t.State, func(own string) bool {
		for rest := name; ; {
			_, after, ok := strings.Cut(rest, "/"+own)
			if !ok || after == "" || after[0] == '/' || after[0] == '.' {
				return ok
			}
			rest = after
		}
	})
}
