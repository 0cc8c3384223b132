// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"regexp"

	"github.com/hashicorp/go-version"
)

// A Place is the hook configuration of one agent.
type Place struct {
	Agent string // dialect name
	// Dir is the agent's directory below the user's home, Env a variable that names another one, File the file in it.
	Dir, Env, File string
	Events         []PlaceEvent
	// Program is the agent's command; with --version it prints its version.
	Program string
	// After is a line for the user: what else is to do.
	After string
}

// A PlaceEvent is one kind of hook.
type PlaceEvent struct {
	Name    string
	Matcher string // pattern of the tools that it runs for; empty: all
	// Since is the first version of the agent that is known to take it; empty: any. Claude Code 2.0.30 runs no hook
	// at all when its settings name one that it does not know.
	Since string
}

// events gives those that a version of the agent knows. The version may be empty: unknown.
func (p *Place) events(version string) (out []PlaceEvent) {
	for _, e := range p.Events {
		if e.Since == "" || version != "" && !older(version, e.Since) {
			out = append(out, e)
		}
	}
	return out
}

// Lacks gives the first version of the agent that knows all events if this one, which may be empty, does not; else "".
func (p *Place) Lacks(version string) (since string) {
	for _, e := range p.Events {
		if e.Since != "" && (version == "" || older(version, e.Since)) {
			since = e.Since
		}
	}
	return since
}

// Version finds the version in what the agent's --version prints; "" if there is none.
func Version(text string) string {
	return regexp.MustCompile(`\d{1,6}\.\d{1,6}\.\d{1,6}`).FindString(text)
}

// older compares versions. A text that is no version is older than any.
func older(a, b string) bool {
	x, errX := version.NewVersion(a)
	y, errY := version.NewVersion(b)
	return errX != nil || errY == nil && x.LessThan(y)
}

// timeout is how long the agent waits for the hook at most, in seconds. The hook itself takes far less.
const timeout = 5

// Places are the agents whose hooks can be installed. Only tools that run commands are marked: a call is known
// by what it starts, and marks of other calls at the same time would make that ambiguous.
func Places() []Place {
	return []Place{
		{
			// https://docs.claude.com/en/docs/claude-code/hooks
			Agent: "claude-code", Dir: ".claude", Env: "CLAUDE_CONFIG_DIR", File: "settings.json",
			Events: []PlaceEvent{
				{"PreToolUse", "Bash", ""}, {"PostToolUse", "Bash", ""}, {"PostToolUseFailure", "Bash", "2.1.197"},
				// The only one that comes after a call that the user denied.
				{"PostToolBatch", "", "2.1.197"},
			},
			Program: "claude",
			After:   "sessions that run now keep their hooks: start Claude Code anew",
		},
		{
			// https://developers.openai.com/codex/hooks
			Agent: "codex", Dir: ".codex", Env: "CODEX_HOME", File: "hooks.json",
			Events:  []PlaceEvent{{"PreToolUse", "Bash", ""}, {"PostToolUse", "Bash", ""}},
			Program: "codex",
			After:   "Codex runs a new hook only when you have trusted it: open /hooks in Codex once",
		},
	}
}

// FindPlace gives the place of an agent, or nil.
func FindPlace(agent string) *Place {
	for _, p := range Places() {
		if p.Agent == agent {
			return &p
		}
	}
	return nil
}
