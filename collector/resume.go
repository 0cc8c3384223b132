// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/spans"
)

// A collector that is given a journal of the stream (collector/journal) comes to the state of the one that was killed. The
// journal leaves out records of which all spans are sent, so what is only counted of them is told to it besides.

// SetJournal has j told of everything that is not resumed. To be called before Record.
func (c *Collector) SetJournal(j attribution.Journal) { c.slicer.Journal = j }

// Resuming begins or ends the time in which slices are only begun as Next says.
func (c *Collector) Resuming(on bool) {
	c.slicer.Resuming(on)
}

// Next says what the next record did when it was taken the first time: which slices it began, and whether it began to hold a span.
// whole says that what was before it is all there, end that it is the last, in the middle of which a kill may have come: what it begins
// besides is told.
func (c *Collector) Next(rolls []attribution.Slice, begun, whole, end bool) {
	c.slicer.Next(rolls, begun, whole, end)
}

// Seq is the number of the last span.
func (c *Collector) Seq() uint64 { return c.spans.Seq() }

// SetSeq has the next span be n+1.
func (c *Collector) SetSeq(n uint64) { c.spans.SetSeq(n) }

// Counted gives what SetSlice and SetReads take back.
func (c *Collector) Counted(slice func(attribution.Slice), reads func(spans.Reads)) {
	c.slicer.Counted(slice)
	c.spans.EachReads(reads)
}

// Remembers says whether it still counts who has had a session.
func (c *Collector) Remembers(k attribution.Claim) bool {
	return c.attribution.Remembers(k)
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (c *Collector) SetClaim(k attribution.Claim) {
	c.attribution.SetClaim(k)
}

// ReadsOf gives what a process has read, if that is anything.
func (c *Collector) ReadsOf(tgid uint32, start uint64) (spans.Reads, bool) {
	return c.spans.ReadsOf(tgid, start)
}

// SetReads says what a process has read.
func (c *Collector) SetReads(r spans.Reads) { c.spans.SetReads(r) }
