// SPDX-License-Identifier: Apache-2.0

package collector

// A collector that is given a journal of the stream (collector/journal) comes to the state of the one that was killed. The
// journal leaves out records of which all spans are sent, so what is only counted of them is told to it besides.

// SetJournal has j told of everything that is not resumed. To be called before Record.
func (c *Collector) SetJournal(j Journal) { c.slicer.journal = j }

// Resuming begins or ends the time in which slices are only begun as Next says.
func (c *Collector) Resuming(on bool) {
	c.slicer.resuming(on)
}

// Next says what the next record did when it was taken the first time: which slices it began, and whether it began to hold a span.
// whole says that what was before it is all there, end that it is the last, in the middle of which a kill may have come: what it begins
// besides is told.
func (c *Collector) Next(rolls []Slice, begun, whole, end bool) {
	c.slicer.next(rolls, begun, whole, end)
}

// Seq is the number of the last span.
func (c *Collector) Seq() uint64 { return c.spans.stats.Spans }

// SetSeq has the next span be n+1.
func (c *Collector) SetSeq(n uint64) { c.spans.stats.Spans = n }

// Counted gives what SetSlice and SetReads take back.
func (c *Collector) Counted(slice func(Slice), reads func(Reads)) {
	c.slicer.counted(slice)
	c.spans.eachReads(reads)
}

// Remembers says whether it still counts who has had a session.
func (c *Collector) Remembers(k Claim) bool {
	return c.attribution.remembers(k)
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *Collector) SetClaim(k Claim) {
	c.attribution.setClaim(k)
}

// ReadsOf gives what a process has read, if that is anything.
func (c *Collector) ReadsOf(tgid uint32, start uint64) (Reads, bool) {
	return c.spans.readsOf(tgid, start)
}

// SetReads says what a process has read.
func (c *Collector) SetReads(r Reads) { c.spans.setReads(r) }
