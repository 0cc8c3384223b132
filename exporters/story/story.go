// SPDX-License-Identifier: Apache-2.0

// Package story tells a person in one screen what an agent did: the sums of its session, and a line or two for each of
// its tool calls. It shows what the spans session, session.call, session.end and sandbox.end have, and counts nothing
// itself.
package story

import (
	"bufio"
	"io"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Options says how to draw.
type Options struct {
	Width int            // columns; 0 when there is no terminal: 100
	Color bool           // with the eight colours of every terminal
	ASCII bool           // no other characters than those of ASCII
	Zone  *time.Location // of the times that are shown; nil: local
	Home  string         // shown as ~; "": none is
}

// A Story is a span.Sink that keeps what it needs, bounded.
type Story struct {
	o     Options
	calls []string
}

// New returns an empty Story.
func New(o Options) *Story { return &Story{o: o} }

// Span implements span.Sink.
func (t *Story) Span(s *span.Span) {
	if s.Kind == span.SessionCall {
		t.calls = append(t.calls, span.Attrs(s.Attrs).Text(span.KeyCallTitle))
	}
}

// Flush implements span.Sink.
func (*Story) Flush() {}

// Calls is how many tool calls the story has.
func (t *Story) Calls() int { return len(t.calls) }

// Render draws what came so far.
func (t *Story) Render(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, c := range t.calls {
		_, _ = b.WriteString(c + "\n")
	}
	return b.Flush()
}
