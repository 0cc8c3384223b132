// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Field numbers of opentelemetry-proto 1.11.
const (
	fieldRequestResources = 1 // ExportTraceServiceRequest, ExportLogsServiceRequest, ExportMetricsServiceRequest

	fieldResource      = 1 // ResourceSpans, ResourceLogs
	fieldScopes        = 2
	fieldScopeItems    = 2 // ScopeSpans, ScopeLogs
	fieldResourceAttrs = 1 // Resource
	fieldKey           = 1 // KeyValue
	fieldValue         = 2
	fieldString        = 1 // AnyValue
	fieldBool          = 2
	fieldInt           = 3
	fieldSpanTrace     = 1 // Span
	fieldSpanID        = 2
	fieldSpanParent    = 4
	fieldSpanName      = 5
	fieldSpanAttrs     = 9
	fieldLogBody       = 5 // LogRecord
	fieldLogAttrs      = 6
	fieldLogTrace      = 9
	fieldLogSpan       = 10
	fieldLogEventName  = 12
	wireVarint         = protowire.VarintType
	wireBytes          = protowire.BytesType
)

// field is one field of a message: of a length-delimited one the bytes, of a varint the number.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	bytes []byte
	n     uint64
}

// eachField calls f for the fields of a message, in order, until an error.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		v := field{num: num, typ: typ}
		switch typ {
		case wireBytes:
			v.bytes, n = protowire.ConsumeBytes(b)
		case wireVarint:
			v.n, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether v is field num. Another wire type than the schema's is an error.
func (v field) is(num protowire.Number, typ protowire.Type, err *error) bool {
	if v.num != num {
		return false
	}
	if v.typ != typ {
		*err = errMalformed
		return false
	}
	return true
}

// each calls f for every field num of a message. By the schema they are length-delimited.
func each(b []byte, num protowire.Number, f func([]byte) error) error {
	return eachField(b, func(v field) (err error) {
		if v.is(num, wireBytes, &err) {
			return f(v.bytes)
		}
		return err
	})
}

// Requests are walked in place and not decoded into objects: docs/design/intake.md says why.

// item is a span or a log record. Its bytes alias the request.
type item struct {
	span   bool
	name   []byte // of the span, or the log record's event name
	body   []byte // of the log record, if it is a text
	trace  [16]byte
	id     [8]byte
	parent [8]byte // of the span
	attrs  []attr
}

// attr is an attribute with a scalar value. The text is valid UTF-8 of at most record.MaxText bytes.
type attr struct{ key, text string }

// maxWanted bounds the attributes that are kept of one item, should somebody repeat them.
const maxWanted = 64

// protobufWalk gives the spans and log records of one request to facts.
type protobufWalk struct {
	facts *facts
	spans bool
	item  item
	attrs []attr // of the resource
}

func walkProtobuf(s Signal, b []byte, f *facts) error {
	w := protobufWalk{facts: f, spans: s == Traces}
	return each(b, fieldRequestResources, func(group []byte) error {
		if s == Metrics {
			return nil
		}
		return w.group(group)
	})
}

// group reads a ResourceSpans or ResourceLogs: twice, as the resource may come behind its items.
func (w *protobufWalk) group(b []byte) error {
	w.attrs = w.attrs[:0]
	err := each(b, fieldResource, func(resource []byte) error {
		return each(resource, fieldResourceAttrs, func(keyValue []byte) (err error) {
			w.attrs, err = w.keyValue(keyValue, w.attrs)
			return err
		})
	})
	if err != nil || !w.facts.resource(w.attrs) {
		return err
	}
	return each(b, fieldScopes, func(scope []byte) error { return each(scope, fieldScopeItems, w.one) })
}

// one reads a Span or LogRecord.
func (w *protobufWalk) one(b []byte) error {
	it := &w.item
	*it = item{span: w.spans, attrs: it.attrs[:0]}
	read := w.log
	if w.spans {
		read = w.span
	}
	if err := eachField(b, read); err != nil {
		return err
	}
	w.facts.item(it)
	return nil
}

func (w *protobufWalk) span(f field) (err error) {
	it := &w.item
	switch {
	case f.is(fieldSpanTrace, wireBytes, &err):
		return exactly(it.trace[:], f.bytes)
	case f.is(fieldSpanID, wireBytes, &err):
		return exactly(it.id[:], f.bytes)
	case f.is(fieldSpanParent, wireBytes, &err):
		return exactly(it.parent[:], f.bytes)
	case f.is(fieldSpanName, wireBytes, &err):
		it.name = f.bytes
	case f.is(fieldSpanAttrs, wireBytes, &err):
		it.attrs, err = w.keyValue(f.bytes, it.attrs)
	}
	return err
}

func (w *protobufWalk) log(f field) (err error) {
	it := &w.item
	switch {
	case f.is(fieldLogTrace, wireBytes, &err):
		return exactly(it.trace[:], f.bytes)
	case f.is(fieldLogSpan, wireBytes, &err):
		return exactly(it.id[:], f.bytes)
	case f.is(fieldLogEventName, wireBytes, &err):
		it.name = f.bytes
	case f.is(fieldLogAttrs, wireBytes, &err):
		it.attrs, err = w.keyValue(f.bytes, it.attrs)
	case f.is(fieldLogBody, wireBytes, &err):
		var v field
		if v, err = anyValue(f.bytes); v.num == fieldString {
			it.body = v.bytes
		}
	}
	return err
}

// keyValue appends the attribute if it is wanted.
func (w *protobufWalk) keyValue(b []byte, attrs []attr) ([]attr, error) {
	var key, content []byte
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(fieldKey, wireBytes, &err):
			key = f.bytes
		case f.is(fieldValue, wireBytes, &err):
			content = f.bytes
		}
		return err
	})
	if err != nil {
		return attrs, err
	}
	name := w.facts.keys[string(key)]
	if name == "" {
		return attrs, nil
	}
	v, err := anyValue(content)
	if text, ok := v.scalar(); ok && len(attrs) < maxWanted {
		attrs = append(attrs, attr{name, text})
	}
	return attrs, err
}

// anyValue gives the last field of an AnyValue: the one that counts.
func anyValue(b []byte) (last field, err error) {
	err = eachField(b, func(f field) (err error) {
		last = f
		_ = f.is(fieldString, wireBytes, &err) || f.is(fieldBool, wireVarint, &err) || f.is(fieldInt, wireVarint, &err)
		return err
	})
	return last, err
}

// scalar is the text of an AnyValue's field, if it is a string, a bool or an integer.
func (v field) scalar() (text string, ok bool) {
	switch v.num {
	case fieldString:
		return bounded(string(v.bytes[:min(len(v.bytes), record.MaxText)])), true
	case fieldBool:
		return strconv.FormatBool(v.n != 0), true
	case fieldInt:
		return strconv.FormatInt(int64(v.n), 10), true
	}
	return "", false
}

// exactly copies an id. An empty id means that there is none.
func exactly(dst, src []byte) error {
	if len(src) != 0 && len(src) != len(dst) {
		return errMalformed
	}
	clear(dst)
	copy(dst, src)
	return nil
}
