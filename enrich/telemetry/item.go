// SPDX-License-Identifier: Apache-2.0

package telemetry

// Requests are not decoded into objects: two bytes of protobuf can ask for hundreds of bytes
// of them. They are walked, in place, and of each span or log record only the wanted attributes are kept.

// valueKind is the field of a value that is set.
type valueKind uint8

const (
	textValue valueKind = iota + 1
	intValue
	boolValue
)

// value is a scalar attribute value. text aliases the request.
type value struct {
	kind   valueKind
	text   []byte
	number int64 // of boolValue 0 or 1
}

type attr struct {
	key   string
	value value
}

// item is a span or a log record.
type item struct {
	span  bool
	name  []byte // of the span, or the log record's event name
	body  []byte // of the log record, if it is a text
	trace [16]byte
	id    [8]byte
	attrs []attr
}

// maxWanted bounds the attributes that are kept of one item, should somebody repeat them.
const maxWanted = 64

// visitor receives what a walk finds. Its arguments are reused after it returns.
type visitor interface {
	// wanted returns the attribute name as a string if it is to be kept, and "" otherwise.
	wanted(key []byte) string
	// resource reports whether the items of a resource are of interest.
	resource(attrs []attr) bool
	item(*item)
}

func appendWanted(attrs []attr, key string, v value) []attr {
	if v.kind == 0 || len(attrs) >= maxWanted {
		return attrs
	}
	return append(attrs, attr{key, v})
}
