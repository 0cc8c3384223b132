// SPDX-License-Identifier: Apache-2.0

package mask

import (
	_ "embed"
	"strings"
)

// meaning is what a name says of its value.
type meaning uint8

const (
	ordinary   meaning = iota
	aKey               // a secret if it looks random: "key" may be anything
	aCode              // a secret if it has at least four digits, or looks random: pins, one-time passwords
	anAuth             // user:secret, or something random; else the name of a method
	aSecret            // a secret unless the value is none
	aPassword          // the same, and may be any word
	aHeader            // Authorization: a scheme, then the secret
	aCookie            // name=secret; …
	aPassWhere         // pass:secret, env:NAME, file:path, as openssl has it
)

// meanings are their names in names.txt.
var meanings = strings.Fields("none key code auth secret password header cookie where")

// ending is how names of secrets end, without separators, in lower case.
type ending struct {
	text string
	word bool // only as a word of its own: "spin" does not end in "pin"
	meaning
}

//go:embed names.txt
var nameTable string

// endings by their last letter. The longest that fits counts.
var endings = func() (table [256][]ending) {
	for fields := range rows(nameTable) {
		key, word := strings.CutSuffix(fields[0], "-")
		m := meaning(index(meanings, key))
		for _, text := range fields[1:] {
			last := text[len(text)-1]
			table[last] = append(table[last], ending{text, word, m})
		}
	}
	return table
}()

const (
	shortestEnding = len("pw")
	longestName    = 64 // of what is looked at of a name, in bytes, from its end
)

// meaningOf looks at the end of a name: dbPassword, DB_PASSWORD_2, --db.password. It is asked at every = and :, so most
// names have to be told by their last letter.
func meaningOf(name string) meaning {
	if len(name) > longestName {
		name = name[len(name)-longestName:]
	}
	for len(name) > 0 && !letter(name[len(name)-1]) {
		name = name[:len(name)-1] // password2, token_
	}
	if len(name) < shortestEnding {
		return ordinary
	}
	candidates := endings[name[len(name)-1]|0x20]
	if len(candidates) == 0 {
		return ordinary
	}
	var squeezed [longestName]byte
	var starts uint64 // of words in squeezed
	n := 0
	start := true
	for i := 0; i < len(name); i++ {
		b := name[i]
		switch {
		case upper(b):
			start = start || i > 0 && (lower(name[i-1]) || i+1 < len(name) && lower(name[i+1]) && upper(name[i-1]))
			b |= 0x20
		case !lower(b) && !digit(b):
			start = true
			continue
		}
		if start {
			starts |= 1 << n
			start = false
		}
		squeezed[n] = b
		n++
	}
	whole := squeezed[:n]
	var best ending
	for i := range candidates {
		e := &candidates[i]
		from := n - len(e.text)
		if from >= 0 && len(e.text) > len(best.text) && string(whole[from:]) == e.text &&
			(!e.word || from == 0 || starts&(1<<from) > 0 || digit(whole[from-1])) {
			best = *e
		}
	}
	if string(whole) == "pat" && name[0] != '-' { // a pattern, as often as a personal access token
		return ordinary
	}
	return best.meaning
}

// asks is true of options that have no value although they are named for a secret: --ask-pass, --no-token.
func asks(option string) bool {
	option = strings.TrimLeft(option, "-")
	end := 0
	for end < len(option) && letter(option[end]) && (end == 0 || !upper(option[end]) || upper(option[0])) {
		end++
	}
	return end < len(option) && asking[strings.ToLower(option[:end])]
}
