// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Restart is how a collector comes to the state of one that was killed: it is given the journal of the stream
// (collector/journal), which has the records, and facts that do not follow from those that are left. The methods are
// called where Record is.
type Restart struct{ c *Collector }

// SetJournal has j told of everything that is not resumed. To be called before Record.
func (r Restart) SetJournal(j attribution.Journal) { r.c.slicer.SetJournal(j) }

// Resuming begins or ends the time in which slices are only begun by SetSlice. At its end each trace goes on with its
// next slice, as it is not known how full the last one is.
func (r Restart) Resuming(on bool) {
	if r.c.slicer.Replaying(on); !on && r.c.records > 0 {
		r.c.spans.Resumed()
	}
}

// SetSlice says which slice began after the last record.
func (r Restart) SetSlice(s attribution.Slice) { r.c.slicer.SetSlice(s) }

// RemembersSlice says whether there is still what goes on in a slice.
func (r Restart) RemembersSlice(s attribution.Slice) bool { return r.c.slicer.RemembersSlice(s) }

// SetClaim says which agent had a session from then on. What is there by its own record already does not change.
func (r Restart) SetClaim(k attribution.Claim) { r.c.attribution.SetClaim(k) }

// SetReach says who had reached into a process or an agent before then.
func (r Restart) SetReach(k attribution.Reach) { r.c.attribution.SetReach(k) }

// Remembers says whether it still counts who has had a session.
func (r Restart) Remembers(k attribution.Claim) bool { return r.c.attribution.Remembers(k) }

// Untold are the first processes of calls of which a later process has to know how they began: those that are not over,
// and those whose session.call has not been sent.
func (r Restart) Untold() map[span.Image]bool { return r.c.attribution.Untold() }

// Connected are the cookies of connections whose end is to stand under what has begun them.
func (r Restart) Connected() map[uint64]bool { return r.c.spans.Connected() }

// Since is the time (boottime) of the oldest record that something held is made of, beyond the hold.
func (r Restart) Since() (at uint64, ok bool) {
	at, ok = r.c.containers.Undecided()
	if story, waits := r.c.spans.Since(); waits && (!ok || story < at) {
		return story, true
	}
	return at, ok
}

// Drain sends everything that is still held, as far as it is known, and flushes the sink.
func (r Restart) Drain() { r.c.drain() }
