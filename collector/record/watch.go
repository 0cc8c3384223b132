// SPDX-License-Identifier: Apache-2.0

package record

import "encoding/binary"

// The values of Watch.Op.
const (
	WatchBegin uint16 = 1 // the cgroup is a sandbox from now on
	WatchEnd   uint16 = 2 // nobody waits for more of it: what is held of who has ended is sent
)

// Watch says that a user had a cgroup watched that no selector chooses, by the local API.
type Watch struct {
	Op      uint16
	UID     uint32 // who asked
	Cgroup  uint64 // id
	Path    string // from the cgroup v2 mount, at most MaxText bytes
	Session string // what spans call the session; "": the sandbox's own id
	Agent   string // its name, "" if not told
}

// AppendWatch appends a Watch record.
func AppendWatch(dst []byte, time uint64, w Watch) []byte {
	base := len(dst)
	dst = appendHeader(dst, Header{Type: TypeWatch, Time: time})
	dst = binary.LittleEndian.AppendUint64(dst, w.Cgroup)
	dst = binary.LittleEndian.AppendUint32(dst, w.UID)
	dst = binary.LittleEndian.AppendUint16(dst, w.Op)
	return appendTexts(dst, base, watchSize, w.Path, w.Session, w.Agent)
}

func readWatch(e *Event, raw []byte, r *reader) {
	e.Watch = Watch{
		Cgroup: u64(raw, 48), UID: u32(raw, 56), Op: u16(raw, 60),
		Path: r.text(u16(raw, 62)), Session: r.text(u16(raw, 64)), Agent: r.text(u16(raw, 66)),
	}
}
