// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// outputsOf are those of a configuration, with a spool and a backend that is away.
func outputsOf(t *testing.T, signals ...string) *outputs {
	t.Helper()
	c := config.Default()
	c.Exporters.OTLP = config.OTLPs{{Endpoint: "http://127.0.0.1:9", Signals: signals}}
	c.Spool.Path = filepath.Join(t.TempDir(), "spool")
	o, err := openOutputs(c, "v1", identity{}, identity{}, identity{}, nil, appendTo, show{},
		func(string) string { return "" }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.shutdownWithin = time.Millisecond
		if err := o.close(context.Background()); err != nil {
			t.Error(err)
		}
		if tally := tallyOf(c.Spool.Path, o.backends.log); tally != "" {
			_ = os.Remove(tally)
		}
	})
	return o
}

// What a kill would take of the security events, the journal has to give again, also where no spans are sent.
func TestASpanIsNotDeliveredBeforeItsSecurityEvent(t *testing.T) {
	ordinary := &span.Span{Kind: span.Open, Name: "open"}
	notable := &span.Span{Kind: span.Loss, Name: "sensor.loss"}
	for _, signals := range [][]string{{config.SignalLogs}, {config.SignalTraces, config.SignalLogs}} {
		o := outputsOf(t, signals...)
		if o.spans != (len(signals) == 2) || o.events == nil {
			t.Fatalf("%v: spans %t", signals, o.spans)
		}
		give := func(spans ...*span.Span) {
			for _, s := range spans {
				o.Span(s)
			}
		}
		give(ordinary, ordinary, notable, ordinary)
		if n := o.delivered(4); n > 2 {
			t.Errorf("%v: %d of 4 spans are delivered with an event in memory", signals, n)
		}
		o.Flush()
		sensortest.Until(t, "all is on disk", func() bool { return o.delivered(4) == 4 })
		give(notable)
		if n := o.delivered(5); n != 4 {
			t.Errorf("%v: %d of 5 spans are delivered", signals, n)
		}
		if !o.spans { // what is no event waits for nothing
			o.Flush()
			give(ordinary, ordinary)
			sensortest.Until(t, "the events are on disk", func() bool { return o.delivered(7) == 7 })
		}
	}
}
