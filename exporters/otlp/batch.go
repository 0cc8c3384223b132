// SPDX-License-Identifier: Apache-2.0

// Package otlp turns spans into OTLP: an Encoder writes each span, or what is notable in it as a log record, once into
// protobuf bytes and closes them into batches, a Sender makes one attempt to deliver a batch over gRPC or HTTP, and a
// FailOver one to the first of several endpoints that takes it.
package otlp

import (
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Batch is a closed group of encoded spans, or of an agent's telemetry. Its bytes are shared by all consumers and never
// change.
type Batch struct {
	Seq      uint64 // of the batches of one Encoder, from 1, without gaps
	Signal   Signal
	PassedOn bool // an agent's telemetry
	Spans    int  // the number of items: spans, log records or data points; 1 for a request that is passed on
	// Through counts the spans that the Encoder was given and is done with: they are in this batch or in those before, or
	// in none, as they are not notable or too large.
	Through uint64
	// Resources are field 1 of the signal's export request: each the content of one ResourceSpans, ResourceLogs or
	// ResourceMetrics message.
	Resources [][]byte
}

// Size is the number of encoded bytes.
func (b Batch) Size() int {
	n := 0
	for _, r := range b.Resources {
		n += len(r)
	}
	return n
}

// AppendRequest appends the batch as one export request of its signal. Of traces, a TracesData message has the same
// wire form.
func (b Batch) AppendRequest(buf []byte) []byte {
	for _, r := range b.Resources {
		buf = append(buf, tagResourceSpans)
		buf = appendLength(buf, len(r))
		buf = append(buf, r...)
	}
	return buf
}

// Limits says when a batch closes. Zero values mean the defaults.
type Limits struct {
	Spans int // 512
	// Bytes (1 MiB) also bounds a single span: a larger one goes without its lists and with its long texts cut, and
	// if that is too large still, is dropped and counted. gRPC servers refuse messages of more than 4 MiB by default.
	Bytes int
}

const (
	defaultBatchSpans = 512
	defaultBatchBytes = 1 << 20
)

// Encoder is a span.Sink that encodes each span once and hands closed batches to its consumers,
// in the goroutine that calls Span and Flush. The same spans and flushes give the same batches.
type Encoder struct {
	signal    Signal // Traces, or Logs: then it takes notable spans only
	limits    Limits
	scope     []byte
	consumers []func(Batch)
	taps      []Tap

	groups   []group // of the open batch, in order of their first span
	byPtr    map[*span.Resource]int
	last     int // index of the group used last
	spans    int
	bytes    int
	through  uint64 // see Batch.Through
	offered  uint64 // the same, of the batch before
	seq      uint64
	hint     int // bytes of a group of the batch before
	scratch  []byte
	event    notable.Event // of the span that is being added; Logs only
	tooLarge atomic.Uint64
}

// group is the ResourceSpans message of one resource. Its head (resource, scope and their lengths) is
// written when the batch closes, into the room left before the first span: no copy of the spans.
type group struct {
	resource *span.Resource
	encoded  []byte // the Resource field, and its schema
	buf      []byte
	room     int
}

// NewEncoder returns an Encoder whose spans carry version as that of the instrumentation scope.
func NewEncoder(version string, limits Limits, consumers ...func(Batch)) *Encoder {
	return newEncoder(Traces, version, limits, consumers)
}

// NewEventEncoder returns an Encoder that makes a log record of each notable span, and nothing of the others. What
// Limits says of spans holds for records.
func NewEventEncoder(version string, limits Limits, consumers ...func(Batch)) *Encoder {
	return newEncoder(Logs, version, limits, consumers)
}

func newEncoder(signal Signal, version string, limits Limits, consumers []func(Batch)) *Encoder {
	if limits.Spans <= 0 {
		limits.Spans = defaultBatchSpans
	}
	if limits.Bytes <= 0 {
		limits.Bytes = defaultBatchBytes
	}
	scope := appendScope(nil, version)
	scope = append(appendLength([]byte{tagScopeSpansScope}, len(scope)), scope...)
	scope = appendString(scope, tagScopeSpansSchema, span.Schema)
	return &Encoder{
		signal:    signal,
		limits:    limits,
		scope:     scope,
		consumers: consumers,
		byPtr:     make(map[*span.Resource]int),
	}
}

// A Tap gets each span of an Encoder with its encoded form: a field of a ScopeSpans message, which is the Encoder's and
// may be used again after Span has returned. Of a span that was too large for a batch it is what was left of that.
type Tap interface {
	Span(s *span.Span, encoded []byte)
	Flush()
}

// Tap adds one. It may be called before the first span.
func (e *Encoder) Tap(t Tap) { e.taps = append(e.taps, t) }

// AppendTraces appends a ResourceSpans message, as a field of a TracesData message, with encoded spans of one resource
// as a Tap gets them.
func (e *Encoder) AppendTraces(b []byte, r *span.Resource, spans []byte) []byte {
	var resource []byte
	if r != nil {
		resource = encodeResource(r, nil)
	}
	content := len(e.scope) + len(spans)
	b = append(b, tagResourceSpans)
	b = appendLength(b, len(resource)+1+lengthSize(content)+content)
	b = append(b, resource...)
	b = appendLength(append(b, tagResourceSpansScope), content)
	return append(append(b, e.scope...), spans...)
}

// Span implements span.Sink. Nothing of s is kept except s.Resource until the batch closes.
func (e *Encoder) Span(s *span.Span) {
	if e.signal == Logs {
		var ok bool
		if e.event, ok = notable.Of(s); !ok {
			e.through++
			return
		}
	}
	if e.add(s) {
		return
	}
	// The span did not fit behind the others: alone in the next batch it may.
	if e.spans > 0 {
		e.closeBatch()
		if e.add(s) {
			return
		}
	}
	e.reset()
	if e.add(truncated(s)) {
		return
	}
	e.reset()
	e.through++
	e.tooLarge.Add(1)
}

// maxTruncatedText is how long the strings of a truncated span are at most, in bytes.
const maxTruncatedText = 1024

// truncated gives what there is room for of a span that is too large: that it happened, and its facts, but no
// lists and only the beginnings of long texts. Of a list only argv's has a flag in the contract for that.
func truncated(s *span.Span) *span.Span {
	out := *s
	out.Name, out.Status = beginning(s.Name), beginning(s.Status)
	out.Attrs = make([]span.Attr, 0, len(s.Attrs)+1)
	cut := false
	for _, a := range s.Attrs {
		switch {
		case a.Kind == span.StringsAttr:
			cut = cut || a.Key == span.KeyCommandArgs
			continue
		case a.Key == span.KeyArgsTruncated:
			cut = true
			continue
		case a.Kind == span.StringAttr:
			a.Str = beginning(a.Str)
		}
		out.Attrs = append(out.Attrs, a)
	}
	if cut {
		out.Attrs = append(out.Attrs, span.Attr{Key: span.KeyArgsTruncated, Kind: span.BoolAttr, Int: 1})
	}
	return &out
}

func beginning(s string) string {
	if len(s) <= maxTruncatedText {
		return s
	}
	const mark = "…"
	return strings.ToValidUTF8(s[:maxTruncatedText-len(mark)], "") + mark
}

// Flush implements span.Sink: it closes the open batch if it has spans.
func (e *Encoder) Flush() {
	for _, t := range e.taps {
		t.Flush()
	}
	e.closeBatch()
}

func (e *Encoder) closeBatch() {
	if e.spans == 0 {
		return
	}
	e.seq++
	b := Batch{
		Seq: e.seq, Signal: e.signal, Spans: e.spans, Through: e.through, Resources: make([][]byte, 0, len(e.groups)),
	}
	for i := range e.groups {
		if g := &e.groups[i]; len(g.buf) > g.room {
			b.Resources = append(b.Resources, e.close(g))
		}
	}
	e.hint = e.bytes/len(e.groups) + 256
	e.offered = e.through
	e.reset()
	for _, take := range e.consumers {
		take(b)
	}
}

// Offered says up to which of the spans that it was given nothing waits in the open batch. It is called from where Span
// and Flush are.
func (e *Encoder) Offered() uint64 {
	if e.spans == 0 {
		return e.through
	}
	return e.offered
}

// TooLarge counts the spans or records that were dropped because one alone exceeded Limits.Bytes, even without its lists and
// long texts. Safe for concurrent use.
func (e *Encoder) TooLarge() uint64 { return e.tooLarge.Load() }

// add reports false, with the open batch unchanged but for an empty group, when s does not fit.
func (e *Encoder) add(s *span.Span) bool {
	g, grown := e.group(s.Resource)
	before := len(g.buf)
	if e.signal == Logs {
		g.buf = appendRecord(g.buf, s, e.event)
	} else {
		g.buf = appendSpan(g.buf, s)
	}
	grown += len(g.buf) - before
	if e.bytes+grown > e.limits.Bytes {
		g.buf = g.buf[:before]
		return false
	}
	e.bytes += grown
	e.spans++
	e.through++
	for _, t := range e.taps {
		t.Span(s, g.buf[before:])
	}
	if e.spans >= e.limits.Spans {
		e.closeBatch()
	}
	return true
}

// group finds or makes the group of r, and returns the bytes that its head adds to the batch if it has no span yet.
func (e *Encoder) group(r *span.Resource) (g *group, head int) {
	if e.last < len(e.groups) && e.groups[e.last].resource == r {
		g = &e.groups[e.last]
	} else if i, ok := e.byPtr[r]; ok {
		g = &e.groups[i]
		e.last = i
	} else {
		// Encoded anew for each batch: a resource may have learned attributes since the last one.
		var encoded []byte
		if r != nil {
			encoded = encodeResource(r, &e.scratch)
		}
		room := len(encoded) + 1 + maxLengthSize + len(e.scope)
		e.last = len(e.groups)
		e.byPtr[r] = e.last
		e.groups = append(e.groups, group{
			resource: r,
			encoded:  encoded,
			buf:      make([]byte, room, room+max(e.hint, 1024)),
			room:     room,
		})
		g = &e.groups[e.last]
	}
	if len(g.buf) == g.room {
		head = g.room
	}
	return g, head
}

// encodeResource gives the fields of a ResourceSpans message before its spans: the resource, and the schema. scratch is
// used if it is not nil.
func encodeResource(r *span.Resource, scratch *[]byte) []byte {
	if scratch == nil {
		scratch = new([]byte)
	}
	*scratch = appendResource((*scratch)[:0], r)
	n := len(*scratch)
	encoded := make([]byte, 0, 1+lengthSize(n)+n+2+len(span.Schema))
	encoded = append(encoded, tagResourceSpansResource)
	encoded = appendLength(encoded, n)
	encoded = append(encoded, *scratch...)
	return appendString(encoded, tagResourceSpansSchema, span.Schema)
}

// maxLengthSize bounds the varint of a length below 2 GiB.
const maxLengthSize = 5

func (e *Encoder) close(g *group) []byte {
	content := len(e.scope) + len(g.buf) - g.room
	head := len(g.encoded) + 1 + lengthSize(content) + len(e.scope)
	out := g.buf[g.room-head:]
	w := append(out[:0], g.encoded...)
	w = append(w, tagResourceSpansScope)
	w = protowire.AppendVarint(w, uint64(content))
	_ = append(w, e.scope...)
	return out
}

func (e *Encoder) reset() {
	clear(e.groups)
	e.groups = e.groups[:0]
	clear(e.byPtr)
	e.spans, e.bytes = 0, 0
}
