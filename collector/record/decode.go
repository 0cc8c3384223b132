// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error of Decode.
var ErrMalformed = errors.New("malformed record")

// Bytes of what user space writes, without payload.
const (
	headerSize    = 48
	cgroupSize    = 72
	clockSize     = 56
	lossSize      = 80
	cmdlineSize   = 56
	markSize      = 96
	saidSize      = 96
	containerSize = 72
	limitSize     = 64
	watchSize     = 72
)

// Event is one decoded record: Header, and of the rest the field that Header.Type
// names. It is meant to be reused. Byte slices alias the raw record, strings do not.
type Event struct {
	Header     Header
	Fork       Fork
	Exec       Exec
	ExecArgs   ExecArgs
	Exit       Exit
	Open       Open
	Connect    Connect
	ConnectEnd ConnectEnd
	Unix       Unix
	Cgroup     Cgroup
	Attach     Attach
	Process    Process
	Socket     Socket
	Namespace  Namespace
	Access     Access
	Change     Change
	Listen     Listen
	Accept     Accept
	Close      Close
	Packet     Packet
	ExecFailed ExecFailed
	OOM        OOM
	Limit      Limit
	Clock      Clock
	Loss       Loss
	Cmdline    Cmdline
	Mark       Mark
	Said       Said
	Container  Container
	Watch      Watch

	in reader
}

// Decode reads one record. Bytes after the size that the header gives are not
// looked at. The error wraps ErrMalformed; of the event only Header.Type is then of use, zero
// if even that was missing.
func (e *Event) Decode(raw []byte) error {
	if len(raw) < headerSize {
		e.Header = Header{}
		return fmt.Errorf("%w: %d bytes, shorter than a header", ErrMalformed, len(raw))
	}
	h := &e.Header
	*h = Header{
		Type: Type(u16(raw, 0)), Flags: u16(raw, 2), Size: u32(raw, 4), Time: u64(raw, 8), Cgroup: u64(raw, 16),
		Start: u64(raw, 24), ExecID: u64(raw, 32), Tgid: u32(raw, 40), Tid: u32(raw, 44),
	}
	if uint64(h.Size) > uint64(len(raw)) || h.Size < headerSize {
		return fmt.Errorf("%w: %s says %d bytes, has %d", ErrMalformed, h.Type, h.Size, len(raw))
	}
	raw = raw[:h.Size]
	k := h.Type.kind()
	if k.read == nil {
		return fmt.Errorf("%w: unknown type %d", ErrMalformed, uint16(h.Type))
	}
	if len(raw) < k.size {
		return fmt.Errorf("%w: %s of %d bytes, needs %d", ErrMalformed, h.Type, len(raw), k.size)
	}
	r := &e.in
	*r = reader{payload: raw[k.size:]}
	k.read(e, raw, r)
	if r.negative < 0 {
		return fmt.Errorf("%w: %s with error %d", ErrMalformed, h.Type, r.negative)
	}
	if r.short {
		return fmt.Errorf("%w: %s of %d bytes does not hold its parts", ErrMalformed, h.Type, len(raw))
	}
	return nil
}

func readFork(e *Event, raw []byte, _ *reader) {
	e.Fork = Fork{
		ChildStart: u64(raw, 48), ChildCgroup: u64(raw, 56),
		ChildTgid: u32(raw, 64), ChildVpid: u32(raw, 68),
	}
}

func readExec(e *Event, raw []byte, r *reader) {
	e.Exec = Exec{
		ParentStart: u64(raw, 48), Inode: u64(raw, 56),
		ParentTgid: u32(raw, 64), UID: u32(raw, 68), EUID: u32(raw, 72), EGID: u32(raw, 76),
		Vpid: u32(raw, 80), Dev: u32(raw, 84), Argc: u32(raw, 88), ArgsSize: u32(raw, 92),
		ExeUID: u32(raw, 96), PeakRSS: u32(raw, 100),
		Exe: r.take(uint32(u16(raw, 104))), Cwd: r.take(uint32(u16(raw, 106))),
		Filename: r.take(uint32(u16(raw, 108))), Env: r.take(uint32(u16(raw, 110))),
		Args: r.take(uint32(u16(raw, 112))),
	}
}

func readExecArgs(e *Event, raw []byte, r *reader) {
	e.ExecArgs = ExecArgs{Offset: u32(raw, 48), Args: r.take(u32(raw, 52))}
}

func readExit(e *Event, raw []byte, _ *reader) {
	e.Exit = Exit{
		CPU: u64(raw, 48), User: u64(raw, 56), System: u64(raw, 64),
		PeakRSS: u64(raw, 72), Status: u32(raw, 80),
	}
}

func readOpen(e *Event, raw []byte, r *reader) {
	e.Open = Open{
		Inode: u64(raw, 48), Error: r.errno(u32(raw, 56)), Flags: u32(raw, 60),
		Dev: u32(raw, 64), UID: u32(raw, 68),
		Path: r.take(uint32(u16(raw, 72))), Name: r.take(uint32(u16(raw, 74))),
	}
}

func readConnect(e *Event, raw []byte, _ *reader) {
	e.Connect = Connect{
		Cookie: u64(raw, 48), Addr: [16]byte(raw[56:72]),
		Family: u16(raw, 72), Protocol: u16(raw, 74), Port: u16(raw, 76), Op: u16(raw, 78),
	}
}

func readConnectEnd(e *Event, raw []byte, r *reader) {
	e.ConnectEnd = ConnectEnd{Cookie: u64(raw, 48), Error: r.errno(u32(raw, 56))}
}

func readUnix(e *Event, raw []byte, r *reader) {
	e.Unix = Unix{
		Error: r.errno(u32(raw, 48)),
		Path:  r.take(uint32(u16(raw, 52))), Name: r.take(uint32(u16(raw, 54))),
	}
}

func readCgroup(e *Event, raw []byte, r *reader) {
	e.Cgroup = Cgroup{ID: u64(raw, 48), Parent: u64(raw, 56), Path: r.take(u32(raw, 64))}
}

func readCgroupAttach(e *Event, raw []byte, r *reader) {
	e.Attach = Attach{
		MoverTgid: u32(raw, 48), Vpid: u32(raw, 52), Watched: u32(raw, 60) != 0, Path: r.take(u32(raw, 56)),
	}
}

func readProcess(e *Event, raw []byte, r *reader) {
	e.Process = Process{
		ParentStart: u64(raw, 48), Inode: u64(raw, 56), ParentTgid: u32(raw, 64),
		UID: u32(raw, 68), Vpid: u32(raw, 72), Dev: u32(raw, 76), ExeUID: u32(raw, 84),
		Exe: r.take(uint32(u16(raw, 80))), Cwd: r.take(uint32(u16(raw, 82))),
	}
}

func readSocket(e *Event, raw []byte, r *reader) {
	e.Socket = Socket{
		Error: r.errno(u32(raw, 48)), Protocol: u32(raw, 52),
		Family: u16(raw, 56), Type: u16(raw, 58), Op: u16(raw, 60),
		CID: u32(raw, 64), Port: u32(raw, 68),
	}
}

func readNamespace(e *Event, raw []byte, r *reader) {
	e.Namespace = Namespace{Types: u32(raw, 48), Error: r.errno(u32(raw, 52)), Op: u16(raw, 56)}
}

func readAccess(e *Event, raw []byte, r *reader) {
	e.Access = Access{
		TargetStart: u64(raw, 48), TargetCgroup: u64(raw, 56), TargetTgid: u32(raw, 64),
		Error: r.errno(u32(raw, 68)), Op: u16(raw, 72), Signal: u32(raw, 76),
		Exe: r.take(uint32(u16(raw, 74))),
	}
}

func readChange(e *Event, raw []byte, r *reader) {
	e.Change = Change{
		Inode: u64(raw, 48), Replaced: u64(raw, 56), Before: u64(raw, 64), After: u64(raw, 72),
		Error: r.errno(u32(raw, 80)), Flags: u32(raw, 84), Dev: u32(raw, 88), Nlink: u32(raw, 92),
		Op: u16(raw, 96), Mode: u16(raw, 98),
		Old:  ChangedName{r.take(uint32(u16(raw, 100))), r.take(uint32(u16(raw, 102)))},
		New:  ChangedName{r.take(uint32(u16(raw, 104))), r.take(uint32(u16(raw, 106)))},
		Text: r.take(uint32(u16(raw, 108))),
	}
}

func readListen(e *Event, raw []byte, r *reader) {
	e.Listen = Listen{
		Cookie: u64(raw, 48), Addr: [16]byte(raw[56:72]),
		Family: u16(raw, 72), Protocol: u16(raw, 74), Port: u16(raw, 76), Error: r.errno(u32(raw, 84)),
		Path: r.take(uint32(u16(raw, 78))), Name: r.take(uint32(u16(raw, 80))),
	}
}

func readAccept(e *Event, raw []byte, _ *reader) {
	e.Accept = Accept{
		Cookie: u64(raw, 48), Addr: [16]byte(raw[56:72]), Peer: [16]byte(raw[72:88]),
		Family: u16(raw, 88), Protocol: u16(raw, 90), Port: u16(raw, 92), PeerPort: u16(raw, 94),
	}
}

func readClose(e *Event, raw []byte, r *reader) {
	e.Close = Close{
		Cookie: u64(raw, 48), Since: u64(raw, 56), Sent: u64(raw, 64), Received: u64(raw, 72),
		Addr: [16]byte(raw[80:96]), Peer: [16]byte(raw[96:112]), Family: u16(raw, 112), Protocol: u16(raw, 114),
		Port: u16(raw, 116), PeerPort: u16(raw, 118), Error: r.errno(u32(raw, 120)), Reason: u16(raw, 124),
		Incoming: u16(raw, 126) != 0,
	}
}

func readPacket(e *Event, raw []byte, r *reader) {
	e.Packet = Packet{
		Cookie: u64(raw, 48), Addr: [16]byte(raw[56:72]), Peer: [16]byte(raw[72:88]),
		Family: u16(raw, 88), Port: u16(raw, 90), PeerPort: u16(raw, 92), What: u16(raw, 94),
		Offset: u32(raw, 96), Size: u32(raw, 100), Bytes: r.take(u32(raw, 104)),
	}
}

func readExecFailed(e *Event, raw []byte, r *reader) {
	e.ExecFailed = ExecFailed{
		Error: r.errno(u32(raw, 48)),
		Path:  r.take(uint32(u16(raw, 52))), Name: r.take(uint32(u16(raw, 54))),
	}
}

func readOOM(e *Event, raw []byte, _ *reader) {
	e.OOM = OOM{LimitCgroup: u64(raw, 48), ByTgid: u32(raw, 56)}
}

func readLimit(e *Event, raw []byte, _ *reader) {
	e.Limit = Limit{Count: u64(raw, 48), Which: u16(raw, 56)}
}

func readClock(e *Event, raw []byte, _ *reader) {
	e.Clock = Clock{Wall: int64(u64(raw, 48))}
}

func readLoss(e *Event, raw []byte, _ *reader) {
	e.Loss = Loss{
		Kind: Type(u16(raw, 48)), Cause: Cause(u16(raw, 50)),
		Count: u64(raw, 56), From: u64(raw, 64), To: u64(raw, 72),
	}
}

func readCmdline(e *Event, raw []byte, r *reader) {
	e.Cmdline = Cmdline{Argc: u32(raw, 48), Args: r.take(u32(raw, 52))}
}

func readMark(e *Event, raw []byte, r *reader) {
	e.Mark = Mark{
		TargetStart: u64(raw, 48), Cgroup: u64(raw, 56), PeerCgroup: u64(raw, 64),
		TargetTgid: u32(raw, 72), UID: u32(raw, 76), Op: MarkOp(u16(raw, 80)),
		Source: r.text(u16(raw, 82)), Agent: r.text(u16(raw, 84)),
		Session: r.text(u16(raw, 86)), Call: r.text(u16(raw, 88)),
		Tool: r.text(u16(raw, 90)), Traceparent: r.text(u16(raw, 92)), More: More(r.text(u16(raw, 94))),
	}
}

func readSaid(e *Event, raw []byte, r *reader) {
	e.Said = Said{
		Outside: e.Header.Flags&saidOutside != 0, Trace: [16]byte(raw[48:64]), Span: [8]byte(raw[64:72]),
		Kind: SaidKind(u16(raw, 72)), TraceFlags: raw[74], Success: Success(raw[75]),
		Agent: r.text(u16(raw, 76)), Session: r.text(u16(raw, 78)),
		Call: r.text(u16(raw, 80)), Tool: r.text(u16(raw, 82)),
		Decision: r.text(u16(raw, 84)), Source: r.text(u16(raw, 86)), Detail: r.text(u16(raw, 88)), More: More(r.text(u16(raw, 90))), UID: u32(raw, 92),
	}
}

func readContainer(e *Event, raw []byte, r *reader) {
	e.Container = Container{
		ID: r.text(u16(raw, 52)), Runtime: r.text(u16(raw, 54)), Name: r.text(u16(raw, 56)),
		Image: r.text(u16(raw, 58)), Tag: r.text(u16(raw, 60)),
		Pod: r.text(u16(raw, 62)), PodUID: r.text(u16(raw, 64)), Namespace: r.text(u16(raw, 66)),
		PodPart: r.text(u16(raw, 68)), Handler: r.text(u16(raw, 70)),
	}
	e.Container.Labels = r.pairs(u16(raw, 48))
	e.Container.Annotations = r.pairs(u16(raw, 50))
}

func readNothing(*Event, []byte, *reader) {}

// A reader takes the payload of a record apart, piece by piece.
type reader struct {
	payload  []byte // what is left
	short    bool   // the payload does not hold what the record says
	negative int32  // an errno that is none
}

// take takes the next n bytes.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.payload)) {
		r.short = true
		return nil
	}
	// The capacity ends with the piece, so that an append cannot reach the next one.
	piece := r.payload[:n:n]
	r.payload = r.payload[n:]
	return piece
}

// text takes at most MaxText bytes.
func (r *reader) text(n uint16) string {
	if n > MaxText {
		r.short = true
		return ""
	}
	return string(r.take(uint32(n)))
}

// errno is 0 or a positive one.
func (r *reader) errno(n uint32) int32 {
	r.negative = min(r.negative, int32(n))
	return int32(n)
}

func u16(b []byte, off int) uint16 { return binary.LittleEndian.Uint16(b[off:]) }
func u32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func u64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
