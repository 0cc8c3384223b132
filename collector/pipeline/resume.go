// SPDX-License-Identifier: Apache-2.0

package pipeline

import "github.com/sheetbend/sheetbend/collector/span"

// A resumeFilter keeps back the spans that an earlier process has delivered: it is live.Outputs.
type resumeFilter struct {
	to        Sinks
	delivered func(n uint64) uint64 // see Options.Delivered
	silent    bool
	passed    uint64 // spans
}

// Span implements span.Sink.
func (f *resumeFilter) Span(s *span.Span) {
	if !f.silent {
		f.passed++
		f.to.Span(s)
	}
}

// Flush implements span.Sink.
func (f *resumeFilter) Flush() { f.to.Flush() }

// Silence implements live.Outputs.
func (f *resumeFilter) Silence(on bool) { f.silent = on }

// Passed implements live.Outputs.
func (f *resumeFilter) Passed() uint64 { return f.passed }

// Delivered implements live.Outputs.
func (f *resumeFilter) Delivered() uint64 { return f.delivered(f.passed) }
