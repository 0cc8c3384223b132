// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Journal keeps the stream for the process that comes after a kill. What a Feed calls of it does nothing on nil.
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

	entry      journal.Entry
	settled    uint64
	since      int          // records, since that was looked at
	marks      []settleMark // ticks and how many spans there were, oldest first
	data       []byte       // scratch
	log        *slog.Logger
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

// record writes a record, before anything is made of it. h is its header, if it is the end of a process or its next
// program.
func (j *Journal) record(raw []byte, h *record.Header) {
	if j == nil {
		return
	}
	j.append(journal.Record, j.Collector.Stats().Spans, raw)
}

// beginnings are what the collector began with the record that was written last: it is a collector.Journal.
type beginnings struct{ *Journal }

// Slice implements collector.Journal.
func (b beginnings) Slice(s collector.Slice) {
	b.data = journal.AppendSlice(b.data[:0], s)
	b.append(journal.Slice, b.Collector.Stats().Spans, b.data)
}

// Claimed implements collector.Journal.
func (b beginnings) Claimed(k collector.Claim) {
	b.data = journal.AppendClaim(b.data[:0], k)
	b.append(journal.Claimed, b.Collector.Stats().Spans, b.data)
}

func (j *Journal) append(kind journal.Kind, seq uint64, data []byte) {
	if j.err != nil {
		return
	}
	j.entry.Kind, j.entry.Seq, j.entry.Data = kind, seq, data
	err := j.File.Append(&j.entry)
	if errors.Is(err, journal.ErrTooLarge) {
		// After a kill that one is missing, which is less than all.
		j.overflow.Add(1)
		j.log.Error("a record is not in the journal", "err", err)
		return
	}
	if err != nil {
		j.giveUp(err)
	}
}

// giveUp removes the journal: half of the stream would be worse than none.
func (j *Journal) giveUp(err error) {
	j.err = errors.Join(err, j.File.Remove())
	j.log.Error("no journal any more: if the sensor is killed, what is not sent and what it knows of processes is lost",
		"err", j.err)
}

func (j *Journal) mark(t uint64) {
	j.marks = append(j.marks, settleMark{t, j.Collector.Stats().Spans})
}

// betweenRecords is for a backlog, which has no ticks: it notes what is settled now and then, and goes on with a
// compaction as far as the records that came meanwhile pay for.
func (j *Journal) betweenRecords() {
	if j == nil || j.err != nil {
		return
	}
	if j.since++; j.since >= settleEvery {
		j.settle()
	}
	if j.File.Over() && !j.File.Compacting() {
		j.beginCompaction()
	}
	j.compactSome(0)
}

// settle notes which spans a kill does not reach.
func (j *Journal) settle() {
	if j == nil || j.err != nil {
		return
	}
	j.since, j.settled = 0, j.Settled()
	if err := j.File.Settle(j.settled); err != nil {
		j.giveUp(err)
	}
}

// compactPerTurn is how many bytes of a compaction are done at a tick, at least.
const compactPerTurn = 256 << 10

// compactSome goes on with a compaction. Nothing of a record may be left to be done: what is counted belongs to the
// last one.
func (j *Journal) compactSome(bytes int) {
	if j.err != nil || !j.File.Compacting() {
		return
	}
	if err := j.File.GoOn(bytes); err != nil {
		j.giveUp(err)
		return
	}
	if n := j.File.Stats().Overflows - j.overflowed; n > 0 {
		j.overflowed += n
		j.overflow.Add(n)
		j.log.Warn("the journal is full: if the sensor is killed now, what is not on disk is lost (limits.journal_bytes)",
			"bytes", j.File.Stats().Bytes)
	}
}

// tick notes a tick and what is settled, and leaves out of the journal what is not needed any more, in turns.
func (j *Journal) tick(t uint64) {
	if j == nil || j.err != nil {
		return
	}
	j.mark(t)
	j.settle()
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
		j.beginCompaction()
	}
	j.compactSome(j.perTurn)
}

// beginCompaction begins one as of the last tick, unless there is room to wait until more can be left out.
func (j *Journal) beginCompaction() {
	if j.err != nil || len(j.marks) == 0 {
		return
	}
	held := uint64(j.Hold) + j.margin
	first, last := j.marks[0], j.marks[len(j.marks)-1]
	cut := journal.Cut{
		Before: first.time - min(first.time, held), Whole: first.time, Now: last.time, CallsFor: uint64(j.CallsFor),
		Remembers: j.Collector.Restart().Remembers,
	}
	if since, ok := j.Collector.Lineage().Containers.Undecided(); ok {
		cut.Before = min(cut.Before, since-min(since, held))
	}
	if first.seq > j.settled || cut.Before == 0 {
		if !j.File.Over() {
			return
		}
		cut.Before, cut.Whole = 0, 0 // nothing can be left out but by Now
	}
	if err := j.File.BeginCompaction(cut); err != nil {
		j.giveUp(err)
	}
}

// Overflows is how often something was left out of the journal that a later process could need; 0 of nil. It may be
// called at any time.
func (j *Journal) Overflows() uint64 {
	if j == nil {
		return 0
	}
	return j.overflow.Load()
}

// maxMarks bounds the ticks that wait for their spans to be settled.
const maxMarks = 4096

// End has everything that is held sent, and notes that. nil does nothing.
func (j *Journal) End() {
	if j != nil {
		j.append(journal.End, j.Collector.Stats().Spans, nil)
		j.Collector.Restart().Drain() // not closed: calls go on with the next process
	}
}

// Close leaves the journal to the next process, when everything is sent or on disk.
func (j *Journal) Close() error {
	if j == nil || j.err != nil { // an error was reported
		return nil
	}
	j.settle()
	return j.File.Close()
}
