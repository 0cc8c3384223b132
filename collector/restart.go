// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/spans"
)

// Restart is how a collector comes to the state of one that was killed: it is given the journal of the stream
// (collector/journal). The journal leaves out records whose spans are all sent, so what is only counted of those is set
// by these methods. They are called where Record is.
type Restart struct{ c *Collector }

// SetJournal has j told of everything that is not resumed. To be called before Record.
func (r Restart) SetJournal(j attribution.Journal) { r.c.slicer.Journal = j }

// Resuming begins or ends the time in which slices are only begun as Next says.
func (r Restart) Resuming(on bool) {
	r.c.slicer.Resuming(on)
}

// Next says what the next record did when it was taken the first time: which slices it began, and whether it began to
// hold a span. whole says that what was before it is all there, end that it is the last, in the middle of which a kill
// may have come: what it begins besides is told.
func (r Restart) Next(rolls []attribution.Slice, begun, whole, end bool) {
	r.c.slicer.Next(rolls, begun, whole, end)
}

// Seq is the number of the last span.
func (r Restart) Seq() uint64 { return r.c.spans.Seq() }

// SetSeq has the next span be n+1.
func (r Restart) SetSeq(n uint64) { r.c.spans.SetSeq(n) }

// Counted gives what SetSlice and SetReads take back.
func (r Restart) Counted(slice func(attribution.Slice), reads func(spans.Reads)) {
	r.c.slicer.Counted(slice)
	r.c.spans.EachReads(reads)
}

// Remembers says whether it still counts who has had a session.
func (r Restart) Remembers(k attribution.Claim) bool {
	return r.c.attribution.Remembers(k)
}

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (r Restart) SetClaim(k attribution.Claim) {
	r.c.attribution.SetClaim(k)
}

// ReadsOf gives what a process has read, if that is anything.
func (r Restart) ReadsOf(tgid uint32, start uint64) (spans.Reads, bool) {
	return r.c.spans.ReadsOf(tgid, start)
}

// SetReads says what a process has read.
func (r Restart) SetReads(reads spans.Reads) { r.c.spans.SetReads(reads) }

// SetSlice says how far a trace has come.
func (r Restart) SetSlice(s attribution.Slice) { r.c.slicer.SetSlice(s) }

// Drain sends everything that is still held, as far as it is known, and flushes the sink.
func (r Restart) Drain() { r.c.drain() }
