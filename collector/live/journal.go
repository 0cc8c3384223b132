// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
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
	// Hold is how long a span may be held, CallsFor how long a mark or telemetry of a call matters.
	Hold, CallsFor time.Duration

	position   func() uint64
	entry      journal.Entry
	kept       uint64 // position of the ring up to which all is in the journal
	settled    uint64
	since      int          // records, since that was looked at
	marks      []settleMark // ticks and how many spans there were, oldest first
	data       []byte
	overflow   atomic.Uint64
	overflowed uint64 // of those, the ones of File
	err        error
	margin     uint64 // settleMargin, but for tests
	always     bool   // compact, however small it is
	perTurn    int    // compactPerTurn, but for tests
}

// A settleMark is how many spans there were at a time.
type settleMark struct{ time, seq uint64 }

// settleEvery is after how many records one looks at what is settled, at the latest: what is settled and not known to
// be comes again after a kill.
const settleEvery = 256

// settleMargin is added to the hold: spans are made at ticks, and go out in batches.
const settleMargin = 2 * time.Second

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

// betweenRecords is for a backlog, which has no ticks: it notes what is settled now and then, and goes on with a
// compaction as far as the records that came meanwhile pay for.
func (f *Feed) betweenRecords() {
	j := f.o.Journal
	if j == nil || j.err != nil {
		return
	}
	if j.since++; j.since >= settleEvery {
		f.settleSpans()
	}
	if j.File.Over() && !j.File.Compacting() {
		f.beginCompaction()
	}
	f.compactSome(0)
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

// compactPerTurn is how many bytes of a compaction are done at a tick, at least.
const compactPerTurn = 256 << 10

// compactSome goes on with a compaction. Nothing of a record may be left to be done: what is counted belongs to the
// last one.
func (f *Feed) compactSome(bytes int) {
	j := f.o.Journal
	if j.err != nil || !j.File.Compacting() {
		return
	}
	if err := j.File.GoOn(bytes); err != nil {
		f.giveUp(err)
		return
	}
	if n := j.File.Stats().Overflows - j.overflowed; n > 0 {
		j.overflowed += n
		j.overflow.Add(n)
		f.o.Log.Warn("the journal is full: a kill of the sensor costs what is not on disk now (limits.journal_bytes)",
			"bytes", j.File.Stats().Bytes)
	}
}

// compact notes a tick and what is settled, and leaves out of the journal what is not needed any more, in turns.
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
	if (j.File.Full() || j.always) && !j.File.Compacting() {
		f.beginCompaction()
	}
	f.compactSome(j.perTurn)
}

// beginCompaction begins one as of the last tick, unless there is room to wait until more can be left out.
func (f *Feed) beginCompaction() {
	j := f.o.Journal
	if j.err != nil || len(j.marks) == 0 {
		return
	}
	held := uint64(j.Hold) + j.margin
	first, last := j.marks[0], j.marks[len(j.marks)-1]
	cut := journal.Cut{
		Before: first.time - min(first.time, held), Whole: first.time, Now: last.time, CallsFor: uint64(j.CallsFor),
		Remembers: j.Collector.Remembers, More: f.counted,
	}
	if since, ok := j.Collector.Undecided(); ok {
		cut.Before = min(cut.Before, since-min(since, held))
	}
	if first.seq > j.settled || cut.Before == 0 {
		if !j.File.Over() {
			return
		}
		cut.Before, cut.Whole = 0, 0 // nothing can be left out but by Now
	}
	if err := j.File.BeginCompaction(cut); err != nil {
		f.giveUp(err)
	}
}

// JournalOverflows is how often something was left out of the journal that a later process could need. It may be
// called at any time.
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
		return nil // reported
	}
	f.settleSpans()
	return j.File.Close()
}
