// SPDX-License-Identifier: Apache-2.0

package record

import "encoding/binary"

// SaidKind tells what a Said is about.
type SaidKind uint16

// The kinds.
const (
	SaidContext  SaidKind = 1 // Trace and Span are the agent's own span for the call
	SaidDecision SaidKind = 2 // the call was approved or denied
	SaidResult   SaidKind = 3 // the call has ended
	SaidSandbox  SaidKind = 4 // what the agent's own sandbox did
	SaidNetwork  SaidKind = 5 // the agent's own network policy decided
	SaidSession  SaidKind = 6 // the agent runs this session
	SaidRequest  SaidKind = 7 // nothing yet: the sender has sent a request. May it?
)

// Success says how a call ended, by the agent's word.
type Success uint8

// The values of Success.
const (
	SuccessUnknown Success = 0
	SuccessOK      Success = 1
	SuccessFailed  Success = 2
)

// Values of Said.Decision; what an agent says otherwise is passed on as it is.
const (
	Approved = "approved"
	Denied   = "denied"
)

// Said is one fact from an agent's own telemetry. It is somebody's word: anyone who reaches
// the intake could have sent it. The header's process is the sender when that is known, else 0.
type Said struct {
	Kind       SaidKind
	Outside    bool     // the sender is a process of this host outside of every sandbox
	UID        uint32   // its user; only with Outside
	Trace      [16]byte // zero when not known
	Span       [8]byte
	TraceFlags uint8 // W3C; 1: sampled
	Success    Success
	Agent      string // dialect name
	Session    string
	Call       string
	Tool       string
	Decision   string // Approved, Denied or the agent's own word
	Source     string // who decided: "config", "user", "policy" or the agent's own word
	Detail     string // never prompts, outputs or arguments
	More       More   // what else is said of the call
}

// saidOutside is the flag of TypeSaid.
const saidOutside = 1

// AppendSaid appends a Said record. tgid and start are 0 when the sender is not known.
func AppendSaid(dst []byte, time uint64, tgid uint32, start uint64, s Said) []byte {
	base := len(dst)
	h := Header{Type: TypeSaid, Time: time, Tgid: tgid, Tid: tgid, Start: start}
	if s.Outside {
		h.Flags = saidOutside
	}
	dst = appendHeader(dst, h)
	dst = append(dst, s.Trace[:]...)
	dst = append(dst, s.Span[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(s.Kind))
	dst = append(dst, s.TraceFlags, byte(s.Success))
	dst = appendTexts(dst, base, saidSize, s.Agent, s.Session, s.Call, s.Tool, s.Decision, s.Source, s.Detail, string(s.More))
	binary.LittleEndian.PutUint32(dst[base+92:], s.UID)
	return dst
}
