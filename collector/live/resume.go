// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
)

// resume gives what the journal has to the collector, and says whether that was anything. The outputs are silent up to
// what is settled.
func (f *Feed) resume() bool {
	j := f.o.Journal
	if j == nil {
		return false
	}
	if j.window == 0 {
		j.window = uint64(2*j.Hold + settleMargin)
	}
	if j.perTurn == 0 {
		j.perTurn = compactPerTurn
	}
	restart := j.Collector.Restart()
	restart.SetJournal(facts{j})
	restart.Resuming(true)
	dropped, err := j.File.Replay(f.replay)
	j.until = 0
	j.Outputs.Silence(false)
	if err != nil {
		j.giveUp(fmt.Errorf("read the journal: %w", err)) // what was read of it holds
	}
	if f.stats.Dropped = dropped; dropped > 0 {
		j.log.Warn("what the sensor before knew is lost: its journal is of another version or boot, or not of the last "+
			"one that read the kernel side", "bytes", dropped)
	}
	restart.Resuming(false)
	j.settle()
	return f.stats.Resumed > 0
}

// replay takes an entry of the journal.
func (f *Feed) replay(e *journal.Entry) {
	j := f.o.Journal
	if f.stats.Resumed == 0 {
		j.until = j.File.Settled()
		j.Outputs.Silence(j.until > 0)
	}
	f.stats.Resumed++
	restart := j.Collector.Restart()
	switch e.Kind {
	case journal.Record:
		f.replayRecord(e.Data)
	case journal.Slice:
		if s, ok := journal.DecodeSlice(e.Data); ok {
			restart.SetSlice(s)
		}
	case journal.Claimed:
		if k, ok := journal.DecodeClaim(e.Data); ok {
			restart.SetClaim(k)
		}
	case journal.Reached:
		if r, ok := journal.DecodeReach(e.Data); ok {
			restart.SetReach(r)
		}
	case journal.End:
		if len(e.Data) == 8 {
			f.replayUntil(binary.LittleEndian.Uint64(e.Data), restart.Drain)
		}
	}
}

// replayUntil does what a tick or a clean end does. What comes after what is settled goes to the outputs again.
func (f *Feed) replayUntil(t uint64, do func()) {
	j := f.o.Journal
	f.tick = max(f.tick, t)
	do()
	if t >= j.until {
		j.Outputs.Silence(false)
		j.done(t)
	}
}

func (f *Feed) replayRecord(raw []byte) {
	take := func() {
		if err := f.o.Collector.Record(raw); err != nil {
			f.stats.Refused++
		}
	}
	h := &f.event.Header
	if f.event.Decode(raw) != nil {
		h.Type = 0
	}
	f.latest = max(f.latest, h.Time)
	switch h.Type {
	case record.TypeTick:
		f.replayUntil(h.Time, take)
		return
	case record.TypeClock:
		f.offset = f.event.Clock.Wall - int64(h.Time)
	}
	if fromRing(raw) {
		f.o.Journal.last = append(f.o.Journal.last[:0], raw...)
	}
	take()
}

// fromRing says whether only the kernel's ring has records of this type.
func fromRing(raw []byte) bool {
	t := record.TypeOf(raw)
	return t < record.TypeClock && t != record.TypeProcess
}

// again says whether a record of the ring is in the journal: the process before was killed when it had kept it and not
// released it yet. That can only be the first one.
func (j *Journal) again(raw []byte) bool {
	if j == nil || j.last == nil {
		return false
	}
	last := j.last
	j.last = nil
	return bytes.Equal(last, raw)
}
