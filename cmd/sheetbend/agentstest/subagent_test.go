// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// What a subagent's commands do is told in a session of its own, below the one that began it.
func TestSubagentsAreSessionsWithAParent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		agent realAgent
		kind  string
		flags []string
		named bool // its calls by the model's ids, too
		told  bool // which call began it
	}{
		{"Claude Code", claude, "general-purpose", []string{"--agent-telemetry"}, true, true},
		{"OpenCode, plugin", opencodePlugin, "general", opencodePlugin.flags, true, false},
		{"Qwen Code", qwen, "general-purpose", nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, c.agent.where(t), "", func(d *desk) []modeltest.Script {
				return []modeltest.Script{
					{Name: "lead", Turns: [][]modeltest.Call{
						{modeltest.Shell(d.read("before"))}, {modeltest.Subagent(c.kind, "sub")}, {modeltest.Shell(d.read("afterwards"))},
					}},
					{Name: "sub", Turns: [][]modeltest.Call{
						{modeltest.Shell(d.read("within"))}, {modeltest.Shell(d.read("again"))},
					}},
				}
			})
			d.settle(c.agent)
			s := d.tell(c.flags, c.agent.commandLine("lead", true), c.agent)
			at := func(name, key string) string { return attr(s.opens(name)[0], key) }
			lead, sub := at("before", span.KeySessionID), at("within", span.KeySessionID)
			if lead == sub || at("afterwards", span.KeySessionID) != lead || at("again", span.KeySessionID) != sub {
				t.Errorf("sessions: %q before, %q and %q within, %q afterwards", lead, sub, at("again", span.KeySessionID), at("afterwards", span.KeySessionID))
			}
			for name, want := range map[string]string{"before": "", "within": lead, "again": lead, "afterwards": ""} {
				if parent := at(name, span.KeyParentSession); parent != want {
					t.Errorf("%s: parent %q, want %q", name, parent, want)
				}
			}
			for name, want := range map[string]string{"within": modeltest.ID("sub", 0, 0), "again": modeltest.ID("sub", 1, 0)} {
				if call := at(name, span.KeyCallID); c.named && call != want {
					t.Errorf("%s: call %q, want %q", name, call, want)
				}
				if parent := at(name, span.KeyParentCall); parent != map[bool]string{true: modeltest.ID("lead", 1, 0)}[c.told] {
					t.Errorf("%s: parent's call %q", name, parent)
				}
			}
			for _, sp := range s.spans {
				if ours(sp) && attr(sp, span.KeyCallID) == "" && attr(sp, span.KeySessionID) == sub {
					t.Errorf("%s, of the agent itself, is told in the subagent's session", nameOf(sp))
				}
			}
		})
	}
}
