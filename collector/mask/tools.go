// SPDX-License-Identifier: Apache-2.0

package mask

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// tool is what is known of a program, or of one of its sub-commands, besides what names of options say.
type tool struct {
	parent  *tool
	subs    map[string]*tool
	options map[string]kind
	args    []kind // of its arguments that are no options, by position
	every   kind   // of all of these
	flags   string // short options without a value, which may stand before others in one word
	wraps   bool   // it runs the program that its arguments name
	words   bool   // single dashes begin words, not letters: -port is not -p ort
	reads   bool   // standard input is a secret
	slash   bool   // options may begin with a slash, as on Windows
	looks   bool   // it looks for words in files, or shows them: a word after "password" is no secret
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

// tools by name, sub-commands within.
var tools = readTools(toolTable)

//go:embed tools.txt
var toolTable string

func readTools(table string) map[string]*tool {
	top := &tool{subs: map[string]*tool{}}
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		for path := range strings.SplitSeq(fields[0], ",") {
			t := top
			for word := range strings.SplitSeq(path, "/") {
				sub := t.subs[word]
				if sub == nil {
					sub = &tool{options: map[string]kind{}}
					if t != top {
						sub.parent, sub.flags, sub.words, sub.looks, sub.slash = t, t.flags, t.words, t.looks, t.slash
					}
					if t.subs == nil {
						t.subs = map[string]*tool{}
					}
					t.subs[word] = sub
				}
				t = sub
			}
			for _, f := range fields[1:] {
				t.read(f)
			}
		}
	}
	return top.subs
}

func (t *tool) read(f string) {
	if flags, ok := strings.CutPrefix(f, "flags="); ok {
		t.flags = flags
		return
	}
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
	colon := strings.LastIndexByte(f, ':')
	option := f[:colon]
	what, ok := kinds[f[colon+1:]]
	if !ok {
		panic(fmt.Sprintf("tool table: %q", f))
	}
	position, isPosition := strings.CutPrefix(option, "#")
	switch {
	case option == "*":
		t.every = what
	case isPosition:
		n, err := strconv.Atoi(position)
		if err != nil {
			panic(fmt.Sprintf("tool table: %q", f))
		}
		for len(t.args) < n {
			t.args = append(t.args, unknown)
		}
		t.args[n-1] = what
	default:
		t.options[option] = what
		t.slash = t.slash || option[0] == '/'
	}
}

// option gives the kind of an option's value; unknown if the table does not have it.
func (t *tool) option(name string) kind {
	for ; t != nil; t = t.parent {
		if k, ok := t.options[name]; ok {
			return k
		}
	}
	return unknown
}
