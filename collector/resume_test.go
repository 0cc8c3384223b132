// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/spans"
)

// TestASliceOfASpanThatIsNotMadeAgainBegins: of a tick that began slices of two Traces, the span of one may be left out.
func TestASliceOfASpanThatIsNotMadeAgainBegins(t *testing.T) {
	w := newWorld(t)
	c := w.c
	left, made := c.attribution.Sessions.Acquire("left out", attribution.Holder{}), c.attribution.Sessions.Acquire("made", attribution.Holder{})
	c.Restart().Resuming(true)
	c.Restart().Next([]attribution.Slice{{Session: "left out", Number: 3}, {Session: "made", Number: 4}, {Session: "left out", Number: 5}}, false, false, false)
	c.slicer.PlaceIn(&made.Traces)
	if left.Slice != 3 || made.Slice != 4 {
		t.Errorf("slices %d and %d, want 3 and 4", left.Slice, made.Slice)
	}
	c.Restart().Next(nil, false, false, false)
	if left.Slice != 5 {
		t.Errorf("slice %d, want 5", left.Slice)
	}
}

func TestAskingForReadsMakesNoStateOfProcesses(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.c.Restart().Counted(func(attribution.Slice) {}, func(r spans.Reads) { t.Errorf("%+v", r) })
	if p := w.c.Lineage().Processes[10]; p == nil || p.Pending != nil {
		t.Errorf("a process that has read nothing: %+v", p)
	}
}
