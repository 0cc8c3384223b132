// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"encoding/binary"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// maxKeys bounds how many keys have a number. The contract has fewer; any other is written out.
const maxKeys = 512

// A packer writes attributes as bytes: as span.Attr they would take five times as much, and some thirty of them are
// kept of each span. Each is its key's number, its kind and its value; number 0 is followed by the key.
type packer struct {
	numbers map[string]uint32
	keys    []string // by number, from 1
	after   []uint32 // the number that came after this one the last time: spans of a kind have the same keys in the same order
	last    uint32
	buf     []byte
}

// pack gives what is kept of the attributes, until the next call.
func (p *packer) pack(from []span.Attr) []byte {
	p.buf, p.last = p.buf[:0], 0
	for i := range from {
		a := &from[i]
		if leftOut(a.Key) {
			continue
		}
		p.key(a.Key)
		p.buf = append(p.buf, byte(a.Kind))
		switch a.Kind {
		case span.StringAttr:
			p.text(clip(a.Str))
		case span.IntAttr, span.BoolAttr:
			p.buf = binary.AppendVarint(p.buf, a.Int)
		case span.StringsAttr:
			p.list(a.List)
		}
	}
	return p.buf
}

func (p *packer) key(key string) {
	n := p.number(key)
	p.buf = binary.AppendUvarint(p.buf, uint64(n))
	if n == 0 {
		p.text(key)
	}
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

func (p *packer) text(s string) {
	p.buf = binary.AppendUvarint(p.buf, uint64(len(s)))
	p.buf = append(p.buf, s...)
}

func (p *packer) list(list []string) {
	n, room := 0, maxText
	for n < len(list) && room > 0 {
		room -= min(len(list[n]), maxText) + 1
		n++
	}
	cut := n < len(list)
	count := n
	if cut {
		count++
	}
	p.buf = binary.AppendUvarint(p.buf, uint64(count))
	for _, s := range list[:n] {
		p.text(clip(s))
	}
	if cut {
		p.text("…")
	}
}

// unpack reads what pack wrote.
func (p *packer) unpack(b []byte) map[string]any {
	r := reader{b}
	attrs := make(map[string]any)
	for len(r.b) > 0 {
		var key string
		if n := r.uint(); n > 0 {
			key = p.keys[n]
		} else {
			key = r.text()
		}
		kind := span.AttrKind(r.b[0])
		r.b = r.b[1:]
		switch kind {
		case span.StringAttr:
			attrs[key] = r.text()
		case span.IntAttr:
			attrs[key] = r.int()
		case span.BoolAttr:
			attrs[key] = r.int() != 0
		case span.StringsAttr:
			list := make([]string, r.uint())
			for i := range list {
				list[i] = r.text()
			}
			attrs[key] = list
		}
	}
	return attrs
}

// A reader reads the packer's own bytes, which are sound.
type reader struct{ b []byte }

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uint()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
