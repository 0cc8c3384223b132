// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

// openCall gives the call that a command of an agent is of, among those that are open on the agent: nil if it is of none
// of them, or, with several, if nobody can say which. The command's text chooses only among what the agent, its hooks,
// or somebody outside has opened.
func (c *Marks) openCall(a *agent, x *ProgramStart) (k *Call, several bool) {
	if len(a.open) > 1 {
		c.closeStale(a)
	}
	var may, told []*Call
	for _, k := range a.open {
		if k.Marking.command != "" {
			told = append(told, k)
		} else if a.mayRun(k) {
			may = append(may, k)
		}
	}
	if len(told) > 0 {
		may = told // who tells the commands of some tells those of all
		if hash := commandHash(a, x); hash != "" {
			same := slices.DeleteFunc(slices.Clone(told), func(k *Call) bool { return k.Marking.command != hash })
			if len(same) > 0 {
				return next(same)
			}
			// What has run its command runs no other one.
			may = slices.DeleteFunc(told, func(k *Call) bool { return k.once() && k.Life.Ran })
		}
	}
	return next(may)
}

// told says whether a hook has told the command that a program is.
func (c *Marks) told(a *agent, x *ProgramStart) bool {
	if len(a.open) == 0 {
		return false
	}
	hash := commandHash(a, x)
	return hash != "" && slices.ContainsFunc(a.open, func(k *Call) bool { return k.Marking.command == hash })
}

// next gives the call of a list that runs its command now: the only one, or the only one that has not run it.
func next(list []*Call) (k *Call, several bool) {
	if len(list) > 1 && !slices.ContainsFunc(list, func(k *Call) bool { return !k.once() }) {
		ready := slices.DeleteFunc(slices.Clone(list), func(k *Call) bool { return k.Life.Ran })
		if len(ready) == 1 {
			return ready[0], false
		}
	}
	if len(list) == 1 {
		return list[0], false
	}
	return nil, len(list) > 1
}

// once says whether a call starts one command: what a hook marks is a call of one tool. Who marks calls otherwise may
// take many steps in one.
func (k *Call) once() bool { return k.Marking.MarkedBy == MarkedByHook }

// mayRun says whether a call that nothing is told of may start commands: its tool does, or it is not known which tools
// do, and it names no file.
func (a *agent) mayRun(k *Call) bool {
	commands := a.dialect.Tools.Commands
	if len(commands) == 0 || k.Tool == "" {
		return !k.Marking.files
	}
	return slices.ContainsFunc(commands, func(name string) bool {
		begin, any := strings.CutSuffix(name, "*")
		return k.Tool == name || any && strings.HasPrefix(k.Tool, begin)
	})
}

// maxCommandArgs bounds the arguments of a command that are looked at.
const maxCommandArgs = 1024

// commandHash is that of the text that a shell is given, without what the agent puts around it; "" if there is none.
func commandHash(a *agent, x *ProgramStart) string {
	args := strings.SplitN(strings.TrimSuffix(x.Args, "\x00"), "\x00", maxCommandArgs)
	command, known := a.Wrappers().Inner(args)
	if !known || command.Text == "" {
		return ""
	}
	return agents.CommandHash(command.Text)
}

// closeOver ends what is over, before a hook of the agent begins another call, though nobody has said so: an agent says
// nothing of a call that was interrupted, and an old one nothing of one that failed. A call that has left processes is
// not; nor is one of a tool that works inside of the agent, unless there are too many.
func (c *Marks) closeOver(a *agent) {
	for _, k := range slices.Clone(a.open) {
		if k.once() && k.Life.Ran && k.Life.Processes == 0 {
			c.CloseMark(k)
		}
	}
	if len(a.open) >= maxOpen {
		if i := slices.IndexFunc(a.open, (*Call).once); i >= 0 {
			c.CloseMark(a.open[i])
		}
	}
}
