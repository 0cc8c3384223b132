// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Stats stand before the collector and count what it takes. The collector belongs to one goroutine: its counters are
// copied at each tick, for those that ask meanwhile. Every method but Record is safe for concurrent use.
type Stats struct {
	to      *collector.Collector
	kernel  [32]atomic.Uint64 // records by type
	user    [32]atomic.Uint64 // those of user space, from userTypes on
	ticked  atomic.Int64      // wall clock of the last tick, ns; 0: none yet
	mu      sync.Mutex
	counted collector.Stats
	lost    [2][]collector.LossCount // by kind and cause, by sandbox
}

// userTypes is the first record type of user space.
const userTypes = uint16(record.TypeClock)

// Record implements live.Sink.
func (s *Stats) Record(raw []byte) error {
	err := s.to.Record(raw)
	if len(raw) < 2 {
		return err
	}
	switch t := binary.LittleEndian.Uint16(raw); {
	case int(t) < len(s.kernel):
		s.kernel[t].Add(1)
	case t >= userTypes && int(t-userTypes) < len(s.user):
		s.user[t-userTypes].Add(1)
		if record.Type(t) == record.TypeTick {
			s.tick()
		}
	}
	return err
}

func (s *Stats) tick() {
	now := s.to.Stats()
	s.mu.Lock()
	if now.Lost != s.counted.Lost {
		s.lost[0], s.lost[1] = s.to.Lineage().Losses.LossCounts()
	}
	s.counted = now
	s.mu.Unlock()
	s.ticked.Store(time.Now().UnixNano())
}

// Collector gives the collector's counters as of its last tick.
func (s *Stats) Collector() collector.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counted
}

// Losses count lost records by kind and cause, and by sandbox, as of the last tick. The slices are not to be changed.
func (s *Stats) Losses() (byKind, bySandbox []collector.LossCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[0], s.lost[1]
}

// Records yields how many records there were of each type that there was.
func (s *Stats) Records(yield func(t record.Type, n uint64)) {
	for i := range s.kernel {
		if n := s.kernel[i].Load(); n > 0 {
			yield(record.Type(i), n)
		}
	}
	for i := range s.user {
		if n := s.user[i].Load(); n > 0 {
			yield(record.Type(userTypes+uint16(i)), n)
		}
	}
}

// deadAfter is how long no tick is normal at most; there is one about every 100 ms.
const deadAfter = 30 * time.Second

// LastRead is when the collector last had a tick; the Unix epoch before the first.
func (s *Stats) LastRead() time.Time { return time.Unix(0, s.ticked.Load()) }

// Alive says what is wrong if the ring is not read.
func (s *Stats) Alive() error {
	at := s.LastRead()
	if at.UnixNano() == 0 {
		return errors.New("nothing was read from the kernel yet")
	}
	if ago := time.Since(at); ago > deadAfter {
		return fmt.Errorf("nothing was read from the kernel for %s", ago.Round(time.Second))
	}
	return nil
}
