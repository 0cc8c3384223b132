// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
)

func TestWhatHappensInADirectoryOfWhichTheMakingWasLostIsCounted(t *testing.T) {
	w := newWorld(t)
	const unknown = 4711
	lost := func(kind record.Type) uint64 {
		return w.c.losses.Counts.ByKind[lineage.LossKind{Kind: kind, Cause: record.CauseUnassigned}]
	}
	execs := func(from, to uint32) {
		for pid := from; pid < to; pid++ {
			w.cgroup[pid] = unknown
			w.exec(pid, "/bin/true", "true")
		}
	}
	execs(100, 110)
	w.tick(10 * time.Second)
	if n := lost(record.TypeExec); n != 0 {
		t.Fatalf("%d lost: they may be of no sandbox, and no directory was lost", n)
	}
	execs(200, 205)
	began := w.now - uint64(time.Second)
	until := w.now + uint64(time.Second)
	w.raw(record.AppendLoss(nil, record.Header{}, record.Loss{Kind: record.TypeCgroupMkdir, Cause: record.CauseRingFull, Count: 1, From: began, To: until}))
	if n := lost(record.TypeExec); n != 5 {
		t.Errorf("%d of 5 that came before the word are lost", n)
	}
	execs(300, 307) // they lay in the ring
	if n := lost(record.TypeExec); n != 12 {
		t.Errorf("%d of 12 are lost", n)
	}
	w.now = until
	execs(400, 410) // whoever runs now is found by a look at what is there
	if n := lost(record.TypeExec); n != 12 {
		t.Errorf("%d of 12 are lost", n)
	}
}
