// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/journal"
)

// Journal keeps the stream for the process that comes after a kill. What a Feed calls of it does nothing on nil.
type Journal struct {
	File *journal.Journal
	// Collector is the one that makes the spans.
	Collector *collector.Collector
	Outputs   Outputs
	// Hold is how long a span may be held, CallsFor how long a mark or telemetry of a call matters.
	Hold, CallsFor time.Duration

	until   uint64   // while it is read: what was settled before
	last    []byte   // the last record of the kernel's ring that was in it; nil: that does not matter any more
	settled moment   // up to which a kill does not reach the spans; time 0: none
	moments []moment // ticks whose spans are not settled, oldest first
	log     *slog.Logger
	err     error
	window  uint64 // see beginCompaction
	perTurn int    // compactPerTurn, but for tests
}

// Outputs are where spans go for good.
type Outputs interface {
	// Silence has them get nothing, as they have it, until it is called again.
	Silence(on bool)
	// Passed is how many spans they were given, Delivered how many of these, from the first on, are where a kill does
	// not reach them.
	Passed() uint64
	Delivered() uint64
}

// A moment is a tick, or a clean end, when everything of it is done.
type moment struct {
	time   uint64 // boottime
	passed uint64 // spans given to the outputs
	since  uint64 // the oldest record (boottime) that something held is made of, beyond the hold
}

const (
	// settleMargin is added to the time that records are kept for the spans that are held: these are made at ticks.
	settleMargin = 2 * time.Second
	// compactPerTurn is how many bytes of a compaction are done at a tick, at least.
	compactPerTurn = 256 << 10
	// maxMoments bounds the ticks that wait for their spans to be settled.
	maxMoments = 4096
)

// record writes a record, before anything is made of it.
func (j *Journal) record(raw []byte) {
	if j != nil {
		j.append(journal.Record, raw)
	}
}

// facts are what does not follow from the records that are kept: it is a collector.Journal.
type facts struct{ *Journal }

// Slice implements collector.Journal.
func (f facts) Slice(s collector.Slice) { f.append(journal.Slice, journal.EncodeSlice(s)) }

// Claimed implements collector.Journal.
func (f facts) Claimed(k collector.Claim) { f.append(journal.Claimed, journal.EncodeClaim(k)) }

// Reached implements collector.Journal.
func (f facts) Reached(r collector.Reach) { f.append(journal.Reached, journal.EncodeReach(r)) }

func (j *Journal) append(kind journal.Kind, data []byte) {
	if j.err != nil {
		return
	}
	if err := j.File.Append(&journal.Entry{Kind: kind, Data: data}); err != nil {
		j.giveUp(err)
	}
}

// giveUp removes the journal: half of the stream would be worse than none.
func (j *Journal) giveUp(err error) {
	j.err = errors.Join(err, j.File.Remove())
	j.log.Error("no journal any more: if the sensor is killed, what is not sent and what it knows of processes is lost",
		"err", j.err)
}

// betweenRecords goes on with a compaction as far as the records that came meanwhile pay for.
func (j *Journal) betweenRecords() {
	if j == nil || j.err != nil {
		return
	}
	if j.File.Over() && !j.File.Compacting() {
		j.beginCompaction()
	}
	j.compactSome(0)
}

// tick notes that everything up to a tick is done and what is settled, and leaves out of the journal what is not needed
// any more, in turns.
func (j *Journal) tick(t uint64) {
	if j == nil || j.err != nil {
		return
	}
	j.done(t)
	j.settle()
	if j.File.Full() && !j.File.Compacting() {
		j.beginCompaction()
	}
	j.compactSome(j.perTurn)
}

// done notes that everything up to a tick or a clean end is done.
func (j *Journal) done(t uint64) {
	since, ok := j.Collector.Restart().Since()
	if !ok {
		since = t
	}
	if j.moments = append(j.moments, moment{t, j.Outputs.Passed(), since}); len(j.moments) > maxMoments {
		j.moments = append(j.moments[:0], j.moments[maxMoments/2:]...) // what waits is settled later, then
	}
}

// settle notes up to when a kill does not reach the spans.
func (j *Journal) settle() {
	n, delivered := 0, j.Outputs.Delivered()
	for n < len(j.moments) && j.moments[n].passed <= delivered {
		n++
	}
	if n == 0 || j.err != nil {
		return
	}
	j.settled = j.moments[n-1]
	j.moments = append(j.moments[:0], j.moments[n:]...)
	j.File.Settle(j.settled.time)
}

// compactSome goes on with a compaction. It is called between two records.
func (j *Journal) compactSome(bytes int) {
	if err := j.File.GoOn(bytes); err != nil {
		j.giveUp(err)
	}
}

// beginCompaction begins one as of what is settled, unless there is room to wait until more can be left out. What comes
// after that is made of records that are at most twice the hold older, but for what waits for something else.
func (j *Journal) beginCompaction() {
	at := min(j.settled.time, j.settled.since)
	cut := journal.Cut{
		Before: at - min(at, j.window), Now: j.settled.time, CallsFor: uint64(j.CallsFor),
		Sandbox: j.sandbox, Untold: j.Collector.Restart().Untold(), Connected: j.Collector.Restart().Connected(),
		Remembers: j.Collector.Restart().Remembers, RemembersSlice: j.Collector.Restart().RemembersSlice,
	}
	if n := len(j.moments); n > 0 {
		cut.Now = j.moments[n-1].time
	}
	if cut.Before > 0 || cut.Now > 0 && j.File.Over() {
		j.File.BeginCompaction(cut)
	}
}

// sandbox says in which sandbox a process is, or else a cgroup.
func (j *Journal) sandbox(tgid uint32, start, cgroup uint64) string {
	tree := j.Collector.Lineage()
	// The start of who sends a mark is rounded down to 10 ms.
	if p := tree.Processes[tgid]; p != nil && p.Start >= start && p.Start-start < uint64(10*time.Millisecond) {
		return p.Sandbox.ID
	}
	if g := tree.Cgroups[cgroup]; g != nil {
		return g.Sandbox.ID
	}
	return ""
}

// Overflows is how often something was left out of the journal that a later process could need; 0 of nil. It may be
// called at any time.
func (j *Journal) Overflows() uint64 {
	if j == nil {
		return 0
	}
	return j.File.Overflows()
}

// end has everything that is held sent, and notes that, as of a time behind all records. The collector is not closed:
// calls go on with the next process.
func (j *Journal) end(t uint64) {
	if j == nil {
		return
	}
	j.append(journal.End, binary.LittleEndian.AppendUint64(nil, t))
	j.Collector.Restart().Drain()
	j.done(t)
}

// Close leaves the journal to the next process, when everything is sent or on disk.
func (j *Journal) Close() error {
	if j == nil || j.err != nil { // an error was reported
		return nil
	}
	j.settle()
	return j.File.Close()
}
