// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/record"
)

// reportLosses passes on what the kernel side has lost since the last time.
func (f *Feed) reportLosses(t uint64) error {
	now, err := f.o.Source.Losses()
	if err != nil {
		return fmt.Errorf("read the loss counters: %w", err)
	}
	// A hash map lists in no order, a capture should not depend on it.
	slices.SortFunc(now, func(a, b bpf.Loss) int {
		return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Cause, b.Cause))
	})
	ended := map[processID]bool{}
	var over []bpf.Loss
	unknown := false // cgroups may be there that were not reported
	for _, l := range now {
		p := processID{l.Tgid, l.Start}
		switch _, asked := ended[p]; {
		case l.Tgid == 0:
		case f.ended[p]:
			// The process had ended before its counters were read: they do not grow any more.
			over = append(over, l)
		case !asked:
			ended[p] = hasEnded(f.o.Proc, l.Tgid, l.Start)
		}
		if l.Count == 0 {
			continue
		}
		f.stats.Lost += l.Count
		unknown = unknown || record.Type(l.Kind) == record.TypeCgroupMkdir
		if kind := record.Type(l.Kind); f.o.Knows != nil && (kind == record.TypeFork || kind == record.TypeExec) {
			f.scans.due = true // who is below an agent, wherever it is, only the records of its parent say
		}
		h := record.Header{Cgroup: l.Cgroup, Tgid: l.Tgid, Start: l.Start}
		f.out = record.AppendLoss(f.out[:0], h, record.Loss{
			Kind: record.Type(l.Kind), Cause: record.Cause(l.Cause), Count: l.Count, From: f.lossesRead, To: t,
		})
		f.emit(f.out)
	}
	f.ended, f.lossesRead = ended, t
	if unknown {
		// What is there now is reported again; what was made and is gone again cannot be.
		w := newWalk("/")
		w.done = func() { f.scans.due = true }
		f.walkLater(w)
	}
	if err := f.o.Source.Told(now, t); err != nil {
		return err
	}
	for _, l := range over {
		if err := f.o.Source.Forget(l); err != nil {
			f.o.Log.Warn("a loss counter stays: there is less room for others", "err", err)
		}
	}
	return nil
}
