// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"math"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
)

// resume reads the journal, and says whether there was one.
func (f *Feed) resume() (bool, error) {
	j := f.o.Journal
	if j == nil {
		return false, nil
	}
	if j.margin == 0 {
		j.margin = uint64(settleMargin)
	}
	if j.perTurn == 0 {
		j.perTurn = compactPerTurn
	}
	settled, _, compacted, err := j.File.Last()
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	j.settled = settled // until another record is read
	ok := f.replayJournal(settled, !compacted)
	j.settle()
	return ok, nil
}

// replayJournal gives what the journal has to the collector, and says whether that was anything. Spans up to settled
// need not be sent again. whole: nothing was left out of it.
func (f *Feed) replayJournal(settled uint64, whole bool) bool {
	j, c := f.o.Journal, f.o.Journal.Collector
	r := resumption{f: f, journal: j, collector: c, settled: settled, whole: whole}
	if whole {
		j.Resuming(settled)
	} else {
		j.Resuming(math.MaxUint64)
	}
	c.Restart().SetJournal(beginnings{j})
	c.Restart().Resuming(true)
	defer c.Restart().Resuming(false)
	_, err := j.File.Replay(r.entry)
	r.apply(err == nil) // the process before may have been killed in the middle of it
	if err != nil {
		j.giveUp(fmt.Errorf("read the journal: %w", err)) // what was read of it holds
	}
	ok := f.stats.Resumed > 0
	if !ok {
		settled, j.settled = 0, 0 // of another
	}
	if !r.whole || !ok {
		j.Resuming(settled)
	}
	return ok
}

// A resumption is the reading of a journal. What a record began comes behind it and has to be known before it is
// applied, so that each waits for the next one.
type resumption struct {
	f         *Feed
	journal   *Journal
	collector *collector.Collector
	settled   uint64
	whole     bool // from here on all spans come again as they came

	last   journal.Entry // a Record or End that is not applied yet; its Kind is 0 if there is none
	slices []collector.Slice
	claims []collector.Claim
	begun  bool // it began to hold a span
}

// entry takes the next entry.
func (r *resumption) entry(e *journal.Entry) {
	switch e.Kind {
	case journal.Slice:
		if s, ok := journal.DecodeSlice(e.Data); ok {
			r.slices = append(r.slices, s)
		}
		return
	case journal.Began:
		r.begun = true
		return
	case journal.Claimed:
		if k, ok := journal.DecodeClaim(e.Data); ok {
			r.claims = append(r.claims, k)
		}
		return
	}
	r.apply(false)
	switch e.Kind {
	case journal.Record, journal.End:
		r.last.Kind, r.last.Seq, r.last.Data = e.Kind, e.Seq, append(r.last.Data[:0], e.Data...)
	case journal.Whole:
		r.whole = true
		r.journal.Resuming(r.settled)
	case journal.Count, journal.Sliced:
		if s, ok := journal.DecodeSlice(e.Data); ok {
			r.collector.Restart().SetSlice(s)
		}
	}
}

// apply gives the collector the entry that waits. end: it is the last.
func (r *resumption) apply(end bool) {
	c := r.collector
	switch r.last.Kind {
	case journal.Record:
		r.f.replay(r.last.Data)
		if r.journal.since++; r.whole && r.journal.since >= settleEvery {
			r.journal.settle()
		}
	case journal.End:
		c.Restart().Drain()
	}
	for _, s := range r.slices {
		c.Restart().SetSlice(s)
	}
	for _, k := range r.claims {
		c.Restart().SetClaim(k)
	}
	r.last.Kind, r.slices, r.begun, r.claims = 0, nil, false, r.claims[:0] // the collector keeps the slices
}

// replay gives a record of the journal to the collector.
func (f *Feed) replay(raw []byte) {
	f.stats.Resumed++
	if f.event.Decode(raw) == nil {
		h := f.event.Header
		f.latest = max(f.latest, h.Time)
		if h.Type < record.TypeClock {
			f.last = append(f.last[:0], raw...)
		}
		switch h.Type {
		case record.TypeTick:
			f.tick = max(f.tick, h.Time)
			defer f.o.Journal.mark(h.Time) // with the spans that it ends
		case record.TypeClock:
			f.offset = f.event.Clock.Wall - int64(h.Time)
		}
	}
	if err := f.o.Collector.Record(raw); err != nil {
		f.stats.Refused++
	}
}
