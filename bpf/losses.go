// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Loss is a count of records that the kernel side could not deliver, since the start.
type Loss struct {
	Cgroup uint64 // 0 where it is not known
	Start  uint64 // of the process, and its Tgid; 0 where it is not told apart
	Tgid   uint32
	Kind   uint16 // enum record_type: record.Type of collector/record
	Cause  uint16 // enum loss_cause: record.Cause
	Count  uint64
}

// counters reads what the programs counted.
func counters(unkeyed *ebpf.Map, keyed ...*ebpf.Map) (losses []Loss, err error) {
	var key objectLossKey
	var count uint64
	for _, table := range keyed {
		entries := table.Iterate()
		for entries.Next(&key, &count) {
			losses = append(losses, lossIDOf(&key).loss(count))
		}
		if err := entries.Err(); err != nil {
			return nil, fmt.Errorf("read the loss counters: %w", err)
		}
	}

	var index uint32
	entries := unkeyed.Iterate()
	for entries.Next(&index, &count) {
		if count > 0 {
			losses = append(losses, Loss{Kind: uint16(index & 31), Cause: uint16(index >> 5), Count: count})
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the unkeyed loss counters: %w", err)
	}
	return losses, nil
}

// Losses returns every count, ordered by cgroup, process, kind and cause. What a process before has told is not in
// it, what is left of a kernel side that was replaced is.
func (s *Sensor) Losses() ([]Loss, error) {
	k := &s.kernel
	losses, err := counters(k.table("losses_unkeyed"), k.table("losses"), k.table("process_losses"))
	if err != nil {
		return nil, err
	}
	missed := map[objectRecordType]uint64{}
	for name, program := range k.programs {
		kind, ok := programRecords[name]
		if !ok {
			continue
		}
		n, err := missedRuns(program)
		if err != nil {
			return nil, fmt.Errorf("read what the kernel skipped of %s: %w", name, err)
		}
		missed[kind] += n
	}
	for kind, n := range missed {
		if n > 0 {
			losses = append(losses, Loss{Kind: uint16(kind), Cause: uint16(objectLossCauseLOSS_MISSED), Count: n})
		}
	}
	losses = s.reported.since(losses)
	slices.SortFunc(losses, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Cause, b.Cause))
	})
	return losses, nil
}

// Told says that these counts, of Losses, were passed on, at a time of CLOCK_BOOTTIME: a process that goes on with
// this kernel side counts from there.
func (s *Sensor) Told(losses []Loss, at uint64) error { return s.reported.add(losses, at) }

// Last is when an earlier process told of losses last, in ns of CLOCK_BOOTTIME; 0 if this one is the first to read.
func (s *Sensor) Last() uint64 { return s.reported.last }

// Forget drops the counter of a process that had ended before Losses read it, once that was Told: the room is needed
// for others. A counter of no process stays.
func (s *Sensor) Forget(l Loss) error {
	id := l.id()
	if id.tgid == 0 {
		return nil
	}
	// Killed in between, it is told once more: better than that another one's is not.
	var tables []*ebpf.Map
	if s.reported.ledger != nil {
		tables = append(tables, s.reported.ledger.told)
	}
	tables = append(tables, s.kernel.table("process_losses"))
	for _, table := range tables {
		if err := table.Delete(id.key()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("drop a loss counter: %w", err)
		}
	}
	s.reported.forget(id)
	return nil
}

func missedRuns(program *ebpf.Program) (uint64, error) {
	stats, err := program.Stats()
	if err != nil {
		return 0, err
	}
	return stats.RecursionMisses, nil
}
