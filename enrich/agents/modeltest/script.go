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

// Shell is a call that runs a command.
func Shell(command string) Call { return Call{Command: command} }

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
	{"bash", func(c string) map[string]any { return map[string]any{"command": c, "description": "a step"} }},
	{"shell_command", func(c string) map[string]any { return map[string]any{"command": c} }},
	{"shell", func(c string) map[string]any { return map[string]any{"command": []string{"/bin/sh", "-c", c}} }},
	{"run_commands", func(c string) map[string]any { return map[string]any{"commands": []string{c}} }},
}

// request is what the server needs to know of a request in any protocol.
type request struct {
	prompts    []string          // the user's texts, in order
	tools      []string          // names of the tools on offer
	namespaces map[string]string // of them, "" for none
	// programs says that one of them takes programs.
	programs bool
	results  map[string]string // tool results so far, by call id
	// answered is their number. Where the protocol has no call ids results stays empty.
	answered int
}

// asked is a call as a protocol puts it.
type asked struct {
	id, tool  string
	input     map[string]any
	program   string // in place of an input
	namespace string // of the tool
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
			to.namespace = r.namespaces[to.tool]
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
		if !slices.Contains(r.tools, c.Tool) {
			return asked{}, fmt.Errorf("no tool %s among %s", c.Tool, strings.Join(r.tools, ", "))
		}
		return asked{tool: c.Tool, input: c.Input(r.results)}, nil
	}
	if len(c.Commands) > 0 || r.programs {
		if !r.programs {
			return asked{}, fmt.Errorf("no tool for programs among %s", strings.Join(r.tools, ", "))
		}
		commands := c.Commands
		if len(commands) == 0 {
			commands = []string{c.Command}
		}
		return asked{tool: programs, program: program(commands)}, nil
	}
	for _, s := range shells {
		if slices.Contains(r.tools, s.tool) {
			return asked{tool: s.tool, input: s.input(c.Command)}, nil
		}
	}
	return asked{}, fmt.Errorf("no shell among the tools %s", strings.Join(r.tools, ", "))
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
