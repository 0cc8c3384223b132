// SPDX-License-Identifier: Apache-2.0

// Package layout3 reads records of layouts 2 and 3, and gives them in the layout of today ([record.Layout]). It states
// the kinds that are different today: who changes the layout of another one adds it here.
package layout3

import "encoding/binary"

const (
	headerSize = 48
	typeAt     = 0 // uint16
	sizeAt     = 4 // uint32, of the whole record

	change = 16
	was    = 88  // bytes of a change without its payload, in layout 3
	is     = 112 // today
)

// Append appends a record of layout 3 in today's layout. What is malformed in layout 3 is so in today's, with
// the same type. raw is not kept; at most 24 bytes more than raw has are appended.
func Append(dst, raw []byte) []byte {
	if len(raw) < headerSize || binary.LittleEndian.Uint16(raw[typeAt:]) != change {
		return append(dst, raw...)
	}
	size := binary.LittleEndian.Uint32(raw[sizeAt:])
	if size < was || uint64(size) > uint64(len(raw)) {
		return append(dst, raw[:headerSize]...) // a change is longer
	}
	base := len(dst)
	// Without before, after, nlink, mode and text_len.
	for _, p := range []struct{ from, to, zeros int }{{0, 64, 16}, {64, 76, 4}, {76, 78, 2}, {78, 86, 4}} {
		dst = append(dst, raw[p.from:p.to]...)
		dst = append(dst, make([]byte, p.zeros)...)
	}
	dst = append(dst, raw[was:size]...)
	binary.LittleEndian.PutUint32(dst[base+sizeAt:], size-was+is)
	return dst
}
