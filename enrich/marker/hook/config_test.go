// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

const program = "/usr/local/bin/sheetbend"

func install(t testing.TB, p *Place, text string) string {
	t.Helper()
	var file []byte // nil: none
	if text != "" {
		file = []byte(text)
	}
	out, err := p.Install(file, program, "9.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func uninstall(t testing.TB, p *Place, text string) string {
	t.Helper()
	out, err := p.Uninstall([]byte(text), program)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// commands are all hook commands of an event, as the agent would run them.
func commands(t testing.TB, text, event string) (out []string) {
	t.Helper()
	var file struct {
		Hooks map[string][]group `json:"hooks"`
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	for _, g := range file.Hooks[event] {
		for _, h := range g.Hooks {
			out = append(out, h.Command)
		}
	}
	return out
}

var files = []struct{ name, text string }{
	{"no file", ""},
	{"other settings", "{\n  \"model\": \"opus\",\n  \"permissions\": {\"allow\": [\"Bash(ls:*)\"]}\n}\n"},
	{"an empty object", "{}\n"},
	{"tabs", "{\n\t\"model\": \"opus\"\n}"},
	{"one line", `{"model": "opus", "env": {"A": "b"}}`},
	{"hooks for other events", "{\n  \"hooks\": {\n    \"Stop\": [\n      {\"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}\n    ]\n  },\n  \"model\": \"opus\"\n}\n"},
	{"hooks for the same events", "{\n    \"hooks\": {\n        \"PreToolUse\": [\n            {\n                \"matcher\": \"Bash\",\n                \"hooks\": [\n                    {\"type\": \"command\", \"command\": \"check <&> \\u00e9\", \"timeout\": 5}\n                ]\n            }\n        ],\n        \"PostToolUse\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"a\"}]}, {\"hooks\": [{\"type\": \"command\", \"command\": \"b\"}]}]\n    }\n}\n"},
	{"numbers and escapes that a rewrite would change", "{ \"a\": 1.0e2, \"b\": \"\\u003c\\/\", \"c\": 12345678901234567890 }"},
}

func TestInstallAddsTheHooksAndUninstallGivesTheFileBack(t *testing.T) {
	for _, p := range Places() {
		for _, f := range files {
			t.Run(p.Agent+": "+f.name, func(t *testing.T) {
				with := install(t, &p, f.text)
				for _, e := range p.Events {
					found := 0
					for _, c := range commands(t, with, e.Name) {
						if c == Command(program, p.Agent) {
							found++
						}
					}
					if found != 1 {
						t.Errorf("%d commands for %s:\n%s", found, e.Name, with)
					}
				}
				if again := install(t, &p, with); again != with {
					t.Errorf("a second install changes\n%s\nto\n%s", with, again)
				}
				if got := uninstall(t, &p, with); got != f.text {
					t.Errorf("after uninstall\n%q\nwant\n%q\nfrom\n%s", got, f.text, with)
				}
			})
		}
	}
}

func TestInstallLooksAsIfWrittenByHand(t *testing.T) {
	p := FindPlace("codex")
	want := `{
  "hooks": {
    "PreToolUse": [
      {
        "matcher": "*",
        "hooks": [
          {
            "type": "command",
            "command": "test ! -x /usr/local/bin/sheetbend || exec /usr/local/bin/sheetbend hook codex",
            "timeout": 5
          }
        ]
      }
    ],
    "PostToolUse": [
      {
        "matcher": "*",
        "hooks": [
          {
            "type": "command",
            "command": "test ! -x /usr/local/bin/sheetbend || exec /usr/local/bin/sheetbend hook codex",
            "timeout": 5
          }
        ]
      }
    ]
  }
}

`
	if got := install(t, p, ""); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestSettingsAreWhatInstallWrites(t *testing.T) {
	for _, p := range Places() {
		text := string(p.Settings(program, "9.0.0"))
		if got := install(t, &p, text); got != text {
			t.Errorf("install adds to\n%s\nwhich becomes\n%s", text, got)
		}
	}
}

func TestAHookOfAnEarlierInstallIsReplacedWhereverItStands(t *testing.T) {
	p := FindPlace("codex")
	old := `{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "/old/sheetbend hook codex"}]}],
 "PreToolUse": [{"hooks": [{"type": "command", "command": "mine"}, {"type": "command", "command": "'/o d/sheetbend' hook codex"}]}]}}`
	with := install(t, p, old)
	if strings.Contains(with, "/old/") || strings.Contains(with, "o d") {
		t.Errorf("the old ones are left:\n%s", with)
	}
	if got := commands(t, with, "PreToolUse"); len(got) != 2 || got[0] != "mine" {
		t.Errorf("%q", got)
	}
	if got := uninstall(t, p, with); !strings.Contains(got, "mine") || strings.Contains(got, "sheetbend") {
		t.Errorf("after uninstall: %s", got)
	}
}

func TestUninstallLeavesWhatIsNotOurs(t *testing.T) {
	p := FindPlace("claude-code")
	for _, text := range []string{
		`{"hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "sheetbend hook codex"}]}]}}`,
		`{"hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "notsheetbend hook claude-code"}]}]}}`,
		`{"hooks": {"PreToolUse": "sheetbend hook claude-code", "Stop": [1, {"hooks": 2}, {"hooks": [3]}]}}`,
		"{}\n",
	} {
		if got := uninstall(t, p, text); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
	// What was before a comma is the last now.
	if got := uninstall(t, p, `{"hooks": {"Stop": [] , "PreToolUse": [{"hooks": [{"command": "sheetbend hook claude-code"}]}]}}`); got != `{"hooks": {"Stop": []  }}` {
		t.Errorf("left: %s", got)
	}
}

func TestUninstallLeavesAFileThatInstallDidNotMake(t *testing.T) {
	p := FindPlace("claude-code")
	for _, text := range []string{"{}", "{}\n", "{\n}\n", `{"hooks":{}}`, "\n"} {
		with, err := p.Install([]byte(text), program, "9.0.0")
		if err != nil {
			t.Fatal(err)
		}
		if got := uninstall(t, p, string(with)); strings.TrimSpace(got) != "{}" {
			t.Errorf("%q became %q", text, got)
		}
	}
	// One that it made goes, also after an update that added hooks.
	old, err := p.Install(nil, program, "2.0.30")
	if err != nil {
		t.Fatal(err)
	}
	if got := uninstall(t, p, install(t, p, string(old))); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestAProgramOfAnotherNameIsNotInstalledAndItsHooksAreTakenOut(t *testing.T) {
	p := FindPlace("claude-code")
	if with, err := p.Install(nil, "/opt/sb", "9.0.0"); err == nil || !strings.Contains(err.Error(), "called sb") {
		t.Errorf("%v: %s", err, with)
	}
	out, err := p.Uninstall([]byte(`{"hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "/opt/sb hook claude-code"}]}]}}`), "/opt/sb")
	if err != nil || string(out) != "{}" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAFileThatIsNotUnderstoodIsNotTouched(t *testing.T) {
	p := FindPlace("claude-code")
	for _, text := range []string{"{", "[]", "null", `"x"`, "// comment\n{}", `{"hooks": []}`, `{"hooks": {"PreToolUse": {}}}`, `{"hooks": {}, "hooks": {}}`, "\x00",
		`{"hooks": {"PreToolUse": [{"hooks": [], "hooks": [{"type": "command", "command": "/old/sheetbend hook claude-code"}]}], "PreToolUse": []}}`,
		`{"a": [` + strings.Repeat("1,", maxValues+1) + "1]}", `{"a": ` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + "}"} {
		if out, err := p.Install([]byte(text), program, "9.0.0"); err == nil {
			t.Errorf("%.200q became %.200q", text, out)
		}
	}
}

// What the agent does not read as Install's is not taken for that.
func TestHooksThatTheAgentDoesNotReadAreNotInstalled(t *testing.T) {
	p := FindPlace("codex")
	with := string(p.Settings(program, ""))
	for _, text := range []string{
		strings.Replace(with, `"hooks":{`, `"Hooks":{`, 1),
		strings.Replace(with, `"PreToolUse"`, `"preToolUse"`, 1),
		strings.Replace(with, `"matcher"`, `"Matcher"`, 1),
		strings.Replace(with, `"command","command"`, `"prompt","command"`, 1),
		strings.Replace(with, `"timeout":5`, `"timeout":5,"async":true`, 1),
	} {
		if text == with {
			t.Fatal("nothing is changed")
		}
		if got := install(t, p, text); got == text {
			t.Errorf("taken for installed: %s", got)
		} else if n := len(commands(t, strings.Replace(got, `"Hooks"`, `"other"`, 1), "PreToolUse")); n != 1 {
			t.Errorf("%d hooks in %s", n, got)
		}
	}
	if _, err := p.Install([]byte(`{"hooks":{},`+with[1:]), program, ""); err == nil {
		t.Error("one key twice, of which the agent reads one")
	}
}

func TestAnAgentThatIsTooOldGetsOnlyTheHooksItKnows(t *testing.T) {
	p := FindPlace("claude-code")
	for version, want := range map[string]int{"": 4, "2.0.30": 2, "2.1.196": 2, "2.1.197": 4, "2.2.0": 4, "10.0.0": 4} {
		with, err := p.Install(nil, program, version)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(with), "hook claude-code"); got != want {
			t.Errorf("version %q: %d hooks, want %d", version, got, want)
		}
		if (p.Lacks(version) == "") != (want == 4) {
			t.Errorf("version %q lacks %q", version, p.Lacks(version))
		}
		// An update adds the rest.
		if all := install(t, p, string(with)); strings.Count(all, "hook claude-code") != 4 {
			t.Errorf("after an update:\n%s", all)
		}
	}
	for text, want := range map[string]string{"2.1.197 (Claude Code)\n": "2.1.197", "codex-cli 0.169.0": "0.169.0", "none": "", "1.2": ""} {
		if got := Version(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestTheCommandIsOneForAnyShell(t *testing.T) {
	const path = `'/opt/it'\''s here/sheetbend'`
	if got := Command("/opt/it's here/sheetbend", "codex"); got != "test ! -x "+path+" || exec "+path+" hook codex" {
		t.Error(got)
	}
	if !ours(Command("/opt/it's here/sheetbend", "codex"), "codex") {
		t.Error("not recognised as ours")
	}
}

// A program that was removed leaves the settings as they are: an agent would tell of each hook that fails.
func TestWithoutTheProgramTheCommandDoesNothing(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/my sheetbend"
	run := func(shell string) string {
		t.Helper()
		out, err := exec.Command(shell, "-c", Command(file, "codex")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", shell, err)
		}
		return string(out)
	}
	for _, shell := range []string{"sh", "bash"} {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if out := run(shell); out != "" {
			t.Errorf("%s without the program: %q", shell, out)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho $$ $PPID \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		// It takes the shell's place: its parent is this test.
		if out := strings.Fields(run(shell)); len(out) != 4 || out[1] != strconv.Itoa(os.Getpid()) || out[2] != "hook" || out[3] != "codex" {
			t.Errorf("%s: %q", shell, out)
		}
	}
}

func FuzzInstallAndUninstall(f *testing.F) {
	for _, c := range files {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, p := range Places() {
			with, err := p.Install(text, program, "9.0.0")
			if err != nil {
				continue
			}
			for _, e := range p.Events {
				commands(t, string(with), e.Name)
			}
			if again := install(t, &p, string(with)); again != string(with) {
				t.Errorf("not idempotent:\n%q\n%q", with, again)
			}
			without := uninstall(t, &p, string(with))
			if strings.Contains(without, program+" hook "+p.Agent) && !strings.Contains(string(text), "sheetbend") {
				t.Errorf("left in %q", without)
			}
		}
	})
}
