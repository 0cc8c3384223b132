// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// An account is what the kernel side remembers for the next process that reads it: how much of its losses was told, and
// when last. nil where nothing is pinned.
type account struct {
	told  *ebpf.Map // struct loss_key -> count
	state *ebpf.Map // index -> u64
}

const (
	toldName, stateName = "told", "state"

	stateStarts = 0 // processes that have read it
	stateLast   = 1 // CLOCK_BOOTTIME, ns: when its losses were told last
	// Its records of until then are read from the kernel side that it replaces, in CLOCK_BOOTTIME, ns: 0 if there is none,
	// notYet until it is known.
	stateFrom = 2
	// stateBoth: from then until stateFrom it has seen what the one that it replaces has.
	stateBoth = 3
	stateSize = 4

	notYet = math.MaxUint64

	// Every key of `losses`, of `losses_unkeyed`, of what the kernel missed and of `process_losses` has room.
	maxTold = 4096 + 512 + 64 + 1024

	lossKeyBytes = 24 // struct loss_key
)

func newAccount() (*account, error) {
	told, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sheetbend_told", Type: ebpf.Hash, KeySize: lossKeyBytes, ValueSize: 8, MaxEntries: maxTold, Flags: 1})
	if err != nil {
		return nil, fmt.Errorf("make the account of told losses: %w", err)
	}
	state, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sheetbend_state", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: stateSize})
	if err != nil {
		_ = told.Close()
		return nil, fmt.Errorf("make the account of starts: %w", err)
	}
	return &account{told, state}, nil
}

func loadAccount(d *pinDir, m *manifest) (*account, error) {
	told, err := d.loadMap(m, toldName)
	if err != nil {
		return nil, err
	}
	state, err := d.loadMap(m, stateName)
	if err == nil && (told.Type() != ebpf.Hash || told.KeySize() != lossKeyBytes || told.ValueSize() != 8 || told.MaxEntries() > maxTold ||
		state.Type() != ebpf.Array || state.ValueSize() != 8 || state.MaxEntries() != stateSize) {
		_ = state.Close()
		err = errors.New("the pinned account is another")
	}
	if err != nil {
		_ = told.Close()
		return nil, err
	}
	return &account{told, state}, nil
}

func (a *account) maps() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{toldName: a.told, stateName: a.state}
}

func (a *account) Close() error {
	if a == nil {
		return nil
	}
	return errors.Join(a.told.Close(), a.state.Close())
}

// start tells when losses were told last, and which process this is that reads; begin says that it does.
func (a *account) start() (last, starts uint64, err error) {
	if err := errors.Join(a.state.Lookup(uint32(stateStarts), &starts), a.state.Lookup(uint32(stateLast), &last)); err != nil {
		return 0, 0, fmt.Errorf("read the pinned account: %w", err)
	}
	return last, starts + 1, nil
}

// begin is called before anything is read: a process that is killed earlier took nothing from the next.
func (s *Sensor) begin() error {
	if s.began || s.account == nil {
		return nil
	}
	s.began = true
	return s.account.set(stateStarts, s.pins.Starts)
}

func (a *account) get(what uint32) (value uint64, err error) {
	if a == nil {
		return 0, nil
	}
	if err := a.state.Lookup(what, &value); err != nil {
		return 0, fmt.Errorf("read the pinned account: %w", err)
	}
	return value, nil
}

func (a *account) set(what uint32, value uint64) error {
	if a == nil {
		return nil
	}
	if err := a.state.Put(what, value); err != nil {
		return fmt.Errorf("write the pinned account: %w", err)
	}
	return nil
}

func (a *account) read() (map[lossID]uint64, error) {
	told := map[lossID]uint64{}
	var key objectLossKey
	var count uint64
	entries := a.told.Iterate()
	for entries.Next(&key, &count) {
		told[lossID{key.Cgroup, key.Start, key.Tgid, key.Kind, key.Cause}] = count
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

func (l *Loss) id() lossID { return lossID{l.Cgroup, l.Start, l.Tgid, l.Kind, l.Cause} }

func (id lossID) loss(n uint64) Loss {
	return Loss{Cgroup: id.cgroup, Start: id.start, Tgid: id.tgid, Kind: id.kind, Cause: id.cause, Count: n}
}

func (id lossID) key() objectLossKey {
	return objectLossKey{Cgroup: id.cgroup, Start: id.start, Tgid: id.tgid, Kind: id.kind, Cause: id.cause}
}

// ofSandbox leaves the process out.
func (id lossID) ofSandbox() lossID { return lossID{cgroup: id.cgroup, kind: id.kind, cause: id.cause} }

// Told says that these counts, of Losses, were passed on, at a time of CLOCK_BOOTTIME: a process that goes on with this kernel
// side counts from there.
func (s *Sensor) Told(losses []Loss, at uint64) error {
	if s.account == nil {
		return nil
	}
	for _, l := range losses {
		id := l.id()
		total := s.beforeOf(id) + l.Count
		if s.told[id] == total {
			continue
		}
		if err := s.account.put(id, total); errors.Is(err, unix.E2BIG) {
			continue // the next process tells of it again: too much is better than no sensor
		} else if err != nil {
			return err
		}
		s.told[id] = total
	}
	if err := s.account.state.Put(uint32(stateLast), at); err != nil {
		return fmt.Errorf("remember when losses were told: %w", err)
	}
	return nil
}

func (a *account) put(id lossID, total uint64) error {
	if err := a.told.Put(id.key(), total); err != nil {
		return fmt.Errorf("remember which losses were told: %w", err)
	}
	return nil
}

func (s *Sensor) beforeOf(id lossID) uint64 {
	s.beforeMu.Lock()
	defer s.beforeMu.Unlock()
	return s.before[id]
}

// owe has Losses tell what a kernel side that is replaced has lost. It is in the account before that one is gone.
func (s *Sensor) owe(lost map[lossID]uint64) error {
	s.beforeMu.Lock()
	defer s.beforeMu.Unlock()
	for id, n := range lost {
		s.before[id] -= n
		if s.account != nil {
			if err := s.account.put(id, s.told[id]-n); errors.Is(err, unix.E2BIG) {
				continue // this process tells of it; if it is killed before, nobody does
			} else if err != nil {
				return err
			}
			s.told[id] -= n
		}
	}
	return nil
}

// Last is when an earlier process told of losses last, in ns of CLOCK_BOOTTIME; 0 if this one is the first to read.
func (s *Sensor) Last() uint64 { return s.last }
