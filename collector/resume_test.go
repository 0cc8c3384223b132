// SPDX-License-Identifier: Apache-2.0

package collector

import "testing"

// TestASliceOfASpanThatIsNotMadeAgainBegins: of a tick that began slices of two traces, the span of one may be left out.
func TestASliceOfASpanThatIsNotMadeAgainBegins(t *testing.T) {
	w := newWorld(t)
	c := w.c
	left, made := c.attribution.owners.acquire("left out", holder{}), c.attribution.owners.acquire("made", holder{})
	c.Resuming(true)
	c.Next([]Slice{{Session: "left out", Number: 3}, {Session: "made", Number: 4}, {Session: "left out", Number: 5}}, false, false, false)
	c.slicer.placeIn(&made.traces)
	if left.slice != 3 || made.slice != 4 {
		t.Errorf("slices %d and %d, want 3 and 4", left.slice, made.slice)
	}
	c.Next(nil, false, false, false)
	if left.slice != 5 {
		t.Errorf("slice %d, want 5", left.slice)
	}
}
