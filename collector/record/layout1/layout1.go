// SPDX-License-Identifier: Apache-2.0

// Package layout1 reads records of layout 1, of which captures of version 1 are made, and gives them in the layout
// of today ([record.Layout]). The numbers here are those of layout 1 and stay as they are.
package layout1

import "encoding/binary"

const (
	// Of the header of every record: its size, and where its fields are that matter here.
	headerSize = 48
	typeAt     = 0 // uint16
	sizeAt     = 4 // uint32, of the whole record
)

// Append appends a record of layout 1 in today's layout. What is malformed in layout 1 is so in today's, with the same type.
// raw is not kept; at most len(raw) bytes are appended.
func Append(dst, raw []byte) []byte {
	if len(raw) < headerSize {
		return append(dst, raw...)
	}
	size := u32(raw, sizeAt)
	fixed, known := fixedSize(binary.LittleEndian.Uint16(raw[typeAt:]))
	if !known || size < fixed || uint64(size) > uint64(len(raw)) {
		// Nothing but a header, of a record of no size.
		dst = append(dst, raw[:headerSize]...)
		binary.LittleEndian.PutUint32(dst[len(dst)-headerSize+sizeAt:], 0)
		return dst
	}
	return append(dst, raw[:size]...)
}

// fixedSize gives the size without payload.
func fixedSize(t uint16) (size uint32, known bool) {
	switch t {
	case 1: // fork
		return 96, true
	case 2: // exec
		return 144, true
	case 3: // exec_args
		return 56, true
	case 4: // exit
		return 88, true
	case 5: // open
		return 80, true
	case 6: // connect
		return 80, true
	case 7: // connect_end
		return 64, true
	case 8: // unix
		return 64, true
	case 9, 10: // cgroup_mkdir, cgroup_rmdir
		return 72, true
	case 11: // cgroup_attach
		return 96, true
	case 12: // process
		return 104, true
	case 13: // socket
		return 72, true
	case 14: // namespace
		return 64, true
	case 15: // access
		return 80, true
	case 256: // clock
		return 56, true
	case 257: // tick
		return headerSize, true
	case 258: // loss
		return 80, true
	case 259: // cgroup
		return 72, true
	case 260: // cmdline
		return 56, true
	case 261, 262: // mark, said
		return 96, true
	case 263: // container
		return 72, true
	}
	return 0, false
}

func u32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
