// SPDX-License-Identifier: Apache-2.0

package span

import "testing"

func TestWhatASpanStandsUnder(t *testing.T) {
	ref := func(n byte, rel Rel) Ref { return Ref{Link{Span: ID{n}}, rel} }
	for _, tt := range []struct {
		name string
		span Span
		want byte
	}{
		{"its parent", Span{Parent: ID{1}, Links: []Ref{ref(2, ToParent)}}, 1},
		{"its parent in another trace", Span{Links: []Ref{ref(2, ToStory), ref(3, ToCall), ref(4, ToParent)}}, 4},
		{"its call, where no parent is known", Span{Links: []Ref{ref(2, ToAgent), ref(3, ToStory), ref(4, ToCall)}}, 4},
		{"nothing, if it is a root", Span{Links: []Ref{ref(2, ToStory), ref(3, ToAgent), ref(4, ToDetail)}}, 0},
	} {
		if got := tt.span.Above(); got != (ID{tt.want}) {
			t.Errorf("%s: %x", tt.name, got)
		}
	}
}
