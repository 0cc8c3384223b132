// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of process.command_args. An element costs up to eight bytes in OTLP besides its text.
const (
	maxArgs     = 4096 // that are looked at
	argCost     = 8
	maxArgBytes = 4 << 10 // text and costs of all: one span must not fill a trace
)

// appendArgs splits argv, up to maxArgs.
func appendArgs(list []string, argv string) []string {
	for len(argv) > 0 && len(list) < maxArgs {
		arg, rest, _ := strings.Cut(argv, "\x00")
		list = append(list, arg)
		argv = rest
	}
	return list
}

// hashArgs is the SHA-256 of the arguments, each followed by a NUL byte, in hex digits.
func hashArgs(args []string) string {
	h := sha256.New()
	for _, arg := range args {
		_, _ = io.WriteString(h, arg)
		_, _ = h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// argsFit says whether a list is within maxArgBytes.
func argsFit(args []string) bool {
	room := maxArgBytes
	for _, arg := range args {
		room -= argCost + len(arg)
	}
	return room >= 0
}

// cutArgs cuts the list where it would exceed maxArgBytes. It comes after all that makes arguments longer: masks, and
// replacements of what is not UTF-8.
func cutArgs(args []string) []string {
	room := maxArgBytes
	for n, arg := range args {
		if room -= argCost + len(arg); room >= 0 {
			continue
		}
		if keep := len(arg) + room; keep > 0 {
			args[n] = arg[:runeStart(arg, keep)]
			n++
		}
		return args[:n]
	}
	return args
}

// runeStart gives the last place up to n where UTF-8 may be cut.
func runeStart(s string, n int) int {
	for back := 0; back < utf8.UTFMax-1 && n > back && n < len(s); back++ {
		if utf8.RuneStart(s[n-back]) {
			return n - back
		}
	}
	return n
}

// MaxCommandLine bounds process.command_line: it is for reading; process.command_args has all.
const MaxCommandLine = 4096

// appendCommandLine writes the arguments so that a POSIX shell would read them as they
// are, and "…" where it became too long.
func appendCommandLine(dst []byte, args []string) []byte {
	for n, arg := range args {
		if n > 0 {
			dst = append(dst, ' ')
		}
		start := len(dst)
		dst = appendQuoted(dst, arg[:min(len(arg), MaxCommandLine)])
		if len(dst) > MaxCommandLine || len(arg) > MaxCommandLine {
			dst = dst[:max(start, runeStart(string(dst), MaxCommandLine))]
			return append(dst, "…"...)
		}
	}
	return dst
}

func appendQuoted(dst []byte, arg string) []byte {
	plain := arg != ""
	for i := 0; i < len(arg) && plain; i++ {
		plain = plainByte(arg[i])
	}
	if plain {
		return append(dst, arg...)
	}
	dst = append(dst, '\'')
	for i := 0; i < len(arg); i++ {
		if arg[i] == '\'' {
			dst = append(dst, `'\''`...)
		} else {
			dst = append(dst, arg[i])
		}
	}
	return append(dst, '\'')
}

func plainByte(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b >= 0x80:
		return true
	}
	return strings.IndexByte("_-./:=,+@%^", b) >= 0
}
