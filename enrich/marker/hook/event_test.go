// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
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
		{"Codex begins a call, and calls the tool as its telemetry does", "codex", `{"session_id":"s","turn_id":"t","hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"call_1"}`, "begin s/call_1/exec_command"},
		{"Qwen's own tool_use_id is not the model's", "qwen-code", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"run_shell_command","tool_use_id":"made-up","tool_call_id":"call_1"}`, "begin s/call_1/run_shell_command"},
		{"Cline nests its ids", "cline", `{"taskId":"t","sessionContext":{"rootSessionId":"s"},"hookName":"PreToolUse","tool_call":{"id":"call_1","name":"execute"}}`, "begin s/call_1/execute"},
		{"an event of no call says nothing", "claude-code", `{"session_id":"s","hook_event_name":"Stop"}`, ""},
		{"a call without an id marks nothing", "claude-code", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash"}`, "begin"},
		{"values of the wrong kind are none", "claude-code", `{"session_id":7,"hook_event_name":"PreToolUse","tool_use_id":["a",1,{"b":2}]}`, "begin from-env/a/"},
		{"a value with a NUL byte is none", "codex", `{"session_id":"a\u0000b","hook_event_name":"PreToolUse","tool_use_id":"c"}`, "begin /c/"},
		{"values of nothing", "claude-code", `{"session_id":null,"hook_event_name":"PostToolBatch","tool_use_id":null,"tool_calls":[null,{"tool_use_id":"a"},null]}`, "end from-env/a/"},
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

// What a call is to do goes with its begin: paths as they are, of the command its hash alone.
func TestReadSaysWhatACallIsToDo(t *testing.T) {
	command := func(text string) string { return " command " + agents.CommandHash(text) }
	long := strings.Repeat("x", client.MaxText)
	for _, c := range []struct{ name, agent, input, want string }{
		{"a command", "claude-code", `"tool_input":{"command":" cat secret\n","description":"x"}`, command("cat secret")},
		{"a command that is longer than a mark", "claude-code", `"tool_input":{"command":"` + long + long + `"}`, command(long + long)},
		{"an edit", "claude-code", `"tool_input":{"file_path":"/w/a b","old_string":"x"}`, " /w/a b"},
		{"a notebook", "claude-code", `"tool_input":{"notebook_path":"/w/n.ipynb"}`, " /w/n.ipynb"},
		{"a relative path", "claude-code", `"cwd":"/w/d","tool_input":{"path":"../e/./f"}`, " /w/e/f"},
		{"a relative path to nowhere", "claude-code", `"cwd":"d","tool_input":{"path":"e"}`, ""},
		{"of a subagent", "claude-code", `"agent_id":"a1","tool_input":{"path":"/x"}`, " /x by a1"},
		{"a patch", "codex", `"cwd":"/w","tool_input":{"command":"*** Begin Patch\n*** Add File: new\n+*** Delete File: no\n*** Update File: old\r\n*** Move to: /m/moved\n@@\n *** Add File: no\n*** Delete File: gone\n*** Update File: old\n*** End Patch"}`, " /w/new /w/old /m/moved /w/gone"},
		{"a command of Codex", "codex", `"tool_input":{"command":"ls"}`, command("ls")},
		{"a command that has a patch in it", "codex", `"tool_input":{"command":"cat <<E\n*** Begin Patch\n*** Add File: new\nE"}`, command("cat <<E\n*** Begin Patch\n*** Add File: new\nE")},
		{"a patch that is a command", "codex", `"cwd":"/w","tool_input":{"command":"apply_patch <<'E'\n*** Begin Patch\n*** Add File: new\nE"}`, " /w/new" + command("apply_patch <<'E'\n*** Begin Patch\n*** Add File: new\nE")},
		{"several commands are none", "claude-code", `"tool_input":{"command":["a","b"]}`, ""},
		{"no arguments", "claude-code", `"tool_input":7`, ""},
		{"a path with a NUL byte", "claude-code", `"tool_input":{"file_path":"/a\u0000b"}`, ""},
		{"more than a mark holds", "codex", `"cwd":"/","tool_input":{"command":"*** Begin Patch` + strings.Repeat(`\n*** Add File: `+long[:600], 2) + `\n*** Add File: ` + long[:601] + `\n*** Add File: b"}`, " /" + long[:600] + " /b"},
		{"very many paths", "codex", `"cwd":"/","tool_input":{"command":"*** Begin Patch` + manyHeadings(1000) + `"}`, strings.Join(numbered(client.MaxPaths), "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"T","tool_use_id":"c",` + c.input + "}"
			e, err := Read([]byte(input), dialect(c.agent), func(string) string { return "" })
			if err != nil || len(e.Marks) != 1 {
				t.Fatalf("%+v, %v", e, err)
			}
			m, got := e.Marks[0], ""
			for _, path := range m.Paths {
				got += " " + path
			}
			if m.Command != "" {
				got += " command " + m.Command
			}
			if m.Thread != "" {
				got += " by " + m.Thread
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestReadSaysWhichSubagentACallBegan(t *testing.T) {
	for event, want := range map[string]string{"PreToolUse": "caller", "PostToolUse": "begun"} {
		e, err := Read([]byte(`{"session_id":"s","hook_event_name":"`+event+`","tool_name":"Agent","tool_use_id":"c","agent_id":"caller",`+
			`"tool_response":{"agentId":"begun"}}`), dialect("claude-code"), func(string) string { return "" })
		if err != nil || len(e.Marks) != 1 || e.Marks[0].Thread != want {
			t.Errorf("%s: %+v, %v; want %s", event, e, err, want)
		}
	}
}

func manyHeadings(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `\n*** Add File: %d`, i)
	}
	return b.String()
}

func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(" /%d", i))
	}
	return list
}

// Inputs of the kind that takes most: what is looked at is bounded all the same.
func TestAHugeInputIsReadInBounds(t *testing.T) {
	const size = 4 << 20
	for _, c := range []struct{ name, input string }{
		{"elements", `"tool_input":{"command":[` + strings.Repeat("1,", size/2) + `1]}`},
		{"members", `"tool_input":{` + strings.Repeat(`"":1,`, size/5) + `"":1}`},
		{"a command", `"tool_input":{"command":"` + strings.Repeat("x", size) + `"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := []byte(`{"session_id":"s","hook_event_name":"PreToolUse","tool_use_id":"c",` + c.input + "}")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			e, err := Read(input, dialect("claude-code"), func(string) string { return "" })
			runtime.ReadMemStats(&after)
			if err != nil || len(e.Marks) != 1 {
				t.Fatalf("%d marks, %v", len(e.Marks), err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 3*size {
				t.Errorf("%d MiB", took>>20)
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

// What is looked at is what encoding/json reads.
func sameAsDecoded(t *testing.T, input []byte) {
	var want map[string]json.RawMessage
	v := &value{raw: bytes.TrimSpace(input)}
	if v.open(); json.Unmarshal(input, &want) != nil || len(want) > maxMembers {
		return
	}
	for key, raw := range want {
		if got := v.members[key]; len(key) <= maxKey && (got == nil || !bytes.Equal(got.raw, bytes.TrimSpace(raw))) {
			t.Errorf("%q: %+v, want %q of %q", key, got, raw, input)
		}
	}
	if len(v.members) > len(want) {
		t.Errorf("%d members, want %d", len(v.members), len(want))
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"session_id":"s","hook_event_name":"PostToolBatch","tool_calls":[{"tool_use_id":"a"}]}`))
	f.Add([]byte(`{"hook_event_name":"PreToolUse","cwd":"/w","tool_use_id":"a","tool_input":{"command":"*** Begin Patch\n*** Add File: x","path":["b",null]}}`))
	f.Add([]byte(`{"sessionContext":{"rootSessionId":"s"},"hookName":"PreToolUse","tool_call":[[{"id":"x"}]]}`))
	f.Add([]byte(` { "a\\"b" : [1,"]}", {}] , "c":-1.5e3,"d":null ,"e":{"f":[]},"c":"\\\\"}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		if json.Valid(input) {
			sameAsDecoded(t, input)
		}
		for _, d := range agents.Builtin() {
			e, err := Read(input, &d, func(string) string { return "" })
			if err != nil {
				continue
			}
			if len(e.Marks) > maxCalls {
				t.Errorf("%d marks", len(e.Marks))
			}
			for _, m := range e.Marks {
				if m.Call == "" || len(m.Call) > client.MaxText || len(m.Session) > client.MaxText || len(m.Tool) > client.MaxText ||
					len(m.Thread) > client.MaxText || len(m.Paths) > client.MaxPaths {
					t.Errorf("%+v", m)
				}
				for _, path := range m.Paths {
					if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || len(path) > client.MaxText {
						t.Errorf("%q", path)
					}
				}
			}
		}
	})
}
