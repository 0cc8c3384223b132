// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of what is decoded at once. An empty message of two bytes takes 250 and more once it is decoded.
const (
	// maxFields bounds the fields of a message, those of the messages in it too. The most that an Encoder's batch can
	// have is 700,000: a list of empty texts.
	maxFields = 1 << 20
	// maxNesting bounds messages within each other. Those of a span with a list are eight.
	maxNesting = 32
	// MaxLine bounds OTLP JSON, in bytes: twelve times the largest batch of an Encoder.
	MaxLine = 16 << 20
	// maxJSONNesting bounds objects and lists within each other: five a level of values.
	maxJSONNesting = 128
)

// What is decoded may be made up to take memory.
var (
	errFields  = fmt.Errorf("more than %d fields at once: have who wrote it send fewer spans at a time", maxFields)
	errNesting = errors.New("values are too deep within each other: leave such attributes out")
)

// Check says whether a TracesData message can be decoded in bounded memory: 300 MB in the worst case.
func Check(message []byte) error {
	left := maxFields
	return check(message, (*trace.TracesData)(nil).ProtoReflect().Descriptor(), &left, maxNesting)
}

func check(b []byte, of protoreflect.MessageDescriptor, left *int, deep int) error {
	if deep == 0 {
		return errNesting
	}
	for len(b) > 0 {
		if *left--; *left < 0 {
			return errFields
		}
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
			return protowire.ParseError(n)
		}
		if field := of.Fields().ByNumber(number); wire == protowire.BytesType && field != nil && field.Message() != nil {
			content, _ := protowire.ConsumeBytes(b[:n])
			if err := check(content, field.Message(), left, deep-1); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

// CheckJSON is Check for OTLP JSON. What is no JSON at all is left to the decoder.
func CheckJSON(line []byte) error {
	fields, deep, text := 0, 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case text:
			if c == '\\' {
				i++
			}
			text = c != '"'
		case c == '"':
			text = true
		case c == '{' || c == '[':
			fields++
			if deep++; deep > maxJSONNesting {
				return errNesting
			}
		case c == '}' || c == ']':
			deep--
		case c == ',':
			fields++
		}
		if fields > maxFields {
			return errFields
		}
	}
	return nil
}
