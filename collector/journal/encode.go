// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"strings"

	"github.com/sheetbend/sheetbend/collector"
)

// AppendSlice encodes the Data of a Slice entry.
func AppendSlice(dst []byte, s collector.Slice) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, s.Number)
	var flags byte
	if s.Story {
		flags |= 1
	}
	if s.Joined {
		flags |= 2
	}
	dst = append(append(dst, flags), s.Instance...)
	return append(append(dst, 0), s.Call...)
}

// DecodeSlice decodes one.
func DecodeSlice(b []byte) (s collector.Slice, ok bool) {
	if len(b) < 10 {
		return s, false
	}
	s = collector.Slice{Number: binary.LittleEndian.Uint64(b), Story: b[8]&1 != 0, Joined: b[8]&2 != 0}
	s.Instance, s.Call, ok = strings.Cut(string(b[9:]), "\x00")
	return s, ok
}

// traceOf identifies the trace in the Data of a Slice.
func traceOf(b []byte) string { return string(b[min(len(b), 8):]) }

// agentSize is what in the Data of a Claimed entry says which agent it is of.
const agentSize = 20

// AppendClaim encodes the Data of a Claimed entry.
func AppendClaim(dst []byte, k collector.Claim) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, k.Agent.Tgid)
	dst = binary.LittleEndian.AppendUint64(dst, k.Agent.Start)
	dst = binary.LittleEndian.AppendUint64(dst, k.Agent.ExecID)
	dst = binary.LittleEndian.AppendUint32(dst, k.UID)
	nested := byte(0)
	if k.Nested {
		nested = 1
	}
	dst = append(append(append(dst, nested), k.Place...), 0)
	dst = append(append(dst, k.Dialect...), 0)
	return append(dst, k.Session...)
}

// DecodeClaim decodes one.
func DecodeClaim(b []byte) (k collector.Claim, ok bool) {
	if len(b) < agentSize+5 {
		return k, false
	}
	k.Agent.Tgid, k.Agent.Start = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:])
	k.Agent.ExecID, k.UID = binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint32(b[20:])
	k.Nested = b[agentSize+4] != 0
	text := strings.SplitN(string(b[agentSize+5:]), "\x00", 3)
	if len(text) != 3 || text[2] == "" {
		return k, false
	}
	k.Place, k.Dialect, k.Session = text[0], text[1], text[2]
	return k, true
}
