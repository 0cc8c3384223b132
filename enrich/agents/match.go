// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"path"
	"slices"
	"strings"
)

// Program is what an exec record has of the program that it starts.
type Program struct {
	Executable string // path as the kernel resolved it, without its mark of a file that has no name any more
	Owner      uint32 // of the executable's file
	Args       string // "arg\0arg\0", argv[0] first; the beginning is enough
	// Unproven: who has no rights on the host could have put any file at the path, or named it. No pin holds there.
	Unproven bool
}

// A Table finds the dialect of a program. It is safe for concurrent use.
type Table struct {
	dialects []Dialect
	names    map[string]bool // base names of all dialects' executables: most programs have another
}

// NewTable makes a table of dialects that Validate has passed.
func NewTable(ds []Dialect) *Table {
	t := &Table{dialects: ds, names: map[string]bool{}}
	for i := range ds {
		for _, name := range ds[i].Executables {
			t.names[name] = true
		}
	}
	return t
}

// Find gives the first dialect that the program speaks, or nil.
func (t *Table) Find(p Program) *Dialect {
	base := ProgramName(p.Executable)
	script := p.Script()
	if script == "" && !t.names[base] {
		return nil
	}
	for i := range t.dialects {
		d := &t.dialects[i]
		if (d.hasExecutable(base, p.Args) || script != "" && d.hasScript(script)) && d.pinned(p, script) {
			return d
		}
	}
	return nil
}

// Script gives the script that a program runs if it is an interpreter that agents' scripts run in; "" otherwise.
func (p Program) Script() string {
	if p.Interprets() {
		script, _ := scriptOf(ProgramName(p.Executable), p.Args)
		return script
	}
	return ""
}

// Interprets says whether it is an interpreter that agents' scripts run in.
func (p Program) Interprets() bool { return interprets(ProgramName(p.Executable)) }

// ProgramName gives the name of an executable's program: its base name, or, where that is a version, the name of
// the directory of all versions. Claude Code's own installer makes …/claude/versions/2.0.64, and bin/claude a link
// to it.
func ProgramName(executable string) string {
	dir, base := path.Split(executable)
	if base == "" || base[0] < '0' || base[0] > '9' {
		return path.Base(executable)
	}
	if of, ok := strings.CutSuffix(dir, "/versions/"); ok && of != "" {
		return path.Base(of)
	}
	return base
}

// Named gives the dialect of this name, or nil.
func (t *Table) Named(name string) *Dialect { return Find(t.dialects, name) }

// hasExecutable is true of a native agent under its own name.
func (d *Dialect) hasExecutable(base, args string) bool {
	if !slices.Contains(d.Executables, base) {
		return false
	}
	name, _, _ := strings.Cut(args, "\x00")
	return name == "" || slices.Contains(d.Executables, path.Base(name))
}

// pinned reports whether the pins hold: of a script those of its path and of its interpreter's.
func (d *Dialect) pinned(p Program, script string) bool {
	if d.Owner == nil && len(d.Path) == 0 {
		return true
	}
	if p.Unproven || d.Owner != nil && *d.Owner != p.Owner {
		return false
	}
	return len(d.Path) == 0 || d.pins(p.Executable) && (script == "" || d.pins(script))
}

func (d *Dialect) pins(file string) bool {
	return slices.ContainsFunc(d.Path, func(glob string) bool {
		ok, err := path.Match(glob, file)
		return err == nil && ok
	})
}

func (d *Dialect) hasScript(script string) bool {
	return slices.ContainsFunc(d.Scripts, func(tail string) bool { return endsWith(script, tail) })
}

// endsWith reports whether the last components of a path match those of the pattern.
func endsWith(name, pattern string) bool {
	pattern = strings.TrimPrefix(pattern, "/")
	end := len(name)
	for range strings.Count(pattern, "/") + 1 {
		if end < 0 {
			return false
		}
		end = strings.LastIndexByte(name[:end], '/')
	}
	ok, err := path.Match(pattern, name[end+1:])
	return err == nil && ok
}

// interprets reports whether a program of this name runs scripts that agents are written in.
func interprets(base string) bool {
	switch base {
	case "node", "nodejs", "bun", "deno":
		return true
	}
	return strings.HasPrefix(base, "node-") || strings.HasPrefix(base, "python")
}

// ProgramNames gives the base names of the executables by which the dialects' programs can be looked for: of the
// agents themselves, and of interpreters where a dialect has scripts. versions are those that names of versions
// begin with, as in python3.11.
func ProgramNames(ds []Dialect) (names, versions []string) {
	scripts := false
	for i := range ds {
		names = append(names, ds[i].Executables...)
		scripts = scripts || len(ds[i].Scripts) > 0
	}
	if scripts {
		names = append(names, "nodejs", "bun", "deno")
		versions = []string{"node", "python"}
	}
	slices.Sort(names)
	return slices.Compact(names), versions
}

// ScriptAt is the index in the arguments of the script that an interpreter runs, 0 if there is none.
func (p Program) ScriptAt() int {
	_, at := scriptOf(ProgramName(p.Executable), p.Args)
	return at
}

// scriptOf gives the first argument that is no option of the interpreter, and its index. Of options that
// take a value in an argument of its own, the ones that agents use are known.
func scriptOf(base, args string) (script string, at int) {
	_, rest, _ := strings.Cut(args, "\x00")
	for n := 1; n < 64 && rest != ""; n++ {
		var arg string
		arg, rest, _ = strings.Cut(rest, "\x00")
		switch {
		case arg == "--":
		case arg == "-r", arg == "--require", arg == "--import", arg == "--loader", arg == "--experimental-loader",
			arg == "-C", arg == "--conditions", arg == "-W", arg == "-X":
			_, rest, _ = strings.Cut(rest, "\x00")
			n++
		case arg == "run" && (base == "bun" || base == "deno"):
		case arg == "-c", arg == "-e", arg == "-p", arg == "-m", arg == "--eval", arg == "--print":
			return "", 0 // code in the arguments
		case strings.HasPrefix(arg, "-"):
		default:
			return arg, n
		}
	}
	return "", 0
}
