// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// denied runs the script whose fourth call the user's rules deny, and gives that call's id. Nothing of it may have
// run, and what the sensor says of it, if anything, is that it was denied.
func denied(t *testing.T, a realAgent) (s *story, call string) {
	t.Helper()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(steps(d, a.session)) })
	d.settle(a)
	s = d.tell([]string{"--agent-telemetry"}, a.commandLine("steps", false), a)
	d.absent("denied")
	call = modeltest.ID("steps", 3, 0)
	for _, sp := range s.spans {
		if !ours(sp) || s.call(sp) != call {
			continue
		}
		approval, violated := attr(sp, span.KeyApproval), attr(sp, span.KeyApprovalViolated)
		if attr(sp, span.KeyPID) != "" || violated != "" || approval == "approved" {
			t.Errorf("%s of the denied call: approval %q, violated %q", nameOf(sp), approval, violated)
		}
	}
	return s, call
}

func TestClaudeCodesOwnSpansTellOfADeniedCallAndWhoDeniedIt(t *testing.T) {
	t.Parallel()
	s, call := denied(t, claude)
	told := 0
	for _, sp := range s.spans {
		above := s.parent(sp)
		if sp.Name != "claude_code.tool.blocked_on_user" || above == nil || attr(above, "tool_use_id") != call {
			continue
		}
		told++
		if decision, source := attr(sp, "decision"), attr(sp, "source"); above.Name != "claude_code.tool" || decision != "reject" || source != "config" {
			t.Errorf("%s under %s: %q by %q, want reject by config", sp.Name, above.Name, decision, source)
		}
	}
	if told != 1 {
		t.Errorf("%d spans tell of the decision, want 1", told)
	}
	for _, sp := range s.spans {
		if sp.Name == "claude_code.tool.execution" && attr(sp, "tool_use_id") == call {
			t.Error("the denied call was executed, says the agent")
		}
	}
}

// Codex makes no decision event for a command that its rules forbid: it fails.
func TestCodexsOwnSpanTellsOfADeniedCallAsOneThatFailed(t *testing.T) {
	t.Parallel()
	s, call := denied(t, codex)
	spans, failed := 0, 0
	for _, sp := range s.spans {
		if sp.Name == "unified_exec.exec_command" && attr(sp, "call_id") == call {
			spans++
		}
	}
	for _, l := range s.logs {
		if attrOf(l.Attributes, "call_id") != call {
			continue
		}
		switch attrOf(l.Attributes, "event.name") {
		case "codex.tool_result":
			if attrOf(l.Attributes, "success") == "false" {
				failed++
			}
		case "codex.tool_decision":
			t.Errorf("a decision came: %q by %q; the collector can tell of it", attrOf(l.Attributes, "decision"), attrOf(l.Attributes, "source"))
		}
	}
	if spans != 1 || failed != 1 {
		t.Errorf("%d spans of the denied call and %d results that say it failed, want 1 of each", spans, failed)
	}
}
