// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"math"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A journal of another version may make other spans of the same records: then the numbers do not go on one by one.
func TestWhatIsSettledIsCountedFromWhereTheNumbersGoOn(t *testing.T) {
	var sent counting
	f := &resumeFilter{to: Sinks{&sent}, delivered: func(n uint64) uint64 { return n }}
	f.resume(math.MaxUint64)
	pass := func(from, to int64) {
		for seq := from; seq <= to; seq++ {
			f.Span(&span.Span{Attrs: []span.Attr{{Key: span.KeySeq, Kind: span.IntAttr, Int: seq}}})
		}
	}
	pass(1, 5) // before what is whole
	f.resume(10)
	for n, c := range []struct {
		from, to int64
		settled  uint64
		sent     counting
	}{
		{9, 10, 10, 0}, {11, 13, 13, 3}, {20, 21, 21, 5}, {15, 15, 15, 6}, {16, 17, 17, 8},
	} {
		pass(c.from, c.to)
		if got := f.settled(); got != c.settled || sent != c.sent {
			t.Errorf("%d: %d are settled and %d sent, want %d and %d", n, got, sent, c.settled, c.sent)
		}
	}
}

type counting int

func (c *counting) Span(*span.Span) { *c++ }
func (c *counting) Flush()          {}
