// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Escape makes text from a sandbox safe to print: what could move the cursor, change how the terminal reads
// on, reorder or hide its neighbours is written out in the way of Go and C. What is left are
// letters, marks, numbers, punctuation, symbols and the ASCII space.
func Escape(s string) string {
	if isPlain(s) {
		return s
	}
	return escapeTo(s, "")
}

// escapeTo also puts a backslash before every character of special.
func escapeTo(s, special string) string {
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case !isVisible(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case !isVisible(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			if r < utf8.RuneSelf && strings.IndexByte(special, byte(r)) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// EscapeJSON makes a JSON text safe to print: what Escape would write out are JSON's own escapes, so its meaning stays.
// Line ends stay, which stand between its values only.
func EscapeJSON(text []byte) []byte {
	var b []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n' || isVisible(r):
			b = append(b, text[:n]...)
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		}
		text = text[n:]
	}
	return b
}

// Name makes a name or a path from a sandbox safe to print where its end has to be seen: blanks around it are quoted.
func Name(s string) string {
	if s == "" || s[0] == ' ' || s[len(s)-1] == ' ' {
		return Quote(s)
	}
	return Escape(s)
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isVisible is false for controls, format characters (bidi overrides and isolates, zero-width
// ones, tags), other separators than the ASCII space, private use and unassigned code points, and for letters and
// symbols that Unicode defines to show nothing.
func isVisible(r rune) bool {
	switch r {
	// A joiner, Hangul and Khmer fillers, blank Braille.
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return false
	}
	if r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef { // variation selectors
		return false
	}
	return unicode.IsPrint(r)
}

// Cells is how many columns s takes, which Escape has been over.
func Cells(s string) int {
	if isPlain(s) {
		return len(s)
	}
	n := 0
	for _, r := range s {
		n += runeCells(r)
	}
	return n
}

func runeCells(r rune) int {
	if r < 0x7f {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// marksPerCell bounds combining marks, which take no column of their own, in what Cut returns.
const marksPerCell = 4

// Cut shortens s to n columns at its end; the last one becomes an ellipsis.
func Cut(s string, n int) string {
	switch {
	case fits(s, n):
		return s
	case n <= 0:
		return ""
	}
	return s[:within(s, n, utf8.DecodeRuneInString, func(i int) string { return s[i:] })] + "…"
}

// CutFront shortens s to n columns at its begin: of a path, the end says most.
func CutFront(s string, n int) string {
	switch {
	case fits(s, n):
		return s
	case n <= 0:
		return ""
	}
	size := within(s, n, utf8.DecodeLastRuneInString, func(i int) string { return s[:len(s)-i] })
	return "…" + s[len(s)-size:]
}

// within is how many bytes of s, read from one of its ends, leave one of n columns for an ellipsis.
func within(s string, n int, next func(string) (rune, int), rest func(read int) string) (size int) {
	for used, runes := 0, 0; size < len(s); runes++ {
		r, bytes := next(rest(size))
		used += runeCells(r)
		if used > n-1 || runes >= n*marksPerCell {
			break
		}
		size += bytes
	}
	return size
}

func fits(s string, n int) bool {
	return len(s) <= n || Cells(s) <= n && utf8.RuneCountInString(s) <= n*marksPerCell
}

// Pad fills s to n columns.
func Pad(s string, n int) string {
	if c := Cells(s); c < n {
		return s + strings.Repeat(" ", n-c)
	}
	return s
}

// PadFront fills s to n columns from the left.
func PadFront(s string, n int) string {
	if c := Cells(s); c < n {
		return strings.Repeat(" ", n-c) + s
	}
	return s
}

// A Palette colours text, or not. Colours are the eight of every terminal, so that its theme applies.
type Palette bool

// Dim is for what matters less.
func (p Palette) Dim(s string) string { return p.with("2", s) }

// Bold is for names.
func (p Palette) Bold(s string) string { return p.with("1", s) }

// Red is for what is wrong.
func (p Palette) Red(s string) string { return p.with("31", s) }

// Alarm is for what has to be seen first.
func (p Palette) Alarm(s string) string { return p.with("1;31", s) }

// Yellow is for what may be wrong.
func (p Palette) Yellow(s string) string { return p.with("33", s) }

// Green is for what went well.
func (p Palette) Green(s string) string { return p.with("32", s) }

// Cyan is for calls.
func (p Palette) Cyan(s string) string { return p.with("36", s) }

// Plain leaves a text as it is.
func (p Palette) Plain(s string) string { return s }

func (p Palette) with(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// unstyled is s without what Palette added; s holds no other escape sequences.
func unstyled(s string) string {
	for {
		before, after, found := strings.Cut(s, "\x1b[")
		if !found {
			return s
		}
		_, after, _ = strings.Cut(after, "m")
		s = before + after
	}
}
