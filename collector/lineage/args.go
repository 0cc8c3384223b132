// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/record"
)

// argPieces puts argv together: a long one comes in several records before that of its
// exec. Only execs under way are here, one per process.
type argPieces struct {
	Open  []*argPiece // oldest first
	Bytes int         // of all
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
	MaxArgPieces     = 512
	MaxArgPieceBytes = 16 << 20
)

func (a *argPieces) add(h *record.Header, r *record.ExecArgs, limit int) {
	var p *argPiece
	for _, q := range a.Open {
		if q.tgid == h.Tgid {
			p = q
		}
	}
	if p == nil {
		for len(a.Open) > 0 && (len(a.Open) >= MaxArgPieces || a.Bytes+len(r.Args) > MaxArgPieceBytes) {
			a.remove(0)
		}
		p = &argPiece{}
		a.Open = append(a.Open, p)
	}
	if p.start != h.Start || p.execID != h.ExecID || p.bytes == nil {
		a.Bytes -= len(p.bytes)
		*p = argPiece{tgid: h.Tgid, start: h.Start, execID: h.ExecID, base: r.Offset, bytes: []byte{}}
	}
	if p.gap || uint64(r.Offset) != uint64(p.base)+uint64(len(p.bytes)) {
		p.gap = true // a piece was lost: what follows it cannot be put in its place
		return
	}
	more := r.Args[:min(len(r.Args), limit-min(limit, len(p.bytes)))]
	p.bytes = append(p.bytes, more...)
	a.Bytes += len(more)
}

func (a *argPieces) remove(n int) {
	a.Bytes -= len(a.Open[n].bytes)
	a.Open = slices.Delete(a.Open, n, n+1)
}

// drop forgets the pieces of a process that is over.
func (a *argPieces) drop(tgid uint32) {
	for n, p := range a.Open {
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
	for n, p := range a.Open {
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
