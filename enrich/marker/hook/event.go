// SPDX-License-Identifier: Apache-2.0

// Package hook reads what an agent sends its hooks, and writes the hook configuration of the agents that
// have one.
package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

const (
	// MaxInput bounds the JSON of one hook: it holds the arguments and the output of the tool.
	MaxInput = 32 << 20
	// maxCalls bounds the calls in the input of one hook.
	maxCalls = 64
	// maxMembers bounds those of an object that are looked at, and maxKey the bytes of their names.
	maxMembers = 1024
	maxKey     = 256
)

// An Event is what one run of a hook reports.
type Event struct {
	Op    string // client.OpBegin, client.OpEnd, or empty: nothing about a call
	Marks []client.Mark
}

// Read reads an event from a hook's JSON, in the agent's dialect. getenv reads the hook's environment. An event
// that marks no call is no error. Of the tool's arguments a mark has the paths, and the hash of the command.
func Read(input []byte, d *agents.Dialect, getenv func(string) string) (Event, error) {
	if len(input) > MaxInput {
		return Event{}, fmt.Errorf("the hook's input is longer than %d bytes", MaxInput)
	}
	if !json.Valid(input) {
		return Event{}, errors.New("the hook's input is not JSON")
	}
	root := &value{raw: bytes.TrimLeft(input, " \t\r\n")}
	if root.open(); root.members == nil {
		return Event{}, errors.New("the hook's input is not a JSON object")
	}
	h := &d.Hook
	var e Event
	switch name := root.first(h.Event); {
	case name == "":
		return e, nil
	case slices.Contains(h.Begin, name):
		e.Op = client.OpBegin
	case slices.Contains(h.End, name):
		e.Op = client.OpEnd
	default:
		return e, nil
	}
	m := client.Mark{
		Source: client.SourceHook, Agent: d.Name,
		Session: root.first(h.Session), Tool: root.first(h.Tool),
		Traceparent: root.first(h.Traceparent),
	}
	if name := h.ToolNames[m.Tool]; name != "" {
		m.Tool = name
	}
	for _, name := range h.Env {
		if m.Session == "" && len(getenv(name)) <= client.MaxText {
			m.Session = getenv(name)
		}
	}
	if e.Op == client.OpBegin {
		m.Thread = root.first(h.Thread)
		m.Paths, m.Untold, m.Command = root.work(h)
	} else {
		m.Thread = root.first(h.Began)
	}
	for _, path := range h.Call {
		calls := root.find(path, client.MaxText)
		for _, call := range calls {
			m.Call = call
			e.Marks = append(e.Marks, m)
		}
		if len(calls) > 0 {
			break
		}
	}
	return e, nil
}

// work gives what a tool is to work on: absolute paths of files, whether there are more of them than a mark holds, and
// the hash of a command.
func (v *value) work(h *agents.Hook) (paths []string, untold bool, command string) {
	cwd := v.first(h.Cwd)
	left := client.MaxText // of all paths: what a mark holds
	add := func(file string) {
		if !filepath.IsAbs(file) {
			if !filepath.IsAbs(cwd) {
				return
			}
			file = cwd + "/" + file
		}
		file = filepath.Clean(file)
		switch {
		case slices.Contains(paths, file):
		case len(paths) < client.MaxPaths && len(file) <= left:
			paths = append(paths, file)
			left -= len(file)
		default:
			untold = true
		}
	}
	for _, at := range h.Paths {
		for _, file := range v.find(at, client.MaxText) {
			add(file)
		}
	}
	for _, at := range h.Patch {
		for _, text := range v.find(at, MaxInput) {
			if isPatch(text) || runsPatch(text) {
				for file := range patched(text) {
					add(file)
				}
			}
		}
	}
	for _, at := range h.Command {
		if texts := v.find(at, MaxInput); len(texts) == 1 && !isPatch(texts[0]) {
			return paths, untold, agents.CommandHash(texts[0])
		}
	}
	return paths, untold, ""
}

// isPatch is true of a text of apply_patch's form.
func isPatch(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "*** Begin Patch") }

// runsPatch is true of a command that is given one, which Codex does not run, but applies itself.
func runsPatch(command string) bool {
	first, rest, _ := strings.Cut(strings.TrimSpace(command), "\n")
	name, _, _ := strings.Cut(first, " ")
	return (name == "apply_patch" || name == "applypatch") && isPatch(rest)
}

// patched goes through the files that a patch names in its headings. The lines of files have a sign before them.
func patched(patch string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(patch) {
			for _, heading := range []string{"Add File", "Update File", "Delete File", "Move to"} {
				file, ok := strings.CutPrefix(line, "*** "+heading+": ")
				if file = strings.TrimSpace(file); ok && file != "" && len(file) <= client.MaxText &&
					!strings.ContainsRune(file, 0) && !yield(file) {
					return
				}
			}
		}
	}
}

// A value of the JSON, which is valid. What is in it is looked at when it is asked for: of most arguments and outputs
// nothing is.
type value struct {
	raw      []byte
	read     bool
	members  map[string]*value // of an object: the first maxMembers
	elements []*value          // of a list: the first maxCalls
}

// open looks at one level of an object or a list.
func (v *value) open() {
	if v.read || len(v.raw) == 0 || v.raw[0] != '{' && v.raw[0] != '[' {
		return
	}
	v.read = true
	rest := v.raw[1:]
	next := func() *value { // nil: there is no other one
		rest = bytes.TrimLeft(rest, " \t\r\n,:")
		n := size(rest)
		if n == 0 {
			return nil
		}
		raw := rest[:n]
		rest = rest[n:]
		return &value{raw: raw}
	}
	if v.raw[0] == '[' {
		for element := next(); element != nil && len(v.elements) < maxCalls; element = next() {
			v.elements = append(v.elements, element)
		}
		return
	}
	v.members = map[string]*value{}
	for range maxMembers {
		key := next()
		if key == nil {
			return
		}
		if name, ok := key.text(maxKey); ok {
			v.members[name] = next()
		} else {
			next()
		}
	}
}

// text gives a string of most bytes; false for any other value.
func (v *value) text(most int) (text string, ok bool) {
	// An escape takes six times what it stands for at most.
	ok = len(v.raw) <= 6*most+2 && v.raw[0] == '"' && json.Unmarshal(v.raw, &text) == nil && len(text) <= most
	return text, ok
}

// size gives the length of the value that valid JSON begins with, 0 if none does.
func size(raw []byte) int {
	depth := 0
	for n := 0; n < len(raw); n++ {
		switch raw[n] {
		case '"':
			for n++; raw[n] != '"'; n++ {
				if raw[n] == '\\' {
					n++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return n
			}
			depth--
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return n
			}
		}
		if depth == 0 && (raw[n] == '"' || raw[n] == '}' || raw[n] == ']') {
			return n + 1
		}
	}
	return len(raw)
}

// first is the first value of the first path that has one.
func (v *value) first(paths []string) string {
	for _, path := range paths {
		if found := v.find(path, client.MaxText); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// find gives the strings at a path, whose dots lead into objects; a list on the way stands for each of its
// elements. What is empty, has a NUL byte in it, or is longer than most bytes, is left out.
func (v *value) find(path string, most int) (found []string) {
	v.open()
	key, rest, deeper := strings.Cut(path, ".")
	at := v.members[key]
	if at == nil {
		return nil
	}
	elements := []*value{at}
	if at.raw[0] == '[' {
		at.open()
		elements = at.elements
	}
	for _, e := range elements {
		if deeper {
			found = append(found, e.find(rest, most)...)
		} else {
			if text, ok := e.text(most); ok && text != "" && !strings.ContainsRune(text, 0) {
				found = append(found, text)
			}
		}
		if len(found) >= maxCalls {
			return found[:maxCalls]
		}
	}
	return found
}
