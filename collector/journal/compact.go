// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A Cut says what a compaction leaves out. Times are of CLOCK_BOOTTIME.
type Cut struct {
	// Before is the time before which only facts are kept: who is alive, in which session and call. 0: nothing can be
	// left out.
	Before uint64
	// Now is what becomes of it where that does not leave out enough: spans that are not settled are lost if this process
	// is killed before they are. That is counted.
	Now uint64
	// CallsFor is how long marks and telemetry of calls are kept, in ns.
	CallsFor uint64
	// Untold are processes that are kept although they have ended, by pid and start.
	Untold map[span.Image]bool
	// Connected are the connections that the collector remembers, by cookie: what has begun them is kept. nil: all.
	Connected map[uint64]bool
	// Remembers and RemembersSlice say whether an entry still means anything to the collector.
	Remembers      func(collector.Claim) bool
	RemembersSlice func(collector.Slice) bool
	// Sandbox says in which sandbox a process is, or, if it is not known, a cgroup; "" where neither is known. One
	// sandbox cannot use up the room of all others: what is known of the one with the most is left out first.
	Sandbox func(tgid uint32, start, cgroup uint64) string
}

// compactPerByte is how many bytes of a compaction each byte pays for that is appended meanwhile: the journal grows by
// a fraction of its size until the compaction is done, and nothing ever waits for all of it.
const compactPerByte = 32

// A compaction is done in turns.
type compaction struct {
	turn func() (bytes int, ok bool) // does the next piece; not ok: it was the last
	stop func()
	err  error // of it
	owed int   // bytes that what was appended pays for
}

// BeginCompaction begins what GoOn goes on with, until Compacting says that it is done.
func (j *Journal) BeginCompaction(c Cut) {
	j.abandon()
	n, end := &compaction{}, j.at
	n.turn, n.stop = iter.Pull(func(turn func(int) bool) { n.err = j.compact(c, end, turn) })
	j.compaction = n
}

// Compacting says whether a compaction is under way.
func (j *Journal) Compacting() bool { return j.compaction != nil }

// GoOn goes on with a compaction, if one is under way: for as many bytes as are given, or as what was appended
// meanwhile pays for. After an error the journal is of no more use.
func (j *Journal) GoOn(bytes int) error {
	c := j.compaction
	if c == nil {
		return nil
	}
	for owed := max(bytes, c.owed); owed > 0; {
		n, ok := c.turn()
		if !ok {
			j.compaction = nil
			return c.err
		}
		owed -= n
	}
	c.owed = 0
	return nil
}

// abandon gives up a compaction.
func (j *Journal) abandon() {
	if j.compaction != nil {
		j.compaction.stop()
		j.compaction = nil
	}
}

// compact writes a journal beside the one that is in use: it reads all that is there up to end, to see who lives, and
// again, to copy what is kept, and what was appended meanwhile. Then the new one takes the place. It ends early when
// turn, which gets the bytes of each piece, says so.
func (j *Journal) compact(c Cut, end int, turn func(bytes int) bool) (err error) {
	most := int(j.cfg.MaxBytes / 4)
	keep, all := j.see(&c, end, turn)
	if all && keep.young > most && c.Before < c.Now {
		j.overflows.Add(1)
		j.cfg.Log.Warn("the journal is full: if the sensor is killed now, what is not on disk is lost "+
			"(limits.journal_bytes)", "bytes", j.at)
		c.Before = c.Now
		keep, all = j.see(&c, end, turn)
	}
	if !all {
		return nil
	}
	cfg := j.cfg
	cfg.Path += ".new"
	_ = os.Remove(cfg.Path) // in a directory that is open to all it may be anybody's
	next, err := openAt(cfg, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return fmt.Errorf("compact the journal: %w", err)
	}
	defer func() {
		if j.f != next.f {
			err = errors.Join(err, next.Remove())
		}
	}()
	for full := true; full; {
		if all, err = j.copyTo(next, keep, end, turn); !all {
			return err
		}
		var name string
		if name, full = keep.giveWay(most); full {
			j.overflows.Add(1)
			j.cfg.Log.Warn("what the journal has of a sandbox leaves no room for others and is left out: if the sensor "+
				"is killed, its processes come again as older than the sensor (limits.journal_bytes)", "sandbox", name)
		}
	}
	for at := end; at < j.at; { // it grows meanwhile
		e, n, _ := j.entry(at, j.at)
		if err := next.Append(&e); err != nil || !turn(n-at) {
			return err
		}
		at = n
	}
	return j.become(next)
}

// see reads all entries, and says whether turn let it.
func (j *Journal) see(c *Cut, end int, turn func(int) bool) (*survivors, bool) {
	keep := newSurvivors(c)
	for at := headSize; at < end; {
		e, n, _ := j.entry(at, end)
		if keep.see(&e); !turn(n - at) {
			return keep, false
		}
		at = n
	}
	return keep, true
}

// copyTo copies what is kept, and says whether turn let it. Of Slice entries between two others the newest of each trace
// says it all.
func (j *Journal) copyTo(next *Journal, keep *survivors, end int, turn func(int) bool) (all bool, err error) {
	if err := next.reset(); err != nil || !keep.decide(turn) {
		return false, err
	}
	var begun []Entry
	of := map[string]int{} // where in begun, by the trace
	flush := func() {
		for i := range begun {
			err = errors.Join(err, next.Append(&begun[i]))
		}
		begun = begun[:0]
		clear(of)
	}
	for at := headSize; at < end; {
		e, n, _ := j.entry(at, end)
		switch {
		case !keep.keeps(&e):
		case e.Kind == Slice:
			trace := string(e.Data[:max(0, bytes.LastIndexByte(e.Data, ' '))])
			if i, ok := of[trace]; ok {
				begun[i] = e
				break
			}
			of[trace] = len(begun)
			begun = append(begun, e)
		default:
			flush()
			err = errors.Join(err, next.Append(&e))
		}
		if err != nil || !turn(n-at) {
			return false, err
		}
		at = n
	}
	flush()
	return err == nil, err
}

// become has the journal go on with another file, in the place of its own.
func (j *Journal) become(next *Journal) error {
	next.Settle(j.Settled())
	if err := os.Rename(next.cfg.Path, j.cfg.Path); err != nil {
		return err
	}
	if err := j.close(); err != nil {
		return err
	}
	j.f, j.mapped, j.size, j.at = next.f, next.mapped, next.size, next.at
	j.limit = min(j.cfg.MaxBytes, max(j.cfg.First, 2*int64(j.at)))
	return nil
}
