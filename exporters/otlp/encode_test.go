// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"fmt"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// The reference: the same messages by way of the generated types.

func referenceSpan(s *span.Span) *tracepb.Span {
	p := &tracepb.Span{
		TraceId:           s.Trace[:],
		SpanId:            s.ID[:],
		Name:              clean(s.Name),
		Kind:              tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: s.Start,
		EndTimeUnixNano:   s.End,
		Attributes:        referenceAttrs(s.Attrs),
		Flags:             uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK) | 1,
	}
	if s.Remote {
		p.Flags |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	if s.Parent != (span.ID{}) {
		p.ParentSpanId = s.Parent[:]
	}
	if s.Kind == span.Connect {
		p.Kind = tracepb.Span_SPAN_KIND_CLIENT
	}
	for _, l := range s.Links {
		p.Links = append(p.Links, &tracepb.Span_Link{
			TraceId: l.Trace[:], SpanId: l.Span[:], Flags: 1, Attributes: referenceAttrs([]span.Attr{str(span.KeyLink, string(l.Rel))}),
		})
	}
	if s.Failed {
		p.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: clean(s.Status)}
	}
	return p
}

func referenceAttrs(attrs []span.Attr) []*commonpb.KeyValue {
	var out []*commonpb.KeyValue
	for _, a := range attrs {
		if a.Key == "" {
			continue
		}
		v := &commonpb.AnyValue{}
		switch a.Kind {
		case span.StringAttr:
			v.Value = &commonpb.AnyValue_StringValue{StringValue: clean(a.Str)}
		case span.IntAttr:
			v.Value = &commonpb.AnyValue_IntValue{IntValue: a.Int}
		case span.BoolAttr:
			v.Value = &commonpb.AnyValue_BoolValue{BoolValue: a.Int != 0}
		case span.StringsAttr:
			list := &commonpb.ArrayValue{}
			for _, s := range a.List {
				list.Values = append(list.Values, &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(s)}})
			}
			v.Value = &commonpb.AnyValue_ArrayValue{ArrayValue: list}
		default:
			continue
		}
		out = append(out, &commonpb.KeyValue{Key: clean(a.Key), Value: v})
	}
	return out
}

func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func decodeSpan(t testing.TB, raw []byte) *tracepb.Span {
	t.Helper()
	var scope tracepb.ScopeSpans
	if err := proto.Unmarshal(raw, &scope); err != nil {
		t.Fatalf("encoded span is no valid message: %v", err)
	}
	if len(scope.Spans) != 1 || len(scope.ProtoReflect().GetUnknown()) != 0 {
		t.Fatalf("got %d spans and %d unknown bytes, want one span", len(scope.Spans), len(scope.ProtoReflect().GetUnknown()))
	}
	return scope.Spans[0]
}

func TestEncodedSpan(t *testing.T) {
	long := func(n int) []span.Attr { return []span.Attr{str("k", strings.Repeat("x", n))} }
	tests := []struct {
		name string
		s    span.Span
	}{
		{"a zero span is valid", span.Span{}},
		{"a root has no parent field", span.Span{Trace: span.TraceID{1}, ID: span.ID{2}, Name: "process.exec"}},
		{"a child names its parent", span.Span{Trace: span.TraceID{1}, ID: span.ID{2}, Parent: span.ID{3}}},
		{"a connect is a client span", span.Span{Kind: span.Connect, Name: "net.connect"}},
		{"an execute_tool span is internal", span.Span{Kind: span.Tool}},
		{"times are fixed64", span.Span{Start: 1, End: 1<<64 - 1}},
		{"a failure has a status and its message", span.Span{Failed: true, Status: "EACCES"}},
		{"a failure may have no message", span.Span{Failed: true}},
		{"a status message alone is no failure", span.Span{Status: "ignored"}},
		{"a parent of another producer is remote", span.Span{Parent: span.ID{7}, Remote: true}},
		{"links carry the flags too, and say what they are", span.Span{Links: []span.Ref{
			{Link: span.Link{Trace: span.TraceID{9}, Span: span.ID{8}}, Rel: span.ToStory}, {Rel: span.ToParent}, {},
		}}},
		{"every attribute kind keeps its type", span.Span{Attrs: []span.Attr{
			str("s", "v"), str("empty", ""), num("i", 42), num("neg", -1), num("zero", 0), num("min", -1<<63),
			flag("yes", true), flag("no", false), list("list", "a", "", "c d"), list("none"),
		}}},
		{"attributes without key or kind are left out", span.Span{Attrs: []span.Attr{{Key: "k"}, str("", "v"), {Key: "x", Kind: 99}}}},
		{"invalid UTF-8 is replaced everywhere", span.Span{Name: "\xff", Failed: true, Status: "a\xc0b", Attrs: []span.Attr{
			str("k\x80", "\xed\xa0\x80"), list("l", "ok", "\xf0\x28"),
		}}},
		{"a body of 127 bytes has a one byte length", span.Span{Attrs: long(127 - 61)}},
		{"a body of 128 bytes has a two byte length", span.Span{Attrs: long(128 - 61)}},
		{"a body beyond 16383 bytes has a three byte length", span.Span{Attrs: long(16 << 10)}},
		{"a body beyond 2 MiB has a four byte length", span.Span{Attrs: long(3 << 20)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := decodeSpan(t, appendSpan([]byte{}, &tt.s))
			if want := referenceSpan(&tt.s); !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// Around each size at which a length grows by a byte, nothing may shift wrongly.
func TestEncodedSpanOfEverySizeAroundALengthStep(t *testing.T) {
	for _, around := range []int{1 << 7, 1 << 14} {
		for n := max(0, around-90); n < around+10; n++ {
			s := span.Span{Attrs: []span.Attr{str("k", strings.Repeat("x", n))}, Failed: true}
			if got, want := decodeSpan(t, appendSpan(nil, &s)), referenceSpan(&s); !proto.Equal(got, want) {
				t.Fatalf("attribute of %d bytes: got %v, want %v", n, got, want)
			}
		}
	}
}

func FuzzEncodedSpan(f *testing.F) {
	f.Add([]byte("id"), "process.exec", "EACCES", "process.pid", "sh\x00-c", int64(-5), uint64(7), uint8(3))
	f.Add([]byte{}, "", "", "", "\xff", int64(0), uint64(0), uint8(0))
	f.Add([]byte("x"), strings.Repeat("n", 130), "", "k", strings.Repeat("v", 17000), int64(1<<62), uint64(1), uint8(255))
	f.Fuzz(func(t *testing.T, id []byte, name, status, key, text string, n int64, at uint64, kinds uint8) {
		s := span.Span{Name: name, Kind: span.Kind(kinds % 9), Start: at, End: at + 1, Failed: kinds&1 != 0, Status: status}
		copy(s.ID[:], id)
		copy(s.Trace[:], id)
		if kinds&2 != 0 {
			copy(s.Parent[:], id)
		}
		if kinds&4 != 0 {
			s.Links = append(s.Links, span.Ref{Link: span.Link{Trace: s.Trace, Span: s.ID}, Rel: span.ToAgent})
		}
		for i := range int(kinds % 32) {
			s.Attrs = append(s.Attrs, span.Attr{Key: key, Kind: span.AttrKind(i % 6), Str: text, Int: n, List: strings.Split(text, "\x00")})
		}
		if got, want := decodeSpan(t, appendSpan(nil, &s)), referenceSpan(&s); !proto.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		event := notable.Event{Name: "secret", Severity: notable.Warn, Sentence: text}
		var scope logspb.ScopeLogs
		if err := proto.Unmarshal(appendRecord(nil, &s, event), &scope); err != nil {
			t.Fatalf("encoded record is no valid message: %v", err)
		}
		if want := referenceRecord(&s, event); len(scope.LogRecords) != 1 || !proto.Equal(scope.LogRecords[0], want) {
			t.Errorf("got  %v\nwant %v", scope.LogRecords, want)
		}
		r := &span.Resource{Attrs: s.Attrs}
		var resource resourcepb.Resource
		if err := proto.Unmarshal(appendResource(nil, r), &resource); err != nil {
			t.Fatalf("encoded resource is no valid message: %v", err)
		}
		if want := (&resourcepb.Resource{Attributes: referenceAttrs(r.Attrs)}); !proto.Equal(&resource, want) {
			t.Errorf("resource: got %v\nwant %v", &resource, want)
		}
	})
}

// typicalSpan has the size of spans in the delivery benchmark: 25 attributes, about 880 bytes.
func typicalSpan(i int, r *span.Resource) *span.Span {
	s := &span.Span{
		Trace: span.TraceID{1, 2, 3, byte(i), byte(i >> 8)}, ID: span.ID{4, byte(i), byte(i >> 8), byte(i >> 16)}, Parent: span.ID{5},
		Kind: span.Open, Name: "file.open", Start: 1_790_000_000_000_000_000, End: 1_790_000_000_000_001_000,
		Resource: r, Session: "0192f0c1-7a5e-7c1e-9a52-6f1f0a3c2b11",
		Attrs: []span.Attr{
			str(span.KeyContract, span.Contract), num(span.KeySeq, int64(i)), str(span.KeySandboxID, "sb-0123456789abcdef"),
			str(span.KeySessionID, "0192f0c1-7a5e-7c1e-9a52-6f1f0a3c2b11"), str(span.KeyAgentName, "codex"), str(span.KeyAttribution, "session"),
			num(span.KeyPID, 424242), str(span.KeyExecutablePath, "/usr/bin/python3.13"), str(span.KeyExecutableName, "python3.13"),
			str(span.KeyParentExecutable, "/usr/bin/dash"), str(span.KeyCgroup, "/agents/run-7f3a"),
			str(span.KeyFilePath, "/home/user/project/src/module.py"), num(span.KeyFileInode, 1234567), str(span.KeyFileAccess, "read"), num(span.KeyCount, 3),
			str(span.KeyFileRequested, "src/module.py"), flag(span.KeySensitive, false), num(span.KeyUserID, 1000), num(span.KeyParentPID, 424200),
		},
	}
	for n := len(s.Attrs); n < 25; n++ {
		s.Attrs = append(s.Attrs, num(fmt.Sprintf("sheetbend.filler.%02d", n), int64(n)))
	}
	return s
}

func BenchmarkEncode(b *testing.B) {
	r := &span.Resource{Attrs: []span.Attr{str("service.name", "codex"), str("host.name", "h"), str("host.id", "0123456789abcdef")}}
	spans := make([]*span.Span, 1024)
	for i := range spans {
		spans[i] = typicalSpan(i, r)
	}
	size := 0
	e := NewEncoder("1.0.0", Limits{}, func(b Batch) { size += b.Size() })
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		e.Span(spans[n%len(spans)])
		n++
	}
	e.Flush()
	b.ReportMetric(float64(size)/float64(n), "bytes/span")
}

// BenchmarkEncodeWithTheLibrary encodes the spans of BenchmarkEncode as messages of go.opentelemetry.io/proto/otlp: what it
// costs more is the reason for the encoder. Resource, scope and batches are left out.
func BenchmarkEncodeWithTheLibrary(b *testing.B) {
	spans := make([]*span.Span, 1024)
	for i := range spans {
		spans[i] = typicalSpan(i, nil)
	}
	var buf []byte
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		var err error
		if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], referenceSpan(spans[n%len(spans)])); err != nil {
			b.Fatal(err)
		}
	}
}

func str(k, v string) span.Attr            { return span.Attr{Key: k, Kind: span.StringAttr, Str: v} }
func num(k string, v int64) span.Attr      { return span.Attr{Key: k, Kind: span.IntAttr, Int: v} }
func list(k string, v ...string) span.Attr { return span.Attr{Key: k, Kind: span.StringsAttr, List: v} }
func flag(k string, v bool) span.Attr {
	a := span.Attr{Key: k, Kind: span.BoolAttr}
	if v {
		a.Int = 1
	}
	return a
}
