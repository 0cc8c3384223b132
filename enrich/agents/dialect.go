// SPDX-License-Identifier: Apache-2.0

// Package agents is the table of agent dialects: how each coding agent is recognised, which
// environment variables, telemetry and hooks carry its ids, and what a user switches on to get them.
// Agents are data: a dialect can be added or replaced in the configuration.
package agents

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Dialect is one agent, or one that speaks like it. Empty parts mean that it has no such thing.
type Dialect struct {
	// Name is the agent's name on spans, and the service.name of its sandbox if that has none.
	Name string `json:"name" yaml:"name"`
	// Executables are names of the program's file, as the kernel resolved it and ProgramName gives it. The base name of
	// argv[0] has to be one of them, too: under other names agents serve as tools (codex-linux-sandbox, rg).
	Executables []string `json:"executables,omitempty" yaml:"executables"`
	// Scripts are ends of the path of a script that node, bun, deno or python runs, matched component by component
	// from the last one, with the wildcards of path.Match: "@openai/codex/bin/codex.js", "*bin/codex".
	Scripts []string `json:"scripts,omitempty" yaml:"scripts"`

	// Path and Owner pin the dialect: only an executable whose path matches one of the globs (path.Match) and whose
	// file belongs to the user is taken for the agent. Of a script the owner is its interpreter's, and the paths of
	// both have to match. Where an unprivileged user decides what lies where (a mount namespace of a user
	// namespace), no pin holds.
	Path  []string `json:"path,omitempty" yaml:"path"`
	Owner *uint32  `json:"owner,omitempty" yaml:"owner"`

	Env       Env       `json:"env,omitzero" yaml:"env"`
	Telemetry Telemetry `json:"telemetry,omitzero" yaml:"telemetry"`
	Hook      Hook      `json:"hook,omitzero" yaml:"hook"`
	Wrappers  Wrappers  `json:"wrappers,omitzero" yaml:"wrappers"`
	Enable    Enable    `json:"enable,omitzero" yaml:"enable"`
	Tools     Tools     `json:"tools,omitzero" yaml:"tools"`
	Run       Run       `json:"run,omitzero" yaml:"run"`

	// Serves are arguments of the agent's program that say that its process serves several sessions at once.
	Serves []string `json:"serves,omitempty" yaml:"serves"`

	// Note is a line for the user: how to get real call ids where the agent gives none by itself.
	Note string `json:"note,omitempty" yaml:"note"`
}

// Env is what the agent puts into the environment of the commands that it runs for a call. Of several
// variables the first that is set counts.
type Env struct {
	Session []string `json:"session,omitempty" yaml:"session"`
	Call    []string `json:"call,omitempty" yaml:"call"`
	// Thread is the id of a subagent, or of the session itself where none works. Where it is the variable of the session,
	// all but the first session that the agent names are of subagents.
	Thread []string `json:"thread,omitempty" yaml:"thread"`
	// ThreadsWithin: ids of threads are unique within a session only.
	ThreadsWithin bool `json:"threads_within,omitempty" yaml:"threads_within"`
	// Commands are other variables that the agent sets on commands of calls. With Leaders, they are asked for once the
	// agent has set one, as its older versions may not.
	Commands []string `json:"commands,omitempty" yaml:"commands"`
	// Helpers are variables that the agent sets on its hooks, status lines and other helpers and on no command of a
	// call: a child that it introduces one to is a helper.
	Helpers []string `json:"helpers,omitempty" yaml:"helpers"`
	// HelperArgs are the arguments of helpers that are shells, as those of commands are, but have none of these
	// variables: all but argv[0], joined by blanks, "*" as the last character for any end. What the model writes must not
	// be able to look like it.
	HelperArgs []string `json:"helper_args,omitempty" yaml:"helper_args"`
	// Traceparent says what the variable TRACEPARENT means when the agent introduces it.
	Traceparent Traceparent `json:"traceparent,omitempty" yaml:"traceparent"`
	// Leaders: commands of calls lead a session of their own (setsid), and begin with a shell that runs a text (sh -c), or
	// a program of Wrappers. A child that does not is the agent's own helper, unless it is given a call id.
	Leaders bool `json:"leaders,omitempty" yaml:"leaders"`
	// Programs are base names of argv[0] of what else commands begin with, for Leaders; "*" is any.
	Programs []string `json:"programs,omitempty" yaml:"programs"`
	// CallsNamed: every command of a call has one of the variables above; a child without is a helper.
	CallsNamed bool `json:"calls_named,omitempty" yaml:"calls_named"`
	// Users are those variables of Session that only versions set whose model's commands all have one of Call or Commands,
	// too: a command with one of these alone the user has typed.
	Users []string `json:"users,omitempty" yaml:"users"`
	// Nested is how the ids of calls look that the agent itself makes within a call of the model, as for each tool
	// that a program of the model's calls: "exec-*". "*" as the last character stands for any end.
	Nested []string `json:"nested,omitempty" yaml:"nested"`
}

// Serving says whether arguments, each ended by a NUL, are of a process that serves several sessions.
func (d *Dialect) Serving(args string) bool {
	for arg := range strings.SplitSeq(args, "\x00") {
		if arg != "" && slices.Contains(d.Serves, arg) {
			return true
		}
	}
	return false
}

// SessionIsThread says whether one variable holds the id of the session, or of the subagent.
func (e *Env) SessionIsThread() bool {
	return len(e.Thread) > 0 && len(e.Session) > 0 && e.Thread[0] == e.Session[0]
}

// IsNested says whether a call's id is one of the agent's own, within a call of the model.
func (e *Env) IsNested(call string) bool {
	return call != "" && slices.ContainsFunc(e.Nested, func(p string) bool {
		start, open := strings.CutSuffix(p, "*")
		return call == p || open && strings.HasPrefix(call, start)
	})
}

// Traceparent is a meaning of the variable TRACEPARENT.
type Traceparent string

// The meanings.
const (
	// TraceparentLauncher: passed through from whoever started the agent. It names no call. The default.
	TraceparentLauncher Traceparent = "launcher"
	// TraceparentCall: a value of the agent's own names its span for the call.
	TraceparentCall Traceparent = "call"
)

// Telemetry is how to read the agent's OTLP. Attribute names are looked for on the span or log record
// first, then on its resource; of several the first that is there counts.
type Telemetry struct {
	// Services are values of service.name; "*" as the last character stands for any end.
	Services []string `json:"services,omitempty" yaml:"services"`
	Session  []string `json:"session,omitempty" yaml:"session"`
	Call     []string `json:"call,omitempty" yaml:"call"`
	// CallHasTool: call ids are written "<tool>__<id>".
	CallHasTool bool     `json:"call_has_tool,omitempty" yaml:"call_has_tool"`
	Tool        []string `json:"tool,omitempty" yaml:"tool"`
	// Execution is the id of what runs a program of the model's: of spans with one, in any trace of the agent, that with a
	// call's id stands for the call that nested ones below the others are in.
	Execution []string `json:"execution,omitempty" yaml:"execution"`
	// CallSpans are names of the span that stands for a call, "*" as above; they need the call's id.
	CallSpans []string `json:"call_spans,omitempty" yaml:"call_spans"`
	// UserSpans are names of the span that stands for what the user has asked, "*" as above. Commands of the model have
	// the trace context of a span of CallSpans: what has that of one of these the user has typed.
	UserSpans []string `json:"user_spans,omitempty" yaml:"user_spans"`
	Events    []Event  `json:"events,omitempty" yaml:"events"`
}

// Event is a log record (by its event name, its attribute event.name or its body) or a
// span (by its name) with a fact about a call.
type Event struct {
	Name string    `json:"name" yaml:"name"` // "*" as the last character stands for any end
	Kind EventKind `json:"kind" yaml:"kind"`
	// Attribute names.
	Decision []string `json:"decision,omitempty" yaml:"decision"`
	Source   []string `json:"source,omitempty" yaml:"source"`
	Success  []string `json:"success,omitempty" yaml:"success"` // bool, or the strings true and false
	Detail   []string `json:"detail,omitempty" yaml:"detail"`   // all that are there; no prompts, arguments, outputs
	// Approved and Denied are the agent's own words for the two; compared without case.
	Approved []string `json:"approved,omitempty" yaml:"approved"`
	Denied   []string `json:"denied,omitempty" yaml:"denied"`
}

// EventKind is what an event is about.
type EventKind string

// The kinds.
const (
	EventDecision EventKind = "decision"
	EventResult   EventKind = "result"
	EventSandbox  EventKind = "sandbox"
	EventNetwork  EventKind = "network"
	EventSession  EventKind = "session"
)

// Hook is how to read the JSON that the agent gives its hooks on stdin. Field names with dots lead into objects;
// a list on the way stands for each of its elements.
type Hook struct {
	Session     []string `json:"session,omitempty" yaml:"session"`
	Call        []string `json:"call,omitempty" yaml:"call"`
	Tool        []string `json:"tool,omitempty" yaml:"tool"`
	Traceparent []string `json:"traceparent,omitempty" yaml:"traceparent"`
	Event       []string `json:"event,omitempty" yaml:"event"`
	// Begin and End are values of Event.
	Begin []string `json:"begin,omitempty" yaml:"begin"`
	End   []string `json:"end,omitempty" yaml:"end"`
	// Paths lead to the files that the tool works on, Command to the command that it runs, Patch to the text of a patch
	// (apply_patch's form) whose headings name files, Thread to the subagent's id.
	Paths   []string `json:"paths,omitempty" yaml:"paths"`
	Command []string `json:"command,omitempty" yaml:"command"`
	Patch   []string `json:"patch,omitempty" yaml:"patch"`
	Thread  []string `json:"thread,omitempty" yaml:"thread"`
	// Began leads, where a call ends that had a subagent work, to the id of that.
	Began []string `json:"began,omitempty" yaml:"began"`
	// Cwd leads to the directory that relative Paths start at.
	Cwd []string `json:"cwd,omitempty" yaml:"cwd"`
	// ToolNames are the names that the agent's telemetry has for tools which it calls otherwise here.
	ToolNames map[string]string `json:"tool_names,omitempty" yaml:"tool_names"`
	// Env are variables of the hook's process that hold the session where the JSON does not.
	Env []string `json:"env,omitempty" yaml:"env"`
}

// Tools says what kind of tool a name is. "*" as the last character stands for any end. What is in no list works inside
// of the agent's own process.
type Tools struct {
	// Commands are tools that run a command in a process of its own.
	Commands []string `json:"commands,omitempty" yaml:"commands"`
	// Agents are tools that have a subagent work: what happens meanwhile is of the subagent's own calls.
	Agents []string `json:"agents,omitempty" yaml:"agents"`
	// MCP is how a tool of an MCP server is called, with the words {server} and {tool} in it: "mcp__{server}__{tool}".
	MCP string `json:"mcp,omitempty" yaml:"mcp"`
	// Own are base names of programs that the agent starts for itself and that are no MCP servers, though they stay.
	Own []string `json:"own,omitempty" yaml:"own"`
	// State are names of files and directories that the agent keeps for itself, wherever they are: ".claude", which
	// stands for ".claude.json", too, or "share/opencode". What its own process writes there is of no tool, unless that
	// has declared it.
	State []string `json:"state,omitempty" yaml:"state"`
}

// Run is what sheetbend run does for the agent.
type Run struct {
	// Env are variables of the agent's, and Args are put right after the name of the program, so that the agent's work
	// can be seen: they keep it from leaving its commands to a daemon of an earlier run.
	Env  map[string]string `json:"env,omitempty" yaml:"env"`
	Args []string          `json:"args,omitempty" yaml:"args"`
	// Try are further arguments behind Args with which the program ends at once, and well if it knows Args: only then
	// are they given. Empty: all versions know them.
	Try []string `json:"try,omitempty" yaml:"try"`
	// Present are variables, and beginnings of arguments, that say that the user has decided on that himself.
	Present []string `json:"present,omitempty" yaml:"present"`
	// Daemon is what the agent's daemon does, for the user: "its hub runs the commands of later runs". Empty: it has
	// none.
	Daemon string `json:"daemon,omitempty" yaml:"daemon"`
}

// Enable switches the agent's own OTLP telemetry on. In the values, {endpoint} is the base URL
// of an OTLP/HTTP receiver, for example http://127.0.0.1:4318.
type Enable struct {
	Env  map[string]string `json:"env,omitempty" yaml:"env"`
	Args []string          `json:"args,omitempty" yaml:"args"` // put right after the name of the program
	// Present are variables, and beginnings of arguments, that say that the user has switched it on already.
	Present []string `json:"present,omitempty" yaml:"present"`
	// Gives says for the user what is read from it: "ids and approvals of its calls". Empty: nothing that would be on the
	// sensor's spans.
	Gives string `json:"gives,omitempty" yaml:"gives"`
	// Also is a line for the user: what cannot be switched on this way.
	Also string `json:"also,omitempty" yaml:"also"`
}

// VarTraceparent is read of every process beside the variables that dialects name. TRACESTATE and BAGGAGE, which
// may come with it, hold lists of whatever vendors and users put there, and nothing that identifies a call.
const VarTraceparent = "TRACEPARENT"

// Bounds of a table.
const (
	maxDialects = 256
	maxList     = 64
	maxString   = 1024
	// maxVariable and maxVariables are what the kernel programs can look for.
	maxVariable  = 31
	maxVariables = 256
)

// LoaderVariables have the loader put other code into a program.
func LoaderVariables() []string { return []string{"LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"} }

// EnvNames gives the variables that the kernel side has to report for these dialects, sorted.
func EnvNames(ds []Dialect) []string {
	names := append(LoaderVariables(), VarTraceparent)
	for i := range ds {
		e := &ds[i].Env
		names = slices.Concat(names, e.Session, e.Call, e.Thread, e.Commands, e.Helpers, e.Users)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Merge puts the user's dialects over the built-in ones. In one of the same name, the parts that the user gives replace
// those of the built-in one; others come before all of those, so that they are asked first.
func Merge(builtin, user []Dialect) []Dialect {
	var out []Dialect
	rest := slices.Clone(builtin)
	for _, d := range user {
		if i := slices.IndexFunc(rest, func(b Dialect) bool { return b.Name == d.Name }); i >= 0 {
			rest[i] = overlay(rest[i], d)
		} else {
			out = append(out, d)
		}
	}
	return append(out, rest...)
}

// overlay replaces the parts of a dialect that are given in another.
func overlay(under, over Dialect) Dialect {
	to, from := reflect.ValueOf(&under).Elem(), reflect.ValueOf(over)
	for i := range to.NumField() {
		if f := from.Field(i); !f.IsZero() {
			to.Field(i).Set(f)
		}
	}
	return under
}

// Find gives the dialect of this name, or nil.
func Find(ds []Dialect, name string) *Dialect {
	for i := range ds {
		if ds[i].Name == name {
			return &ds[i]
		}
	}
	return nil
}

// Validate returns all that is wrong with a table, for the user who wrote it.
func Validate(ds []Dialect) error {
	if len(ds) > maxDialects {
		return fmt.Errorf("%d agents, at most %d are allowed", len(ds), maxDialects)
	}
	var errs []error
	seen := map[string]bool{}
	for i := range ds {
		d := &ds[i]
		name := d.Name
		if name == "" {
			name = fmt.Sprintf("[%d]", i)
		}
		if err := d.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("agent %s: %w", name, err))
		}
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("agent %s: listed twice", name))
		}
		seen[d.Name] = true
	}
	if n := len(EnvNames(ds)); len(errs) == 0 && n > maxVariables {
		errs = append(errs, fmt.Errorf("the agents name %d environment variables in all, at most %d can be read",
			n, maxVariables))
	}
	return errors.Join(errs...)
}

// Validate returns all that is wrong with the dialect.
func (d *Dialect) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Name == "" || len(d.Name) > 128 || !utf8.ValidString(d.Name) {
		bad("name must be text of 1 to 128 bytes")
	}
	if len(d.Executables) == 0 && len(d.Scripts) == 0 && len(d.Telemetry.Services) == 0 {
		bad("nothing to know it by: give executables or scripts")
	}
	for _, e := range d.Executables {
		if e == "" || strings.Contains(e, "/") {
			bad("executables: %q is not a base name; paths go into path", e)
		}
	}
	for _, list := range [][]string{d.Scripts, d.Path} {
		for _, p := range list {
			if _, err := path.Match(p, "x"); err != nil || p == "" {
				bad("%q is not a path or glob", p)
			}
		}
	}
	for _, p := range d.Path {
		if !strings.HasPrefix(p, "/") {
			bad("path: %q does not begin with a slash", p)
		}
	}
	for _, v := range slices.Concat(d.Env.Session, d.Env.Call, d.Env.Thread, d.Env.Commands, d.Env.Helpers, d.Env.Users) {
		if v == "" || len(v) > maxVariable || strings.ContainsAny(v, "=\x00") {
			bad("env: %q is not a variable's name of at most %d bytes", v, maxVariable)
		}
		if v == VarTraceparent {
			bad("env: %s is read by itself; traceparent says what it means", v)
		}
	}
	for _, p := range d.Env.Nested {
		if p == "" || p == "*" {
			bad("env.nested: %q says nothing about ids", p)
		}
	}
	switch d.Env.Traceparent {
	case "", TraceparentLauncher, TraceparentCall:
	default:
		bad("env.traceparent: %q is neither %s nor %s", d.Env.Traceparent, TraceparentLauncher, TraceparentCall)
	}
	for _, e := range d.Telemetry.Events {
		if e.Name == "" {
			bad("telemetry.events: one has no name")
		}
		switch e.Kind {
		case EventDecision, EventResult, EventSandbox, EventNetwork, EventSession:
		default:
			bad("telemetry.events: %s: kind %q is not one of decision, result, sandbox, network, session",
				e.Name, e.Kind)
		}
	}
	for _, w := range d.Wrappers.Scripts {
		if w.After == "" && (w.Before == "" || w.As != AsText) || !slices.Contains([]As{AsText, AsWord, AsWords, AsArgument}, w.As) {
			bad("wrappers.scripts: one needs after (or, with as: %s, before), and as: %s, %s, %s or %s", AsText, AsText, AsWord, AsWords, AsArgument)
		}
	}
	for of, env := range map[string]map[string]string{"enable": d.Enable.Env, "run": d.Run.Env} {
		for name := range env {
			if name == "" || strings.ContainsAny(name, "=\x00") {
				bad("%s.env: %q is not a variable's name", of, name)
			}
		}
	}
	if !bounded(reflect.ValueOf(*d)) {
		bad("a list is longer than %d or a string than %d bytes or has a NUL byte in it", maxList, maxString)
	}
	return errors.Join(errs...)
}

// bounded checks the size of every list, map and string in v.
func bounded(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return v.Len() <= maxString && !strings.ContainsRune(v.String(), 0)
	case reflect.Struct:
		for _, field := range v.Fields() {
			if !bounded(field) {
				return false
			}
		}
	case reflect.Slice, reflect.Map:
		if v.Len() > maxList {
			return false
		}
		for key, element := range v.Seq2() {
			if !bounded(key) || !bounded(element) {
				return false
			}
		}
	}
	return true
}
