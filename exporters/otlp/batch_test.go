// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/span"
)

func decodeBatch(t testing.TB, b Batch) *tracepb.TracesData {
	t.Helper()
	var data tracepb.TracesData
	if err := proto.Unmarshal(b.AppendRequest(nil), &data); err != nil {
		t.Fatalf("batch %d is no valid message: %v", b.Seq, err)
	}
	return &data
}

func collect(version string, limits Limits) (*Encoder, *[]Batch) {
	var got []Batch
	return NewEncoder(version, limits, func(b Batch) { got = append(got, b) }), &got
}

func TestBatchGroupsSpansByResource(t *testing.T) {
	codex := &span.Resource{Attrs: []span.Attr{str("service.name", "codex"), num("host.cpus", 2)}}
	claude := &span.Resource{Attrs: []span.Attr{str("service.name", "claude-code")}}
	e, got := collect("1.2.3", Limits{})
	for i, r := range []*span.Resource{codex, claude, codex, nil, claude} {
		e.Span(&span.Span{ID: span.ID{byte(i + 1)}, Resource: r})
	}
	e.Flush()
	if len(*got) != 1 || (*got)[0].Spans != 5 || (*got)[0].Seq != 1 {
		t.Fatalf("got %d batches, the first %+v, want one of 5 spans", len(*got), *got)
	}
	data := decodeBatch(t, (*got)[0])
	var ids [][]byte
	for i, rs := range data.ResourceSpans {
		scope := rs.ScopeSpans[0]
		if len(rs.ScopeSpans) != 1 || scope.Scope.GetName() != "github.com/sheetbend/sheetbend" || scope.Scope.GetVersion() != "1.2.3" {
			t.Errorf("group %d has the scopes %v", i, rs.ScopeSpans)
		}
		if scope.SchemaUrl != span.Schema || rs.Resource != nil && rs.SchemaUrl != span.Schema {
			t.Errorf("group %d has the schemas %q and %q", i, rs.SchemaUrl, scope.SchemaUrl)
		}
		var id []byte
		for _, s := range scope.Spans {
			id = append(id, s.SpanId[0])
		}
		ids = append(ids, id)
	}
	if want := [][]byte{{1, 3}, {2, 5}, {4}}; !slices.EqualFunc(ids, want, bytes.Equal) {
		t.Errorf("span ids by group: %v, want %v", ids, want)
	}
	if attrs := data.ResourceSpans[0].Resource.Attributes; len(attrs) != 2 || attrs[0].Value.GetStringValue() != "codex" {
		t.Errorf("resource attributes: %v", attrs)
	}
	if data.ResourceSpans[2].Resource != nil {
		t.Errorf("spans without a resource got one: %v", data.ResourceSpans[2].Resource)
	}
}

func TestBatchClosesAtItsLimits(t *testing.T) {
	big := func(n int) span.Span {
		return span.Span{Attrs: []span.Attr{str("k", strings.Repeat("x", n))}}
	}
	tests := []struct {
		name     string
		limits   Limits
		spans    []span.Span
		want     []int // spans of each batch
		tooLarge uint64
	}{
		{"no spans make no batch", Limits{}, nil, nil, 0},
		{"by default at 512 spans", Limits{}, make([]span.Span, 1025), []int{512, 512, 1}, 0},
		{"at the limit of spans", Limits{Spans: 2}, make([]span.Span, 5), []int{2, 2, 1}, 0},
		{"before the limit of bytes", Limits{Bytes: 1000}, []span.Span{big(300), big(300), big(300)}, []int{2, 1}, 0},
		{"a span larger than the limit is dropped alone", Limits{Bytes: 1000}, []span.Span{big(100), big(2000), big(100)}, []int{1, 1}, 1},
		{"a too large first span leaves no batch", Limits{Bytes: 1000}, []span.Span{big(2000)}, nil, 1},
		{"a span that fits alone is kept", Limits{Bytes: 1000}, []span.Span{big(500), big(800), big(500)}, []int{1, 1, 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, got := collect("", tt.limits)
			for i := range tt.spans {
				e.Span(&tt.spans[i])
			}
			e.Flush()
			e.Flush() // nothing is open: no empty batch
			var sizes []int
			for i, b := range *got {
				n := 0
				for _, rs := range decodeBatch(t, b).ResourceSpans {
					n += len(rs.ScopeSpans[0].Spans)
				}
				if n != b.Spans || b.Seq != uint64(i+1) {
					t.Errorf("batch %d says %d spans and number %d, but holds %d", i+1, b.Spans, b.Seq, n)
				}
				if tt.limits.Bytes > 0 && b.Size() > tt.limits.Bytes {
					t.Errorf("batch %d has %d bytes", i+1, b.Size())
				}
				sizes = append(sizes, n)
			}
			if !slices.Equal(sizes, tt.want) || e.TooLarge() != tt.tooLarge {
				t.Errorf("got %v and %d too large, want %v and %d", sizes, e.TooLarge(), tt.want, tt.tooLarge)
			}
		})
	}
}

func TestTooLargeSpanGoesWithoutWhatMakesItLarge(t *testing.T) {
	e, got := collect("", Limits{})
	long := strings.Repeat("é", 1<<20)
	e.Span(&span.Span{Name: "before"})
	e.Span(&span.Span{
		ID: span.ID{7}, Name: long, Failed: true, Status: long,
		Attrs: []span.Attr{num("process.pid", 7), list(span.KeyCommandArgs, make([]string, 1<<18)...), str("long", long), str("short", "kept")},
	})
	e.Flush()
	if len(*got) != 2 || e.TooLarge() != 0 {
		t.Fatalf("%d batches, %d too large", len(*got), e.TooLarge())
	}
	s := decodeBatch(t, (*got)[1]).ResourceSpans[0].ScopeSpans[0].Spans[0]
	keys := map[string]string{}
	for _, a := range s.Attributes {
		keys[a.Key] = a.Value.String()
		if a.Key == "long" {
			if v := a.Value.GetStringValue(); len(v) > maxTruncatedText || !strings.HasSuffix(v, "é…") {
				t.Errorf("long is %d bytes, ends in %q", len(v), v[len(v)-5:])
			}
		}
	}
	if s.SpanId[0] != 7 || len(s.Name) > maxTruncatedText || len(s.Status.Message) > maxTruncatedText || keys["process.pid"] == "" || keys["short"] == "" ||
		keys[span.KeyArgsTruncated] == "" || keys[span.KeyCommandArgs] != "" {
		t.Errorf("span %v", keys)
	}
}

func TestSameSpansAndFlushesGiveTheSameBatches(t *testing.T) {
	run := func() (out [][]byte) {
		var resources []*span.Resource
		for i := range 40 {
			resources = append(resources, &span.Resource{Attrs: []span.Attr{num("n", int64(i))}})
		}
		e := NewEncoder("1", Limits{Spans: 100}, func(b Batch) { out = append(out, b.AppendRequest(nil)) })
		for i := range 1000 {
			e.Span(typicalSpan(i, resources[i*7%40]))
			if i%333 == 0 {
				e.Flush()
			}
		}
		e.Flush()
		return out
	}
	if a, b := run(), run(); !slices.EqualFunc(a, b, bytes.Equal) {
		t.Error("two runs gave different batches")
	}
}

func TestBatchKeepsNothingOfAReusedSpan(t *testing.T) {
	e, got := collect("", Limits{})
	s := &span.Span{Name: "first", Resource: &span.Resource{Attrs: []span.Attr{str("k", "one")}}, Attrs: []span.Attr{list("l", "a")}}
	e.Span(s)
	e.Flush()
	before := (*got)[0].AppendRequest(nil)
	s.Name, s.Attrs[0].List[0], s.Resource.Attrs[0].Str = "second", "b", "two"
	e.Span(s)
	e.Flush()
	if !bytes.Equal(before, (*got)[0].AppendRequest(nil)) {
		t.Error("the first batch changed")
	}
	if v := decodeBatch(t, (*got)[1]).ResourceSpans[0].Resource.Attributes[0].Value.GetStringValue(); v != "two" {
		t.Errorf("a resource that changed between batches is sent as %q", v)
	}
}

func TestEveryConsumerGetsEveryBatch(t *testing.T) {
	var a, b int
	e := NewEncoder("", Limits{}, func(x Batch) { a += x.Spans }, func(x Batch) { b += x.Spans })
	for range 600 {
		e.Span(&span.Span{})
	}
	e.Flush()
	if a != 600 || b != 600 {
		t.Errorf("consumers got %d and %d spans, want 600 each", a, b)
	}
}
