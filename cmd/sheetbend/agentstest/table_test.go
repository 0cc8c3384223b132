// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

const (
	// moreEnv names the directory with the node_modules of testdata/agents/more: `.ci/agents more` makes it.
	moreEnv = "SHEETBEND_AGENTS_MORE"
	// tableEnv names the file whose table is written anew: docs/agents.md. `make agents-table` sets it.
	tableEnv = "SHEETBEND_AGENTS_TABLE"
)

// A row of the table is an agent as a user has it under sheetbend.
type row struct {
	title string // of the agent
	mode  string
	agent realAgent
	can   abilities
	// server is what is put into a file of the home, by its name, to have the MCP server; see with.
	server map[string]string
	// hooks are those of the user, likewise.
	hooks   map[string]string
	args    []string // besides, before the prompt
	flags   []string // of sheetbend
	install bool     // sheetbend hook install
	user    string   // sheetbend run --user
	// known says what is wrong today. With nothing here, no mark of a command may be wrong or in no call, no mark at all
	// be of another call, and no call be told that is none.
	known string
}

// settings are hooks of these events in the form of Claude Code, Gemini CLI, Qwen Code and Codex.
func settings(matcher string, events ...string) string {
	type handler struct {
		Type    string `json:"type"`
		Command string `json:"command"`
	}
	type group struct {
		Matcher string    `json:"matcher,omitempty"`
		Hooks   []handler `json:"hooks"`
	}
	hooks := map[string][]group{}
	for _, e := range events {
		hooks[e] = []group{{matcher, []handler{{"command", "cat {dir}/m-hook >/dev/null"}}}}
	}
	text, err := json.Marshal(hooks)
	if err != nil {
		panic(err)
	}
	return `"hooks": ` + string(text)
}

const (
	missingConnect = "the agent takes the first `bash -c` of a command away, so that one of its two connections is not made"
)

const stdioServer = `"mcpServers": {"probe": {"command": "python3", "args": ["{home}/../probe.py"]}}`

func rows() (all []row) {
	files := abilities{write: true, edit: true, read: true}
	tools := abilities{write: true, edit: true, read: true, mcp: true}
	with := func(subagent string) abilities {
		tools := tools
		tools.subagent = subagent
		return tools
	}
	add := func(base row, modes ...row) {
		for _, m := range modes {
			r := base
			r.mode, r.hooks, r.install, r.user = m.mode, m.hooks, m.install, m.user
			if m.known != "" {
				r.known = m.known
			}
			r.args, r.flags = slices.Concat(base.args, m.args), slices.Concat(base.flags, m.flags)
			if m.agent.name != "" {
				r.agent = m.agent
			}
			all = append(all, r)
		}
	}
	plain := row{mode: "plain"}
	telemetry := row{mode: "telemetry", flags: []string{"--agent-telemetry"}}
	hook := row{mode: "hook", install: true}
	both := row{mode: "both", install: true, flags: telemetry.flags}

	codexServer := map[string]string{".codex/config.toml": "\n[mcp_servers.probe]\ncommand = \"python3\"\nargs = [\"{home}/../probe.py\"]\n"}
	trusted := []string{"--dangerously-bypass-hook-trust"} // in place of the user who trusts a hook once
	trustedHook, trustedBoth := hook, both
	trustedHook.args, trustedBoth.args = trusted, trusted
	add(row{title: "Codex", agent: codex, server: codexServer, can: abilities{mcp: true}},
		plain, telemetry, trustedHook, trustedBoth,
		row{mode: "user's hooks", args: trusted, hooks: map[string]string{
			".codex/hooks.json": settings("", "PreToolUse", "PostToolUse", "UserPromptSubmit", "SessionStart", "Stop"),
		}})
	add(row{title: "Codex, code mode", agent: codexCode, server: codexServer, can: abilities{write: true, edit: true, mcp: true}}, plain, telemetry, trustedHook, trustedBoth)

	eager := claude // it has its MCP servers before it asks the model
	eager.env = append(slices.Clone(claude.env), "ENABLE_TOOL_SEARCH=false", "MCP_CONNECTION_NONBLOCKING=false")
	claudeHooks := map[string]string{".claude/settings.json": settings("", "PreToolUse", "PostToolUse", "UserPromptSubmit", "SessionStart", "Stop")}
	add(row{title: "Claude Code", agent: eager, can: with("general-purpose"), server: map[string]string{".claude.json": stdioServer}},
		plain, telemetry, hook, both,
		row{mode: "user's hooks", hooks: claudeHooks},
		row{mode: "user's hooks, telemetry", hooks: claudeHooks, flags: telemetry.flags},
		row{mode: "user's hooks, hook", hooks: claudeHooks, install: true},
		row{mode: "plain, as a user", user: "nobody"})
	add(row{title: "Claude Agent SDK", agent: claudeSDK, can: files}, plain,
		row{mode: "telemetry", flags: []string{"--agent-telemetry", "--agent", "claude-code"}})

	openCodeServer := map[string]string{
		".config/opencode/opencode.json": `"mcp": {"probe": {"type": "local", "command": ["python3", "{home}/../probe.py"]}}`,
	}
	add(row{title: "OpenCode", agent: opencode, can: with("general"), server: openCodeServer}, plain, telemetry)
	add(row{title: "OpenCode", agent: opencodePlugin, can: with("general"), server: openCodeServer}, row{mode: "plugin", flags: opencodePlugin.flags})

	events := []string{"BeforeTool", "AfterTool", "BeforeAgent", "AfterAgent", "SessionStart", "SessionEnd"}
	add(row{title: "Gemini CLI", known: missingConnect, agent: gemini, can: tools, server: map[string]string{".gemini/settings.json": stdioServer}},
		plain, telemetry, row{mode: "user's hooks", hooks: map[string]string{".gemini/settings.json": settings("*", events...)}})

	add(row{title: "Qwen Code", agent: qwen, can: tools, server: map[string]string{".qwen/settings.json": stdioServer}},
		plain, telemetry, row{mode: "telemetry, propagated", agent: qwenTraced, flags: qwenTraced.flags},
		row{mode: "user's hooks", hooks: map[string]string{
			".qwen/settings.json": settings("*", "PreToolUse", "PostToolUse", "UserPromptSubmit", "SessionStart", "Stop"),
		}})

	add(row{title: "Copilot CLI", agent: copilot, can: tools, server: map[string]string{
		".copilot/mcp-config.json": `"mcpServers": {"probe": {"type": "local", "command": "python3", "args": ["{home}/../probe.py"], "tools": ["*"]}}`,
	}}, plain, telemetry, row{mode: "user's hooks", hooks: map[string]string{
		".copilot/hooks/user.json": `"version": 1, "hooks": {"preToolUse": [{"type": "command", "bash": "cat {dir}/m-hook >/dev/null"}], ` +
			`"postToolUse": [{"type": "command", "bash": "cat {dir}/m-hook >/dev/null"}]}`,
	}})

	add(row{title: "Cline", agent: cline}, plain)

	add(row{title: "pi", agent: pi, can: files}, plain)
	add(row{title: "Kimi Code", agent: kimi, can: tools, server: map[string]string{".kimi-code/mcp.json": stdioServer}},
		plain, row{mode: "user's hooks", hooks: map[string]string{".kimi-code/config.toml": `
[[hooks]]
event = "PreToolUse"
command = "cat {dir}/m-hook >/dev/null"
[[hooks]]
event = "PostToolUse"
command = "cat {dir}/m-hook >/dev/null"
[[hooks]]
event = "UserPromptSubmit"
command = "cat {dir}/m-hook >/dev/null"
`}})
	add(row{title: "Nanocoder", agent: nanocoder, can: tools, server: map[string]string{
		"../work/.mcp.json": `"mcpServers": {"probe": {"transport": "stdio", "command": "python3", "args": ["{home}/../probe.py"]}}`,
	}}, plain)
	return all
}

// with puts more into a configuration: members into an object, tables after others.
func with(text, more string) string {
	object, is := strings.CutSuffix(strings.TrimSpace(text), "}")
	switch {
	case text == "" && strings.HasPrefix(more, `"`):
		return "{" + more + "}\n"
	case is && strings.HasPrefix(more, `"`):
		return object + ", " + more + "}\n"
	default:
		return text + more
	}
}

// settled is the row's agent with all its files.
func (r *row) settled() realAgent {
	a := r.agent
	a.files = maps.Clone(a.files)
	if a.files == nil {
		a.files = map[string]string{}
	}
	for _, more := range []map[string]string{r.server, r.hooks} {
		for name, text := range more {
			a.files[name] = with(a.files[name], text)
		}
	}
	return a
}

// where gives the directory in which the agent is installed.
func (a *realAgent) where(t *testing.T) string {
	t.Helper()
	needSheetbend(t)
	for _, env := range []string{agentsEnv, moreEnv} {
		if dir := os.Getenv(env); dir != "" {
			if _, err := os.Stat(filepath.Join(dir, "node_modules", a.pkg)); err == nil {
				return dir
			}
		}
	}
	missing := a.pkg + " is neither in " + agentsEnv + " nor in " + moreEnv + ": `make agents-table` sees to that"
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// version of the agent that is installed.
func (a *realAgent) version(t *testing.T, dir string) string {
	t.Helper()
	var installed struct {
		Version string `json:"version"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", a.pkg, "package.json"))
	if err := errors.Join(err, json.Unmarshal(text, &installed)); err != nil {
		t.Fatal(err)
	}
	return installed.Version
}

// tell runs the row's agent by the plan, and counts.
func (r *row) tell(t *testing.T) (result, string) {
	t.Helper()
	a := r.settled()
	dir := a.where(t)
	var p *plan
	d := newDesk(t, dir, "", func(d *desk) []modeltest.Script {
		p = newPlan(d, r.can)
		return p.scripts
	})
	if r.hooks != nil {
		p.file("", "hook", cats)
	}
	d.settle(a)
	if r.install {
		install := exec.CommandContext(t.Context(), os.Getenv(binEnv), "hook", "install", a.name, "--yes")
		install.Env = d.environment()
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	a.args = slices.Concat(r.args, a.args)
	if i := slices.Index(a.args, "exec"); i >= 0 { // a command of Codex's, and its options come after it
		a.args = slices.Concat(a.args[i:i+1], a.args[:i], a.args[i+1:])
	}
	line := a.commandLine("plan", true)
	out := filepath.Join(d.tmp, "spans.jsonl")
	flags := append(slices.Clone(r.flags), "--output", out, "--quiet", "--leftovers", "kill")
	if r.user != "" {
		d.open(r.user)
		flags = append(flags, "--user", r.user)
		line = slices.Concat([]string{"env"}, d.environment(a), line)
	}
	if a.name == cline.name {
		line = append(line, "say nothing, please") // the first run, which leaves the hub behind
	}
	d.run(flags, line, a)
	return p.measure(read(t, out)), a.version(t, dir)
}

func TestTheCallsOfAgentsAreTold(t *testing.T) {
	type measured struct {
		result
		version string
	}
	all := rows()
	var mu sync.Mutex
	got := map[int]measured{}
	t.Run("rows", func(t *testing.T) {
		for i := range all {
			r := &all[i]
			t.Run(strings.NewReplacer(" ", "_", ",", "", "'", "").Replace(r.title+"/"+r.mode), func(t *testing.T) {
				t.Parallel()
				result, version := r.tell(t)
				t.Logf("%s %s, %s: %+v", r.title, version, r.mode, result)
				c := result.commands
				if c.wrong+c.none+result.phantom+result.own.wrong > 0 {
					say := t.Errorf
					if r.known != "" {
						say = t.Logf
					}
					say("of the commands' marks %d are wrong and %d in no call, of the others %d are wrong, and %d of %d calls are none:\n%s",
						c.wrong, c.none, result.own.wrong, result.phantom, result.calls, strings.Join(result.faults, "\n"))
				}
				mu.Lock()
				defer mu.Unlock()
				got[i] = measured{result, version}
			})
		}
	})
	file := os.Getenv(tableEnv)
	if file == "" {
		return
	}
	var commands, own strings.Builder
	for i, r := range all {
		m, ok := got[i]
		if !ok {
			t.Errorf("%s, %s: not measured, and not in the table", r.title, r.mode)
			continue
		}
		fmt.Fprintf(&commands, "| %s %s | %s | %s | %d | %d |\n", r.title, m.version, r.mode, m.commands, m.calls, m.phantom)
		if m.own.all() > 0 {
			fmt.Fprintf(&own, "| %s %s | %s | %s |\n", r.title, m.version, r.mode, m.own)
		}
	}
	const head = "| agent | mode | events | model's id | other id | declared | inferred | late | ambiguous | none | wrong |"
	const line = "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
	table := head + " calls told | phantom |\n" + line + "--:|--:|\n" + commands.String() +
		"\nThe agents' own tools (write, edit, read) and an MCP server:\n\n" + head + "\n" + line + "\n" + own.String()
	if err := replaceBetween(file, "<!-- table: make agents-table -->\n", "<!-- end of the table -->\n", table); err != nil {
		t.Fatal(err)
	}
}

// String gives the cells of the table.
func (c counts) String() string {
	cells := []string{fmt.Sprint(c.all())}
	for _, n := range []int{c.id, c.other, c.declared, c.inferred, c.late, c.unclear, c.none, c.wrong} {
		cells = append(cells, fmt.Sprint(n))
	}
	return strings.Join(cells, " | ")
}

// replaceBetween writes a file anew: a text between two lines that are in it.
func replaceBetween(file, begin, end, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return fmt.Errorf("%s has no table: %q and %q", file, begin, end)
	}
	return os.WriteFile(file, slices.Concat(before, []byte(begin), []byte(text), []byte(end), after), 0o644)
}
