// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"google.golang.org/protobuf/encoding/protowire"
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

// protobufWalk reads requests in protobuf.
type protobufWalk struct {
	visit visitor
	spans bool
	item  item
	attrs []attr // of the resource
}

func walkProtobuf(s Signal, b []byte, v visitor) error {
	w := protobufWalk{visit: v, spans: s == Traces}
	return eachField(b, func(f field) (err error) {
		if f.is(fieldRequestResources, wireBytes, &err) && s != Metrics {
			return w.group(f.bytes)
		}
		return err
	})
}

// group reads a ResourceSpans or ResourceLogs: twice, as the resource may come behind its items.
func (w *protobufWalk) group(b []byte) error {
	w.attrs = w.attrs[:0]
	err := eachField(b, func(f field) (err error) {
		if f.is(fieldResource, wireBytes, &err) {
			return eachField(f.bytes, func(f field) (err error) {
				if f.is(fieldResourceAttrs, wireBytes, &err) {
					w.attrs, err = w.keyValue(f.bytes, w.attrs)
				}
				return err
			})
		}
		return err
	})
	if err != nil || !w.visit.resource(w.attrs) {
		return err
	}
	return eachField(b, func(f field) (err error) {
		if f.is(fieldScopes, wireBytes, &err) {
			return eachField(f.bytes, func(f field) (err error) {
				if f.is(fieldScopeItems, wireBytes, &err) {
					return w.one(f.bytes)
				}
				return err
			})
		}
		return err
	})
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
	w.visit.item(it)
	return nil
}

func (w *protobufWalk) span(f field) (err error) {
	it := &w.item
	switch {
	case f.is(fieldSpanTrace, wireBytes, &err):
		return exactly(it.trace[:], f.bytes)
	case f.is(fieldSpanID, wireBytes, &err):
		return exactly(it.id[:], f.bytes)
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
		var v value
		if v, err = anyValue(f.bytes); v.kind == textValue {
			it.body = v.text
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
	name := w.visit.wanted(key)
	if name == "" {
		return attrs, nil
	}
	v, err := anyValue(content)
	return appendWanted(attrs, name, v), err
}

// anyValue reads scalars that can be facts; others leave the value empty.
func anyValue(b []byte) (v value, err error) {
	err = eachField(b, func(f field) (err error) {
		switch {
		case f.is(fieldString, wireBytes, &err):
			v = value{kind: textValue, text: f.bytes}
		case f.is(fieldBool, wireVarint, &err):
			v = value{kind: boolValue}
			if f.n != 0 {
				v.number = 1
			}
		case f.is(fieldInt, wireVarint, &err):
			v = value{kind: intValue, number: int64(f.n)}
		case err == nil:
			v = value{}
		}
		return err
	})
	return v, err
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
