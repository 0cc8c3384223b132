// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A ledger of losses is what the kernel side remembers for the next process that reads it: how much of its losses was
// reported, and when last. nil where nothing is pinned.
type ledger struct {
	told  *ebpf.Map // struct loss_key -> count
	state *ebpf.Map // index -> u64
}

const (
	toldName, stateName = "told", "state"

	stateStarts = 0 // processes that have read it
	stateLast   = 1 // CLOCK_BOOTTIME, ns: when its losses were told last
	// Its records of until then are read from the kernel side that it replaces, in CLOCK_BOOTTIME, ns: 0 if there is
	// none, notYet until it is known.
	stateFrom = 2
	// stateBoth: from then until stateFrom it has seen what the one that it replaces has.
	stateBoth = 3
	stateSize = 4

	notYet = math.MaxUint64

	// Every key of `losses`, of `losses_unkeyed`, of what the kernel missed and of `process_losses` has room.
	maxTold = 4096 + 512 + 64 + 1024

	lossKeyBytes = 24 // struct loss_key
)

func newLedger() (*ledger, error) {
	told, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "sheetbend_told", Type: ebpf.Hash, KeySize: lossKeyBytes, ValueSize: 8, MaxEntries: maxTold,
		Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return nil, fmt.Errorf("make the ledger of reported losses: %w", err)
	}
	state, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "sheetbend_state", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: stateSize,
	})
	if err != nil {
		_ = told.Close()
		return nil, fmt.Errorf("make the ledger of starts: %w", err)
	}
	return &ledger{told, state}, nil
}

func loadLedger(d *pinDir, m *manifest) (*ledger, error) {
	told, err := d.loadMap(m, toldName)
	if err != nil {
		return nil, err
	}
	state, err := d.loadMap(m, stateName)
	if err == nil && (told.Type() != ebpf.Hash || told.KeySize() != lossKeyBytes || told.ValueSize() != 8 ||
		told.MaxEntries() > maxTold ||
		state.Type() != ebpf.Array || state.ValueSize() != 8 || state.MaxEntries() != stateSize) {
		_ = state.Close()
		err = errors.New("the pinned ledger is another")
	}
	if err != nil {
		_ = told.Close()
		return nil, err
	}
	return &ledger{told, state}, nil
}

func (l *ledger) maps() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{toldName: l.told, stateName: l.state}
}

func (l *ledger) Close() error {
	if l == nil {
		return nil
	}
	return errors.Join(l.told.Close(), l.state.Close())
}

// start tells when losses were told last, and which process this is that reads; begin says that it does.
func (l *ledger) start() (last, starts uint64, err error) {
	err = errors.Join(l.state.Lookup(uint32(stateStarts), &starts), l.state.Lookup(uint32(stateLast), &last))
	if err != nil {
		return 0, 0, fmt.Errorf("read the pinned ledger: %w", err)
	}
	return last, starts + 1, nil
}

func (l *ledger) get(what uint32) (value uint64, err error) {
	if l == nil {
		return 0, nil
	}
	if err := l.state.Lookup(what, &value); err != nil {
		return 0, fmt.Errorf("read the pinned ledger: %w", err)
	}
	return value, nil
}

func (l *ledger) set(what uint32, value uint64) error {
	if l == nil {
		return nil
	}
	if err := l.state.Put(what, value); err != nil {
		return fmt.Errorf("write the pinned ledger: %w", err)
	}
	return nil
}

func (l *ledger) read() (map[lossID]uint64, error) {
	told := map[lossID]uint64{}
	var key objectLossKey
	var count uint64
	entries := l.told.Iterate()
	for entries.Next(&key, &count) {
		told[lossIDOf(&key)] = count
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read which losses were told: %w", err)
	}
	return told, nil
}

type lossID struct {
	cgroup, start uint64
	tgid          uint32
	kind, cause   uint16
}

func lossIDOf(k *objectLossKey) lossID { return lossID{k.Cgroup, k.Start, k.Tgid, k.Kind, k.Cause} }

func (l *Loss) id() lossID { return lossID{l.Cgroup, l.Start, l.Tgid, l.Kind, l.Cause} }

func (id lossID) loss(n uint64) Loss {
	return Loss{Cgroup: id.cgroup, Start: id.start, Tgid: id.tgid, Kind: id.kind, Cause: id.cause, Count: n}
}

func (id lossID) key() objectLossKey {
	return objectLossKey{Cgroup: id.cgroup, Start: id.start, Tgid: id.tgid, Kind: id.kind, Cause: id.cause}
}

// ofSandbox leaves the process out.
func (id lossID) ofSandbox() lossID { return lossID{cgroup: id.cgroup, kind: id.kind, cause: id.cause} }

func (l *ledger) put(id lossID, total uint64) error {
	if err := l.told.Put(id.key(), total); err != nil {
		return fmt.Errorf("remember which losses were told: %w", err)
	}
	return nil
}
