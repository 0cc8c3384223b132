// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"strings"
)

// ours are characters that drawings have of themselves, and what stands for them without Unicode. Those of lines take as
// many columns.
var ours = map[rune]string{
	'│': "|", '├': "|", '└': "`", '─': "-", '»': ">", '·': "-", '…': "~", '×': "x", '–': "-", '→': "->", 'µ': "u", '↵': "\\n",
}

// ASCII writes a text that Escape has been over without any other characters than those of ASCII. Its own ellipsis takes
// one column, as before.
func ASCII(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch other, own := ours[r]; {
		case r < 0x80:
			b.WriteRune(r)
		case own:
			b.WriteString(other)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}
