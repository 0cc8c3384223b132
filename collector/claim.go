// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"encoding/hex"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// claims are what an environment says about identity. They are believed at one place only: where an
// agent introduces them to its child. Lineage decides everything else.
type claims struct {
	session, call, traceparent string
	command                    bool // a variable that the agent sets on commands of calls
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

// environment gives the variables of an exec that matter here, each once, as "NAME=value\0". It shares the
// string of the program before when nothing has changed, as is the rule.
func (c *environ) environment(raw []byte, before string) string {
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
func says(env string, e *agents.Env) claims {
	first := func(names []string) string {
		for _, name := range names {
			if v := lookup(env, name); v != "" {
				return v
			}
		}
		return ""
	}
	return claims{
		session: first(e.Session), call: first(e.Call), traceparent: lookup(env, agents.VarTraceparent),
		command: first(e.Commands) != "",
	}
}

// without takes away what the other has as well.
func (s claims) without(other claims) claims {
	if s.session == other.session {
		s.session = ""
	}
	if s.call == other.call {
		s.call = ""
	}
	if s.traceparent == other.traceparent {
		s.traceparent = ""
	}
	s.command = s.command && !other.command
	return s
}

// introduced gives what an agent tells its child and was not told itself. When the agent is older than the sensor,
// the first child's environment stands for its own: what all children have was passed through.
func (c *environ) introduced(a *agent, before environment, env string) claims {
	e := &a.dialect.Env
	child := says(env, e)
	if before.envRead {
		return child.without(says(before.env, e))
	}
	if a.base == nil {
		a.base = &child
	}
	in := child.without(*a.base)
	if in.call != "" || in.command || child.call != "" || child.command {
		// A command of a call: its session is the agent's, who sets it on each.
		in.session = child.session
	}
	return in
}

// An environment is that of a program, as far as dialects name its variables.
type environment struct {
	env     string
	envRead bool // otherwise it is not known
}

// A start of a program, as attribution needs it.
type programStart struct {
	agents.Program
	file   FileID
	env    string
	before environment // of the same process, or of who forked it
	leader bool        // of a kernel session
	id     span.Image
	uid    uint32
}

// attribute decides whose a process is from this exec on. It returns claims of its environment
// that contradict lineage and therefore rebind nothing.
func (c *attribution) attribute(p *aProcess, x *programStart) (denied claims) {
	d := c.dialects.Find(x.Program)
	program := programOf(x.file, x.Program)
	direct := p.role == roleFork
	p.runsHook = (direct || p.hookShell) && (c.isHook(x) || namedHook(x))
	p.hookShell = direct && startsHook(x)
	if p.role == roleHook {
		if c.isHook(x) {
			c.hooked(p)
			return claims{}
		}
		c.notHook(p) // and what it runs instead is in its call
	}
	if direct {
		a := p.agent
		in := c.environ.introduced(a, x.before, x.env)
		if d != nil && in.call == "" && a.mayWork(d, program) {
			c.learn(a, in.session)
			p.role = roleAgent
			return claims{}
		}
		if a.program == program && in == (claims{}) {
			return claims{} // the agent's own program, on the way to the call's first: it prepares the process
		}
		p.role = roleNone
		a.started = true
		if !c.learn(a, in.session) {
			denied.session = in.session
		}
		c.root(p, x, in)
		if d != nil && a.mayWork(d, program) {
			return denied // the agent runs its own program as a tool
		}
	} else if p.role != roleAgent && p.role != roleUnclear && x.before.envRead {
		denied = c.environ.contradicted(p, x)
	}
	switch {
	case d != nil && p.role == roleAgent && p.agent.mayWork(d, program):
	case d != nil:
		c.becomeAgent(p, d, x.id, x.uid, program)
	case p.role == roleAgent:
		p.role = roleNone
	}
	return denied
}

// root decides which call the child of an agent belongs to, at its first exec.
func (c *attribution) root(p *aProcess, x *programStart, in claims) {
	a := p.agent
	link, sampled, ok := span.ParseTraceparent(in.traceparent)
	perCall := c.perCall(a, link, ok)
	command := in.call != "" || perCall
	switch e := &a.dialect.Env; {
	case e.CallsNamed || e.Leaders:
		command = command || e.CallsNamed && (in.session != "" || in.command) || e.Leaders && x.leader
	default:
		command = true
	}
	switch {
	case in.call == "" && c.isHook(x):
		p.likeCommand = command
		return // it marks calls for the agent that ran it, and is none
	case !command:
		return // the agent's own helper
	case in.call == "" && startsHook(x):
		c.deferHook(p, x, in) // what the shell runs next tells whether that is so
		return
	}
	c.command(p, x, in, perCall, link, sampled, ok)
}

// command puts a process in the call that it is the first of.
func (c *attribution) command(p *aProcess, x *programStart, in claims, perCall bool, link span.Link, sampled, ok bool) {
	a := p.agent
	if len(a.open) > 1 {
		c.closeStale(a)
	}
	var k *call
	switch {
	case in.call != "":
		k = c.callOf(a, in.call, byCallID)
	case len(a.open) == 1:
		k = a.open[0]
	case perCall:
		k = c.newCall(a, "", hex.EncodeToString(link.Trace[:])+"-"+hex.EncodeToString(link.Span[:]), byContext)
		k.contextual = true
	case len(a.open) > 1:
		c.stats.AmbiguousCalls++
		c.belong(p, whose{agent: a, ambiguous: true})
		return
	default:
		id := span.InferredCall(c.config.BootID, x.id)
		by := inferred
		if a.names {
			by = unannounced
		}
		k = c.callOf(a, id, by)
		k.computed = true
		c.inferred[a.name] = true
	}
	a.names = a.names || !k.computed
	if perCall {
		c.join(k, link, sampled)
	}
	if ok && c.contexts[link] == nil && k.context == (span.Link{}) {
		k.context = link
		c.contexts[link] = k
	}
	c.belong(p, whose{agent: a, call: k})
}

// contradicted gives the claims that a process which is no agent makes for its child, or for itself, and that
// are not what lineage says.
func (c *environ) contradicted(p *aProcess, x *programStart) (denied claims) {
	if x.env == "" || x.env == x.before.env {
		return claims{}
	}
	w := p.whose()
	for rest := x.env; rest != ""; {
		var entry string
		entry, rest, _ = strings.Cut(rest, "\x00")
		name, v, _ := strings.Cut(entry, "=")
		if lookup(x.before.env, name) == v {
			continue
		}
		switch meaning := c.meanings[name]; {
		case name == agents.VarTraceparent:
			link, _, ok := span.ParseTraceparent(v)
			was, _, had := span.ParseTraceparent(lookup(x.before.env, name))
			known := w.call != nil && w.call.joined
			// A tool that continues the trace makes spans of its own in it.
			if ok && (known && link.Trace != w.call.top.Trace || had && link.Trace != was.Trace) {
				denied.traceparent = v
			}
		case meaning == meansCall && (w.call == nil || w.call.id != v):
			denied.call = v
		case meaning == meansSession && (w.agent == nil || w.agent.session != v):
			denied.session = v
		}
	}
	if denied != (claims{}) {
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
		for _, name := range ds[i].Env.Session {
			m[name] = meansSession
		}
		for _, name := range ds[i].Env.Call {
			m[name] = meansCall
		}
	}
	return m
}
