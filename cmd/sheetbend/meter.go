// SPDX-License-Identifier: Apache-2.0

package main

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

// A meter stands before the collector and counts what it takes. The collector belongs to one goroutine: what its counters are
// is kept from tick to tick, for those that ask meanwhile.
type meter struct {
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

func newMeter(to *collector.Collector) *meter { return &meter{to: to} }

// Record implements live.Sink.
func (m *meter) Record(raw []byte) error {
	err := m.to.Record(raw)
	if len(raw) < 2 {
		return err
	}
	switch t := binary.LittleEndian.Uint16(raw); {
	case int(t) < len(m.kernel):
		m.kernel[t].Add(1)
	case t >= userTypes && int(t-userTypes) < len(m.user):
		m.user[t-userTypes].Add(1)
		if record.Type(t) == record.TypeTick {
			m.tick()
		}
	}
	return err
}

func (m *meter) tick() {
	s := m.to.Stats()
	m.mu.Lock()
	if s.Lost != m.counted.Lost {
		m.lost[0], m.lost[1] = m.to.LossCounts()
	}
	m.counted = s
	m.mu.Unlock()
	m.ticked.Store(time.Now().UnixNano())
}

func (m *meter) stats() collector.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counted
}

// losses are not to be changed.
func (m *meter) losses() (byKind, bySandbox []collector.LossCount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost[0], m.lost[1]
}

// records yields how many there were of each type that there was.
func (m *meter) records(yield func(t record.Type, n uint64)) {
	for i := range m.kernel {
		if n := m.kernel[i].Load(); n > 0 {
			yield(record.Type(i), n)
		}
	}
	for i := range m.user {
		if n := m.user[i].Load(); n > 0 {
			yield(record.Type(userTypes+uint16(i)), n)
		}
	}
}

// deadAfter is how long no tick is normal at most; there is one about every 100 ms.
const deadAfter = 30 * time.Second

// alive says what is wrong if the ring is not read.
func (m *meter) alive() error {
	at := m.ticked.Load()
	if at == 0 {
		return errors.New("nothing was read from the kernel yet")
	}
	if ago := time.Since(time.Unix(0, at)); ago > deadAfter {
		return fmt.Errorf("nothing was read from the kernel for %s", ago.Round(time.Second))
	}
	return nil
}
