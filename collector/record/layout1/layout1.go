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

	// Types that have another layout today.
	fork    = 1
	exec    = 2
	open    = 5
	unix    = 8
	attach  = 11
	process = 12
)

// Append appends a record of layout 1 in today's layout. What is malformed in layout 1 is so in today's, with the same type.
// raw is not kept; at most len(raw) bytes are appended.
func Append(dst, raw []byte) []byte {
	if len(raw) < headerSize {
		return append(dst, raw...)
	}
	size := u32(raw, sizeAt)
	kind := binary.LittleEndian.Uint16(raw[typeAt:])
	fixed, known := fixedSize(kind)
	if !known || size < fixed || uint64(size) > uint64(len(raw)) {
		// Nothing but a header, of a record of no size.
		dst = append(dst, raw[:headerSize]...)
		binary.LittleEndian.PutUint32(dst[len(dst)-headerSize+sizeAt:], 0)
		return dst
	}
	base := len(dst)
	switch kind {
	case fork:
		dst = append(dst, raw[:72]...) // not parent_tgid, uid, comm
	case exec:
		dst = append(dst, raw[:68]...)
		dst = append(dst, raw[72:80]...)   // not old_tid
		dst = append(dst, raw[84:104]...)  // not gid
		dst = append(dst, raw[136:144]...) // exe_uid, peak_rss; not comm
		dst = append(dst, raw[110:120]...) // lengths; not env_size, mode
		dst = append(dst, 0, 0, 0, 0, 0, 0)
	case open:
		dst = append(dst, raw[:68]...)
		dst = append(dst, raw[76:80]...) // uid; not mode
		dst = append(dst, raw[70:74]...) // lengths
		dst = append(dst, 0, 0, 0, 0)
	case unix:
		dst = append(dst, raw[:52]...)
		dst = append(dst, raw[54:58]...) // lengths; not sock_type
	case attach:
		dst = append(dst, raw[:48]...)
		dst = append(dst, raw[60:68]...) // mover_tgid, vpid; not the parent
		dst = append(dst, raw[72:80]...) // path_len, watched; not uid, comm
	case process:
		dst = append(dst, raw[:88]...) // not comm
	default:
		dst = append(dst, raw[:fixed]...)
	}
	dst = append(dst, raw[fixed:size]...)
	binary.LittleEndian.PutUint32(dst[base+sizeAt:], uint32(len(dst)-base))
	return dst
}

// fixedSize gives the size without payload.
func fixedSize(t uint16) (size uint32, known bool) {
	switch t {
	case fork:
		return 96, true
	case exec:
		return 144, true
	case 3: // exec_args
		return 56, true
	case 4: // exit
		return 88, true
	case open:
		return 80, true
	case 6: // connect
		return 80, true
	case 7: // connect_end
		return 64, true
	case unix:
		return 64, true
	case 9, 10: // cgroup_mkdir, cgroup_rmdir
		return 72, true
	case attach:
		return 96, true
	case process:
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
