// SPDX-License-Identifier: Apache-2.0

// Package notable says which spans somebody who answers for a host wants to be told of. It goes by what is on the span
// alone, so the story, the report and the security events agree.
package notable

import "github.com/sheetbend/sheetbend/collector/span"

// Severity is the severity number of an OTLP log record.
type Severity int

// The severities.
const (
	Info  Severity = 9
	Warn  Severity = 13
	Error Severity = 17
)

// An Event is what a span tells that is notable.
type Event struct {
	Name     string // of the table in docs/spans.md: secret, …
	Severity Severity
	Sentence string // one line for people, at most 200 bytes of UTF-8, printable
}

// Of says whether a span is notable, and what it tells.
func Of(s *span.Span) (Event, bool) {
	a := span.Attrs(s.Attrs)
	if s.Kind != span.Open || !a.Is(span.KeySensitive) {
		return Event{}, false
	}
	path := a.Text(span.KeyFilePath)
	switch span.Outcome(a.Text(span.KeyOutcome)) {
	case span.OK:
		return Event{"secret", Warn, "read " + path}, true
	case span.Refused:
		return Event{"secret", Info, "refused to read " + path}, true
	}
	return Event{}, false
}
