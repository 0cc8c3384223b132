// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestEveryProtocolFollowsTheScriptByTheResultsInTheRequest(t *testing.T) {
	t.Parallel()
	s := New(Script{Name: "two", Turns: [][]Call{
		{Shell("first"), Shell("second")},
		{{Tool: "other", Input: func(results map[string]string) map[string]any { return map[string]any{"saw": results[ID("two", 0, 1)]} }}},
	}, Final: "The end."})
	t.Cleanup(s.Close)
	const first, second, third = "call_two_0_0", "call_two_0_1", "call_two_1_0"
	prompt := "around " + Prompt("two") + " it"
	for _, c := range []struct {
		name, path string
		ask        string   // %s: what follows the prompt
		done       []string // what follows it, turn by turn
	}{
		{
			name: "responses", path: "/v1/responses",
			ask: `{"stream":%t,"tools":[{"name":"exec_command"},{"name":"other"}],"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"` + prompt + `"}]}%s]}`,
			done: []string{
				`,{"type":"function_call_output","call_id":"` + first + `","output":"r1"},{"type":"function_call_output","call_id":"` + second + `","output":"r2"}`,
				`,{"type":"function_call_output","call_id":"` + third + `","output":[{"type":"input_text","text":"r3"}]}`,
			},
		},
		{
			name: "messages", path: "/v1/messages",
			ask: `{"stream":%t,"tools":[{"name":"Bash"},{"name":"other"}],"messages":[{"role":"user","content":"` + prompt + `"}%s]}`,
			done: []string{
				`,{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + first + `","content":"r1"},{"type":"tool_result","tool_use_id":"` + second + `","content":"r2"}]}`,
				`,{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + third + `","content":[{"type":"text","text":"r3"}]}]}`,
			},
		},
		{
			name: "chat", path: "/v1/chat/completions",
			ask: `{"stream":%t,"tools":[{"function":{"name":"bash"}},{"function":{"name":"other"}}],"messages":[{"role":"user","content":"` + prompt + `"}%s]}`,
			done: []string{
				`,{"role":"tool","tool_call_id":"` + first + `","content":"r1"},{"role":"tool","tool_call_id":"` + second + `","content":"r2"}`,
				`,{"role":"tool","tool_call_id":"` + third + `","content":"r3"}`,
			},
		},
		{
			name: "gemini", path: "/v1beta/models/m:streamGenerateContent",
			ask: `{"x":%t,"tools":[{"functionDeclarations":[{"name":"run_shell_command"},{"name":"other"}]}],"contents":[{"role":"user","parts":[{"text":"` + prompt + `"}]}%s]}`,
			done: []string{
				`,{"role":"user","parts":[{"functionResponse":{"id":"` + first + `","response":"r1"}},{"functionResponse":{"id":"` + second + `","response":"r2"}}]}`,
				`,{"role":"user","parts":[{"functionResponse":{"id":"` + third + `","response":{}}}]}`,
			},
		},
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, stream %t", c.name, stream), func(t *testing.T) {
				ask := func(turns int) string {
					body := fmt.Sprintf(c.ask, stream, strings.Join(c.done[:turns], ""))
					r, err := http.Post(s.URL()+c.path, "application/json", strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					defer r.Body.Close()
					text, err := io.ReadAll(r.Body)
					if err != nil || r.StatusCode != http.StatusOK {
						t.Fatalf("%s: %s, %v", r.Status, text, err)
					}
					return string(text)
				}
				for turn, want := range [][]string{{first, second, "first", "second"}, {third, "other", "saw", "r2"}, {"The end."}} {
					got := ask(turn)
					for _, part := range want {
						if !strings.Contains(got, part) {
							t.Errorf("turn %d: no %q in %s", turn, part, got)
						}
					}
					if turn == 2 && strings.Contains(got, "call_two") {
						t.Errorf("a call after the end: %s", got)
					}
				}
			})
		}
	}
	if errs := s.Errors(); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestOnlyTheScriptsOwnConversationFollowsIt(t *testing.T) {
	t.Parallel()
	scripts := map[string]Script{"a": {Name: "a", Turns: [][]Call{{Shell("x")}}}, "a-b": {Name: "a-b", Turns: [][]Call{{Shell("y")}}}}
	tools := []tool{{name: "bash"}}
	for _, c := range []struct {
		name  string
		r     request
		calls []string
	}{
		{"another prompt", request{prompts: []string{"hello"}, tools: tools}, nil},
		{"a request without tools", request{prompts: []string{Prompt("a")}}, nil},
		{"a name that another begins with", request{prompts: []string{Prompt("a-b")}, tools: tools}, []string{ID("a-b", 0, 0)}},
		{"after the end", request{prompts: []string{Prompt("a")}, tools: tools, answered: 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := next(scripts, c.r)
			var got []string
			for _, call := range a.calls {
				got = append(got, call.id)
			}
			if err != nil || !slices.Equal(got, c.calls) {
				t.Errorf("calls %q, %v; want %q", got, err, c.calls)
			}
		})
	}
	if _, err := next(scripts, request{prompts: []string{Prompt("a")}, tools: []tool{{name: "paint"}}}); err == nil {
		t.Error("no error though the agent offers no shell")
	}
}
