// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// write makes batches of two spans.
func write(e *Exporter, from, to int) {
	writeBatches(e, from, to, 2)
}

func writeBatches(e *Exporter, from, to, per int) {
	r := &span.Resource{Attrs: []span.Attr{{Key: span.KeyServiceName, Kind: span.StringAttr, Str: "codex"}}}
	enc := otlp.NewEncoder("1.0.0", otlp.Limits{Spans: per}, e.Write)
	for i := from; i < to; i++ {
		enc.Span(&span.Span{
			Trace: span.TraceID{0xab, 15: 1}, ID: span.ID{0xcd, 7: byte(i)}, Parent: span.ID{0xef}, Kind: span.Open, Name: "file.open",
			Start: 1_790_000_000_000_000_001, End: 1_790_000_000_000_001_001, Failed: true, Status: "EACCES", Resource: r,
			Links: []span.Ref{{Link: span.Link{Trace: span.TraceID{15: 9}, Span: span.ID{8}}, Rel: span.ToStory}},
			Attrs: []span.Attr{
				{Key: span.KeyPID, Kind: span.IntAttr, Int: 1 << 53},
				{Key: span.KeyFilePath, Kind: span.StringAttr, Str: "/tmp/<a>\n\u2028\x1b"},
				{Key: span.KeySensitive, Kind: span.BoolAttr, Int: 1},
				{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: []string{"sh", ""}},
			},
		})
	}
	enc.Flush()
}

func TestLineIsOTLPJSON(t *testing.T) {
	var out bytes.Buffer
	e := New("buffer", &out, nil)
	write(e, 0, 3)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 || e.Stats() != (Stats{Written: 3}) {
		t.Fatalf("got %d lines and %+v, want 2 lines of 3 spans", len(lines), e.Stats())
	}
	for _, want := range []string{
		`"traceId":"ab000000000000000000000000000001"`, `"spanId":"cd00000000000000"`, `"parentSpanId":"ef00000000000000"`,
		`"startTimeUnixNano":"1790000000000000001"`, `"intValue":"9007199254740992"`, `"boolValue":true`, `"code":2`, `"kind":1`, `"flags":257`,
		`"name":"github.com/sheetbend/sheetbend"`, `"version":"1.0.0"`,
		`"schemaUrl":"https://opentelemetry.io/schemas/1.43.0"`, `"links":[{"traceId":"00000000000000000000000000000009","spanId":"0800000000000000",` +
			`"attributes":[{"key":"sheetbend.link","value":{"stringValue":"story"}}],"flags":1}]`,
	} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("the line lacks %s:\n%s", want, lines[0])
		}
	}
	spans := 0
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		spans += traces.SpanCount()
		path, _ := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().Get(span.KeyFilePath)
		if path.Str() != "/tmp/<a>\n\u2028\x1b" {
			t.Errorf("the path came back as %q", path.Str())
		}
	}
	if spans != 3 {
		t.Errorf("parsed %d spans, want 3", spans)
	}
}

// Of a batch of log records, as a dead letter can be, the line is a request of logs.
func TestALineOfLogRecordsIsOTLPJSON(t *testing.T) {
	var out bytes.Buffer
	e := New("buffer", &out, nil)
	enc := otlp.NewEventEncoder("1.0.0", otlp.Limits{}, e.Write)
	enc.Span(&span.Span{Kind: span.Exit, End: 7, Attrs: []span.Attr{{Key: span.KeyOOMKilled, Kind: span.BoolAttr, Int: 1}}})
	enc.Flush()
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(out.Bytes())
	if err != nil || logs.LogRecordCount() != 1 {
		t.Fatalf("%v: %s", err, &out)
	}
	if r := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0); r.EventName() != "sheetbend.oom" || r.Timestamp() != 7 {
		t.Errorf("%s", &out)
	}
}

func TestSameSpansGiveTheSameBytes(t *testing.T) {
	run := func() []byte {
		var out bytes.Buffer
		e := New("buffer", &out, nil)
		write(e, 0, 100)
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return out.Bytes()
	}
	if !bytes.Equal(run(), run()) {
		t.Error("two runs differ")
	}
}

func TestFileThatExists(t *testing.T) {
	tests := []struct {
		name   string
		before string
		lines  int
	}{
		{"is continued", "old\n", 2},
		{"is continued on a new line after half a line", `{"half`, 2},
		{"is continued when empty", "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "spans.jsonl")
			if err := os.WriteFile(path, []byte(tt.before), 0o644); err != nil {
				t.Fatal(err)
			}
			e := attach(t, path)
			write(e, 0, 1)
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(got, []byte("\n")); n != tt.lines || !bytes.HasPrefix(got, []byte(tt.before)) {
				t.Errorf("%d lines in %s", n, got)
			}
		})
	}
}

// attach opens for writing only, as sheetbend does.
func attach(t *testing.T, path string) *Exporter {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return Attach(f, nil)
}

// A flakyDisk has no room for the lines, counted from 0, that full says; half of each is written.
type flakyDisk struct {
	bytes.Buffer
	full func(line int) bool
	line int
}

func (f *flakyDisk) Write(p []byte) (int, error) {
	f.line++
	if !f.full(f.line - 1) {
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:len(p)/2])
	return n, errors.New("no space left on device")
}

func TestWriteErrorIsToldOnceAndSpansAreCounted(t *testing.T) {
	var log bytes.Buffer
	e := New("full", &flakyDisk{full: func(line int) bool { return line > 0 }}, slog.New(slog.NewTextHandler(&log, nil)))
	write(e, 0, 10)
	if err := e.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "write spans to full: no space left") {
		t.Errorf("Close returned %v", err)
	}
	if got := e.Stats(); got != (Stats{Written: 2, Dropped: 8}) {
		t.Errorf("got %+v, want 2 written and 8 dropped", got)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("the error is told %d times:\n%s", n, log.String())
	}
}

func TestWritingGoesOnAfterAnOutage(t *testing.T) {
	var log bytes.Buffer
	disk := &flakyDisk{full: func(line int) bool { return line == 1 || line == 2 || line == 4 }}
	e := New("flaky", disk, slog.New(slog.NewTextHandler(&log, nil)))
	write(e, 0, 12)
	if err := e.Close(t.Context()); err == nil {
		t.Error("Close does not tell of the outage")
	}
	if got := e.Stats(); got != (Stats{Written: 6, Dropped: 6}) {
		t.Errorf("got %+v, want 6 written and 6 dropped", got)
	}
	whole := 0
	for line := range strings.Lines(disk.String()) {
		if json.Valid([]byte(line)) {
			whole++
		}
	}
	if whole != 3 {
		t.Errorf("%d whole lines, want 3: half a line must not spoil the next:\n%s", whole, disk.String())
	}
	if told, over := strings.Count(log.String(), "no space"), strings.Count(log.String(), "again"); told != 2 || over != 2 {
		t.Errorf("two outages are told %d times, their ends %d times:\n%s", told, over, log.String())
	}
}

func TestHalfALineIsTakenBackFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	e := attach(t, path)
	e.w = halfOnce{e.file, new(bool)} // before the first batch: the goroutine has not looked at it
	write(e, 0, 6)
	if err := e.Close(t.Context()); err == nil {
		t.Error("Close does not tell of the error")
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
	if len(lines) != 2 || !json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) || e.Stats() != (Stats{Written: 4, Dropped: 2}) {
		t.Errorf("%+v, and not two whole lines:\n%s", e.Stats(), got)
	}
}

// halfOnce writes half of the first line.
type halfOnce struct {
	f    *os.File
	done *bool
}

func (h halfOnce) Write(p []byte) (int, error) {
	if *h.done {
		return h.f.Write(p)
	}
	*h.done = true
	n, _ := h.f.Write(p[:len(p)/2])
	return n, errors.New("no space left on device")
}

func TestAPatientExporterWaitsForASlowReader(t *testing.T) {
	r, w := io.Pipe()
	e := New("pipe", w, nil)
	e.Patient()
	go func() {
		write(e, 0, 1000) // far more batches than may wait
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.Close()
	}()
	lines := 0
	for scanner := bufio.NewScanner(r); scanner.Scan(); {
		lines++
	}
	if got := e.Stats(); lines != 500 || got != (Stats{Written: 1000}) {
		t.Errorf("read %d lines, %+v, want 500 of 1000 spans", lines, got)
	}
}

// stuck is a pipe that nobody reads.
func stuck(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAReaderThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	const spans = 3 * waitingBatches
	for name, open := range map[string]func(log *slog.Logger) *Exporter{
		"a pipe of its own": func(log *slog.Logger) *Exporter { return Attach(stuck(t), log) },
		"a writer that cannot be interrupted": func(log *slog.Logger) *Exporter {
			r, w := io.Pipe()
			t.Cleanup(func() { _ = r.Close() })
			return New("deaf", w, log)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			e := open(slog.New(slog.NewTextHandler(&log, nil)))
			writeBatches(e, 0, spans, 1) // returns
			if s := e.Stats(); s.Full == 0 || s.Dropped != 0 {
				t.Errorf("%+v: want some without room", s)
			}
			if n := strings.Count(log.String(), "faster than they can be written"); n != 1 {
				t.Errorf("told %d times:\n%s", n, log.String())
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = e.Close(ctx) // returns
			if s := e.Stats(); s.Written+s.Dropped+s.Full != spans || s.Dropped == 0 {
				t.Errorf("%+v: want %d spans accounted for", s, spans)
			}
		})
	}
}

func BenchmarkLine(b *testing.B) {
	e := New("nothing", io.Discard, nil)
	e.Patient()
	const spans = 1024
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		writeBatches(e, 0, spans, 512)
		n += spans
	}
	if err := e.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/span")
}

// What is moved away or removed, as a rotation of logs does, is followed by a new file; where that cannot be made, spans go
// on to the old one, and a line says so once.
func TestAFileThatIsMovedOrRemovedIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "s.jsonl")
	var log bytes.Buffer
	var refuse error
	open := func() (*os.File, error) {
		if refuse != nil {
			return nil, refuse
		}
		return os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	f, err := open()
	if err != nil {
		t.Fatal(err)
	}
	e := prepare(name, f, slog.New(slog.NewTextHandler(&log, nil)))
	e.file, e.open = f, open
	lines := func(name string) int {
		text, err := os.ReadFile(name)
		if err != nil {
			return -1
		}
		return bytes.Count(text, []byte("\n"))
	}
	step := func() { // what the writing goroutine does
		e.Reopen()
		write(e, 0, 2)
		for range len(e.batches) {
			b := <-e.batches
			e.lookAround()
			if err := e.line(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(name string, want int) {
		t.Helper()
		if got := lines(name); got != want {
			t.Errorf("%s has %d lines, want %d", filepath.Base(name), got, want)
		}
	}
	step()
	expect(name, 1)
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	step()
	expect(name, 1)
	expect(name+".1", 1)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	step()
	expect(name, 1)
	if err := os.Rename(name, name+".2"); err != nil {
		t.Fatal(err)
	}
	refuse = errors.New("no more files")
	step()
	step()
	expect(name+".2", 3)
	if n := strings.Count(log.String(), "no more files"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
	refuse = nil
	step()
	expect(name, 1)
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
	if err := e.file.Close(); err != nil {
		t.Fatal(err)
	}
}
