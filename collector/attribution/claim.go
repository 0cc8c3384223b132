// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"bytes"
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Claims are what an environment says about identity. They are believed at one place only: where an
// agent introduces them to its child. Lineage decides everything else.
type Claims struct {
	Session, Call, Traceparent string
	Thread                     string // of a subagent, or the session's
	command                    bool   // a variable that the agent sets on commands of calls
	helper                     bool   // one that it sets on its helpers
	user                       bool   // what tells that the user has typed the command
}

// Bounds of an environment that is kept for comparison. Variables beyond them count as not set.
const (
	maxClaimBytes = 256
	maxEnvBytes   = 1024
)

// variables are the names that dialects give a meaning.
func variables(ds []agents.Dialect) map[string]bool {
	names := map[string]bool{}
	for _, name := range agents.EnvNames(ds) {
		names[name] = true
	}
	return names
}

// Environment gives the variables of an exec that matter here, each once, as "NAME=value\0". It shares the
// string of the program before when nothing has changed, as is the rule.
func (c *Environ) Environment(raw []byte, before string) string {
	if len(raw) == 0 {
		return ""
	}
	kept := c.text[:0]
	for len(raw) > 0 {
		var entry []byte
		entry, raw, _ = bytes.Cut(raw, []byte{0})
		name, value, _ := bytes.Cut(entry, []byte{'='})
		if !c.variables[string(name)] || len(value) == 0 || len(value) > maxClaimBytes || len(kept)+len(entry) >= maxEnvBytes ||
			variable(kept, name) {
			continue
		}
		kept = append(append(kept, entry...), 0)
	}
	c.text = kept
	if string(kept) == before {
		return before
	}
	return string(kept)
}

// variable says whether one of this name is in env already: the first one counts.
func variable(env, name []byte) bool {
	for len(env) > 0 {
		var entry []byte
		entry, env, _ = bytes.Cut(env, []byte{0})
		if len(entry) > len(name) && entry[len(name)] == '=' && bytes.HasPrefix(entry, name) {
			return true
		}
	}
	return false
}

// lookup gives a variable of env, "" when it is not set.
func lookup(env, name string) string {
	for env != "" {
		var entry string
		entry, env, _ = strings.Cut(env, "\x00")
		if len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name {
			return entry[len(name)+1:]
		}
	}
	return ""
}

// says reads an environment as a dialect does.
func says(env string, e *agents.Env) Claims {
	first := func(names []string) string {
		for _, name := range names {
			if v := lookup(env, name); v != "" {
				return v
			}
		}
		return ""
	}
	return Claims{
		Session: first(e.Session), Call: first(e.Call), Traceparent: lookup(env, agents.VarTraceparent), Thread: first(e.Thread),
		command: first(e.Commands) != "",
	}
}

// without takes away what the other has as well.
func (s Claims) without(other Claims) Claims {
	if s.Session == other.Session {
		s.Session = ""
	}
	if s.Call == other.Call {
		s.Call = ""
	}
	if s.Thread == other.Thread {
		s.Thread = ""
	}
	if s.Traceparent == other.Traceparent {
		s.Traceparent = ""
	}
	s.command = s.command && !other.command
	return s
}

// introduced gives what an agent tells its child and was not told itself. When the agent is older than the sensor,
// the first child's environment stands for its own: what all children have was passed through.
func (c *Environ) introduced(a *agent, before Environment, env string) Claims {
	e := &a.dialect.Env
	child := says(env, e)
	if before.EnvRead {
		in := child.without(says(before.Env, e))
		in.helper = sets(env, before.Env, e.Helpers)
		in.user = in.Session != "" && child.Call == "" && !child.command && sets(env, before.Env, e.Users)
		a.setsCommands = a.setsCommands || in.command
		return in
	}
	helper := sets(env, "", e.Helpers)
	if a.base == nil {
		a.base, a.passesHelpers = &child, helper
	}
	a.passesHelpers = a.passesHelpers && helper
	in := child.without(*a.base)
	in.helper = helper && !a.passesHelpers
	in.user = in.Session != "" && child.Call == "" && !child.command && sets(env, "", e.Users)
	if in.Call != "" || in.command || child.Call != "" || child.command {
		// A command of a call: its session is the agent's, who sets it on each.
		in.Session, in.Thread = child.Session, child.Thread
	}
	return in
}

// sets says whether env has one of these variables with another value than before.
func sets(env, before string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		v := lookup(env, name)
		return v != "" && v != lookup(before, name)
	})
}

// An Environment is that of a program, as far as dialects name its variables.
type Environment struct {
	Env     string
	EnvRead bool // otherwise it is not known
}

// A ProgramStart is the start of a program, as attribution needs it.
type ProgramStart struct {
	agents.Program
	File   config.FileID
	Env    string
	Before Environment // of the same process, or of who forked it
	Leader bool        // of a kernel session
	ID     span.Image
	Uid    uint32
	At     uint64 // boottime
}

// Attribute decides whose a process is from this exec on. It returns claims of its environment
// that contradict lineage and therefore rebind nothing.
func (c *Table) Attribute(p *Process, x *ProgramStart) (denied Claims) {
	d := c.Dialects.Find(x.Program)
	program := ProgramOf(x.File, x.Program)
	direct := p.Role == roleFork
	p.runsHook = (direct || p.hookShell) && (c.isHook(x) || namedHook(x))
	p.hookShell = direct && StartsHook(x)
	if p.Role == roleHook {
		if c.isHook(x) {
			c.hooked(p)
			return Claims{}
		}
		c.NotHook(p) // and what it runs instead is in its call
	}
	if direct {
		a := p.Agent
		in := c.Environ.introduced(a, x.Before, x.Env)
		if d != nil && in.Call == "" && a.MayWork(d, program) {
			c.learn(a, in.Session)
			p.Role = RoleAgent
			return Claims{}
		}
		if a.program == program && in == (Claims{}) {
			return Claims{} // the agent's own program, on the way to the call's first: it prepares the process
		}
		p.taint = p.tainted()
		p.Role = RoleNone
		a.started = true
		if a.dialect.Env.SessionIsThread() && a.OwnID != "" {
			in.Session = "" // a further one is a subagent's
		}
		if !c.learn(a, in.Session) {
			denied.Session = in.Session
			in.Session, in.Thread = "", ""
		}
		c.root(p, x, in)
		c.helps(p, path.Base(x.Executable))
		if d != nil && a.MayWork(d, program) {
			return denied // the agent runs its own program as a tool
		}
	} else if p.Role != RoleAgent && p.Role != RoleUnclear && x.Before.EnvRead {
		denied = c.Environ.contradicted(p, x)
	}
	switch {
	case d != nil && p.Role == RoleAgent && p.Agent.MayWork(d, program):
	case d != nil:
		c.BecomeAgent(p, d, x.ID, x.Uid, program, x.Args)
	case p.Role == RoleAgent:
		p.Role = RoleNone
	}
	return denied
}

// root decides which call the child of an agent belongs to, at its first exec.
func (c *Table) root(p *Process, x *ProgramStart, in Claims) {
	a := p.Agent
	link, sampled, ok := span.ParseTraceparent(in.Traceparent)
	perCall := c.perCall(a, link, ok)
	command := in.Call != ""
	switch e := &a.dialect.Env; {
	case command || in.helper && !in.command && !c.Marks.told(a, x):
	case e.CallsNamed && (perCall || in.Session != "" || in.command):
		command = true
	case e.CallsNamed || e.Leaders:
		command = e.Leaders && x.Leader && a.dialect.StartsCommand(x.Program) && (in.command || !a.marksCommands(x.Before))
	default:
		command = true
	}
	switch {
	case in.Call == "" && c.isHook(x):
		p.likeCommand = command
		return // it marks calls for the agent that ran it, and is none
	case !command:
		return // the agent's own helper
	case in.Call == "" && StartsHook(x):
		c.deferHook(p, x, in) // what the shell runs next tells whether that is so
		return
	}
	c.command(p, x, in, perCall, link, sampled, ok)
}

// marksCommands says whether each command of the agent is known to have a variable of its own. It has given one; or it was
// started with a variable of helpers, by a hook of its like, and so cannot set that one anew.
func (a *agent) marksCommands(own Environment) bool {
	e := &a.dialect.Env
	return own.EnvRead && len(e.Commands) > 0 && !sets(own.Env, "", e.Commands) && (a.setsCommands || sets(own.Env, "", e.Helpers))
}

// command puts a process in the call that it is the first of.
func (c *Table) command(p *Process, x *ProgramStart, in Claims, perCall bool, link span.Link, sampled, ok bool) {
	a := p.Agent
	var k *Call
	var several bool
	if in.Call == "" && !in.user {
		k, several = c.Marks.openCall(a, x)
	}
	t := c.threadOf(a, in)
	switch {
	case in.Call != "":
		k = c.callIn(a, t, in.Call, byCallID, x.At)
		c.Marks.runs(k)
	case k != nil:
	case perCall:
		k = c.newCallIn(a, t, "", hex.EncodeToString(link.Trace[:])+"-"+hex.EncodeToString(link.Span[:]), byContext, x.At)
		k.Contextual = true
	case several:
		c.stats.AmbiguousCalls++
		c.Belong(p, Owner{Agent: a, Ambiguous: true})
		return
	default:
		id := span.InferredCall(c.config.BootID, x.ID)
		by := inferred
		if a.names && !in.user && !a.mayAnnounce(c.clock.Now, c.config.CallRetention) {
			by = unannounced
		}
		k = c.callIn(a, t, id, by, x.At)
		k.computed, k.ByUser = true, in.user
		c.inferred[a.Name] = true
	}
	a.names = a.names || !k.computed
	if perCall {
		c.join(k, link, sampled)
	}
	if ok && c.contexts[link] == nil && k.Links.context == (span.Link{}) {
		k.Links.context = link
		c.contexts[link] = k
	}
	c.Belong(p, Owner{Agent: a, Call: k})
	p.command = k
	k.Life.commands++
	k.Life.Left = false
}

// contradicted gives the claims that a process which is no agent makes for its child, or for itself, and that
// are not what lineage says.
func (c *Environ) contradicted(p *Process, x *ProgramStart) (denied Claims) {
	if x.Env == "" || x.Env == x.Before.Env {
		return Claims{}
	}
	w := p.Owner()
	for rest := x.Env; rest != ""; {
		var entry string
		entry, rest, _ = strings.Cut(rest, "\x00")
		name, v, _ := strings.Cut(entry, "=")
		if lookup(x.Before.Env, name) == v {
			continue
		}
		switch meaning := c.meanings[name]; {
		case name == agents.VarTraceparent:
			link, _, ok := span.ParseTraceparent(v)
			was, _, had := span.ParseTraceparent(lookup(x.Before.Env, name))
			known := w.Call != nil && w.Call.Links.Joined
			// A tool that continues the trace makes spans of its own in it.
			if ok && (known && link.Trace != w.Call.Links.Top.Trace || had && link.Trace != was.Trace) {
				denied.Traceparent = v
			}
		case meaning == meansCall && (w.Call == nil || w.Call.ID != v):
			denied.Call = v
		case meaning == meansSession && (w.Agent == nil || w.Agent.OwnID != v) && (w.Call == nil || w.Call.Thread == nil || w.Call.Thread.ID != v):
			denied.Session = v
		}
	}
	if denied != (Claims{}) {
		c.stats.Contradictions++
	}
	return denied
}

// meaning of a variable in any dialect.
type meaning uint8

const (
	meansSession meaning = iota + 1
	meansCall
)

func meanings(ds []agents.Dialect) map[string]meaning {
	m := map[string]meaning{}
	for i := range ds {
		for _, name := range slices.Concat(ds[i].Env.Session, ds[i].Env.Thread) {
			m[name] = meansSession
		}
		for _, name := range ds[i].Env.Call {
			m[name] = meansCall
		}
	}
	return m
}
