// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// factsIn reads both forms of a request, which have to say the same.
func factsIn(t *testing.T, s Signal, r interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}) []record.Said {
	t.Helper()
	fromProtobuf, err := walked(s, false, asProtobuf(t, r))
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := walked(s, true, asJSON(t, r))
	if err != nil {
		t.Fatalf("%v in %s", err, asJSON(t, r))
	}
	if !slices.Equal(fromProtobuf, fromJSON) {
		t.Errorf("protobuf and JSON differ:\n%+v\n%+v", fromProtobuf, fromJSON)
	}
	return fromProtobuf
}

func walked(s Signal, asJSON bool, b []byte) (said []record.Said, err error) {
	r := newReading(agents.Builtin())
	f := facts{reading: &r}
	if asJSON {
		if b, err = toProtobuf(s, b); err != nil {
			return nil, err
		}
	}
	err = walkProtobuf(s, b, &f)
	for _, one := range f.found {
		said = append(said, one.said)
	}
	return said, err
}

// The attributes are those that the agents of docs/agents.md were seen to send.
func TestFactsOfEachAgentAreRead(t *testing.T) {
	trace, span := [16]byte(traceA), [8]byte(spanA)
	for _, c := range []struct {
		name string
		sig  Signal
		req  interface {
			MarshalProto() ([]byte, error)
			MarshalJSON() ([]byte, error)
		}
		want record.Said
	}{
		{
			"codex: the decision, by whom", Logs,
			logsOf("codex_exec", "", "event.name", "codex.tool_decision", "conversation.id", "s-1", "call_id", "call_1_0",
				"tool_name", "exec_command", "decision", "approved", "source", "config"),
			record.Said{Kind: record.SaidDecision, Agent: "codex", Session: "s-1", Call: "call_1_0", Tool: "exec_command", Decision: record.Approved, Source: "config"},
		},
		{
			"codex: the result, and none of the output", Logs,
			logsOf("codex_exec", "codex.tool_result", "conversation.id", "s-1", "call_id", "call_1_0", "tool_name", "exec_command",
				"arguments", `{"cmd":"secret"}`, "output", "secret", "success", "false", "duration_ms", 12),
			record.Said{Kind: record.SaidResult, Agent: "codex", Session: "s-1", Call: "call_1_0", Tool: "exec_command", Success: record.SuccessFailed},
		},
		{
			"codex: the session and its policy", Logs,
			logsOf("codex_cli_rs", "", "event.name", "codex.conversation_starts", "conversation.id", "s-1", "approval_policy", "never", "sandbox_policy", "read-only"),
			record.Said{Kind: record.SaidSession, Agent: "codex", Session: "s-1", Detail: "approval_policy=never sandbox_policy=read-only"},
		},
		{
			"codex: the span of a call", Traces,
			tracesOf("codex_exec", "exec_command", "call_id", "call_1_0", "conversation.id", "s-1"),
			record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "codex", Session: "s-1", Call: "call_1_0"},
		},
		{
			"claude: the span of a call", Traces,
			tracesOf("claude-code", "claude_code.tool.execution", "session.id", "s-2", "tool_use_id", "toolu_1", "gen_ai.tool.call.id", "toolu_1"),
			record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "claude-code", Session: "s-2", Call: "toolu_1"},
		},
		{
			"claude: a refusal by the user", Logs,
			logsOf("claude-code", "claude_code.tool_decision", "event.name", "tool_decision", "session.id", "s-2", "tool_use_id", "toolu_1",
				"tool_name", "Bash", "decision", "reject", "source", "user_reject"),
			record.Said{Kind: record.SaidDecision, Agent: "claude-code", Session: "s-2", Call: "toolu_1", Tool: "Bash", Decision: record.Denied, Source: "user_reject"},
		},
		{
			"gemini: the call id without the tool's name", Traces,
			tracesOf("gemini-cli", "tool_call", "gen_ai.tool.call_id", "run_shell_command__gfc_0_0", "gen_ai.conversation.id", "s-3", "gen_ai.tool.name", "run_shell_command"),
			record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "gemini-cli", Session: "s-3", Call: "gfc_0_0", Tool: "run_shell_command"},
		},
		{
			"gemini: an event with a decision only", Logs,
			logsOf("gemini-cli", "", "event.name", "gemini_cli.tool_call", "session.id", "s-3", "gen_ai.tool.call_id", "x__1", "decision", "reject"),
			record.Said{Kind: record.SaidDecision, Agent: "gemini-cli", Session: "s-3", Call: "1", Decision: record.Denied},
		},
		{
			"copilot: a span whose name has the tool in it", Traces,
			tracesOf("github-copilot", "execute_tool bash bash", "gen_ai.tool.call.id", "call_3", "gen_ai.conversation.id", "s-5", "gen_ai.tool.name", "bash"),
			record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "copilot-cli", Session: "s-5", Call: "call_3", Tool: "bash"},
		},
		{
			"opencode", Traces,
			tracesOf("opencode", "Tool.execute", "tool.name", "bash", "session.id", "ses_1", "message.id", "m", "tool.call_id", "call_4"),
			record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "opencode", Session: "ses_1", Call: "call_4", Tool: "bash"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Trace, c.want.Span = trace, span
			got := factsIn(t, c.sig, c.req)
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("got\n%+v\nwant\n%+v", got, c.want)
			}
			for _, s := range got {
				if strings.Contains(fmt.Sprintf("%+v", s), "secret") {
					t.Error("an argument or output was read")
				}
			}
		})
	}
}

func TestADecisionAndAResultInOneEventAreTwoFacts(t *testing.T) {
	got := factsIn(t, Logs, logsOf("qwen-code", "", "event.name", "qwen-code.tool_call", "session.id", "s-4", "call_id", "call_2", "tool_use_id", "made up",
		"function_name", "run_shell_command", "decision", "auto_accept", "success", true))
	decision := record.Said{
		Kind: record.SaidDecision, Trace: traceA, Span: spanA, Agent: "qwen-code", Session: "s-4", Call: "call_2", Tool: "run_shell_command",
		Decision: record.Approved,
	}
	result := decision
	result.Kind, result.Decision, result.Success = record.SaidResult, "", record.SuccessOK
	if !slices.Equal(got, []record.Said{decision, result}) {
		t.Errorf("%+v", got)
	}
}

func TestWhatSaysNothingAboutACallIsNoFact(t *testing.T) {
	noIDs := tracesOf("codex_exec", "exec_command", "call_id", "c", "conversation.id", "s")
	noIDs.Traces().ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetSpanID([8]byte{})
	for name, r := range map[string]ptraceotlp.ExportRequest{
		"an unknown service":        tracesOf("somebody", "exec_command", "call_id", "c"),
		"another agent's span name": tracesOf("gemini-cli", "exec_command", "call_id", "c"),
		"a span without a call id":  tracesOf("codex_exec", "exec_command", "conversation.id", "s"),
		"an empty call id":          tracesOf("codex_exec", "exec_command", "call_id", ""),
		"a span without an id":      noIDs,
		"no service at all":         tracesOf("", "exec_command", "call_id", "c"),
		"nothing":                   ptraceotlp.NewExportRequest(),
	} {
		if got := factsIn(t, Traces, r); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := factsIn(t, Logs, logsOf("claude-code", "", "event.name", "tool_decision", "session.id", "s", "decision", "accept")); len(got) != 0 {
		t.Errorf("a decision about no call: %+v", got)
	}
}

func TestTheSpanOfWhatTheUserAskedIsNoCallsButItsCommands(t *testing.T) {
	got := factsIn(t, Traces, tracesOf("claude-code", "claude_code.interaction", "session.id", "s", "tool_use_id", "c", "tool_name", "Bash", "user_prompt", "secret"))
	want := record.Said{
		Kind: record.SaidContext, Trace: traceA, Span: spanA, Agent: "claude-code", Session: "s",
		More: record.More("").With(record.MoreOrigin, record.OriginUser),
	}
	if !slices.Equal(got, []record.Said{want}) {
		t.Errorf("%+v", got)
	}
}

func TestOfSeveralSpansOfACallTheOneListedFirstCounts(t *testing.T) {
	r := tracesOf("codex_exec", "exec_command", "call_id", "a")
	rs := r.Traces().ResourceSpans().At(0)
	addSpan(rs, "unified_exec.exec_command", "call_id", "a").SetSpanID([8]byte{9})
	addSpan(rs, "exec_command", "call_id", "a")
	addSpan(rs, "exec_command", "call_id", "b")
	got := factsIn(t, Traces, r)
	if len(got) != 2 || got[0].Span != [8]byte{9} || got[1].Call != "b" {
		t.Errorf("%+v", got)
	}
}

func TestAttributesOfTheResourceStandInAndItsPlaceDoesNotMatter(t *testing.T) {
	r := logsOf("claude-code", "tool_result", "tool_use_id", "c", "success", true)
	r.Logs().ResourceLogs().At(0).Resource().Attributes().PutStr("session.id", "of the resource")
	got := factsIn(t, Logs, r)
	if len(got) != 1 || got[0].Session != "of the resource" || got[0].Success != record.SuccessOK {
		t.Errorf("%+v", got)
	}
	behind := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"tool\u005fresult"},"attributes":[
		{"value":{"stringValue":"c\n1"},"key":"tool_use_id"},{"key":"x","value":{"kvlistValue":{"values":[]}}}]}]}],
		"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}},{"key":"session.id","value":{"intValue":"7"}}]}}, null]}`
	got, err := walked(Logs, true, []byte(behind))
	if err != nil || len(got) != 1 || got[0].Session != "7" || got[0].Call != "c\n1" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestAUsersDialectIsReadToo(t *testing.T) {
	r := newReading(agents.Merge(agents.Builtin(), []agents.Dialect{{
		Name: "mine", Telemetry: agents.Telemetry{
			Services: []string{"mine"}, Call: []string{"id"},
			Events: []agents.Event{{Name: "blocked", Kind: agents.EventNetwork, Decision: []string{"verdict"}, Denied: []string{"no"}, Detail: []string{"host"}}},
		},
	}}))
	f := facts{reading: &r}
	b := asProtobuf(t, logsOf("mine", "blocked", "id", "1", "verdict", "NO", "host", "example.com"))
	if err := walkProtobuf(Logs, b, &f); err != nil || len(f.found) != 1 {
		t.Fatal(err, f.found)
	}
	if s := f.found[0].said; s.Kind != record.SaidNetwork || s.Decision != record.Denied || s.Detail != "host=example.com" || s.Agent != "mine" {
		t.Errorf("%+v", s)
	}
}

func TestFactsAreBoundedInSizeAndCount(t *testing.T) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr(keyService, "claude-code")
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	for i := range maxFacts + 7 {
		l := records.AppendEmpty()
		l.Body().SetStr("tool_result")
		l.Attributes().PutStr("tool_use_id", strings.Repeat("é", 4000)+fmt.Sprint(i))
		for range 100 {
			l.Attributes().PutStr("tool_name", "\xff\xfe")
		}
	}
	r := newReading(agents.Builtin())
	f := facts{reading: &r}
	if err := walkProtobuf(Logs, asProtobuf(t, plogotlp.NewExportRequestFromLogs(ld)), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.found) != maxFacts || f.lost != 7 {
		t.Errorf("%d facts, %d lost", len(f.found), f.lost)
	}
	if s := f.found[0].said; len(s.Call) != record.MaxText || s.Tool != "" {
		t.Errorf("call id of %d bytes, tool %q", len(s.Call), s.Tool)
	}
}

func TestMalformedRequestsAreRefusedWhole(t *testing.T) {
	service := `"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"codex"}}]}`
	for _, c := range []struct {
		sig  Signal
		text string
	}{
		{Traces, ``},
		{Traces, `[]`},
		{Traces, `{"resourceSpans":{}}`},
		{Traces, `{"resourceSpans":[1]}`},
		{Traces, `{"resourceSpans":[{` + service + `,"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}]}`},
		{Traces, `{"resourceSpans":[{` + service + `,"scopeSpans":[{"spans":[{"traceId":"zz020304050607080910111213141516"}]}]}]}`},
		{Traces, `{"resourceSpans":[{` + service + `,"scopeSpans":[{"spans":[{"name":7}]}]}]}`},
		{Logs, `{"resourceLogs":[{` + service + `,"scopeLogs":[{"logRecords":[{"attributes":[{"key":"call_id","value":{"intValue":"x"}}]}]}]}]}`},
		{Logs, `{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"boolValue":"true"}}]}}]}`},
		{Metrics, `{"resourceMetrics":[}`},
		{Metrics, strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)},
	} {
		if _, err := walked(c.sig, true, []byte(c.text)); err == nil {
			t.Errorf("accepted: %s", c.text)
		}
	}
	good := asProtobuf(t, tracesOf("codex_exec", "exec_command", "call_id", "call_1_0", "conversation.id", "s-1"))
	refused := 0
	for i := range good {
		if _, err := walked(Traces, false, good[:i]); err != nil {
			refused++
		}
	}
	if refused < len(good)-1 {
		t.Errorf("%d of %d cut requests refused", refused, len(good))
	}
}
