// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"slices"
	"strings"
)

const (
	lowers    = "abcdefghijklmnopqrstuvwxyz"
	letters   = lowers + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	numerals  = "0123456789"
	quotes    = "\"'"
	spaces    = " \t\n"
	ends      = spaces + ";|&()`" // of a shell's word
	nameBytes = letters + numerals + "_-."
	pathBytes = letters + numerals + "/._-~+@,=%$"
)

func upper(b byte) bool  { return 'A' <= b && b <= 'Z' }
func lower(b byte) bool  { return 'a' <= b && b <= 'z' }
func digit(b byte) bool  { return '0' <= b && b <= '9' }
func letter(b byte) bool { return lower(b | 0x20) }

func isQuote(b byte) bool   { return b == '"' || b == '\'' }
func wordByte(b byte) bool  { return letter(b) || digit(b) || b == '_' }
func tokenByte(b byte) bool { return wordByte(b) || b == '-' }
func nameByte(b byte) bool  { return tokenByte(b) || b == '.' }

func has(set string, b byte) bool { return strings.IndexByte(set, b) >= 0 }

// spaced is strings.ContainsAny(s, spaces), and faster.
func spaced(s string) bool { return has(s, ' ') || has(s, '\t') || has(s, '\n') }

// only is true if v has no other bytes than those of the set.
func only(v, set string) bool { return skip(v, 0, set) == len(v) }

// skip gives where the bytes of the set end that begin at i.
func skip(s string, i int, set string) int {
	for i < len(s) && has(set, s[i]) {
		i++
	}
	return i
}

// span is skip for bytes of a kind, and faster.
func span(s string, i int, is func(byte) bool) int {
	for i < len(s) && is(s[i]) {
		i++
	}
	return i
}

// until gives the first place from i on that has a byte of the set; len(s) if there is none.
func until(s string, i int, set string) int {
	for i < len(s) && !has(set, s[i]) {
		i++
	}
	return i
}

// nameStart gives where the name begins that ends at end.
func nameStart(s string, end int) int {
	begin := end
	for begin > 0 && end-begin < longestName && nameByte(s[begin-1]) {
		begin--
	}
	return begin
}

func hasSuffixFold(s, end string) bool {
	return len(s) >= len(end) && strings.EqualFold(s[len(s)-len(end):], end)
}

// containsFold is whether s has one of the parts, which are in lower case.
func containsFold(s string, parts ...string) bool {
	s = strings.ToLower(s)
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}

// Kinds of bytes.
const (
	other = iota
	aDigit
	aLower
	anUpper
)

func kindOf(b byte) int {
	switch {
	case digit(b):
		return aDigit
	case lower(b):
		return aLower
	case upper(b):
		return anUpper
	}
	return other
}

// count says how many bytes of each kind v has.
func count(v string) (n [4]int) {
	for i := 0; i < len(v); i++ {
		n[kindOf(v[i])]++
	}
	return n
}

func digits(v string) int { return count(v)[aDigit] }

// lettersOnly is true of words, and of words with dashes and the like between.
func lettersOnly(v string) bool {
	return v == "" || (letter(v[0]) || has(",.-_", v[0])) && only(v[1:], lowers+",.-_")
}

// byteAt gives 0 outside of s.
func byteAt(s string, i int) byte {
	if i < 0 || i >= len(s) {
		return 0
	}
	return s[i]
}

// back gives where the bytes of the set begin that end at end, most of them at most.
func back(s string, end, most int, set string) int {
	for n := end; end > 0 && n-end < most && has(set, s[end-1]); {
		end--
	}
	return end
}
