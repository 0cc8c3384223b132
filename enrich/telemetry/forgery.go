// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Backends recognise the sensor's spans by scope, attribute names and trace ids: no message that has any of them is
// passed on. A message is refused as a whole, as others write these names only by mistake or to deceive.

// forged returns errForged if the request carries the sensor's scope, an attribute of its name space or one of its
// trace ids, and errMalformed if it cannot be read.
func (m *message) forged() error {
	// Every name and id stands as it is in protobuf: most requests have none, and are not walked.
	if !containsFold(m.plain, ownName) && !bytes.Contains(m.plain, []byte(span.TracePrefix)) {
		return nil
	}
	return forgedProtobuf(m.plain, requestParts[m.signal], 0)
}

const ownName = "sheetbend"

// ownKey is true of an attribute's key in the sensor's name space, in the spellings that a backend may make one of:
// some write all keys in small letters, or other characters for the dot, or the keys of a map "sheetbend" behind a
// dot.
func ownKey(key []byte) bool {
	if !hasPrefixFold(key, ownName) {
		return false
	}
	rest := key[len(ownName):]
	return len(rest) == 0 || !('0' <= rest[0] && rest[0] <= '9' || 'a' <= rest[0]|0x20 && rest[0]|0x20 <= 'z')
}

func ownScope(name []byte) bool { return hasPrefixFold(name, span.ScopeName) }

// scopeKey is true of the keys under which backends and exporters without scopes have a scope's name as an attribute.
func scopeKey(key []byte) bool {
	return hasSuffixFold(key, "scope.name") || hasSuffixFold(key, "library.name")
}

func ownTrace(id []byte) bool { return bytes.HasPrefix(id, []byte(span.TracePrefix)) }

// hasPrefixFold, hasSuffixFold and containsFold are of a text in small letters of ASCII, and find capitals, too.
func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}

func hasSuffixFold(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && bytes.EqualFold(b[len(b)-len(suffix):], []byte(suffix))
}

func containsFold(b []byte, text string) bool {
	for i := 0; i+len(text) <= len(b); i++ {
		if b[i]|0x20 == text[0]|0x20 && hasPrefixFold(b[i:], text) {
			return true
		}
	}
	return false
}

// A part is one kind of protobuf message or text: which of its fields matter, or what a message or text must not be.
type part struct {
	own    func([]byte) bool
	fields map[protowire.Number]*part
}

// scopeAttribute is true of an attribute that gives the sensor's scope as that of its span.
func scopeAttribute(keyValue []byte) bool {
	named, own := false, false
	_ = eachField(keyValue, func(f field) error {
		switch f.num {
		case fieldKey:
			named = named || scopeKey(f.bytes)
		case fieldValue:
			return eachField(f.bytes, func(f field) error {
				own = own || f.num == fieldString && ownScope(f.bytes)
				return nil
			})
		}
		return nil
	})
	return named && own
}

// requestParts are the parts of each signal's request. Field numbers of opentelemetry-proto 1.11; 1000 is what
// scopes were until 0.19, which old backends still read.
var requestParts = func() map[Signal]*part {
	key, name, trace := &part{own: ownKey}, &part{own: ownScope}, &part{own: ownTrace}
	value := &part{}
	attr := &part{own: scopeAttribute, fields: map[protowire.Number]*part{1: key, 2: value}}
	of := func(fields map[protowire.Number]*part) *part { return &part{fields: fields} }
	value.fields = map[protowire.Number]*part{
		5: of(map[protowire.Number]*part{1: value}), // array
		6: of(map[protowire.Number]*part{1: attr}),  // list of keys and values
	}
	event := of(map[protowire.Number]*part{3: attr})
	link := of(map[protowire.Number]*part{1: trace, 4: attr})
	exemplar := of(map[protowire.Number]*part{5: trace, 7: attr})
	points := func(attrs, exemplars protowire.Number) *part {
		point := map[protowire.Number]*part{attrs: attr}
		if exemplars != 0 {
			point[exemplars] = exemplar
		}
		return of(map[protowire.Number]*part{1: of(point)})
	}
	numbers := points(7, 5)
	items := map[Signal]*part{
		Traces: of(map[protowire.Number]*part{1: trace, 9: attr, 11: event, 13: link}),
		Logs:   of(map[protowire.Number]*part{5: value, 6: attr, 9: trace}),
		Metrics: of(map[protowire.Number]*part{
			5: numbers, 7: numbers, // gauge, sum
			9:  points(9, 8),  // histogram
			10: points(1, 11), // exponential histogram
			11: points(7, 0),  // summary
			12: attr,          // metadata
		}),
	}
	parts := map[Signal]*part{}
	for signal, item := range items {
		scope := of(map[protowire.Number]*part{1: name, 3: attr})
		scopes := of(map[protowire.Number]*part{1: scope, 2: item})
		resource := of(map[protowire.Number]*part{1: attr})
		group := of(map[protowire.Number]*part{1: resource, 2: scopes, 1000: scopes})
		parts[signal] = of(map[protowire.Number]*part{1: group})
	}
	return parts
}()

func forgedProtobuf(b []byte, p *part, depth int) error {
	switch {
	case p.own != nil && p.own(b):
		return errForged
	case p.fields == nil:
		return nil
	case depth > maxDepth:
		return errMalformed
	}
	return eachField(b, func(f field) error {
		inner := p.fields[f.num]
		switch {
		case inner == nil:
			return nil
		case f.typ != wireBytes:
			return errMalformed
		}
		return forgedProtobuf(f.bytes, inner, depth+1)
	})
}
