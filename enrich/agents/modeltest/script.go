// SPDX-License-Identifier: Apache-2.0

// Package modeltest is a language model for tests of agents: an HTTP server on loopback that speaks the
// protocols of several vendors and answers from a script. It is no part of the product.
package modeltest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Script is what the model does in one conversation: in each turn it asks for all the calls of
// that turn at once, and after the results of the last one it says Final.
//
// The turn is found by counting the results that a request holds, so a script needs no state and several
// conversations can run at the same time.
type Script struct {
	// Name chooses the script: a conversation whose first prompt contains "script NAME" follows it.
	// Letters, digits and dashes.
	Name  string
	Turns [][]Call
	Final string // "Done." if empty
}

// A Call is one tool call of the model.
type Call struct {
	// Command runs in the agent's shell, whatever the agent calls that tool.
	Command string
	// Tool is any other tool, by the agent's name for it. Input may use what earlier calls gave, by call id.
	Tool  string
	Input func(results map[string]string) map[string]any
	// Commands run at the same time, by one call of the model: a program that calls a tool for each. It needs an agent
	// that takes programs.
	Commands []string
	// own is one of the agent's own tools, by what it does; the model calls the first of these names that is on offer.
	own []string
	// input is what those are given: values by the names that agents have for them. text is for one that takes a text.
	input []given
	text  string
}

// programs is the tool of Codex that takes a program in JavaScript (its code mode), which calls other tools.
const programs = "exec"

// program is one that runs commands and waits for them all.
func program(commands []string) string {
	return `// @exec: {"yield_time_ms": 60000}
const all = await Promise.all(` + marshal(commands) + `.map((cmd) => tools.exec_command({cmd, yield_time_ms: 30000})))
for (const one of all) text(one)
`
}

// program calls one of the agent's own tools, or one of an MCP server.
func (c Call) program() string {
	if c.text != "" {
		return "text(await tools.apply_patch(" + marshal(c.text) + "))\n"
	}
	var input any
	for _, g := range c.input {
		if g.names[0] == "arguments" {
			input = g.value
		}
	}
	return "const name = Object.keys(tools).find((name) => name.endsWith(" + marshal(strings.TrimPrefix(c.own[0], "*")) + "))\n" +
		"text(await tools[name](" + marshal(input) + "))\n"
}

// A given is the value of a parameter that is called one of these names.
type given struct {
	names []string
	value any
}

// Shell is a call that runs a command.
func Shell(command string) Call { return Call{Command: command} }

// The names that agents have for the same parameters of their own tools.
var (
	pathNames    = []string{"file_path", "filePath", "path", "absolute_path", "filename"}
	contentNames = []string{"content", "file_text", "contents", "text"}
	oldNames     = []string{"old_string", "oldString", "old_str", "old_text", "oldText", "old"}
	newNames     = []string{"new_string", "newString", "new_str", "new_text", "newText", "new"}
)

// Write is a call of the agent's own tool that makes a file, whatever it calls that.
func Write(path, content string) Call {
	return Call{
		own:   []string{"Write", "write", "write_file", "create", "editor", "apply_patch"},
		input: []given{{pathNames, path}, {contentNames, content}, {newNames, content}, {[]string{"command"}, "create"}},
		text:  "*** Begin Patch\n*** Add File: " + path + "\n+" + strings.ReplaceAll(strings.TrimSuffix(content, "\n"), "\n", "\n+") + "\n*** End Patch\n",
	}
}

// Edit is one of the tool that replaces a line of a file that was written or read before.
func Edit(path, from, to string) Call {
	return Call{
		own:  []string{"Edit", "edit", "replace", "string_replace", "editor", "apply_patch"},
		text: "*** Begin Patch\n*** Update File: " + path + "\n@@\n-" + from + "\n+" + to + "\n*** End Patch\n",
		input: []given{
			{pathNames, path}, {oldNames, from}, {newNames, to}, {[]string{"command"}, "str_replace"}, {[]string{"instruction"}, "a step"},
			{[]string{"edits"}, []any{map[string]any{"oldText": from, "newText": to}}},
		},
	}
}

// Read is one of the tool that reads a file.
func Read(path string) Call {
	return Call{
		own:   []string{"Read", "read", "read_file", "view", "read_files"},
		input: []given{{pathNames, path}, {[]string{"paths", "file_paths"}, []string{path}}, {[]string{"files"}, []any{map[string]any{"path": path}}}},
	}
}

// Subagent has another agent of the agent's own, of this kind, follow a script.
func Subagent(kind, script string) Call {
	const title = "a step"
	return Call{
		own: []string{"Agent", "agent", "Task", "task", "spawn_agent"},
		input: []given{
			{[]string{"prompt", "message", "task"}, Prompt(script)}, {[]string{"description", "title"}, title}, {[]string{"name", "task_name"}, "steps"},
			{[]string{"subagent_type", "agent_type"}, kind}, {[]string{"mode"}, "sync"},
		},
	}
}

// MCP is a call of a tool of an MCP server: agents put the server's name before the tool's. Some have one tool for all
// of those.
func MCP(server, tool string, input map[string]any) Call {
	c := Call{own: []string{"*" + tool, "tool_call"}}
	c.input = []given{{[]string{"name"}, "mcp__" + server + "__" + tool}, {[]string{"arguments"}, input}}
	for name, value := range input {
		c.input = append(c.input, given{[]string{name}, value})
	}
	return c
}

// ID is the id that the model gives to a call of a script, both counted from 0.
func ID(script string, turn, call int) string {
	return fmt.Sprintf("call_%s_%d_%d", script, turn, call)
}

// Prompt is a prompt that makes an agent follow the script of this name.
func Prompt(script string) string { return "Follow script " + script + " ." }

// shells are the names that agents give to the tool that runs a command, and what it is given.
var shells = []struct {
	tool  string
	input func(command string) map[string]any
}{
	{"exec_command", func(c string) map[string]any { return map[string]any{"cmd": c} }},
	{"Bash", func(c string) map[string]any { return map[string]any{"command": c, "description": "a step"} }},
	{"run_shell_command", func(c string) map[string]any {
		return map[string]any{"command": c, "description": "a step", "is_background": false}
	}},
	{"execute_bash", func(c string) map[string]any { return map[string]any{"command": c} }},
	{"bash", func(c string) map[string]any { return map[string]any{"command": c, "description": "a step"} }},
	{"shell_command", func(c string) map[string]any { return map[string]any{"command": c} }},
	{"shell", func(c string) map[string]any { return map[string]any{"command": []string{"/bin/sh", "-c", c}} }},
	{"run_commands", func(c string) map[string]any { return map[string]any{"commands": []string{c}} }},
}

// request is what the server needs to know of a request in any protocol.
type request struct {
	prompts []string          // the user's texts, in order
	tools   []tool            // on offer
	results map[string]string // tool results so far, by call id
	// programs says that one of the tools takes programs.
	programs bool
	// answered is their number. Where the protocol has no call ids results stays empty.
	answered int
}

// A tool that the agent offers: its name, and those of its parameters.
type tool struct {
	name      string
	namespace string // that it is in, if any
	custom    bool   // it is given a text
	takes     map[string]any
}

// takes are the names of a schema's properties; the values are of no interest.
type schema struct {
	Properties map[string]any `json:"properties"`
}

// offered gives the tool of this name; "*" as the first character stands for any beginning.
func (r *request) offered(name string) (tool, bool) {
	tail, any := strings.CutPrefix(name, "*")
	i := slices.IndexFunc(r.tools, func(t tool) bool { return t.name == name || any && strings.HasSuffix(t.name, tail) })
	if i < 0 {
		return tool{}, false
	}
	return r.tools[i], true
}

// names are those of the tools on offer, for who looks for the reason of a failure.
func (r *request) names() string {
	var names []string
	for _, t := range r.tools {
		names = append(names, t.name+"("+strings.Join(slices.Sorted(maps.Keys(t.takes)), ",")+")")
	}
	return strings.Join(names, ", ")
}

// asked is a call as a protocol puts it.
type asked struct {
	id, tool  string
	namespace string
	input     map[string]any
	program   string // in place of an input
}

// answer is the model's next turn: calls, or else text.
type answer struct {
	calls []asked
	text  string
}

// next decides. Requests that belong to no script, or that offer no tools (agents ask for
// titles and summaries), are answered with a word.
func next(scripts map[string]Script, r request) (answer, error) {
	s, ok := choose(scripts, r.prompts)
	if !ok || len(r.tools) == 0 {
		return answer{text: "ok"}, nil
	}
	before := 0
	for turn, calls := range s.Turns {
		if r.answered > before {
			before += len(calls)
			continue
		}
		var a answer
		for i, c := range calls {
			to, err := c.ask(r)
			if err != nil {
				return answer{}, fmt.Errorf("script %s, turn %d: %w", s.Name, turn, err)
			}
			to.id = ID(s.Name, turn, i)
			a.calls = append(a.calls, to)
		}
		return a, nil
	}
	if s.Final == "" {
		return answer{text: "Done."}, nil
	}
	return answer{text: s.Final}, nil
}

func (c Call) ask(r request) (asked, error) {
	if c.Tool != "" {
		t, ok := r.offered(c.Tool)
		if !ok {
			return asked{}, fmt.Errorf("no tool %s among %s", c.Tool, r.names())
		}
		return asked{tool: t.name, namespace: t.namespace, input: c.Input(r.results)}, nil
	}
	if len(c.own) > 0 && r.programs {
		return asked{tool: programs, program: c.program()}, nil
	}
	for _, name := range c.own {
		t, ok := r.offered(name)
		if !ok {
			continue
		}
		if t.custom {
			return asked{tool: t.name, namespace: t.namespace, program: c.text}, nil
		}
		input := map[string]any{}
		for _, g := range c.input {
			for _, name := range g.names {
				if _, takes := t.takes[name]; takes {
					input[name] = g.value
					break
				}
			}
		}
		return asked{tool: t.name, namespace: t.namespace, input: input}, nil
	}
	if len(c.own) > 0 {
		return asked{}, fmt.Errorf("none of the tools %s among %s", strings.Join(c.own, ", "), r.names())
	}
	if len(c.Commands) > 0 || r.programs {
		if !r.programs {
			return asked{}, fmt.Errorf("no tool for programs among %s", r.names())
		}
		commands := c.Commands
		if len(commands) == 0 {
			commands = []string{c.Command}
		}
		return asked{tool: programs, program: program(commands)}, nil
	}
	for _, s := range shells {
		if t, ok := r.offered(s.tool); ok {
			return asked{tool: t.name, input: s.input(c.Command)}, nil
		}
	}
	return asked{}, fmt.Errorf("no shell among the tools %s", r.names())
}

// choose finds the script that the user asked for. Agents put texts of their own around the prompt.
func choose(scripts map[string]Script, prompts []string) (Script, bool) {
	for _, p := range prompts {
		for _, name := range slices.Sorted(maps.Keys(scripts)) {
			if strings.Contains(p, Prompt(name)) {
				return scripts[name], true
			}
		}
	}
	return Script{}, false
}
