// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"log/slog"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Sinks give every span to each.
type Sinks []span.Sink

// Span implements span.Sink.
func (ss Sinks) Span(s *span.Span) {
	for _, sink := range ss {
		sink.Span(s)
	}
}

// Flush implements span.Sink.
func (ss Sinks) Flush() {
	for _, sink := range ss {
		sink.Flush()
	}
}

// LossLog reports losses in a log, too.
type LossLog struct{ Log *slog.Logger }

// Span implements span.Sink.
func (l LossLog) Span(s *span.Span) {
	if s.Kind != span.Loss {
		return
	}
	attrs := []any{"session", s.Session}
	for _, a := range s.Attrs {
		switch a.Key {
		case span.KeyLost:
			attrs = append(attrs, "count", a.Int)
		case span.KeyLostCause, span.KeyLostKind:
			attrs = append(attrs, a.Key, a.Str)
		}
	}
	l.Log.Warn("records were lost", attrs...)
}

// Flush implements span.Sink.
func (LossLog) Flush() {}

// A processList is a span.Sink that lists the collector's processes when that may be asked: at its ticks. Then
// everything that had happened is known to it.
type processList struct {
	collector *collector.Collector
	asked     chan chan<- []collector.Running
}

// Span implements span.Sink.
func (*processList) Span(*span.Span) {}

// Flush implements span.Sink.
func (l *processList) Flush() {
	select {
	case reply := <-l.asked:
		reply <- l.collector.Lineage().Running()
	default:
	}
}

func (l *processList) list(ctx context.Context) []collector.Running {
	reply := make(chan []collector.Running, 1)
	select {
	case l.asked <- reply:
	case <-ctx.Done():
		return nil
	}
	select {
	case list := <-reply:
		return list
	case <-ctx.Done():
		return nil
	}
}
