// SPDX-License-Identifier: Apache-2.0

// Package layout1 reads records of layout 1, of which captures of version 1 are made, and gives them in the
// layout of today ([record.Layout]). It states the kinds that are different today: who changes the layout of
// another one adds it here.
package layout1

import "encoding/binary"

const (
	headerSize = 48
	typeAt     = 0 // uint16
	sizeAt     = 4 // uint32, of the whole record
)

// Append appends a record of layout 1 in today's layout. What is malformed in layout 1 is so in today's, with
// the same type. raw is not kept; at most len(raw) bytes are appended.
func Append(dst, raw []byte) []byte {
	if len(raw) < headerSize {
		return append(dst, raw...)
	}
	var (
		was, is uint32      // sizes without payload, in layout 1 and today
		kept    [][2]uint32 // from and to, in layout 1 and in the order of today; zeros follow
	)
	switch binary.LittleEndian.Uint16(raw[typeAt:]) {
	case 1: // fork, without parent_tgid, uid and comm
		was, is, kept = 96, 72, [][2]uint32{{0, 72}}
	case 2: // exec, without old_tid, gid, env_size, mode and comm; exe_uid and peak_rss come before the lengths
		was, is, kept = 144, 120, [][2]uint32{{0, 68}, {72, 80}, {84, 104}, {136, 144}, {110, 120}}
	case 5: // open, without mode; uid comes before the lengths
		was, is, kept = 80, 80, [][2]uint32{{0, 68}, {76, 80}, {70, 74}}
	case 8: // unix, without sock_type
		was, is, kept = 64, 56, [][2]uint32{{0, 52}, {54, 58}}
	case 11: // cgroup_attach, without parent_start, parent_tgid, uid and comm
		was, is, kept = 96, 64, [][2]uint32{{0, 48}, {60, 68}, {72, 80}}
	case 12: // process, without comm
		was, is, kept = 104, 88, [][2]uint32{{0, 88}}
	default:
		return append(dst, raw...)
	}
	size := binary.LittleEndian.Uint32(raw[sizeAt:])
	if size < was || uint64(size) > uint64(len(raw)) {
		return append(dst, raw[:headerSize]...) // all of these are longer
	}
	base := len(dst)
	for _, k := range kept {
		dst = append(dst, raw[k[0]:k[1]]...)
	}
	for len(dst) < base+int(is) {
		dst = append(dst, 0)
	}
	dst = append(dst, raw[was:size]...)
	binary.LittleEndian.PutUint32(dst[base+sizeAt:], size-was+is)
	return dst
}
