// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

// A hookProgram is what the hooks of one run run, and whether that will reach the sensor.
type hookProgram struct {
	file     string
	reached  bool
	unwanted bool // the user wants no argument added
}

// addHooks has the agent run sheetbend's hooks for this run, by an argument right behind its program: no file is
// changed. at is that of dialectOf. It says in words what it did, or why it did not; "" of an agent that takes no hooks
// so.
func addHooks(agent string, l launch, at int, who identity, h hookProgram) (launch, string) {
	p := hook.FindPlace(agent)
	if p == nil || p.Argument == "" {
		return l, ""
	}
	version, why := installedVersion(p, l.program, who), ""
	switch by := installedHooks(p, l, who, version); {
	case by != "":
		return l, "with the hooks in " + by
	case h.unwanted:
		why = "--no-agent-args is given; sheetbend hook install " + agent + " adds them"
	case at == 0:
		why = fmt.Sprintf("%s is not the agent itself; sheetbend hook install %s adds them", filepath.Base(l.args[0]), agent)
	case slices.ContainsFunc(l.args[at:], func(arg string) bool {
		return arg == p.Argument || strings.HasPrefix(arg, p.Argument+"=")
	}):
		// Of two the agent takes the last.
		why = fmt.Sprintf("%s is given; sheetbend hook install %s adds them", p.Argument, agent)
	case !h.reached:
		why = "they would not reach this sensor"
	case !strings.Contains(hook.Command(h.file, agent), " exec "+h.file+" "):
		why = fmt.Sprintf("they would not be known as hooks: %q needs quotes in a shell", h.file)
	case who.rights(func() error { return unix.Faccessat(unix.AT_FDCWD, h.file, unix.X_OK, unix.AT_EACCESS) }) != nil:
		why = fmt.Sprintf("the agent's user cannot run %s", h.file)
	}
	if why != "" {
		return l, "without hooks: " + why
	}
	note := ""
	if version == "" {
		// With an event that it does not know, an old one runs no hook at all: not the user's own either.
		version, note = "0.0.0", "; its version is not known, so only those that each version knows"
	}
	settings := string(p.Settings(h.file, version))
	l.args = slices.Insert(slices.Clone(l.args), at, p.Argument, settings)
	return l, "with hooks (" + p.Argument + note + ")"
}

// installedHooks gives the settings file of the agent that has all of sheetbend's hooks already; "" if none has.
func installedHooks(p *hook.Place, l launch, who identity, version string) string {
	for _, place := range ownFiles(p.Agent, l.env) {
		text, err := who.readOwn(place.file)
		if err != nil {
			continue
		}
		if p.Complete(text, version) {
			return place.file
		}
	}
	return ""
}

// installedVersion is an agent's version by where its program lies: of its npm package, or in the file's name; "" if it
// is not there.
func installedVersion(p *hook.Place, program string, who identity) string {
	file := program
	_ = who.rights(func() error {
		file = resolved(program)
		return nil
	})
	if version := hook.Version(filepath.Base(file)); version != "" {
		return version
	}
	for dir, n := filepath.Dir(file), 0; n < 3; dir, n = filepath.Dir(dir), n+1 {
		var pkg struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		}
		text, err := who.readOwn(filepath.Join(dir, "package.json"))
		if err == nil && json.Unmarshal(text, &pkg) == nil && strings.Contains(pkg.Name, p.Agent) && hook.Version(pkg.Version) != "" {
			return hook.Version(pkg.Version)
		}
	}
	return ""
}
