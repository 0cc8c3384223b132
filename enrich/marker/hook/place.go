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
	// Argument of the agent is followed by the text of a settings file that adds to the others for one run; empty: there
	// is none.
	Argument string
}

// A PlaceEvent is one kind of hook.
type PlaceEvent struct {
	Name    string
	Matcher string // pattern of the tools that it runs for; empty: all
	// Since is the first version of the agent that is known to take it; empty: any. Claude Code 2.0.30 runs no hook
	// at all when its settings name one that it does not know.
	Since string
}

// events gives those that a version of the agent knows. One that is not known, "", counts as a current one.
func (p *Place) events(version string) (out []PlaceEvent) {
	for _, e := range p.Events {
		if version == "" || !older(version, e.Since) {
			out = append(out, e)
		}
	}
	return out
}

// Lacks gives the first version of the agent that knows all events if this one does not; "" if it does, or is "".
func (p *Place) Lacks(version string) string {
	if since := p.Since(); version != "" && older(version, since) {
		return since
	}
	return ""
}

// Since is the first version of the agent that knows all events, "" if all do.
func (p *Place) Since() (since string) {
	for _, e := range p.Events {
		if older(since, e.Since) {
			since = e.Since
		}
	}
	return since
}

// Version finds the version in what the agent's --version prints; "" if there is none.
func Version(text string) string {
	return regexp.MustCompile(`\d{1,6}\.\d{1,6}\.\d{1,6}`).FindString(text)
}

// older compares versions. A text that is no version is older than any, and as old as another such text.
func older(a, b string) bool {
	x, errX := version.NewVersion(a)
	y, errY := version.NewVersion(b)
	return errY == nil && (errX != nil || x.LessThan(y))
}

// timeout is how long the agent waits for the hook at most, in seconds. The hook itself takes far less.
const timeout = 5

// Places are the agents whose hooks can be installed. All tools are marked: what works inside of the agent is a call as
// well, and the sensor tells by the tool which calls start commands.
func Places() []Place {
	return []Place{
		{
			// https://docs.claude.com/en/docs/claude-code/hooks
			Agent: "claude-code", Dir: ".claude", Env: "CLAUDE_CONFIG_DIR", File: "settings.json",
			Events: []PlaceEvent{
				{"PreToolUse", allTools, ""}, {"PostToolUse", allTools, ""}, {"PostToolUseFailure", allTools, "2.1.197"},
				// The only one that comes after a call that the user denied.
				{"PostToolBatch", "", "2.1.197"},
			},
			Program: "claude",
			After:   "sessions that run now keep their hooks: start Claude Code anew",
			// https://code.claude.com/docs/en/cli-reference
			Argument: "--settings",
		},
		{
			// https://developers.openai.com/codex/hooks
			Agent: "codex", Dir: ".codex", Env: "CODEX_HOME", File: "hooks.json",
			Events:  []PlaceEvent{{"PreToolUse", allTools, ""}, {"PostToolUse", allTools, ""}},
			Program: "codex",
			After:   "Codex runs a new hook only when you have trusted it: open /hooks in Codex once",
		},
	}
}

// allTools is the matcher of an event that every tool has.
const allTools = "*"

// FindPlace gives the place of an agent, or nil.
func FindPlace(agent string) *Place {
	for _, p := range Places() {
		if p.Agent == agent {
			return &p
		}
	}
	return nil
}
