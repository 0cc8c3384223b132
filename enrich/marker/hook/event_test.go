// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func dialect(name string) *agents.Dialect { return agents.Find(agents.Builtin(), name) }

func TestReadUnderstandsTheHooksOfEachAgent(t *testing.T) {
	for _, c := range []struct {
		name, agent, input string
		want               string // op, then session/call/tool of each mark
	}{
		{"Claude Code begins a call", "claude-code",
			`{"session_id":"s","transcript_path":"/t","cwd":"/","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"ls","session_id":"no"},"tool_use_id":"toolu_1"}`,
			"begin s/toolu_1/Bash"},
		{"Claude Code ends a call", "claude-code", `{"session_id":"s","hook_event_name":"PostToolUse","tool_name":"Bash","tool_use_id":"toolu_1","tool_response":{"stdout":"x"}}`, "end s/toolu_1/Bash"},
		{"Claude Code ends a call that failed", "claude-code", `{"session_id":"s","hook_event_name":"PostToolUseFailure","tool_name":"Bash","tool_use_id":"toolu_1"}`, "end s/toolu_1/Bash"},
		{"Claude Code ends a batch, the denied ones with it", "claude-code",
			`{"session_id":"s","hook_event_name":"PostToolBatch","tool_calls":[{"tool_name":"Bash","tool_use_id":"toolu_1"},{"tool_name":"Read","tool_use_id":"toolu_2"},{"no":1}]}`,
			"end s/toolu_1/ s/toolu_2/"},
		{"Codex begins a call", "codex", `{"session_id":"s","turn_id":"t","hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"call_1"}`, "begin s/call_1/Bash"},
		{"Qwen's own tool_use_id is not the model's", "qwen-code", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"run_shell_command","tool_use_id":"made-up","tool_call_id":"call_1"}`, "begin s/call_1/run_shell_command"},
		{"Cline nests its ids", "cline", `{"taskId":"t","sessionContext":{"rootSessionId":"s"},"hookName":"PreToolUse","tool_call":{"id":"call_1","name":"execute"}}`, "begin s/call_1/execute"},
		{"an event of no call says nothing", "claude-code", `{"session_id":"s","hook_event_name":"Stop"}`, ""},
		{"a call without an id marks nothing", "claude-code", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash"}`, "begin"},
		{"values of the wrong kind are none", "claude-code", `{"session_id":7,"hook_event_name":"PreToolUse","tool_use_id":["a",1,{"b":2}]}`, "begin from-env/a/"},
		{"too long a value is none", "codex", `{"session_id":"` + strings.Repeat("x", 1025) + `","hook_event_name":"PreToolUse","tool_use_id":"c"}`, "begin /c/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Read([]byte(c.input), dialect(c.agent), func(name string) string {
				if name == "CLAUDE_CODE_SESSION_ID" {
					return "from-env"
				}
				return ""
			})
			if err != nil {
				t.Fatal(err)
			}
			got := e.Op
			for _, m := range e.Marks {
				got += fmt.Sprintf(" %s/%s/%s", m.Session, m.Call, m.Tool)
				if m.Agent != c.agent || m.Source != client.SourceHook {
					t.Errorf("%+v", m)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatIsNoJSONIsAnError(t *testing.T) {
	for _, input := range []string{"", "null x", "[]", `"x"`, "{", strings.Repeat("[", 100_000)} {
		if e, err := Read([]byte(input), dialect("codex"), func(string) string { return "" }); err == nil {
			t.Errorf("%.20q: %+v", input, e)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"session_id":"s","hook_event_name":"PostToolBatch","tool_calls":[{"tool_use_id":"a"}]}`))
	f.Add([]byte(`{"sessionContext":{"rootSessionId":"s"},"hookName":"PreToolUse","tool_call":[[{"id":"x"}]]}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, d := range agents.Builtin() {
			e, err := Read(input, &d, func(string) string { return "" })
			if err != nil {
				continue
			}
			if len(e.Marks) > maxCalls {
				t.Errorf("%d marks", len(e.Marks))
			}
			for _, m := range e.Marks {
				if m.Call == "" || len(m.Call) > client.MaxText || len(m.Session) > client.MaxText || len(m.Tool) > client.MaxText {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}
