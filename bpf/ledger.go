// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A ledger says how much of the losses of a kernel side was reported, and what else the next process has to know that
// goes on with it: it is in a table that is pinned with the others. unreported may be called from any goroutine, the
// rest from the one that reads.
type ledger struct {
	table *ebpf.Map // as counts; nil: it is not known
	mu    sync.Mutex
	// counts are what was reported. What is carried over from a kernel side that was replaced is taken away: it wraps.
	counts map[lossID]uint64
}

// A lossID is what a loss is counted by.
type lossID = objectLossKey

const (
	ledgerName = "told"

	// causeState is of the entries that count no loss; Kind says which it is.
	causeState  = math.MaxUint16
	stateStarts = 0 // processes that have read it
	stateLast   = 1 // CLOCK_BOOTTIME, ns: when its losses were told last
	// Records of until then are taken from the kernel side that it replaces, in CLOCK_BOOTTIME, ns: 0 if there is none,
	// notYet until it is known.
	stateFrom = 2
	notYet    = math.MaxUint64

	// Every key of `losses`, of `losses_unkeyed`, of what the kernel missed and of `process_losses` has room.
	maxLedger = 4096 + 512 + 64 + 1024

	lossKeyBytes = 24 // struct loss_key
)

var ledgerSpec = ebpf.MapSpec{
	Name: ledgerName, Type: ebpf.Hash, KeySize: lossKeyBytes, ValueSize: 8, MaxEntries: maxLedger,
	Flags: unix.BPF_F_NO_PREALLOC,
}

func openLedger(table *ebpf.Map) (*ledger, error) {
	l := &ledger{table: table, counts: map[lossID]uint64{}}
	if table == nil {
		return l, nil
	}
	var id lossID
	var count uint64
	entries := table.Iterate()
	for entries.Next(&id, &count) {
		l.counts[id] = count
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read which losses were told: %w", err)
	}
	return l, nil
}

func (l *ledger) state(what uint16) uint64 { return l.counts[lossID{Cause: causeState, Kind: what}] }

func (l *ledger) setState(what uint16, value uint64) error {
	return l.add(lossID{Cause: causeState, Kind: what}, value-l.state(what))
}

// unreported gives what of the counters was not reported yet. Counters of processes are among it even if all of them
// was: Forget takes them away.
func (l *ledger) unreported(counters []Loss) (losses []Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := make(map[lossID]uint64, len(counters))
	for id, n := range l.counts {
		left[id] = -n
	}
	for _, c := range counters {
		left[c.id()] += c.Count
	}
	for id, n := range left {
		if n := max(0, int64(n)); id.Cause != causeState && (n > 0 || id.Tgid != 0) {
			losses = append(losses, Loss{id.Cgroup, id.Start, id.Tgid, id.Kind, id.Cause, uint64(n)})
		}
	}
	return losses
}

// add says that a loss was reported. n wraps: what a kernel side that is replaced has lost is taken away, so that it is
// reported with the losses of this one.
func (l *ledger) add(id lossID, n uint64) error {
	if n == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[id] += n
	// Without room the next process tells of it again: too much is better than no sensor.
	if err := l.table.Put(id, l.counts[id]); err != nil && !errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("remember which losses were told: %w", err)
	}
	return nil
}

// forget drops what was reported of a counter that is taken away.
func (l *ledger) forget(id lossID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.counts, id)
	return deleteEntry(l.table, id)
}

// deleteEntry deletes an entry, if it is there.
func deleteEntry(table *ebpf.Map, id lossID) error {
	if err := table.Delete(id); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
