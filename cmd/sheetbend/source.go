// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/span"
)

// spansIn hands a sink the spans of a capture file, which is opened with the rights of who.
func spansIn(name string, who identity, sink span.Sink) error {
	f, err := who.open(name)
	if err != nil {
		return fmt.Errorf("read the capture: %w", err)
	}
	defer f.Close()
	r, err := capture.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	coll, err := collector.New(r.Header().Config, sink)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err = feedCapture(coll, r, nil)
	coll.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// feedCapture hands a collector the records of a capture; after each it calls wait, if there is one. Before an error all
// that came before it was handed on.
func feedCapture(coll *collector.Collector, r *capture.Reader, wait func()) error {
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = coll.Record(raw) // as live: skipped, counted and told as a span
		if wait != nil {
			wait()
		}
	}
}
