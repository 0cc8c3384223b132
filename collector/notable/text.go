// SPDX-License-Identifier: Apache-2.0

package notable

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/sheetbend/sheetbend/collector/span"
)

// who is the program that did it.
func (t teller) who() string {
	if name := t.Text(span.KeyExecutableName); name != "" {
		return word(name)
	}
	return "a process"
}

// why is the error in brackets.
func (t teller) why() string {
	if errno := t.Text(span.KeyErrorType); errno != "" {
		return " (" + word(errno) + ")"
	}
	return ""
}

func (t teller) path() string {
	if p := t.Text(span.KeyFilePath); p != "" {
		return short(p)
	}
	return "a file"
}

// many says of how many files a folded span tells.
func (t teller) many() string {
	if n, ok := t.Int(span.KeyCount); ok && n > 1 && t.Is(span.KeyFolded) {
		return " (" + strconv.FormatInt(n, 10) + " files)"
	}
	return ""
}

func (t teller) times() string {
	if n, ok := t.Int(span.KeyCount); ok && n > 1 {
		return ", " + strconv.FormatInt(n, 10) + " times"
	}
	return ""
}

// endpoint is an address or a name with the port that stands under a key.
func (t teller) endpoint(address, port string) string {
	address = middle(clean(address), 2*maxWord)
	n, ok := t.Int(port)
	if !ok {
		return address
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + strconv.FormatInt(n, 10)
}

func word(s string) string  { return middle(clean(s), maxWord) }
func short(s string) string { return middle(clean(s), maxPath) }

// middle shortens a text to n bytes at most. It leaves the middle out: of a path the beginning says where it is, and
// the end what.
func middle(s string, n int) string {
	if len(s) <= n {
		return s
	}
	head, tail := n/4, len(s)-(n-n/4-len("…"))
	for head > 0 && s[head]&0xc0 == 0x80 {
		head--
	}
	for tail < len(s) && s[tail]&0xc0 == 0x80 {
		tail++
	}
	return s[:head] + "…" + s[tail:]
}

// clean replaces what is not printed, and what is not UTF-8, with U+FFFD.
func clean(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(func(r rune) rune {
				if !unicode.IsPrint(r) {
					return unicode.ReplacementChar
				}
				return r
			}, s)
		}
	}
	return s
}
