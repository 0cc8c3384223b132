// SPDX-License-Identifier: Apache-2.0

package mask

import (
	_ "embed"
	"fmt"
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
	wraps   bool              // it runs the program that its arguments name
	words   bool              // single dashes begin words, not letters: -port is not -p ort
	reads   bool              // standard input is a secret
	slash   bool              // options may begin with a slash, as on Windows
	looks   bool              // it looks for words in files, or shows them: a word after "password" is no secret
}

// kind says what a value is.
type kind uint8

const (
	unknown    kind = iota
	secretWord      // a secret
	named           // a secret by its name
	userPair        // user:secret
	joined          // a secret if it is in the same word as its option: mysql -px
	cookies         // name=secret, or a file
	where           // pass:secret env:NAME file:path
	percent         // user%secret
	comma           // user,secret
	slash           // user/secret@where
	tail            // …:secret
	cert            // file:secret
	assignment      // name=secret, whatever the name
	pairs           // name=value, by its name
	plain           // nothing of that
	people          // a text for people
	program         // code, but not of a shell
	script          // a shell's script
	flag            // there is no value
	input           // there is no value, and standard input is a secret
	shift           // there is no value, and arguments begin one later
	header          // a header
	guess           // a secret if it looks like a password, or there is a user it may be for
	likely          // a secret if it looks like one
	last            // a secret if nothing follows
	acl             // >secret, as redis has it
	target          // domain/user:secret@host
	nameOf          // the name of what another option gives
	valueOf         // what that option gives
	two             // a secret, and another
	then            // nothing, but what follows is a secret
)

var kinds = map[string]kind{
	"secret": secretWord, "named": named, "user": userPair, "joined": joined, "cookie": cookies, "where": where,
	"percent": percent, "comma": comma, "slash": slash,
	"tail": tail, "cert": cert, "assign": assignment, "pairs": pairs, "plain": plain, "people": people, "code": program,
	"script": script, "flag": flag,
	"input": input, "shift": shift, "header": header, "guess": guess, "likely": likely, "last": last, "acl": acl,
	"target": target, "nameof": nameOf, "valueof": valueOf, "two": two, "then": then,
}

// tools by name, sub-commands within. They are read when they are first asked for: most commands of the sensor mask nothing.
var tools = sync.OnceValue(func() map[string]*tool { return readTools(toolTable) })

//go:embed tools.txt
var toolTable string

func readTools(table string) map[string]*tool {
	top := &tool{}
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		options := map[string]kind{} // which all tools of the line share
		for n, path := range strings.Split(fields[0], ",") {
			t := top
			for word := range strings.SplitSeq(path, "/") {
				t = t.sub(word, t != top)
			}
			t.options = append(t.options, options)
			for _, f := range fields[1:] {
				t.read(f, n == 0)
			}
		}
	}
	return top.subs
}

// sub gives a tool or its sub-command, which has what the tool has, and makes it if there is none.
func (t *tool) sub(word string, inherits bool) *tool {
	if sub := t.subs[word]; sub != nil {
		return sub
	}
	sub := &tool{}
	if inherits {
		sub.parent, sub.flags, sub.words, sub.looks, sub.slash = t, t.flags, t.words, t.looks, t.slash
	}
	if t.subs == nil {
		t.subs = map[string]*tool{}
	}
	t.subs[word] = sub
	return sub
}

// read takes a field of a line. An option goes into what the tools of the line share if add is set.
func (t *tool) read(f string, add bool) {
	switch f {
	case "wraps":
		t.wraps = true
		return
	case "words":
		t.words = true
		return
	case "reads":
		t.reads = true
		return
	case "looks":
		t.looks = true
		return
	}
	if flags, ok := strings.CutPrefix(f, "flags="); ok {
		t.flags = flags
		return
	}
	colon := strings.LastIndexByte(f, ':')
	option := f[:colon]
	what, ok := kinds[f[colon+1:]]
	position, isPosition := strings.CutPrefix(option, "#")
	n, err := 1, error(nil)
	if isPosition {
		n, err = strconv.Atoi(position)
	}
	if !ok || err != nil || n < 1 {
		panic(fmt.Sprintf("tools.txt: %q", f))
	}
	switch {
	case option == "*":
		t.every = what
	case isPosition:
		for len(t.args) < n {
			t.args = append(t.args, unknown)
		}
		t.args[n-1] = what
	default:
		if add {
			t.options[len(t.options)-1][option] = what
		}
		t.slash = t.slash || option[0] == '/'
	}
}

// option gives the kind of an option's value; unknown if the table does not have it.
func (t *tool) option(name string) kind {
	for ; t != nil; t = t.parent {
		for n := len(t.options) - 1; n >= 0; n-- {
			if k, ok := t.options[n][name]; ok {
				return k
			}
		}
	}
	return unknown
}
