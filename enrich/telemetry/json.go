// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
)

// maxDepth bounds nesting: OTLP's own is 9, and values may nest below that.
const maxDepth = 100

// walkJSON reads a request in the JSON form of OTLP: protobuf's, but ids are hexadecimal and enums numbers.
func walkJSON(s Signal, b []byte, v visitor) error {
	if !json.Valid(b) || !shallow(b) {
		return errMalformed
	}
	w := jsonWalk{visit: v, spans: s == Traces}
	groups, scopes := "resourceLogs", "scopeLogs"
	w.items = "logRecords"
	switch s {
	case Traces:
		groups, scopes, w.items = "resourceSpans", "scopeSpans", "spans"
	case Metrics:
		groups = ""
	}
	w.scopes = scopes
	return eachMember(b, func(key string, v []byte) error {
		if key == groups {
			return eachElement(v, w.group)
		}
		return nil
	})
}

type jsonWalk struct {
	visit         visitor
	spans         bool
	scopes, items string
	item          item
	attrs         []attr // of the resource
}

func (w *jsonWalk) group(b []byte) error {
	w.attrs = w.attrs[:0]
	err := eachMember(b, func(key string, v []byte) error {
		if key != "resource" {
			return nil
		}
		return eachMember(v, func(key string, v []byte) error {
			if key != "attributes" {
				return nil
			}
			return eachElement(v, func(v []byte) (err error) {
				w.attrs, err = w.keyValue(v, w.attrs)
				return err
			})
		})
	})
	if err != nil || !w.visit.resource(w.attrs) {
		return err
	}
	return eachMember(b, func(key string, v []byte) error {
		if key != w.scopes {
			return nil
		}
		return eachElement(v, func(v []byte) error {
			return eachMember(v, func(key string, v []byte) error {
				if key != w.items {
					return nil
				}
				return eachElement(v, w.one)
			})
		})
	})
}

func (w *jsonWalk) one(b []byte) error {
	it := &w.item
	*it = item{span: w.spans, attrs: it.attrs[:0]}
	err := eachMember(b, func(key string, v []byte) (err error) {
		switch key {
		case "traceId":
			return hexID(it.trace[:], v)
		case "spanId":
			return hexID(it.id[:], v)
		case "name":
			if w.spans {
				it.name, err = text(v)
			}
		case "eventName":
			if !w.spans {
				it.name, err = text(v)
			}
		case "attributes":
			return eachElement(v, func(v []byte) (err error) {
				it.attrs, err = w.keyValue(v, it.attrs)
				return err
			})
		case "body":
			if w.spans {
				return nil
			}
			var body value
			if body, err = scalar(v); body.kind == textValue {
				it.body = body.text
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	w.visit.item(it)
	return nil
}

func (w *jsonWalk) keyValue(b []byte, attrs []attr) ([]attr, error) {
	var key, content []byte
	err := eachMember(b, func(name string, v []byte) (err error) {
		switch name {
		case "key":
			key, err = text(v)
		case "value":
			content = v
		}
		return err
	})
	if err != nil {
		return attrs, err
	}
	name := w.visit.wanted(key)
	if name == "" || content == nil {
		return attrs, nil
	}
	v, err := scalar(content)
	return keep(attrs, name, v), err
}

// scalar reads an AnyValue.
func scalar(b []byte) (v value, err error) {
	err = eachMember(b, func(key string, b []byte) (err error) {
		switch key {
		case "stringValue":
			v = value{kind: textValue}
			v.text, err = text(b)
		case "boolValue":
			v = value{kind: boolValue}
			switch string(b) {
			case "true":
				v.number = 1
			case "false":
			default:
				err = errMalformed
			}
		case "intValue":
			v = value{kind: intValue}
			v.number, err = number(b)
		default:
			v = value{}
		}
		return err
	})
	return v, err
}

func hexID(dst, b []byte) error {
	s, err := text(b)
	if err != nil || len(s) != 0 && len(s) != hex.EncodedLen(len(dst)) {
		return errMalformed
	}
	clear(dst)
	if _, err := hex.Decode(dst, s); err != nil {
		return errMalformed
	}
	return nil
}

// number reads an integer, which 64-bit ones are written as texts.
func number(b []byte) (int64, error) {
	if b[0] == '"' {
		b = b[1 : len(b)-1]
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, errMalformed
	}
	return n, nil
}

// text is the content of a string, in place where it has no escapes; null is an empty one.
func text(b []byte) ([]byte, error) {
	switch {
	case isNull(b):
		return nil, nil
	case b[0] != '"':
		return nil, errMalformed
	case bytes.IndexByte(b, '\\') < 0:
		return b[1 : len(b)-1], nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, errMalformed
	}
	return []byte(s), nil
}

// The functions below take one value of valid JSON, and give parts of it without copying.

// eachMember calls f for the members of an object; null has none.
func eachMember(b []byte, f func(key string, v []byte) error) error {
	b = trim(b)
	if isNull(b) {
		return nil
	}
	if b[0] != '{' {
		return errMalformed
	}
	for b = trim(b[1:]); b[0] != '}'; {
		n := valueSpan(b)
		key := b[1 : n-1]
		b = trim(trim(b[n:])[1:]) // the colon
		n = valueSpan(b)
		// A key with an escape in it is none of OTLP's.
		if err := f(string(key), b[:n]); err != nil {
			return err
		}
		if b = trim(b[n:]); b[0] == ',' {
			b = trim(b[1:])
		}
	}
	return nil
}

// eachElement calls f for the elements of an array; null has none.
func eachElement(b []byte, f func(v []byte) error) error {
	b = trim(b)
	if isNull(b) {
		return nil
	}
	if b[0] != '[' {
		return errMalformed
	}
	for b = trim(b[1:]); b[0] != ']'; {
		n := valueSpan(b)
		if err := f(b[:n]); err != nil {
			return err
		}
		if b = trim(b[n:]); b[0] == ',' {
			b = trim(b[1:])
		}
	}
	return nil
}

func isNull(b []byte) bool { return string(b) == "null" }

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// valueSpan is the length of the value that b begins with.
func valueSpan(b []byte) int {
	switch b[0] {
	case '"':
		return stringSpan(b)
	case '{', '[':
		depth := 0
		for i := 0; i < len(b); i++ {
			switch b[i] {
			case '"':
				i += stringSpan(b[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(b)
	}
	for i, c := range b {
		switch c {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return len(b)
}

func stringSpan(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// shallow says whether no value nests deeper than maxDepth.
func shallow(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringSpan(b[i:]) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return false
			}
		case '}', ']':
			depth--
		}
	}
	return true
}
