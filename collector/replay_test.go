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
	"slices"
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
func replay(t *testing.T, in interface{ Next() ([]byte, error) }, config collector.Config, sink span.Sink) *collector.Collector {
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

// checkContract holds a span of a capture to what contract 2 has on every one.
func checkContract(t *testing.T, s *span.Span) {
	a := span.Attrs(s.Attrs)
	outcome, errno := span.Outcome(a.Text(span.KeyOutcome)), a.Text(span.KeyErrorType)
	wrong := func(what string) { t.Errorf("%s: %s: %+v", s.Kind, what, s.Attrs) }
	if a.Text(span.KeyEvent) != s.Kind.String() {
		wrong("event")
	}
	if a.Find(span.KeyPID) != nil && a.Find(span.KeyCreationTime) == nil {
		wrong("a process without its creation time")
	}
	for _, l := range s.Links {
		if !slices.Contains([]span.Rel{span.ToParent, span.ToCall, span.ToAgent, span.ToStory, span.ToDetail}, l.Rel) {
			wrong("a link that leads to " + string(l.Rel))
		}
	}
	var want []span.Outcome // one of them
	switch {
	case s.Kind == span.Escape || s.Kind == span.Loss || s.Kind == span.Session || s.Kind == span.SessionEnd || s.StandIn ||
		s.Kind == span.SandboxEnd || s.Kind == span.Start || s.Kind == span.ConnectStart:
		want = []span.Outcome{""}
	case s.Kind == span.Tool || s.Kind == span.ToolStart || s.Kind == span.ToolEnd || s.Kind == span.Telemetry || s.Kind == span.SessionCall:
		want = []span.Outcome{"", span.Refused, span.OK, span.Failed}
		if code, ok := a.Int(span.KeyCallExitCode); a.Text(span.KeyToolResult) == "failed" || code != 0 {
			want = []span.Outcome{span.Failed, span.Refused}
		} else if ok {
			want = []span.Outcome{span.OK}
		}
	case a.Is(span.KeyPartial) || a.Is(span.KeyReplaced) || a.Is(span.KeyExitUnknown) || a.Is(span.KeyFileSubmitted) ||
		a.Is(span.KeyPeerSubmitted) || a.Text(span.KeyNetworkOp) == "sendmsg":
		want = []span.Outcome{""}
	case s.Kind == span.Exec || s.Kind == span.Exit:
		want = []span.Outcome{span.Failed}
		if code, ok := a.Int(span.KeyExitCode); ok && code == 0 {
			want[0] = span.OK
		}
	case errno == "":
		want = []span.Outcome{span.OK}
	case errno == "ECANCELED":
		want = []span.Outcome{""}
	default:
		want = []span.Outcome{map[string]span.Outcome{
			"ENOENT": span.Missing, "ENOTDIR": span.Missing, "ENXIO": span.Missing, "ESRCH": span.Missing,
			"EPERM": span.Refused, "EACCES": span.Refused, "EROFS": span.Refused,
		}[errno]}
		if want[0] == "" {
			want[0] = span.Failed
		}
	}
	if !slices.Contains(want, outcome) {
		wrong(fmt.Sprintf("outcome %q, want %q", outcome, want))
	}
	access := a.Text(span.KeyFileAccess)
	moves := slices.Contains([]string{"mount", "umount", "move_mount", "pivot_root", "chroot"}, a.Text(span.KeyFileOperation))
	if writes := s.Kind == span.Change && !moves || access != "" && access != "read" && access != "path_only"; a.Is(span.KeyFileWrite) != writes {
		wrong("written or not")
	}
	if tool := a.Text(span.KeyGenAIToolName); (tool != "") !=
		(s.Kind == span.Tool || s.Kind == span.ToolStart || s.Kind == span.ToolEnd || s.Kind == span.SessionCall) {
		wrong("the tool's name is " + tool)
	}
}

// checked gives each span to checkContract and hands it on.
type checked struct {
	span.Sink
	t *testing.T
}

func (c checked) Span(s *span.Span) {
	checkContract(c.t, s)
	c.Sink.Span(s)
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
			replay(t, in, in.Header().Config, checked{sink, t})
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
