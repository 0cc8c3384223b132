// SPDX-License-Identifier: Apache-2.0

package collector

// Reads are what a process has read and its spans have not told yet.
type Reads struct {
	Tgid        uint32
	Start       uint64
	Noise       uint64
	WindowStart uint64
	Files       uint32
}

// readsOf gives what a process has read, if that is anything.
func (c *spans) readsOf(tgid uint32, start uint64) (Reads, bool) {
	p := c.lineage.processes[tgid]
	if p == nil || p.start != start {
		return Reads{}, false
	}
	return reads(p)
}

func reads(p *process) (r Reads, ok bool) {
	r = Reads{p.tgid, p.start, p.image.noise, pendingOf(p).windowStart, uint32(pendingOf(p).filesRead)}
	ok = r.Noise > 0 || r.Files > 0
	if !p.owns(p.image) {
		r.Noise = 0 // its parent's, which has it
	}
	return r, ok
}

// setReads says what a process has read.
func (c *spans) setReads(r Reads) {
	p := c.lineage.processes[r.Tgid]
	if p == nil || p.start != r.Start {
		return
	}
	pendingOf(p).windowStart, pendingOf(p).filesRead = r.WindowStart, int(r.Files)
	if p.owns(p.image) {
		p.image.noise = r.Noise
	}
}

// eachReads gives what all processes have read, as far as that is anything.
func (c *spans) eachReads(yield func(Reads)) {
	for _, p := range c.lineage.processes {
		if r, ok := reads(p); ok {
			yield(r)
		}
	}
}
