// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sys/unix"
)

// reportedLosses are what this process and those before it reported of the losses of the kernel side. Only since and
// beforeOf may be called from any goroutine; the rest is for the one that reads.
type reportedLosses struct {
	ledger *ledger           // nil: nothing is pinned
	began  bool              // it says that this process reads
	starts uint64            // Pins.Starts
	last   uint64            // Sensor.Last
	told   map[lossID]uint64 // what is in the ledger
	// before is what processes before reported of the losses of this kernel side, less what is carried over of those
	// that it replaced: it wraps.
	before   map[lossID]uint64
	beforeMu sync.Mutex
}

// resume reads what earlier processes reported.
func (r *reportedLosses) resume() (err error) {
	if r.before, err = r.ledger.read(); err != nil {
		return err
	}
	r.told = maps.Clone(r.before)
	r.last, r.starts, err = r.ledger.start()
	return err
}

// begin is called before anything is read: a process that is killed earlier took nothing from the next.
func (r *reportedLosses) begin() error {
	if r.began || r.ledger == nil {
		return nil
	}
	r.began = true
	return r.ledger.set(stateStarts, r.starts)
}

// add puts counts that were passed on into the ledger.
func (r *reportedLosses) add(losses []Loss, at uint64) error {
	if r.ledger == nil {
		return nil
	}
	for _, l := range losses {
		id := l.id()
		total := r.beforeOf(id) + l.Count
		if r.told[id] == total {
			continue
		}
		if err := r.ledger.put(id, total); errors.Is(err, unix.E2BIG) {
			continue // the next process tells of it again: too much is better than no sensor
		} else if err != nil {
			return err
		}
		r.told[id] = total
	}
	if err := r.ledger.state.Put(uint32(stateLast), at); err != nil {
		return fmt.Errorf("remember when losses were told: %w", err)
	}
	return nil
}

func (r *reportedLosses) beforeOf(id lossID) uint64 {
	r.beforeMu.Lock()
	defer r.beforeMu.Unlock()
	return r.before[id]
}

// carryOver has Losses tell what a kernel side that is replaced has lost. It is in the ledger before that one is gone.
func (r *reportedLosses) carryOver(lost map[lossID]uint64) error {
	r.beforeMu.Lock()
	defer r.beforeMu.Unlock()
	for id, n := range lost {
		r.before[id] -= n
		if r.ledger != nil {
			if err := r.ledger.put(id, r.told[id]-n); errors.Is(err, unix.E2BIG) {
				continue // this process tells of it; if it is killed before, nobody does
			} else if err != nil {
				return err
			}
			r.told[id] -= n
		}
	}
	return nil
}

// since sums up counts of one key, and leaves out what was told before the start.
func (r *reportedLosses) since(losses []Loss) []Loss {
	r.beforeMu.Lock()
	defer r.beforeMu.Unlock()
	if len(r.before) == 0 {
		return losses
	}
	sums, counter := make(map[lossID]uint64, len(losses)), map[lossID]bool{}
	for id, n := range r.before {
		sums[id] = -n
	}
	for _, l := range losses {
		sums[l.id()] += l.Count
		counter[l.id()] = l.Tgid != 0
	}
	losses = losses[:0]
	for id, n := range sums {
		// A counter of a process is named even if all of it was told: Forget takes it away.
		if news := max(0, int64(n)); news > 0 || counter[id] {
			losses = append(losses, id.loss(uint64(news)))
		}
	}
	return losses
}

// forget drops what was reported of a counter that is taken away.
func (r *reportedLosses) forget(id lossID) {
	delete(r.told, id)
	r.beforeMu.Lock()
	defer r.beforeMu.Unlock()
	delete(r.before, id)
}
