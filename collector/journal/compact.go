// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
)

// A Cut says what Compact leaves out.
type Cut struct {
	// Before is the time before which only what says who is alive is kept.
	Before uint64
	// Whole is the tick from which on what is left out is not seen in any span, and up to which all spans are settled.
	Whole uint64
	// Now is what becomes of both where that does not leave out enough: spans that are not settled are lost if this
	// process is killed before they are. That is counted.
	Now uint64
	// CallsFor is how long marks and telemetry of calls are kept, in ns.
	CallsFor uint64
	// Remembers, if set, says whether it counts still who has had a session.
	Remembers func(collector.Claim) bool
	// More, if set, gives entries that stand behind all others.
	More func(add func(*Entry))
}

// compactPerByte is how many bytes of a compaction each byte pays for that is appended meanwhile: the journal grows by
// a fraction of its size until the compaction is done, and nothing ever waits for all of it.
const compactPerByte = 32

// A compaction writes a journal beside the one that is in use, a piece at a time: it reads all that is there when it
// begins, to see who lives, and again, to copy what is kept, with what was appended meanwhile. Then the new one takes
// the place.
type compaction struct {
	cut     Cut
	keep    survivors
	read    reader
	seen    bool  // read a first time
	end     int64 // of what decides: what comes behind it is kept
	next    *Journal
	late    int64 // size of what was appended meanwhile
	whole   bool  // a Whole entry is written
	last    Entry // of those that were read: its Seq and Ring
	begun   sliced
	claimed []Entry // that are kept
	owed    int     // bytes that what was appended pays for
}

// Compact leaves out what is not needed. With nothing left to leave out the journal is begun anew, and that is counted.
func (j *Journal) Compact(c Cut) error {
	err := j.BeginCompaction(c)
	for err == nil && j.compaction != nil {
		err = j.GoOn(math.MaxInt32)
	}
	return err
}

// BeginCompaction begins what GoOn goes on with, until Compacting says that it is done: the same as Compact. One that
// is under way is given up.
func (j *Journal) BeginCompaction(c Cut) error {
	if err := j.abandon(); err != nil {
		return err
	}
	if c.Before == 0 && j.size() > j.cfg.MaxBytes { // it would leave out nothing
		j.stats.Overflows++
		c.Before, c.Whole = c.Now, c.Now
	}
	j.compaction = &compaction{cut: c, keep: newSurvivors(&c), end: j.size(), read: j.reader(j.size())}
	return nil
}

// Compacting says whether a compaction is under way.
func (j *Journal) Compacting() bool { return j.compaction != nil }

// GoOn goes on with a compaction, if one is under way: for as many bytes as are given, or as what was appended
// meanwhile pays for. To be called between records: what Cut.More gives is of all that were appended. After an error
// the journal is of no more use.
func (j *Journal) GoOn(bytes int) error {
	if j.compaction == nil {
		return nil
	}
	owed := max(bytes, j.compaction.owed)
	for owed > 0 && j.compaction != nil {
		n, err := j.compactEntry()
		if err != nil {
			return errors.Join(fmt.Errorf("compact the journal: %w", err), j.abandon())
		}
		owed -= n
	}
	if j.compaction != nil {
		j.compaction.owed = 0
	}
	return nil
}

// abandon gives up a compaction.
func (j *Journal) abandon() (err error) {
	if j.compaction != nil && j.compaction.next != nil {
		err = j.compaction.next.Remove()
	}
	j.compaction = nil
	return err
}

// compactEntry reads the next entry, which has n bytes, or ends a reading.
func (j *Journal) compactEntry() (n int, err error) {
	c := j.compaction
	if c.seen {
		c.read.end = j.size()
	}
	from := c.read.at
	e, ok := c.read.next()
	n = int(c.read.at - from)
	switch {
	case ok && !c.seen:
		c.keep.see(e)
	case ok:
		err = c.copy(e)
	case !c.seen:
		const some = 64
		if had := c.keep.decide(some); had == some {
			return had * entryHead, nil // about what it costs
		}
		c.seen = true
		c.read = j.reader(j.size())
		c.next, err = j.beside()
	default:
		err = j.endCompaction()
	}
	return n, err
}

// beside makes an empty journal beside this one.
func (j *Journal) beside() (_ *Journal, err error) {
	next := &Journal{cfg: j.cfg, settled: j.settled}
	next.cfg.Path += ".new"
	_ = os.Remove(next.cfg.Path) // in a directory that is open to all it may be anybody's
	if next.f, err = openFile(next.cfg.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, err
	}
	if err = unix.Flock(int(next.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = next.reset()
	}
	if err != nil {
		return nil, errors.Join(err, next.Remove())
	}
	return next, nil
}

// copy copies an entry, if it is kept.
func (c *compaction) copy(e *Entry) error {
	c.last.Seq, c.last.Ring = e.Seq, e.Ring
	before := c.next.size()
	if c.keep.late = c.read.at > c.end; c.keep.late {
		defer func() { c.late += c.next.size() - before }()
	}
	if !c.keep.keeps(e) {
		return nil
	}
	if e.Kind == Sliced {
		c.begun.add(e)
		return nil
	}
	if e.Kind == Claimed {
		c.claimed = append(c.claimed, Entry{Kind: e.Kind, Seq: e.Seq, Ring: e.Ring, Data: slices.Clone(e.Data)})
	}
	if err := c.begun.flush(c.next); err != nil {
		return err
	}
	if err := c.next.Append(e); err != nil {
		return err
	}
	if h := &c.keep.event.Header; c.whole || e.Kind != Record || h.Type != record.TypeTick || h.Time < c.cut.Whole {
		return nil
	}
	c.whole = true
	return c.next.Append(&Entry{Kind: Whole, Seq: e.Seq, Ring: e.Ring})
}

// endCompaction puts the new journal into the place of this one. If that is too large, it begins with a compaction that
// leaves out more.
func (j *Journal) endCompaction() (err error) {
	c := j.compaction
	if !c.whole {
		err = c.next.Append(&Entry{Kind: Whole, Seq: c.last.Seq, Ring: c.last.Ring})
	}
	// Behind the last record there is what counts, which More gives.
	if c.cut.More == nil && err == nil {
		err = c.begun.flush(c.next)
	}
	if c.cut.More != nil && err == nil {
		c.cut.More(func(e *Entry) {
			e.Seq, e.Ring = c.last.Seq, c.last.Ring
			err = errors.Join(err, c.next.Append(e))
		})
	}
	if err != nil {
		return err
	}
	if c.next.size()-c.late > j.cfg.MaxBytes/2 {
		j.stats.Overflows++
		if c.cut.Before < c.cut.Now {
			cut := c.cut
			cut.Before, cut.Whole = cut.Now, cut.Now
			return j.BeginCompaction(cut)
		}
		if err := c.next.reset(); err != nil {
			return err
		}
		for i := range c.claimed {
			if err := c.next.Append(&c.claimed[i]); err != nil {
				return err
			}
		}
	}
	return j.become(c.next)
}

// become has the journal go on with another file, in the place of its own.
func (j *Journal) become(next *Journal) error {
	if err := next.Settle(j.settled); err != nil {
		return err
	}
	if err := os.Rename(next.cfg.Path, j.cfg.Path); err != nil {
		return err
	}
	j.compaction = nil
	if err := j.Close(); err != nil {
		return err
	}
	j.f, j.base, j.window, j.at = next.f, next.base, next.window, next.at
	j.limit = min(j.cfg.MaxBytes, max(firstLimit, 2*j.size()))
	j.stats.Compacted++
	j.stats.Bytes = j.base + int64(len(j.window))
	return nil
}

func (j *Journal) size() int64 { return j.base + int64(j.at) }

// sliced are Sliced entries between two records that are kept: of each trace the newest says it all.
type sliced struct{ entries []Entry }

func (s *sliced) add(e *Entry) {
	e.Data = slices.Clone(e.Data)
	same := func(o Entry) bool { return traceOf(o.Data) == traceOf(e.Data) }
	s.entries = append(slices.DeleteFunc(s.entries, same), *e)
}

func (s *sliced) flush(to *Journal) error {
	for i := range s.entries {
		if err := to.Append(&s.entries[i]); err != nil {
			return err
		}
	}
	s.entries = s.entries[:0]
	return nil
}

// Last is up to which span all are settled, and the position of the ring in the last entry. compacted says that there
// is a Whole entry. To be called after Open, before Replay.
func (j *Journal) Last() (settled, ring uint64, compacted bool, err error) {
	head := make([]byte, headSize)
	if _, err := j.f.ReadAt(head, 0); err == nil {
		settled = binary.LittleEndian.Uint64(head[atSettled:])
	}
	err = j.each(func(e *Entry, _ int64) error {
		compacted = compacted || e.Kind == Whole
		ring = e.Ring
		return nil
	})
	return settled, ring, compacted, err
}
