// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxComponents bounds a glob. The kernel allows deeper trees; nobody selects there.
const maxComponents = 64

// Glob selects cgroups by path, one pattern of path.Match for each component. A directory
// that matches is selected with everything below it.
type Glob struct {
	text  string
	parts []string
}

// ParseGlob reads a glob such as "/agents/*". The root itself cannot be selected: the sensor
// would watch itself.
func ParseGlob(text string) (Glob, error) {
	if !strings.HasPrefix(text, "/") {
		return Glob{}, fmt.Errorf(
			"cgroup glob %q does not begin with /: give a path relative to the cgroup v2 mount, as in /agents/*", text)
	}
	parts := components(text)
	if len(parts) == 0 {
		return Glob{}, fmt.Errorf(
			"cgroup glob %q selects the whole host, the sensor included: name a directory below it, as in /agents/*",
			text)
	}
	if len(parts) > maxComponents {
		return Glob{}, fmt.Errorf("cgroup glob has %d components, at most %d are allowed", len(parts), maxComponents)
	}
	for _, p := range parts {
		switch {
		case p == "**":
			return Glob{}, fmt.Errorf(
				"cgroup glob %q: ** is not supported, and directories below a match are included anyway", text)
		case p == "." || p == "..":
			return Glob{}, fmt.Errorf("cgroup glob %q: write it without %q", text, p)
		case negatesLikeShells(p):
			return Glob{}, fmt.Errorf(`cgroup glob %q: "none of these characters" is written [^…] here, not [!…]; `+
				`for the character ! write [\!…]`, text)
		}
		if _, err := path.Match(p, ""); errors.Is(err, path.ErrBadPattern) {
			return Glob{}, fmt.Errorf("cgroup glob %q: bad pattern %q: %w", text, p, err)
		}
	}
	return Glob{text: "/" + strings.Join(parts, "/"), parts: parts}, nil
}

// negatesLikeShells finds a class such as [!a]: path.Match would take it as "! or a", the opposite of what a shell
// does.
func negatesLikeShells(pattern string) bool {
	within := false
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\':
			i++
		case within:
			within = pattern[i] != ']'
		case pattern[i] == '[':
			within = true
			if strings.HasPrefix(pattern[i+1:], "!") {
				return true
			}
		}
	}
	return false
}

// String is the glob without needless slashes.
func (g Glob) String() string { return g.text }

// Selects says whether the cgroup or a directory above it matches.
func (g Glob) Selects(cgroup string) bool {
	parts := components(cgroup)
	return len(parts) >= len(g.parts) && g.matches(parts[:len(g.parts)])
}

// Leads says whether a match can lie below the cgroup, which itself is not selected.
func (g Glob) Leads(cgroup string) bool {
	parts := components(cgroup)
	return len(parts) < len(g.parts) && g.matches(parts)
}

// matches compares parts with as many patterns.
func (g Glob) matches(parts []string) bool {
	for i, p := range parts {
		if ok, err := path.Match(g.parts[i], p); err != nil || !ok {
			return false
		}
	}
	return true
}

func components(p string) []string {
	var parts []string
	for c := range strings.SplitSeq(p, "/") {
		if c != "" {
			parts = append(parts, c)
		}
	}
	return parts
}

// Globs are the selectors of one sensor.
type Globs []Glob

// Selects says whether any glob does.
func (gs Globs) Selects(cgroup string) bool {
	for _, g := range gs {
		if g.Selects(cgroup) {
			return true
		}
	}
	return false
}

// Leads says whether any glob does. A cgroup that one glob selects may lead to another's match;
// that does not matter, as everything below a selected directory is selected.
func (gs Globs) Leads(cgroup string) bool {
	for _, g := range gs {
		if g.Leads(cgroup) {
			return true
		}
	}
	return false
}
