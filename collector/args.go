// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/record"
)

// argPieces puts argv together: a long one comes in several records before that of its
// exec. Only execs under way are here, one per process.
type argPieces struct {
	open  []*argPiece // oldest first
	bytes int         // of all
}

type argPiece struct {
	tgid   uint32
	start  uint64
	execID uint64
	base   uint32 // offset of bytes within argv
	bytes  []byte // contiguous
	gap    bool
}

// Bounds for pieces whose exec never comes. An exec is between two of its records once per CPU at most.
const (
	maxArgPieces     = 512
	maxArgPieceBytes = 16 << 20
)

func (a *argPieces) add(h *record.Header, r *record.ExecArgs, limit int) {
	var p *argPiece
	for _, q := range a.open {
		if q.tgid == h.Tgid {
			p = q
		}
	}
	if p == nil {
		for len(a.open) > 0 && (len(a.open) >= maxArgPieces || a.bytes+len(r.Args) > maxArgPieceBytes) {
			a.remove(0)
		}
		p = &argPiece{}
		a.open = append(a.open, p)
	}
	if p.start != h.Start || p.execID != h.ExecID || p.bytes == nil {
		a.bytes -= len(p.bytes)
		*p = argPiece{tgid: h.Tgid, start: h.Start, execID: h.ExecID, base: r.Offset, bytes: []byte{}}
	}
	if p.gap || uint64(r.Offset) != uint64(p.base)+uint64(len(p.bytes)) {
		p.gap = true // a piece was lost: what follows it cannot be put in its place
		return
	}
	more := r.Args[:min(len(r.Args), limit-min(limit, len(p.bytes)))]
	p.bytes = append(p.bytes, more...)
	a.bytes += len(more)
}

func (a *argPieces) remove(n int) {
	a.bytes -= len(a.open[n].bytes)
	a.open = slices.Delete(a.open, n, n+1)
}

// drop forgets the pieces of a process that is over.
func (a *argPieces) drop(tgid uint32) {
	for n, p := range a.open {
		if p.tgid == tgid {
			a.remove(n)
			return
		}
	}
}

// argv is what is known of an argument vector: "arg\0arg\0", the last NUL missing when it was cut.
type argv struct {
	bytes     string
	truncated bool
}

// take gives the argv of an exec and forgets its pieces.
func (a *argPieces) take(h *record.Header, r *record.Exec, limit int) argv {
	b := r.Args
	for n, p := range a.open {
		if p.tgid != h.Tgid {
			continue
		}
		a.remove(n)
		if p.start == h.Start && p.execID == h.ExecID && int(p.base) <= len(b) && int(p.base)+len(p.bytes) > len(b) {
			b = append(b, p.bytes[len(b)-int(p.base):]...)
		}
		break
	}
	b = b[:min(len(b), limit)]
	return argv{bytes: string(b), truncated: uint64(len(b)) < uint64(r.ArgsSize)}
}

// Bounds of process.command_args. An element costs up to eight bytes in OTLP besides its text, so that
// 256 KiB of empty arguments would make more than the 1 MiB that a batch may have.
const (
	maxArgs         = 4096
	argCost         = 8
	maxArgsOnceSent = 512 << 10 // text and costs of all
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

// fitArgs cuts the list where it would exceed maxArgsOnceSent, and says whether it did. It comes after all
// that makes arguments longer: masks, and replacements of what is not UTF-8.
func fitArgs(args []string) ([]string, bool) {
	room := maxArgsOnceSent
	for n, arg := range args {
		room -= argCost + len(arg)
		if room >= 0 {
			continue
		}
		if keep := len(arg) + room; keep > 0 {
			args[n] = arg[:runeStart(arg, keep)]
			n++
		}
		return args[:n], true
	}
	return args, false
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

// maxCommandLine bounds process.command_line: it is for reading; process.command_args has all.
const maxCommandLine = 4096

// appendCommandLine writes the arguments so that a POSIX shell would read them as they
// are, and "…" where it became too long.
func appendCommandLine(dst []byte, args []string) []byte {
	for n, arg := range args {
		if n > 0 {
			dst = append(dst, ' ')
		}
		if len(dst)+len(arg) > maxCommandLine {
			room := max(0, maxCommandLine-len(dst))
			dst = appendQuoted(dst, strings.ToValidUTF8(arg[:min(room, len(arg))], ""))
			return append(dst, "…"...)
		}
		dst = appendQuoted(dst, arg)
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
