// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A pendingHook is a shell that an agent started as it starts commands, and that is told to do nothing but run a hook.
// While nobody knows whether it does it is of no call, and its word is not the agent's. What it runs first tells: the
// sensor's own program makes a hook of it, anything else the command of a call, from its start.
type pendingHook struct {
	start   ProgramStart
	in      Claims
	members []*Process
	Ran     bool // one of them became the hook
}

// maxMaybe bounds the forks of such a shell. Most have none, some fork for a command that others run in their own
// place.
const maxMaybe = 4

// isHook is true of the sensor's own program that is run as "sheetbend hook NAME".
func (c *Table) isHook(x *ProgramStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 4)
	return x.File == c.config.Self && x.File != (config.FileID{}) && len(argv) == 4 && argv[3] == "" && argv[1] == "hook" // each ended by a NUL
}

// namedHook is true of another copy of the sensor's program that is run so, as in a container: by its name, and a file
// that only root of where it lies can have put there.
func namedHook(x *ProgramStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 4)
	return path.Base(x.Executable) == "sheetbend" && x.Owner == 0 && !x.Unproven && len(argv) == 4 && argv[3] == "" && argv[1] == "hook"
}

// shells may be told to run a hook.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox"}

// StartsHook is true of a shell, under a shell's name, that does nothing but run a program with the arguments of a
// hook, or that where the program is there (hook.Command). Which program that is, only its exec tells; but it is no
// function, builtin or script that the shell would read itself.
func StartsHook(x *ProgramStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 5)
	if !slices.Contains(shells, path.Base(x.Executable)) || !slices.Contains(shells, path.Base(argv[0])) || x.Unproven || x.Owner != 0 ||
		len(argv) != 4 || argv[3] != "" || argv[1] != "-c" && argv[1] != "-lc" {
		return false
	}
	text, end := argv[2], " "
	if tested, run, ok := strings.Cut(text, " || exec "); ok {
		if program, ok := strings.CutPrefix(tested, "test ! -x "); !ok || !strings.HasPrefix(run, program+" hook ") {
			return false
		}
		text = run
	}
	if quoted, ok := strings.CutPrefix(text, "'"); ok {
		text, end = quoted, "' "
	}
	program, command, _ := strings.Cut(text, end)
	if strings.ContainsAny(program+command, "|&;()<>$`\\\"'*?[]#~=%!{}\n") || program != "sheetbend" && !strings.HasPrefix(program, "/") {
		return false
	}
	words := strings.Fields(command)
	return len(words) == 2 && words[0] == "hook"
}

func (c *Table) deferHook(p *Process, x *ProgramStart, in Claims) {
	m := &pendingHook{start: *x, in: in}
	m.start.Before = Environment{}
	p.Role, p.Hook = roleHook, nil
	m.add(p)
}

func (m *pendingHook) add(p *Process) {
	p.Hook = m
	m.members = append(m.members, p)
}

func (m *pendingHook) Remove(p *Process) {
	p.Hook = nil
	if i := slices.Index(m.members, p); i >= 0 {
		m.members = slices.Delete(m.members, i, i+1)
	}
}

// hooked makes a helper of the agent of a process that runs the sensor's own program.
func (c *Table) hooked(p *Process) {
	p.Hook.Ran = true
	p.Hook.Remove(p)
	p.Role, p.likeCommand = RoleNone, true
}

// NotHook puts all that came of what was no hook in its call.
func (c *Table) NotHook(p *Process) {
	m := p.Hook
	if m == nil {
		return
	}
	members := slices.Clone(m.members)
	var w Owner
	for n, p := range members {
		m.Remove(p)
		p.Role = RoleNone
		if n == 0 {
			link, sampled, ok := span.ParseTraceparent(m.in.Traceparent)
			perCall := c.perCall(p.Agent, link, ok)
			c.command(p, &m.start, m.in, perCall, link, sampled, ok)
			w = Owner{Agent: p.Agent, Call: p.Call, Ambiguous: p.ambiguous}
		} else {
			c.Belong(p, w)
		}
	}
	c.Above.Reassign(members)
}

// inheritHook makes a child of a shell that may be a hook one that may be it as well.
func (c *Table) inheritHook(parent, child *Process) {
	child.Role = roleHook
	parent.Hook.add(child)
	if len(parent.Hook.members) > maxMaybe {
		c.NotHook(child)
	}
}

// HookOver is told before a process ends, or has waited for long. A shell waits for the hook that it forked; any other
// has run no hook.
func (c *Table) HookOver(p *Process) {
	if p.Hook == nil {
		return
	}
	if m := p.Hook; !m.Ran || p.Tgid != m.start.ID.Tgid || p.Start != m.start.ID.Start {
		c.NotHook(p)
	}
}

// perCall says whether a trace context that an agent gave its child names a call.
func (c *Table) perCall(a *agent, link span.Link, ok bool) bool {
	return ok && a.dialect.Env.Traceparent == agents.TraceparentCall && c.contexts[link] == nil
}
