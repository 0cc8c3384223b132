// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

var update = flag.Bool("update", false, "write testdata/replays.txt anew")

// openCapture opens a compressed capture until the test ends.
func openCapture(t *testing.T, path string) *capture.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// replay gives all records of a capture to a collector, and closes it.
func replay(t *testing.T, in *capture.Reader, config collector.Config, sink span.Sink) *collector.Collector {
	t.Helper()
	c, err := collector.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := in.Next()
		if errors.Is(err, io.EOF) {
			c.Close()
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Record(raw); err != nil && !errors.Is(err, collector.ErrRefused) {
			t.Fatal(err)
		}
	}
}

// The spans of each capture, as `sheetbend replay --output` writes them, are the bytes that testdata/replays.txt
// has the sum of. A change of structure leaves all sums; a change of behavior says in its commit why which sums
// are others.
func TestEveryCaptureReplaysToTheSameBytes(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, pattern := range []string{"../testdata/agents/*.capture.gz", "capture/testdata/*.capture.gz"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			in, sum, spans := openCapture(t, name), sha256.New(), 0
			sink := otlp.NewEncoder(in.Header().Sensor, otlp.Limits{}, func(b otlp.Batch) {
				spans += b.Spans
				traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b.AppendRequest(nil))
				if err != nil {
					t.Fatal(err)
				}
				line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
				if err != nil {
					t.Fatal(err)
				}
				sum.Write(append(line, '\n'))
			})
			replay(t, in, in.Header().Config, sink)
			sink.Flush()
			of := strings.TrimSuffix(filepath.Base(name), ".capture.gz")
			fmt.Fprintf(&got, "%x %5d spans of %s\n", sum.Sum(nil), spans, of)
		}
	}
	golden := filepath.Join("testdata", "replays.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("other spans than before. To see which, compare `sheetbend replay --output` of both builds; "+
			"if they are meant to be others: go test ./collector -run %s -update\ngot:\n%swant:\n%s",
			t.Name(), got.String(), want)
	}
}
