// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Journal keeps the stream for the process that comes after a kill.
type Journal struct {
	File *journal.Journal
	// Collector is the one that makes the spans.
	Collector *collector.Collector
	// Settled is the number of the last span of which all up to it are where a kill does not reach them.
	Settled func() uint64
	// Resuming is called while the journal is read: spans up to this number need not be sent again.
	Resuming func(seq uint64)
	// Hold is how long a span may be held, CallsFor how long what is said of a call matters.
	Hold, CallsFor time.Duration

	position func() uint64
	entry    journal.Entry
	kept     uint64 // position of the ring up to which all is in the journal
	settled  uint64
	since    int          // records, since that was looked at
	marks    []settleMark // ticks and how many spans there were, oldest first
	data     []byte
	overflow atomic.Uint64
	err      error
	margin   uint64 // settleMargin, but for tests
	always   bool   // compact, however small it is
}

// A settleMark is how many spans there were at a time.
type settleMark struct{ time, seq uint64 }

// Ring is a source whose position outlives the process.
type Ring interface {
	// Position is up to where the ring has been read.
	Position() uint64
	// Unread gives what was read from it after a position by a process that was killed before it could keep it. What is not there
	// any more is counted.
	Unread(from uint64, yield func(raw []byte)) (lost int, err error)
}

// settleEvery is after how many records one looks at what is settled, at the latest: what is settled and not known to be comes
// again after a kill.
const settleEvery = 256

// settleMargin is added to the hold: spans are made at ticks, and go out in batches.
const settleMargin = 2 * time.Second

// resume reads the journal. It says whether there was one.
func (f *Feed) resume() (bool, error) {
	j := f.o.Journal
	if j == nil {
		return false, nil
	}
	if j.margin == 0 {
		j.margin = uint64(settleMargin)
	}
	ring, _ := f.o.Source.(Ring)
	if ring != nil {
		j.position = ring.Position
	}
	settled, at, compacted, err := j.File.Last()
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	j.settled, j.entry.Ring, j.kept = settled, at, at // until another record is read
	whole := !compacted
	if whole {
		j.Resuming(settled)
	} else {
		j.Resuming(math.MaxUint64)
	}
	c := j.Collector
	c.SetJournal(beginnings{f})
	c.Resuming(true)
	defer c.Resuming(false)
	// A slice that an entry began comes after it, and has to be known before.
	var last journal.Entry
	var rolls []collector.Slice
	var claims []collector.Claim
	begun := false
	flush := func(end bool) {
		c.Next(rolls, begun, whole, end)
		switch last.Kind {
		case journal.Record:
			c.SetSeq(last.Seq)
			f.replay(last.Data)
			if j.since++; whole && j.since >= settleEvery {
				f.settleSpans()
			}
		case journal.End:
			c.SetSeq(last.Seq)
			c.Drain()
		}
		for _, k := range claims {
			c.SetClaim(k)
		}
		last.Kind, rolls, begun, claims = 0, nil, false, claims[:0] // the collector keeps rolls
	}
	_, err = j.File.Replay(func(e *journal.Entry) {
		switch e.Kind {
		case journal.Slice:
			if s, ok := journal.DecodeSlice(e.Data); ok {
				rolls = append(rolls, s)
			}
		case journal.Began:
			begun = true
		case journal.Claimed:
			if k, ok := journal.DecodeClaim(e.Data); ok {
				claims = append(claims, k)
			}
		case journal.Record, journal.End:
			flush(false)
			last.Kind, last.Seq, last.Data = e.Kind, e.Seq, append(last.Data[:0], e.Data...)
		case journal.Whole:
			flush(false)
			whole = true
			j.Resuming(settled)
		case journal.Count, journal.Sliced:
			flush(false)
			if s, ok := journal.DecodeSlice(e.Data); ok {
				c.SetSlice(s)
			}
		case journal.Reads:
			flush(false)
			if r, ok := journal.DecodeReads(e.Data); ok {
				c.SetReads(r)
			}
		}
	})
	// The process before may have been killed in the middle of it.
	flush(err == nil)
	if err != nil {
		f.giveUp(fmt.Errorf("read the journal: %w", err)) // what was read of it holds
	}
	ok := f.stats.Resumed > 0
	if !ok {
		settled, j.settled = 0, 0 // of another
	}
	if !whole || !ok {
		j.Resuming(settled)
	}
	c.Resuming(false)
	if ok && ring != nil && at != 0 {
		lost, err := ring.Unread(at, func(raw []byte) {
			f.take(raw)
		})
		if err != nil {
			return false, err
		}
		f.unread = uint64(lost)
	}
	f.position()
	f.settleSpans()
	return ok, nil
}

// replay gives a record of the journal to the collector.
func (f *Feed) replay(raw []byte) {
	f.stats.Resumed++
	if f.event.Decode(raw) == nil {
		h := f.event.Header
		f.latest = max(f.latest, h.Time)
		switch h.Type {
		case record.TypeTick:
			f.tick = max(f.tick, h.Time)
			defer f.mark(h.Time) // with the spans that it ends
		case record.TypeClock:
			f.offset = f.event.Clock.Wall - int64(h.Time)
		}
	}
	if err := f.o.Collector.Record(raw); err != nil {
		f.stats.Refused++
	}
}

// position remembers up to where the ring is read.
func (f *Feed) position() {
	if j := f.o.Journal; j != nil && j.position != nil {
		j.entry.Ring = j.position()
	}
}

// journal keeps a record, before anything is made of it.
func (f *Feed) journal(raw []byte) {
	j := f.o.Journal
	if j == nil {
		return
	}
	if t := record.TypeOf(raw); t == record.TypeExit || t == record.TypeExec { // the event at hand
		if r, ok := j.Collector.ReadsOf(f.event.Header.Tgid, f.event.Header.Start); ok {
			j.data = journal.AppendReads(j.data[:0], r)
			f.append(journal.Reads, j.Collector.Seq(), j.data)
		}
	}
	f.append(journal.Record, j.Collector.Seq(), raw)
}

// beginnings are what the collector tells of the record that was kept last.
type beginnings struct{ f *Feed }

func (b beginnings) Slice(s collector.Slice) {
	j := b.f.o.Journal
	j.data = journal.AppendSlice(j.data[:0], s)
	b.f.append(journal.Slice, j.Collector.Seq(), j.data)
}

func (b beginnings) Claimed(k collector.Claim) {
	j := b.f.o.Journal
	j.data = journal.AppendClaim(j.data[:0], k)
	b.f.append(journal.Claimed, j.Collector.Seq(), j.data)
}

func (b beginnings) Began() { b.f.append(journal.Began, b.f.o.Journal.Collector.Seq(), nil) }

func (f *Feed) append(kind journal.Kind, seq uint64, data []byte) {
	j := f.o.Journal
	if j.err != nil {
		return
	}
	j.entry.Kind, j.entry.Seq, j.entry.Data = kind, seq, data
	read := j.entry.Ring
	if kind == journal.Reads {
		j.entry.Ring = j.kept // the record at hand comes after it: a kill may fall between
	}
	err := j.File.Append(&j.entry)
	if j.entry.Ring = read; kind == journal.Record {
		j.kept = read
	}
	if errors.Is(err, journal.ErrTooLarge) {
		// After a kill that one is missing, which is less than all.
		j.overflow.Add(1)
		f.o.Log.Error("a record is not in the journal", "err", err)
		return
	}
	if err != nil {
		f.giveUp(err)
	}
}

// giveUp removes the journal: half of the stream would be worse than none.
func (f *Feed) giveUp(err error) {
	j := f.o.Journal
	j.err = errors.Join(err, j.File.Remove())
	f.o.Log.Error("no journal any more: a kill of the sensor costs what is not sent, and what it knows", "err", j.err)
}

func (f *Feed) mark(t uint64) {
	j := f.o.Journal
	j.marks = append(j.marks, settleMark{t, j.Collector.Seq()})
}

// settleNow is for a backlog, which has no ticks.
func (f *Feed) settleNow() {
	if j := f.o.Journal; j != nil {
		if j.since++; j.since >= settleEvery {
			f.settleSpans()
		}
	}
}

// settleSpans notes which spans a kill does not reach.
func (f *Feed) settleSpans() {
	j := f.o.Journal
	if j == nil || j.err != nil {
		return
	}
	j.since, j.settled = 0, j.Settled()
	if err := j.File.Settle(j.settled); err != nil {
		f.giveUp(err)
	}
}

// compact says what is settled, and leaves out of the journal what is not needed any more.
func (f *Feed) compact(t uint64) {
	j := f.o.Journal
	if j == nil || j.err != nil {
		return
	}
	f.mark(t)
	f.settleSpans()
	// The youngest tick of which every span is settled.
	n := 0
	for n+1 < len(j.marks) && j.marks[n+1].seq <= j.settled {
		n++
	}
	j.marks = append(j.marks[:0], j.marks[n:]...)
	if len(j.marks) > maxMarks {
		j.marks = append(j.marks[:0], j.marks[len(j.marks)/2:]...) // what waits is not settled for minutes: later, then
		j.marks[0].time = 0
	}
	if !j.File.Full() && !j.always {
		return
	}
	held := uint64(j.Hold) + j.margin
	cut := journal.Cut{
		Before: j.marks[0].time - min(j.marks[0].time, held), Whole: j.marks[0].time, Now: t, CallsFor: uint64(j.CallsFor),
		Remembers: j.Collector.Remembers, More: f.counted,
	}
	if since, ok := j.Collector.Undecided(); ok {
		cut.Before = min(cut.Before, since-min(since, held))
	}
	if j.marks[0].seq > j.settled || cut.Before == 0 {
		if !j.File.Over() {
			return // there is room to wait
		}
		cut.Before, cut.Whole = 0, 0 // nothing can be left out but by Now
	}
	before := j.File.Stats().Overflows
	if err := j.File.Compact(cut); err != nil {
		f.giveUp(err)
		return
	}
	if n := j.File.Stats().Overflows - before; n > 0 {
		j.overflow.Add(n)
		f.o.Log.Warn("the journal is full: a kill of the sensor costs what is not on disk now (limits.journal_bytes)", "bytes", j.File.Stats().Bytes)
	}
}

// JournalOverflows is how often something was left out of the journal that a later process could need. It may be called at any time.
func (f *Feed) JournalOverflows() uint64 {
	if f.o.Journal == nil {
		return 0
	}
	return f.o.Journal.overflow.Load()
}

// counted gives the entries of what is only counted of records that are left out.
func (f *Feed) counted(add func(*journal.Entry)) {
	j := f.o.Journal
	entry := func(kind journal.Kind) { add(&journal.Entry{Kind: kind, Data: j.data}) }
	j.Collector.Counted(func(s collector.Slice) {
		j.data = journal.AppendSlice(j.data[:0], s)
		entry(journal.Count)
	}, func(r collector.Reads) {
		j.data = journal.AppendReads(j.data[:0], r)
		entry(journal.Reads)
	})
}

// maxMarks bounds the ticks that wait for their spans to be settled.
const maxMarks = 4096

// End has everything that is held sent, and says so in the journal.
func (f *Feed) End() {
	if j := f.o.Journal; j != nil {
		f.append(journal.End, j.Collector.Seq(), nil)
		j.Collector.Close()
	}
}

// EndJournal leaves the journal to the next process, when everything is sent or on disk.
func (f *Feed) EndJournal() error {
	j := f.o.Journal
	if j == nil {
		return nil
	}
	if j.err != nil {
		return nil // told
	}
	f.settleSpans()
	return j.File.Close()
}
