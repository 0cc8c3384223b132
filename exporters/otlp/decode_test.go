// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// spanList keeps copies.
type spanList []span.Span

func (l *spanList) Span(s *span.Span) {
	kept := *s
	kept.Links, kept.Attrs = slices.Clone(s.Links), slices.Clone(s.Attrs)
	for i := range kept.Attrs {
		kept.Attrs[i].List = slices.Clone(kept.Attrs[i].List)
	}
	*l = append(*l, kept)
}

func (*spanList) Flush() {}

// both is a sink with an Encoder behind it.
type both struct {
	*spanList
	e *otlp.Encoder
}

func (b both) Span(s *span.Span) { b.spanList.Span(s); b.e.Span(s) }
func (b both) Flush()            { b.e.Flush() }

// messages is a Tap that decodes each span alone.
type messages struct {
	t   *testing.T
	e   *otlp.Encoder
	d   otlp.Decoder
	out spanList
}

func (m *messages) Span(s *span.Span, encoded []byte) {
	if err := m.d.Decode(m.e.AppendTraces(nil, s.Resource, encoded), &m.out); err != nil {
		m.t.Fatal(err)
	}
}

func (*messages) Flush() {}

func replayInto(t *testing.T, name string, sink span.Sink) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	c, err := collector.New(r.Header().Config, sink)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Record(raw)
	}
	c.Close()
}

func seq(s span.Span) int64 { n, _ := span.Attrs(s.Attrs).Int(span.KeySeq); return n }

func compare(t *testing.T, got, want spanList) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d spans became %d", len(want), len(got))
	}
	for i := range want {
		if !reflect.DeepEqual(normal(got[i]), normal(want[i])) {
			t.Fatalf("span %d\ngot  %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

// normal is a span without the difference between none and empty.
func normal(s span.Span) span.Span {
	r := *s.Resource
	s.Resource = &r
	for _, attrs := range []*[]span.Attr{&s.Attrs, &r.Attrs} {
		*attrs = slices.Clone(*attrs)
		for i := range *attrs {
			if len((*attrs)[i].List) == 0 {
				(*attrs)[i].List = nil
			}
		}
	}
	if len(s.Links) == 0 {
		s.Links = nil
	}
	s.OfProgram, s.User = false, span.User{} // which are not exported
	return s
}

func TestWhatIsDecodedIsWhatWasEncoded(t *testing.T) {
	names, err := filepath.Glob("../../testdata/agents/*.capture.gz")
	more, _ := filepath.Glob("../../collector/capture/testdata/*.capture.gz")
	if names = append(names, more...); err != nil || len(names) < 10 {
		t.Fatalf("%d captures, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			var want, batched spanList
			var d otlp.Decoder
			e := otlp.NewEncoder("v1", otlp.Limits{}, func(b otlp.Batch) {
				if err := d.Decode(b.AppendRequest(nil), &batched); err != nil {
					t.Error(err)
				}
			})
			tap := &messages{t: t, e: e}
			e.Tap(tap)
			replayInto(t, name, both{&want, e})
			e.Flush()
			compare(t, tap.out, want)
			slices.SortFunc(batched, func(a, b span.Span) int { return int(seq(a) - seq(b)) })
			compare(t, batched, want)
		})
	}
}

func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// What others made may be made to take memory: it is refused before it does.
func TestWhatWouldTakeMuchMemoryIsNotDecoded(t *testing.T) {
	in := func(spans []byte) []byte { return field(1, field(2, spans)) }
	deep := []byte{0x0a, 0}
	for range 100 {
		deep = field(5, field(1, deep)) // a list with a list
	}
	deepJSON := strings.Repeat(`{"arrayValue":{"values":[`, 100) + strings.Repeat("]}}", 100)
	for _, c := range []struct {
		name    string
		message []byte
		json    string
		says    string
	}{
		{"empty spans", in(bytes.Repeat([]byte{0x12, 0}, 4<<20)), `{"resourceSpans":[{"scopeSpans":[{"spans":[` + strings.Repeat("{},", 4<<20), "fewer spans at a time"},
		{"empty attributes", in(field(2, bytes.Repeat([]byte{9<<3 | 2, 0}, 4<<20))), `[{"attributes":[` + strings.Repeat("{},", 4<<20), "fewer spans at a time"},
		{"empty resources", bytes.Repeat([]byte{0x0a, 0}, 4<<20), strings.Repeat("[],", 4<<20), "fewer spans at a time"},
		{"numbers", in(field(2, bytes.Repeat([]byte{6 << 3, 0}, 4<<20))), "[" + strings.Repeat("1,", 4<<20), "fewer spans at a time"},
		{"values in values", in(field(2, field(9, field(2, deep)))), deepJSON, "too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var d otlp.Decoder
			err := d.Decode(c.message, &spanList{})
			jsonErr := otlp.CheckJSON([]byte(c.json))
			runtime.ReadMemStats(&after)
			for _, err := range []error{err, jsonErr} {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(c.json))+1<<20 {
				t.Errorf("it took %d bytes", took)
			}
		})
	}
	if err := otlp.CheckJSON([]byte(`{"a":"` + strings.Repeat("{,[", 1<<20) + `\\\"{","b":[]}`)); err != nil {
		t.Errorf("a text is taken for structure: %v", err)
	}
}

// What an Encoder makes can be decoded, at its bounds, too.
func TestTheLargestBatchCanBeDecoded(t *testing.T) {
	for _, a := range []span.Attr{
		{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: make([]string, 1<<18-100)},
		{Key: span.KeyFilePath, Kind: span.StringAttr, Str: strings.Repeat("\x01", 1<<20-1000)},
	} {
		batches := 0
		e := otlp.NewEncoder("v1", otlp.Limits{}, func(b otlp.Batch) {
			batches++
			var d otlp.Decoder
			var out spanList
			message := b.AppendRequest(nil)
			if err := d.Decode(message, &out); err != nil || len(out) != 1 || len(message) < 1<<20-2000 {
				t.Errorf("%d bytes, %d spans, %v", len(message), len(out), err)
			}
			traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(message)
			if err != nil {
				t.Fatal(err)
			}
			line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
			if err != nil || len(line) > otlp.MaxLine || otlp.CheckJSON(line) != nil {
				t.Errorf("a line of %d bytes: %v", len(line), err)
			}
		})
		e.Span(&span.Span{
			Trace: span.TraceID{1}, ID: span.ID{2}, Kind: span.Exec, Name: "x", Start: 1, End: 2, Resource: &span.Resource{},
			Attrs: []span.Attr{{Key: span.KeyEvent, Kind: span.StringAttr, Str: span.Exec.String()}, a},
		})
		e.Flush()
		if batches != 1 {
			t.Errorf("%d batches", batches)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := otlp.NewEncoder("v1", otlp.Limits{}, func(b otlp.Batch) { f.Add(b.AppendRequest(nil)) })
	e.Span(&span.Span{
		Trace: span.TraceID{1}, ID: span.ID{2}, Parent: span.ID{3}, Kind: span.Exec, Name: "x", Start: 1, End: 2, Failed: true,
		Status: "exit 1", Links: []span.Ref{{Rel: span.ToParent}}, Resource: &span.Resource{},
		Attrs: []span.Attr{{Key: span.KeyEvent, Kind: span.StringAttr, Str: span.Exec.String()}, {Key: span.KeyStandIn, Kind: span.BoolAttr, Int: 1}},
	})
	e.Flush()
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, message []byte) {
		var d otlp.Decoder
		var spans spanList
		if err := d.Decode(message, &spans); err != nil {
			var traces trace.TracesData
			if otlp.Check(message) == nil && proto.Unmarshal(message, &traces) == nil {
				t.Fatal(err)
			}
			return
		}
		for i := range spans { // sound enough to be encoded again
			e := otlp.NewEncoder("v1", otlp.Limits{})
			tap := &messages{t: t, e: e}
			e.Tap(tap)
			e.Span(&spans[i])
			if len(tap.out)+int(e.TooLarge()) != 1 {
				t.Fatalf("%+v is decoded and not encoded", spans[i])
			}
		}
	})
}
