// SPDX-License-Identifier: Apache-2.0

// Package mask hides credentials in the arguments of programs.
//
// Arguments are shown to everyone who may read traces; credentials in them must not be. What is masked, everywhere in
// an argument, so that `sh -c` and JSON are covered too:
//
//	assigned.go  the value of a secret's name      password=x  "api_key": "x"
//	code.go      literals in code                  setPassword("x")  auth=("user", "x")  IDENTIFIED BY 'x'
//	formats.go   secrets of a file or a protocol   ~/.netrc  kind: Secret  scripts of expect
//	url.go       passwords in URLs, webhooks       https://user:x@host  user:x@tcp(host)
//	shapes.go    what looks like a credential      ghp_x  AKIAx  -----BEGIN PRIVATE KEY-----
//	command.go   the words of a command            --password x  curl -u user:x  mysql -px  htpasswd -b f u x
//	said.go      what a program reads              echo x | sudo -S id
//	script.go    commands within one argument      bash -c "curl -u user:x …"
//
// What is known stands in tables: tools.txt says of which options of which tool the value is a secret, and of what
// kind (kinds.go), names.txt which names are a secret's (names.go), shapes.txt how credentials begin, words.txt has
// the lists of words. values.go says which values are none whatever their name: `--auth none`, `token=$TOKEN`,
// `--password-file /x`; looks.go which look like a secret: s3cr3t, and random letters.
//
// This is for not spreading secrets by accident; whoever wants to hide an argument from it can.
package mask

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

const masked = "****"

// maxSearched is how many bytes of one argument are searched. What comes after them is neither searched
// nor shown. Scripts and patches that agents pass as one argument are far shorter; the kernel takes 128 KiB.
const maxSearched = 64 << 10

// workPerByte bounds how often the bytes of an argument are looked at, on average. One that is made to take more is cut
// where that is used up, as one that is too long.
const workPerByte = 32

// masker finds the secrets of one argument.
type masker struct {
	s     string
	end   int  // of what is searched of s
	words bool // there are spaces in it
	prose bool // it is for people: a commit message
	code  bool // it is a program, but not of a shell
	found []extent
	work  int // bytes that may still be looked at: some are more than once
	named int // where a name's value was a secret's name, as in {"name": "API_KEY", "value": "x"}; 0: nowhere
}

// extent is a part of an argument, in bytes.
type extent struct{ from, to int }

// Args masks in place and says whether it did, and whether it cut an argument.
func Args(args []string) (hidden, cut bool) {
	var room [8]extent
	m := masker{found: room[:0]}
	c := command{args: args}
	for n, arg := range args {
		m.begin(arg)
		c.at = n
		use := c.word(&m, 0, m.end)
		m.prose, m.code = use == forPeople, use == code
		if use == consumed {
			m.tokens()
		} else {
			m.text()
			if m.words && use != code {
				m.script(0, m.end, 0, use == shellScript)
			}
		}
		cut = cut || m.end < len(arg)
		if out, hid := m.result(); hid || m.end < len(arg) {
			args[n] = out
			hidden = hidden || hid
		}
	}
	return hidden, cut
}

func (m *masker) begin(arg string) {
	m.s, m.end, m.found, m.named, m.prose = arg, len(arg), m.found[:0], 0, false
	if m.end > maxSearched {
		m.end = maxSearched
		for n := 1; n < utf8.UTFMax && !utf8.RuneStart(arg[m.end]); n++ {
			m.end--
		}
	}
	m.work = workPerByte*m.end + maxSearched/16
	m.words = spaced(arg[:m.end])
}

// hide is for a secret. Quotes around it stay.
func (m *masker) hide(from, to int) {
	for from < to && strings.IndexByte(`"'\`, m.s[from]) >= 0 {
		q := m.s[from]
		from++
		if to > from && m.s[to-1] == q && q != '\\' {
			to--
		}
	}
	for to > from && m.s[to-1] == '\\' && m.words {
		to--
	}
	if from < to && m.s[from:to] != masked {
		m.found = append(m.found, extent{from, to})
	}
}

// result gives the argument up to its end with its secrets masked.
func (m *masker) result() (out string, hidden bool) {
	if len(m.found) == 0 {
		return m.s[:m.end], false
	}
	slices.SortFunc(m.found, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	at := 0
	for _, x := range m.found {
		if x.from >= m.end {
			break
		}
		if x.from > at || !hidden {
			b.WriteString(m.s[at:x.from])
			b.WriteString(masked)
			hidden = true
		}
		at = max(at, min(x.to, m.end))
	}
	b.WriteString(m.s[at:m.end])
	return b.String(), hidden
}
