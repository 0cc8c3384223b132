// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector/lineage"
)

func TestProcessesAreRunningUntilTheyEndWhereverTheyGo(t *testing.T) {
	w := newWorld(t)
	if got := w.c.lineage.Running(); len(got) != 0 {
		t.Errorf("%v before any", got)
	}
	w.begin(11, one)
	w.begin(10, one)
	w.attach(10, outside, "/elsewhere", true)
	w.fork(10, 12)
	w.fork(10, 13)
	w.exit(10, 0)
	if got, want := w.c.lineage.Running(), []lineage.Running{{Tgid: 11, Start: start(11)}, {Tgid: 12, Start: start(12)}, {Tgid: 13, Start: start(13)}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if at, ok := w.c.lineage.Started(12); !ok || at != start(12) {
		t.Errorf("12 started at %d, %v", at, ok)
	}
	if _, ok := w.c.lineage.Started(10); ok {
		t.Error("10 is known after its end")
	}
}
