// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

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

// decided is the first of the names that is a variable of the command, or begins one of its arguments; "" if none does.
func (l launch) decided(names []string) string {
	for _, name := range names {
		if _, has := lookupEnv(l.env, name); has {
			return name
		}
		if slices.ContainsFunc(l.args[1:], func(arg string) bool { return strings.HasPrefix(arg, name) }) {
			return name
		}
	}
	return ""
}

// keepInside has an agent run its commands itself, and not leave them to a daemon that is outside of the sandbox; at is
// that of dialectOf, wanted is false with --no-agent-args. kept says whether it does: if the user has decided on it, he
// knows. line is what was done or why it was not, for people; "" if there is nothing to tell.
func keepInside(d *agents.Dialect, at int, l launch, wanted bool) (_ launch, line string, kept bool) {
	if len(d.Run.Env) == 0 && len(d.Run.Args) == 0 {
		return l, "", false
	}
	if l.decided(d.Run.Present) != "" {
		return l, "", true
	}
	if !wanted {
		return l, fmt.Sprintf("%s is started as it is (--no-agent-args): %s, which are not seen", d.Name, d.Run.Daemon), false
	}
	l, set := l.with(d.Run.Env, d.Run.Args, at)
	if at == 0 && len(d.Run.Args) > 0 {
		return l, fmt.Sprintf("%s is not %s itself: have it start that with %s, else %s, which are not seen",
			filepath.Base(l.args[0]), d.Name, strings.Join(d.Run.Args, " "), d.Run.Daemon), false
	}
	return l, fmt.Sprintf("%s is started with %s (--no-agent-args: without): else %s, which are not seen",
		d.Name, strings.Join(set, ", "), d.Run.Daemon), true
}
