// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

// with gives the command arguments behind its program's name, at an index, and variables in place of its own. set is
// what it gave, for people.
func (l launch) with(env map[string]string, args []string, at int) (_ launch, set []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		l.env = append(without(l.env, name), name+"="+env[name])
		set = append(set, name)
	}
	if at > 0 && len(args) > 0 {
		l.args = slices.Insert(slices.Clone(l.args), at, args...)
		set = append(set, strings.Join(args, " "))
	}
	return l, set
}

// decided is the first of the names that is a variable of the command, or one of its arguments, perhaps with a value
// behind "="; "" if none is.
func (l launch) decided(names []string) string {
	for _, name := range names {
		if _, has := lookupEnv(l.env, name); has {
			return name
		}
		if slices.ContainsFunc(l.args[1:], func(arg string) bool { return arg == name || strings.HasPrefix(arg, name+"=") }) {
			return name
		}
	}
	return ""
}

// triedWithin is how long an agent may take to say whether it knows arguments.
const triedWithin = 10 * time.Second

// knows says whether the program knows the arguments at an index, by starting it with them and others behind, with
// which it ends at once.
func (l launch) knows(args, try []string, at int, who identity) bool {
	if len(args) == 0 || len(try) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), triedWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program)
	cmd.Args, cmd.Env = slices.Concat(l.args[:at], args, try), l.env
	alone(cmd, who)
	return start(cmd, who) == nil && cmd.Wait() == nil
}

// wraps is true of a script of a shell or of another interpreter than agents are written for: what it starts, and with
// which arguments, is not known.
func (l launch) wraps() bool {
	interpreter := shebang(l.program)
	return interpreter != "" && !programOf(interpreter, []string{interpreter}).Interprets()
}

// keepInside has an agent run its commands itself, and not leave them to a daemon that is outside of the sandbox; at is
// that of dialectOf, wanted is false with --no-agent-args. kept says whether it was told so. line is what was done or
// why it was not, for people; "" if there is nothing to be done, or the user has decided on it.
func keepInside(d *agents.Dialect, at int, l launch, who identity, wanted bool) (_ launch, line string, kept bool) {
	r := &d.Run
	if len(r.Env) == 0 && len(r.Args) == 0 {
		return l, "", false
	}
	if l.decided(r.Present) != "" {
		return l, "", false
	}
	if !wanted {
		return l, fmt.Sprintf("%s is started as it is (--no-agent-args): %s, which are not seen", d.Name, r.Daemon), false
	}
	args := strings.Join(r.Args, " ")
	if l.wraps() {
		at = 0
	}
	if at > 0 && !l.knows(r.Args, r.Try, at, who) {
		return l, fmt.Sprintf("%s is started as it is: it did not take %s (if %s, these are not seen)",
			d.Name, strings.Join(append(slices.Clone(r.Args), r.Try...), " "), r.Daemon), false
	}
	l, set := l.with(r.Env, r.Args, at)
	if at == 0 && len(r.Args) > 0 {
		return l, fmt.Sprintf("%s is not %s itself: have it start that with %s, else %s, which are not seen",
			filepath.Base(l.args[0]), d.Name, args, r.Daemon), false
	}
	return l, fmt.Sprintf("%s is started with %s (--no-agent-args: without): else %s, which are not seen",
		d.Name, strings.Join(set, ", "), r.Daemon), true
}
