// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/span"
)

// maxKeys bounds how many keys have a number. The contract has fewer; any other is written out.
const maxKeys = 512

// A packer writes attributes as bytes: as span.Attr they would take five times as much, and some thirty of them are
// kept of each span. An attribute is a protobuf varint of its key's number and its kind, and its value: texts with
// their length, lists with their number of texts. Number 0 is followed by the key.
type packer struct {
	numbers map[string]uint32
	keys    []string // by number, from 1
	after   []uint32 // the number that followed this one last: spans of a kind have the same keys in the same order
	last    uint32
	buf     []byte
}

// kinds is how many values an AttrKind has.
const kinds = 8

// pack gives what is kept of the attributes, until the next call.
func (p *packer) pack(from []span.Attr) []byte {
	b := p.buf[:0]
	p.last = 0
	for i := range from {
		a := &from[i]
		if leftOut(a.Key) {
			continue
		}
		n := p.number(a.Key)
		b = protowire.AppendVarint(b, uint64(n)*kinds+uint64(a.Kind))
		if n == 0 {
			b = protowire.AppendString(b, a.Key)
		}
		switch a.Kind {
		case span.StringAttr:
			b = protowire.AppendString(b, clip(a.Str))
		case span.IntAttr, span.BoolAttr:
			b = protowire.AppendVarint(b, protowire.EncodeZigZag(a.Int))
		case span.StringsAttr:
			b = packList(b, a.List)
		}
	}
	p.buf = b
	return b
}

// number gives the number of a key, 0 if it has none.
func (p *packer) number(key string) uint32 {
	if p.numbers == nil {
		p.numbers, p.keys, p.after = make(map[string]uint32), make([]string, 1), make([]uint32, 1)
	}
	if n := p.after[p.last]; n != 0 && p.keys[n] == key {
		p.last = n
		return n
	}
	n, ok := p.numbers[key]
	if !ok {
		if len(p.keys) > maxKeys {
			return 0
		}
		n = uint32(len(p.keys))
		p.keys, p.after = append(p.keys, strings.Clone(key)), append(p.after, 0)
		p.numbers[p.keys[n]] = n
	}
	p.after[p.last], p.last = n, n
	return n
}

// packList keeps the first texts of a list, as many as begin within maxText bytes.
func packList(b []byte, list []string) []byte {
	n, room := 0, maxText
	for n < len(list) && room > 0 {
		room -= min(len(list[n]), maxText) + 1
		n++
	}
	if n < len(list) {
		list = append(slices.Clone(list[:n]), "…")
	}
	b = protowire.AppendVarint(b, uint64(len(list)))
	for _, s := range list {
		b = protowire.AppendString(b, clip(s))
	}
	return b
}

// unpack reads what pack wrote: these bytes are sound.
func (p *packer) unpack(b []byte) map[string]any {
	number := func() uint64 {
		v, n := protowire.ConsumeVarint(b)
		b = b[n:]
		return v
	}
	text := func() string {
		s, n := protowire.ConsumeString(b)
		b = b[n:]
		return s
	}
	attrs := make(map[string]any)
	for len(b) > 0 {
		head := number()
		key := p.keys[head/kinds]
		if head < kinds {
			key = text()
		}
		switch span.AttrKind(head % kinds) {
		case span.StringAttr:
			attrs[key] = text()
		case span.IntAttr:
			attrs[key] = protowire.DecodeZigZag(number())
		case span.BoolAttr:
			attrs[key] = number() != 0
		case span.StringsAttr:
			list := make([]string, number())
			for i := range list {
				list[i] = text()
			}
			attrs[key] = list
		}
	}
	return attrs
}
