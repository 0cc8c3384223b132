// SPDX-License-Identifier: Apache-2.0

package spans

import "github.com/sheetbend/sheetbend/collector/lineage"

// Reads are what a process has read and its spans have not told yet.
type Reads struct {
	Tgid        uint32
	Start       uint64
	Noise       uint64
	WindowStart uint64
	Files       uint32
}

// ReadsOf gives what a process has read, if that is anything.
func (c *Spans) ReadsOf(tgid uint32, start uint64) (Reads, bool) {
	p := c.lineage.Processes[tgid]
	if p == nil || p.Start != start {
		return Reads{}, false
	}
	return reads(p)
}

func reads(p *lineage.Process) (r Reads, ok bool) {
	r = Reads{Tgid: p.Tgid, Start: p.Start, Noise: p.Program.Noise}
	if p.Pending != nil {
		r.WindowStart, r.Files = pendingOf(p).windowStart, uint32(pendingOf(p).filesRead)
	}
	ok = r.Noise > 0 || r.Files > 0
	if !p.Owns(p.Program) {
		r.Noise = 0 // its parent's, which has it
	}
	return r, ok
}

// SetReads says what a process has read.
func (c *Spans) SetReads(r Reads) {
	p := c.lineage.Processes[r.Tgid]
	if p == nil || p.Start != r.Start {
		return
	}
	pendingOf(p).windowStart, pendingOf(p).filesRead = r.WindowStart, int(r.Files)
	if p.Owns(p.Program) {
		p.Program.Noise = r.Noise
	}
}

// EachReads gives what all processes have read, as far as that is anything.
func (c *Spans) EachReads(yield func(Reads)) {
	for _, p := range c.lineage.Processes {
		if r, ok := reads(p); ok {
			yield(r)
		}
	}
}
