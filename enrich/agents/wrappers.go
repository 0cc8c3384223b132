// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"path"
	"slices"
	"strings"
)

// Wrappers are what the agent puts around the command of a call: a sandbox, a shell, a script that restores variables.
// Whoever wants to know what a call ran looks through them.
type Wrappers struct {
	// Programs are base names of argv[0]. The command is what follows "--"; without it, the program that they start.
	Programs []string `json:"programs,omitempty" yaml:"programs"`
	// Scripts are told by a part of the text after `sh -c`.
	Scripts []Script `json:"scripts,omitempty" yaml:"scripts"`
	// Always: each command of a call is in one of Scripts. What else the agent has a shell run is its own, as hooks are.
	Always bool `json:"always,omitempty" yaml:"always"`
}

// Script is a text for a shell that runs another one. It is known by After, what stands before the command, or, where
// nothing does, by Before.
type Script struct {
	// Begin is how the text begins, where After alone could be the command's own.
	Begin  string `json:"begin,omitempty" yaml:"begin"`
	After  string `json:"after,omitempty" yaml:"after"`
	Before string `json:"before,omitempty" yaml:"before"` // with text: what stands behind the command, the last of it
	As     As     `json:"as" yaml:"as"`
}

// As says how a command stands in a script.
type As string

// The ways.
const (
	AsText     As = "text"     // as it is, up to Before
	AsWord     As = "word"     // quoted as one word: eval 'make test'
	AsWords    As = "words"    // as a program and its arguments: exec bash -c 'make test'
	AsArgument As = "argument" // it is the first argument of the script
)

// A Command is what a call runs: the text of a shell, or a program and its arguments.
type Command struct {
	Text string
	Args []string
}

// maxWrappers bounds how many are looked through, and maxWords the words of one.
const (
	maxWrappers = 16
	maxWords    = 64
)

// shells take a text after -c.
var shells = map[string]bool{
	"sh": true, "bash": true, "dash": true, "zsh": true, "ksh": true, "ash": true, "fish": true,
	"rbash": true, "ksh93": true, "mksh": true, "yash": true, "csh": true, "tcsh": true, "nu": true, "elvish": true, "xonsh": true,
}

// StartsCommand is true of the first program of a command, of an agent whose commands lead a session of their own: a
// shell, under a shell's name, that runs a text, or what the dialect has in its place. Of a shell whose arguments are not
// known it is true as well.
func (d *Dialect) StartsCommand(p Program) bool {
	argv := strings.Split(strings.TrimSuffix(p.Args, "\x00"), "\x00")
	name := strings.TrimPrefix(path.Base(argv[0]), "-")
	file := ProgramName(p.Executable)
	if p.Args == "" {
		name = file
	}
	if slices.Contains(d.Env.Programs, "*") || slices.Contains(d.Env.Programs, name) || slices.Contains(d.Wrappers.Programs, name) {
		return true
	}
	if name == "pwsh" && name == file {
		return len(argv) > 1
	}
	if !shells[name] || !shells[file] && file != "busybox" {
		return false
	}
	text, _, ok := shellText(argv)
	if ok && d.Wrappers.Always && !slices.ContainsFunc(d.Wrappers.Scripts, func(s Script) bool { return s.is(text) }) {
		return false
	}
	if args := strings.Join(argv[1:], " "); ok && slices.ContainsFunc(d.Env.HelperArgs, func(pattern string) bool { return matches(pattern, args) }) {
		return false
	}
	return ok || p.Args == ""
}

// matches compares a text with a pattern, in which "*" as the last character stands for any end.
func matches(pattern, text string) bool {
	start, any := strings.CutSuffix(pattern, "*")
	return text == pattern || any && strings.HasPrefix(text, start)
}

// Inner looks through the wrappers that a program is, by its arguments, the first of which is its own name. It reports
// false where the last of them does not say what it runs: then that is the next program.
func (w *Wrappers) Inner(args []string) (Command, bool) {
	looked := false
	for range maxWrappers {
		if len(args) == 0 {
			break
		}
		base := strings.TrimPrefix(path.Base(args[0]), "-")
		if slices.Contains(w.Programs, base) {
			at := slices.Index(args, "--")
			if at < 0 || at+1 == len(args) {
				return Command{Args: args}, false
			}
			args = args[at+1:]
			continue
		}
		text, rest, ok := "", []string(nil), false
		if shells[base] {
			text, rest, ok = shellText(args)
		}
		if !ok {
			break
		}
		if !looked { // what a script runs is the command, whatever that looks like
			looked = true
			args, text = w.inScript(text, rest)
		} else {
			args = nil
		}
		if len(args) == 0 {
			return Command{Text: text}, true
		}
	}
	return Command{Args: args}, true
}

// shellText finds the text after -c, and the arguments behind it: the script's $0, $1 and so on.
func shellText(args []string) (text string, rest []string, ok bool) {
	command := false
	for n := 1; n < len(args); n++ {
		option := args[n]
		switch {
		case option == "" || option[0] != '-' && option[0] != '+' || option == "-" || option == "--":
			if option == "-" || option == "--" {
				n++
			}
			if !command || n >= len(args) {
				return "", nil, false
			}
			return args[n], args[n+1:], true
		case strings.HasPrefix(option, "--"):
			if option == "--rcfile" || option == "--init-file" {
				n++
			}
		default:
			command = command || strings.Contains(option, "c")
			if strings.HasSuffix(option, "o") || strings.HasSuffix(option, "O") {
				n++ // the name of what is switched
			}
		}
	}
	return "", nil, false
}

// is says whether a text is such a script.
func (s *Script) is(text string) bool {
	return strings.HasPrefix(text, s.Begin) && strings.Contains(text, s.After) && (s.After != "" || strings.Contains(text, s.Before))
}

// inScript looks through a script that runs another text, and gives that, or the program that it runs.
func (w *Wrappers) inScript(text string, rest []string) (args []string, inner string) {
	n := slices.IndexFunc(w.Scripts, func(s Script) bool { return s.is(text) })
	if n < 0 {
		return nil, text
	}
	s := w.Scripts[n]
	_, behind, _ := strings.Cut(text, s.After)
	switch s.As {
	case AsText:
		if at := strings.LastIndex(behind, s.Before); at >= 0 && s.Before != "" {
			behind = behind[:at]
		}
		return nil, behind
	case AsArgument:
		if len(rest) > 1 {
			return nil, rest[1]
		}
	case AsWords:
		return shellWords(behind), text
	case AsWord:
		if words := shellWords(behind); len(words) > 0 {
			return nil, words[0]
		}
	}
	return nil, text
}

// shellWords splits a simple command as a POSIX shell does, up to the end of its line or the next operator. Nothing is
// expanded.
func shellWords(s string) (words []string) {
	var word []byte
	in := false // a word
	end := func() {
		if in {
			words = append(words, string(word))
		}
		word, in = word[:0], false
	}
	for n := 0; n < len(s) && len(words) < maxWords; n++ {
		c := s[n]
		switch {
		case c == '\'':
			in = true
			quoted, _, _ := strings.Cut(s[n+1:], "'")
			word = append(word, quoted...)
			n += len(quoted) + 1
		case c == '"':
			in = true
			for n++; n < len(s) && s[n] != '"'; n++ {
				if s[n] == '\\' && n+1 < len(s) && strings.IndexByte("\"\\$`\n", s[n+1]) >= 0 {
					n++
				}
				word = append(word, s[n])
			}
		case c == '\\' && n+1 < len(s):
			in = true
			n++
			word = append(word, s[n])
		case c == ' ' || c == '\t':
			end()
		case strings.IndexByte("\n;&|<>()", c) >= 0:
			end()
			return words
		default:
			in = true
			word = append(word, c)
		}
	}
	end()
	return words
}
