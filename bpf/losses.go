// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Loss is a count of records that the kernel side could not deliver.
type Loss struct {
	Cgroup uint64 // 0 where it is not known
	Start  uint64 // of the process, and its Tgid; 0 where it is not told apart
	Tgid   uint32
	Kind   uint16 // enum record_type: record.Type of collector/record
	Cause  uint16 // enum loss_cause: record.Cause
	Count  uint64
}

func (l *Loss) id() lossID {
	return lossID{Cgroup: l.Cgroup, Start: l.Start, Tgid: l.Tgid, Kind: l.Kind, Cause: l.Cause}
}

// counters reads what the programs counted, from those of a kernel side's maps that are there.
func counters(maps map[string]*ebpf.Map) (losses []Loss, err error) {
	var id lossID
	var count uint64
	for _, name := range []string{"losses", "process_losses"} {
		if maps[name] == nil {
			continue
		}
		entries := maps[name].Iterate()
		for entries.Next(&id, &count) {
			losses = append(losses, Loss{id.Cgroup, id.Start, id.Tgid, id.Kind, id.Cause, count})
		}
		if err := entries.Err(); err != nil {
			return nil, fmt.Errorf("read the loss counters: %w", err)
		}
	}
	if maps["losses_unkeyed"] == nil {
		return losses, nil
	}
	var index uint32
	entries := maps["losses_unkeyed"].Iterate()
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

// Losses returns what was lost and not Told yet, by this process or one before it, ordered by cgroup, process, kind and
// cause. What is left of a kernel side that was replaced is in it. A process that has a counter is in it with a count
// of 0, too, for Forget.
func (s *Sensor) Losses() ([]Loss, error) {
	losses, err := counters(s.kernel.collection.Maps)
	if err != nil {
		return nil, err
	}
	for name, program := range s.kernel.programs {
		kind, ok := programRecords[name]
		if !ok {
			continue
		}
		stats, err := program.Stats()
		if err != nil {
			return nil, fmt.Errorf("read what the kernel skipped of %s: %w", name, err)
		}
		losses = append(losses, Loss{
			Kind: uint16(kind), Cause: uint16(objectLossCauseLOSS_MISSED), Count: stats.RecursionMisses,
		})
	}
	losses = s.ledger.unreported(losses)
	slices.SortFunc(losses, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Cause, b.Cause))
	})
	return losses, nil
}

// Told says that these losses were passed on, at a time of CLOCK_BOOTTIME: neither this process nor the next one does
// so again.
func (s *Sensor) Told(losses []Loss, at uint64) error {
	for _, l := range losses {
		if err := s.ledger.add(l.id(), l.Count); err != nil {
			return err
		}
	}
	return s.ledger.setState(stateLast, at)
}

// Last is when an earlier process told of losses last, in ns of CLOCK_BOOTTIME; 0 if this one is the first to read.
func (s *Sensor) Last() uint64 { return s.last }

// Forget drops the counter of a process that had ended before Losses read it, once that was Told: the room is needed
// for others. A counter of no process stays.
func (s *Sensor) Forget(l Loss) error {
	if l.Tgid == 0 {
		return nil
	}
	// Killed in between, it is told once more: better than that another one's is not.
	err := s.ledger.forget(l.id())
	if err == nil {
		err = deleteEntry(s.kernel.table("process_losses"), l.id())
	}
	if err != nil {
		return fmt.Errorf("drop a loss counter: %w", err)
	}
	return nil
}
