// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	o := outputsFor(t, c)
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

func outputsFor(t *testing.T, c *config.Config) *outputs {
	t.Helper()
	o, err := openOutputs(c, "v1", identity{}, identity{}, identity{}, nil, appendTo, show{},
		func(string) string { return "" }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A disk that hangs takes nothing of the time that a backend has at the end.
func TestARecorderThatHangsHoldsUpNoBackend(t *testing.T) {
	var asked, took atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "3600") // but at the end it is tried once more
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		took.Add(1)
	}))
	defer backend.Close()
	c := config.Default()
	c.Exporters.OTLP = config.OTLPs{{Endpoint: backend.URL, Protocol: "http/protobuf", Signals: []string{config.SignalTraces}}}
	c.Recorder.Path = filepath.Join(t.TempDir(), "recordings")
	o := outputsFor(t, c)
	name := filepath.Join(c.Recorder.Path, "agent-1.otlp.zst")
	give := func() { o.Span(&span.Span{Kind: span.Exec, Name: "exec", Instance: "agent-1", Session: "s"}) }
	give()
	sensortest.Until(t, "it is recorded, and refused", func() bool {
		o.Flush()
		_, err := os.Stat(name)
		return err == nil && asked.Load() > 0
	})
	if err := errors.Join(os.Remove(name), unix.Mkfifo(name, 0o600)); err != nil { // nobody reads it
		t.Fatal(err)
	}
	give()
	o.Flush()
	o.shutdownWithin = time.Second
	if err := o.close(context.Background()); err == nil || took.Load() == 0 {
		t.Errorf("%v, the backend took %d batches", err, took.Load())
	}
	if f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil || f.Close() != nil { // lets it end
		t.Error(err)
	}
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
