// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/attribution"
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
