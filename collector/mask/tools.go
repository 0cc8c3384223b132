// SPDX-License-Identifier: Apache-2.0

package mask

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// tool is what is known of a program, or of one of its sub-commands, besides what names of options say.
type tool struct {
	parent  *tool
	subs    map[string]*tool
	options []map[string]kind // those of later lines are asked first
	args    []kind            // of its arguments that are no options, by position
	every   kind              // of all of these
	flags   string            // short options without a value, which may stand before others in one word
	slash   bool              // options may begin with a slash, as on Windows
	traits  trait
}

// trait is what tools.txt says of a tool without a kind.
type trait uint8

const (
	wraps trait = 1 << iota
	wrapsAny
	words
	reads
	looks
)

var traits = strings.Fields("wraps wraps-any words reads looks")

// is says whether the tool, which may be nil, has one of the traits.
func (t *tool) is(one trait) bool { return t != nil && t.traits&one > 0 }

//go:embed tools.txt
var toolTable string

// tools has the tools as its sub-commands; its options are those of all tools, known or not. They are read when they
// are first asked for: most commands of the sensor mask nothing.
var tools = sync.OnceValue(func() *tool {
	top := &tool{}
	for fields := range rows(toolTable) {
		options := map[string]kind{} // which all tools of the line share
		for path := range strings.SplitSeq(fields[0], ",") {
			t := top
			for word := range strings.SplitSeq(path, "/") {
				if word != "*" {
					t = t.sub(word, t != top)
				}
			}
			t.options = append(t.options, options)
			for _, f := range fields[1:] {
				t.read(f, options)
			}
		}
	}
	return top
})

// named gives the tool of that name, or of the name without a version: python3.11, mysql80. Nil: it is not known.
func (t *tool) named(name string) *tool {
	if tool := t.subs[name]; tool != nil {
		return tool
	}
	return t.subs[strings.TrimRight(name, numerals+".-")]
}

// sub gives a tool or its sub-command, which has what the tool has, and makes it if there is none.
func (t *tool) sub(word string, inherits bool) *tool {
	if sub := t.subs[word]; sub != nil {
		return sub
	}
	sub := &tool{}
	if inherits {
		sub.parent, sub.flags, sub.slash, sub.traits = t, t.flags, t.slash, t.traits&(words|looks)
	}
	if t.subs == nil {
		t.subs = map[string]*tool{}
	}
	t.subs[word] = sub
	return sub
}

// read takes a field of a line; an option goes into options.
func (t *tool) read(f string, options map[string]kind) {
	if n := slices.Index(traits, f); n >= 0 {
		t.traits |= 1 << n
		return
	}
	if flags, ok := strings.CutPrefix(f, "flags="); ok {
		t.flags = flags
		return
	}
	colon := strings.LastIndexByte(f, ':')
	option, what := f[:colon], kind(f[colon+1:])
	if !kinds[f[colon+1:]] {
		panic(fmt.Sprintf("tools.txt: %q", f))
	}
	position, isPosition := strings.CutPrefix(option, "#")
	switch {
	case option == "*":
		t.every = what
	case isPosition:
		n, err := strconv.Atoi(position)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("tools.txt: %q", f))
		}
		for len(t.args) < n {
			t.args = append(t.args, "")
		}
		t.args[n-1] = what
	default:
		options[option] = what
		t.slash = t.slash || option[0] == '/'
	}
}

// option gives the kind of an option's value; unknown if the table does not have it, or the tool.
func (t *tool) option(name string) kind {
	for ; t != nil; t = t.parent {
		for n := len(t.options) - 1; n >= 0; n-- {
			if k, ok := t.options[n][name]; ok {
				return k
			}
		}
	}
	return ""
}

// joins is whether a line of the table has the option with its value in the same word; another line may have it with
// the next.
func (t *tool) joins(name string) bool {
	for ; t != nil; t = t.parent {
		for _, options := range t.options {
			if options[name] == "joined" {
				return true
			}
		}
	}
	return false
}
