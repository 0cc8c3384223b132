// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func TestOnlyWhatTheOutputsGetIsDelivered(t *testing.T) {
	var sent counting
	f := &resumeFilter{to: Sinks{&sent}, delivered: func(n uint64) uint64 { return n - 1 }}
	f.Silence(true)
	f.Span(&span.Span{})
	f.Silence(false)
	f.Span(&span.Span{})
	f.Span(&span.Span{})
	if sent != 2 || f.Passed() != 2 || f.Delivered() != 1 {
		t.Errorf("%d spans, %d passed, %d delivered", sent, f.Passed(), f.Delivered())
	}
}

type counting int

func (c *counting) Span(*span.Span) { *c++ }
func (c *counting) Flush()          {}
