// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scriptedAgent makes an agent of bash, whose calls are setsid in an environment that names them.
func scriptedAgent(t *testing.T, script string) (config, program, file string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	text, err := os.ReadFile(bash)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "scripted-agent")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	config = write("agent.yaml", "agents:\n  - {name: scripted-agent, executables: [scripted-agent], env: {session: [MY_SESSION], call: [MY_CALL], calls_named: true}}\n")
	return config, program, write("agent.sh", "call() { MY_SESSION=s-7 MY_CALL=$1 setsid -w sh -c \"$2\" </dev/null || true; }\n"+script)
}

func TestRunEndsWithTheStoryOfAnAgent(t *testing.T) {
	t.Parallel()
	needRoot(t)
	config, program, file := scriptedAgent(t, "cd \"$(dirname \"$0\")\"\ncall c1 'echo x > one'\ncall c2 'exit 3'\ncall c3 'mkdir -p d; cd d; for i in 1 2 3 4 5 6 7 8 9; do : > $i; done'\n")
	r := sheetbendRun(t, "run", "--config", config, "--", program, file)
	story := r.stderr
	for _, want := range []string{"scripted-agent", "session s-7", "3 calls · 1 failed · nothing lost", " 1  ", "created ", "exit 3", " 3  ", "(10 names)"} {
		if !strings.Contains(story, want) {
			t.Errorf("no %q in\n%s", want, story)
		}
	}
	if strings.Contains(story, "├─") || r.code != 0 {
		t.Errorf("a tree that nobody asked for:\n%s", describeResult(r))
	}
	r = sheetbendRun(t, "run", "--tree", "--ascii", "--width", "90", "--config", config, "--", program, file)
	for _, want := range []string{"3 calls - 1 failed - nothing lost", "|- ", "call setsid", "truncate ./one"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("no %q in\n%s", want, r.stderr)
		}
	}
	for line := range strings.Lines(r.stderr) {
		if len(strings.TrimSuffix(line, "\n")) > 90 {
			t.Errorf("too long: %q", line)
		}
	}
	if r := sheetbendRun(t, "run", "--quiet", "--config", config, "--", program, file); r.stderr != "" {
		t.Errorf("not quiet: %s", r.stderr)
	}
}

// What an agent's hook has made wait for its reports is not waited for at the end, and is told.
func TestTheStoryHasCallsThatWaitForReports(t *testing.T) {
	t.Parallel()
	needRoot(t)
	_, _, file := scriptedAgent(t, `
hook() { `+asCommand+`=1 "/proc/$PPID/exe" hook claude-code <<<"{\"session_id\":\"s-1\",\"hook_event_name\":\"$1\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"x\"},\"tool_use_id\":\"toolu_$2\"}"; }
for n in 1 2 3; do hook PreToolUse $n; hook PostToolUse $n; done
`)
	program := filepath.Join(filepath.Dir(file), "claude")
	if err := os.Link(filepath.Join(filepath.Dir(file), "scripted-agent"), program); err != nil {
		t.Fatal(err)
	}
	r := sheetbendRun(t, "run", "--", program, file)
	if !strings.Contains(r.stderr, "3 calls") || !strings.Contains(r.stderr, " 3  ") || !strings.Contains(r.stderr, "session s-1") {
		t.Error(describeResult(r))
	}
}

func TestDrawingsHeedTheEnvironment(t *testing.T) {
	t.Parallel()
	stdout := os.Stdout
	for _, c := range []struct {
		d     display
		env   map[string]string
		width int
		ascii bool
	}{
		{display{}, nil, width(stdout), false},
		{display{}, map[string]string{"COLUMNS": "77", "LANG": "en_US.UTF-8"}, 77, false},
		{display{width: 60}, map[string]string{"COLUMNS": "77", "LC_CTYPE": "C.utf8", "LANG": "C"}, 60, false},
		{display{ascii: true}, map[string]string{"COLUMNS": "x", "LANG": "de_DE.UTF-8"}, width(stdout), true},
		{display{}, map[string]string{"COLUMNS": "1", "LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, width(stdout), true},
		{display{}, map[string]string{"LANG": "de_DE.ISO-8859-1"}, width(stdout), true},
	} {
		o := c.d.story(stdout, func(key string) string { return c.env[key] }, "/home/ada")
		if o.Width != c.width || o.ASCII != c.ascii || o.Home != "/home/ada" {
			t.Errorf("%v: %+v", c.env, o)
		}
	}
	if (&display{width: 10}).check() == nil || (&display{color: "blue"}).check() == nil || (&display{width: 40, color: "never"}).check() != nil {
		t.Error("flags are not checked")
	}
	if !colored(stdout, "always", os.Getenv) || colored(stdout, "auto", func(string) string { return "1" }) {
		t.Error("colours without heed")
	}
}
