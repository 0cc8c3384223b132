// SPDX-License-Identifier: Apache-2.0

package record

import "encoding/binary"

// MaxText bounds each string of a Mark, a Said and a Container; the Append functions cut longer ones.
const MaxText = 1024

// MarkOp says what a Mark does.
type MarkOp uint16

// The operations.
const (
	MarkBegin MarkOp = 1
	MarkEnd   MarkOp = 2
)

// Values of Mark.Source.
const (
	SourceHook = "hook" // sheetbend hook, run by an agent
	SourceAPI  = "api"  // a harness, by the command line or the client package
)

// Mark says that a tool call begins or ends. The header's process is the peer of the local
// socket, as the kernel names it. Whether it may say so is for the collector to decide: it knows the lineage.
type Mark struct {
	Op MarkOp
	// A start time, here and in the header, may be rounded down to 10 ms, as /proc shows it.
	// The process that serves the call, for example a persistent shell; 0: the agent that
	// the peer is, or is a helper of.
	TargetTgid  uint32
	TargetStart uint64 // boottime ns; goes with TargetTgid, so that a reused pid is not taken for it
	Cgroup      uint64 // 0: none; id of a cgroup that serves the call
	// UID and PeerCgroup are those of the peer. A peer outside of every sandbox is believed by its user; the
	// cgroup tells it from one inside whose fork was lost. 0: not known, which is not believed.
	UID         uint32
	PeerCgroup  uint64
	Source      string
	Agent       string // dialect name, "" if not told
	Session     string
	Call        string
	Tool        string
	Traceparent string // of the call's span, W3C format; "" if not told
	More        More   // what else is said of the call
}

// AppendMark appends a Mark record that the process tgid, started at start (ns of
// boottime), sent at time.
func AppendMark(dst []byte, time uint64, tgid uint32, start uint64, m Mark) []byte {
	base := len(dst)
	dst = appendHeader(dst, Header{Type: TypeMark, Time: time, Tgid: tgid, Tid: tgid, Start: start})
	dst = binary.LittleEndian.AppendUint64(dst, m.TargetStart)
	dst = binary.LittleEndian.AppendUint64(dst, m.Cgroup)
	dst = binary.LittleEndian.AppendUint64(dst, m.PeerCgroup)
	dst = binary.LittleEndian.AppendUint32(dst, m.TargetTgid)
	dst = binary.LittleEndian.AppendUint32(dst, m.UID)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(m.Op))
	return appendTexts(dst, base, markSize, m.Source, m.Agent, m.Session, m.Call, m.Tool, m.Traceparent, string(m.More))
}

// appendTexts appends the lengths of the strings, zeros up to the fixed size of the record
// that begins at base, and the strings, and writes the record's size.
func appendTexts(dst []byte, base, fixed int, texts ...string) []byte {
	for _, t := range texts {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(min(len(t), MaxText)))
	}
	for len(dst) < base+fixed {
		dst = append(dst, 0)
	}
	for _, t := range texts {
		dst = append(dst, t[:min(len(t), MaxText)]...)
	}
	binary.LittleEndian.PutUint32(dst[base+4:], uint32(len(dst)-base))
	return dst
}
