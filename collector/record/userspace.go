// SPDX-License-Identifier: Apache-2.0

package record

import "encoding/binary"

// MaxCmdline bounds the argv bytes of a Cmdline record.
const MaxCmdline = 64 << 10

// MaxCgroupPath bounds the path of a Cgroup record; a longer one is cut.
const MaxCgroupPath = 4096

// AppendClock appends a Clock record: at time (ns of boottime) the wall clock
// showed wall (ns since the Unix epoch).
func AppendClock(dst []byte, time uint64, wall int64) []byte {
	dst = appendHeader(dst, Header{Type: TypeClock, Size: clockSize, Time: time})
	return binary.LittleEndian.AppendUint64(dst, uint64(wall))
}

// AppendTick appends a Tick record.
func AppendTick(dst []byte, time uint64) []byte {
	return appendHeader(dst, Header{Type: TypeTick, Size: headerSize, Time: time})
}

// AppendLoss appends a Loss record. Its time is l.To; cgroup and process of h are 0 if not known.
func AppendLoss(dst []byte, h Header, l Loss) []byte {
	dst = appendHeader(dst, Header{
		Type: TypeLoss, Size: lossSize, Time: l.To, Cgroup: h.Cgroup, Tgid: h.Tgid, Start: h.Start,
	})
	dst = binary.LittleEndian.AppendUint16(dst, uint16(l.Kind))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(l.Cause))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, l.Count)
	dst = binary.LittleEndian.AppendUint64(dst, l.From)
	return binary.LittleEndian.AppendUint64(dst, l.To)
}

// AppendLimit appends a Limit record of a cgroup.
func AppendLimit(dst []byte, time, cgroup uint64, l Limit) []byte {
	dst = appendHeader(dst, Header{Type: TypeLimit, Size: limitSize, Time: time, Cgroup: cgroup})
	dst = binary.LittleEndian.AppendUint64(dst, l.Count)
	dst = binary.LittleEndian.AppendUint16(dst, l.Which)
	return append(dst, make([]byte, 6)...)
}

// AppendCgroup appends a Cgroup record. The path is relative to the cgroup v2
// mount and begins with a slash. Parents come before their children.
func AppendCgroup(dst []byte, time, id, parent uint64, path string) []byte {
	path = path[:min(len(path), MaxCgroupPath)]
	dst = appendHeader(dst, Header{Type: TypeCgroup, Size: cgroupSize + uint32(len(path)), Time: time})
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = binary.LittleEndian.AppendUint64(dst, parent)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(path)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return append(dst, path...)
}

// AppendCmdline appends a Cmdline record for the process that a Process record
// with header h told of. args is NUL-separated as /proc/PID/cmdline has it and is
// cut at MaxCmdline; argc is the true count.
func AppendCmdline(dst []byte, h Header, argc uint32, args []byte) []byte {
	args = args[:min(len(args), MaxCmdline)]
	h.Type, h.Flags, h.Size = TypeCmdline, 0, cmdlineSize+uint32(len(args))
	dst = appendHeader(dst, h)
	dst = binary.LittleEndian.AppendUint32(dst, argc)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(args)))
	return append(dst, args...)
}

func appendHeader(dst []byte, h Header) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Type))
	dst = binary.LittleEndian.AppendUint16(dst, h.Flags)
	dst = binary.LittleEndian.AppendUint32(dst, h.Size)
	dst = binary.LittleEndian.AppendUint64(dst, h.Time)
	dst = binary.LittleEndian.AppendUint64(dst, h.Cgroup)
	dst = binary.LittleEndian.AppendUint64(dst, h.Start)
	dst = binary.LittleEndian.AppendUint64(dst, h.ExecID)
	dst = binary.LittleEndian.AppendUint32(dst, h.Tgid)
	return binary.LittleEndian.AppendUint32(dst, h.Tid)
}

// SetPacketBytes puts other bytes into a record of TypePacket that can be decoded; it may write over raw.
func SetPacketBytes(raw []byte, payload string) []byte {
	raw = append(raw[:kinds[TypePacket].size], payload...)
	binary.LittleEndian.PutUint32(raw[4:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(raw[104:], uint32(len(payload)))
	return raw
}
