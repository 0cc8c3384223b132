// SPDX-License-Identifier: Apache-2.0

package pipeline

import "github.com/sheetbend/sheetbend/collector/span"

// A resumeFilter keeps back the spans that an earlier process has delivered, by their sheetbend.seq.
type resumeFilter struct {
	to        Sinks
	delivered func(n uint64) uint64 // see Options.Delivered
	upTo      uint64                // sheetbend.seq
	passed    uint64                // spans
	// Numbers go on one by one, unless a journal of another version makes other spans: then they are counted anew.
	// After the first base of the spans that passed comes number first+1, and last was the last.
	base, first, last uint64
	settledTo         uint64 // what settled gave last
}

// resume has spans up to a number kept back: they are settled.
func (f *resumeFilter) resume(upTo uint64) {
	f.upTo, f.base, f.first, f.last, f.settledTo = upTo, f.passed, upTo, upTo, upTo
}

// Span implements span.Sink.
func (f *resumeFilter) Span(s *span.Span) {
	for i := range s.Attrs {
		if s.Attrs[i].Key != span.KeySeq {
			continue
		}
		seq := uint64(s.Attrs[i].Int)
		if seq <= f.upTo {
			return
		}
		if seq != f.last+1 {
			f.base, f.first = f.passed, seq-1
		}
		f.last = seq
		break
	}
	f.passed++
	f.to.Span(s)
}

// Flush implements span.Sink.
func (f *resumeFilter) Flush() { f.to.Flush() }

// settled is the number of the last span that a kill does not reach.
func (f *resumeFilter) settled() uint64 {
	if n := f.delivered(f.passed); n >= f.base {
		f.settledTo = f.first + (n - f.base)
	}
	return f.settledTo
}
