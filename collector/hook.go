// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A maybeHook is a shell that an agent started as it starts commands, and that is told to do nothing but run a hook. While
// nobody knows whether it does it is of no call, and its word is not the agent's. What it runs first tells: the sensor's own
// program makes a hook of it, anything else the command of a call, from its start.
type maybeHook struct {
	start   programStart
	in      claims
	at      uint64 // boottime
	members []*aProcess
	ran     bool // one of them became the hook
}

// maxMaybe bounds the forks of such a shell. Most have none, some fork for a command that others run in their own place.
const maxMaybe = 4

// isHook is true of the sensor's own program that is run as "sheetbend hook NAME".
func (c *attribution) isHook(x *programStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 4)
	return x.file == c.config.Self && x.file != (FileID{}) && len(argv) == 4 && argv[3] == "" && argv[1] == "hook" // each ended by a NUL
}

// namedHook is true of another copy of the sensor's program that is run so, as in a container: by its name, and a file
// that only root of where it lies can have put there.
func namedHook(x *programStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 4)
	return path.Base(x.Executable) == "sheetbend" && x.Owner == 0 && !x.Unproven && len(argv) == 4 && argv[3] == "" && argv[1] == "hook"
}

// shells may be told to run a hook.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox"}

// startsHook is true of a shell, under a shell's name, that does nothing but run a program with the arguments of a hook.
// Which program that is, only its exec tells; but it is no function, builtin or script that the shell would read itself.
func startsHook(x *programStart) bool {
	argv := strings.SplitN(x.Args, "\x00", 5)
	if !slices.Contains(shells, path.Base(x.Executable)) || !slices.Contains(shells, path.Base(argv[0])) || x.Unproven || x.Owner != 0 ||
		len(argv) != 4 || argv[3] != "" || argv[1] != "-c" && argv[1] != "-lc" {
		return false
	}
	text, end := argv[2], " "
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

func (c *attribution) deferHook(p *aProcess, x *programStart, in claims) {
	m := &maybeHook{start: *x, in: in, at: c.clock.now}
	m.start.before = environment{}
	p.role, p.hook = roleHook, nil
	m.add(p)
}

func (m *maybeHook) add(p *aProcess) {
	p.hook = m
	m.members = append(m.members, p)
}

func (m *maybeHook) remove(p *aProcess) {
	p.hook = nil
	if i := slices.Index(m.members, p); i >= 0 {
		m.members = slices.Delete(m.members, i, i+1)
	}
}

// hooked makes a helper of the agent of a process that runs the sensor's own program.
func (c *attribution) hooked(p *aProcess) {
	p.hook.ran = true
	p.hook.remove(p)
	p.role, p.likeCommand = roleNone, true
}

// notHook puts all that came of what was no hook in its call.
func (c *attribution) notHook(p *aProcess) {
	m := p.hook
	if m == nil {
		return
	}
	members := slices.Clone(m.members)
	now := c.clock.now
	var w whose
	for n, p := range members {
		m.remove(p)
		p.role = roleNone
		if n == 0 {
			link, sampled, ok := span.ParseTraceparent(m.in.traceparent)
			perCall := c.perCall(p.agent, link, ok)
			c.command(p, &m.start, m.in, perCall, link, sampled, ok)
			w = whose{agent: p.agent, call: p.call, ambiguous: p.ambiguous}
			if k := p.call; k != nil && k.began == now {
				k.began = min(k.began, m.at)
			}
		} else {
			c.belong(p, w)
		}
		c.above.reassign(p, n == 0)
	}
}

// inheritHook makes a child of a shell that may be a hook one that may be it as well.
func (c *attribution) inheritHook(parent, child *aProcess) {
	child.role = roleHook
	parent.hook.add(child)
	if len(parent.hook.members) > maxMaybe {
		c.notHook(child)
	}
}

// hookOver is told before a process ends, or has waited for long. A shell waits for the hook that it forked; any other has run no hook.
func (c *attribution) hookOver(p *aProcess) {
	if p.hook == nil {
		return
	}
	if m := p.hook; !m.ran || p.tgid != m.start.id.Tgid || p.start != m.start.id.Start {
		c.notHook(p)
	}
}

// perCall says whether a trace context that an agent gave its child names a call.
func (c *attribution) perCall(a *agent, link span.Link, ok bool) bool {
	return ok && a.dialect.Env.Traceparent == agents.TraceparentCall && c.contexts[link] == nil
}
