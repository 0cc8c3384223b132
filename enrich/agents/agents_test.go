// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"slices"
	"strings"
	"testing"
)

func args(list ...string) string { return strings.Join(list, "\x00") + "\x00" }

func TestProgramsAreRecognised(t *testing.T) {
	root := uint32(0)
	pinned := Dialect{Name: "pinned", Executables: []string{"mine"}, Scripts: []string{"mine/*.js"}, Path: []string{"/opt/*/mine", "/usr/bin/node", "/opt/mine/x.js"}, Owner: &root}
	table := NewTable(Merge(Builtin(), []Dialect{pinned}))
	node := func(list ...string) Program {
		return Program{Executable: "/usr/bin/node", Args: args(append([]string{"node"}, list...)...)}
	}
	for _, c := range []struct {
		name string
		p    Program
		want string
	}{
		{"a native agent", Program{Executable: "/x/vendor/bin/codex", Args: args("/x/vendor/bin/codex", "exec")}, "codex"},
		{"one whose argv is not known", Program{Executable: "/usr/bin/codex"}, "codex"},
		{"its file has another name than it goes by", Program{Executable: "/x/claude.exe", Args: args("claude", "-p")}, "claude-code"},
		{"a version of it", Program{Executable: "/home/u/.local/share/claude/versions/2.0.64", Args: args("claude", "-p")}, "claude-code"},
		{"a version of something else", Program{Executable: "/home/u/.local/share/tool/versions/2.0.64", Args: args("claude", "-p")}, ""},
		{"a number that is no version of it", Program{Executable: "/home/u/claude/2.0.64", Args: args("claude", "-p")}, ""},
		{"the same file as a tool", Program{Executable: "/usr/bin/codex", Args: args("codex-linux-sandbox", "--", "bash")}, ""},
		{"the same file as another tool", Program{Executable: "/usr/bin/claude", Args: args("rg", "x")}, ""},
		{"another program under its name", Program{Executable: "/usr/bin/bash", Args: args("codex")}, ""},
		{"a script", node("/usr/lib/node_modules/@openai/codex/bin/codex.js", "exec"), "codex"},
		{"a link to it", node("/home/u/node_modules/.bin/gemini"), "gemini-cli"},
		{"after options", node("--max-old-space-size=9", "-r", "x.js", "/usr/local/bin/qwen"), "qwen-code"},
		{"of a deep path", node("/opt/cursor-agent/versions/1.2/index.js"), "cursor-agent"},
		{"a script that has it as an argument", node("x.js", "/usr/bin/codex"), ""},
		{"code that has it as an argument", node("-e", "1", "/usr/bin/codex"), ""},
		{"a relative script", node("codex"), ""},
		{"an editor with the script", Program{Executable: "/usr/bin/vi", Args: args("vi", "/usr/bin/codex")}, ""},
		{"a pinned one in its place", Program{Executable: "/opt/a/mine", Args: args("mine")}, "pinned"},
		{"a pinned one elsewhere", Program{Executable: "/tmp/mine", Args: args("mine")}, ""},
		{"a pinned one of another owner", Program{Executable: "/opt/a/mine", Args: args("mine"), Owner: 1000}, ""},
		{"a pinned script", node("/opt/mine/x.js"), "pinned"},
		{"a pinned script elsewhere", node("/any/mine/x.js"), ""},
		{"a pinned script by another interpreter", Program{Executable: "/tmp/node", Args: args("node", "/opt/mine/x.js")}, ""},
		{"a pinned one where its user decides what lies where", Program{Executable: "/opt/a/mine", Args: args("mine"), Unproven: true}, ""},
		{"one without pins there", Program{Executable: "/usr/bin/codex", Args: args("codex"), Unproven: true}, "codex"},
		{"nothing", Program{}, ""},
		{"no argv at all", Program{Executable: "/usr/bin/node", Args: "\x00"}, ""},
	} {
		got := ""
		if d := table.Find(c.p); d != nil {
			got = d.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestBuiltinIsValid(t *testing.T) {
	if err := Validate(Builtin()); err != nil {
		t.Error(err)
	}
	names := EnvNames(Builtin())
	if !slices.IsSorted(names) || !slices.Contains(names, "CODEX_TOOL_CALL_ID") || !slices.Contains(names, VarTraceparent) || len(names) != len(slices.Compact(slices.Clone(names))) {
		t.Errorf("%q", names)
	}
	for _, name := range names {
		for _, secret := range []string{"KEY", "TOKEN", "SECRET", "PASSWORD"} {
			if strings.Contains(name, secret) {
				t.Errorf("%s may hold a secret", name)
			}
		}
	}
}

func TestUsersAddAndOverride(t *testing.T) {
	owner := uint32(0)
	merged := Merge(Builtin(), []Dialect{
		{Name: "codex", Path: []string{"/usr/bin/codex"}, Owner: &owner},
		{Name: "mine", Executables: []string{"codex"}},
	})
	if merged[0].Name != "mine" || len(merged) != len(Builtin())+1 {
		t.Errorf("%d, first %q", len(merged), merged[0].Name)
	}
	codex := Find(merged, "codex")
	if codex.Owner != &owner || len(codex.Path) != 1 || len(codex.Env.Call) == 0 || len(codex.Executables) == 0 {
		t.Errorf("%+v", codex)
	}
	if Find(Builtin(), "codex").Owner != nil {
		t.Error("the built-in table has changed")
	}
}

func TestWhatIsWrongWithADialectIsSaid(t *testing.T) {
	for want, d := range map[string]Dialect{
		"name must be":                  {Executables: []string{"x"}},
		"nothing to know it by":         {Name: "x"},
		"is not a base name":            {Name: "x", Executables: []string{"/bin/x"}},
		"does not begin with a slash":   {Name: "x", Executables: []string{"x"}, Path: []string{"bin/x"}},
		"is not a path or glob":         {Name: "x", Scripts: []string{"["}},
		"is not a variable's name":      {Name: "x", Executables: []string{"x"}, Env: Env{Call: []string{strings.Repeat("V", 32)}}},
		"is read by itself":             {Name: "x", Executables: []string{"x"}, Env: Env{Session: []string{"TRACEPARENT"}}},
		"says nothing about ids":        {Name: "x", Executables: []string{"x"}, Env: Env{Nested: []string{"*"}}},
		"is neither":                    {Name: "x", Executables: []string{"x"}, Env: Env{Traceparent: "maybe"}},
		"is not one of decision":        {Name: "x", Executables: []string{"x"}, Telemetry: Telemetry{Events: []Event{{Name: "e", Kind: "f"}}}},
		"enable.env":                    {Name: "x", Executables: []string{"x"}, Enable: Enable{Env: map[string]string{"A=B": ""}}},
		"has a NUL byte":                {Name: "x", Executables: []string{"x"}, Note: "a\x00"},
		"a list is longer than 64 or a": {Name: "x", Executables: make([]string, 65)},
	} {
		if err := Validate([]Dialect{d}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := Validate([]Dialect{{Name: "x", Executables: []string{"x"}}, {Name: "x", Executables: []string{"y"}}}); err == nil {
		t.Error("a name twice is taken")
	}
}

func FuzzFind(f *testing.F) {
	f.Add("/usr/bin/node", "node\x00--import\x00x\x00/usr/bin/codex\x00")
	f.Add("/usr/bin/codex", "codex\x00")
	f.Add("", "")
	table := NewTable(Builtin())
	f.Fuzz(func(t *testing.T, executable, args string) {
		table.Find(Program{Executable: executable, Args: args})
	})
}
