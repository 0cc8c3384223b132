// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error of Decode.
var ErrMalformed = errors.New("malformed record")

// Sizes of the structs of bpf/records.h and of records of user space, payload excluded.
const (
	headerSize     = 48
	forkSize       = 72
	execSize       = 120
	execArgsSize   = 56
	exitSize       = 88
	openSize       = 80
	connectSize    = 80
	connectEndSize = 64
	unixSize       = 56
	cgroupSize     = 72
	attachSize     = 64
	processSize    = 88
	socketSize     = 72
	namespaceSize  = 64
	accessSize     = 80
	clockSize      = 56
	lossSize       = 80
	cmdlineSize    = 56
	markSize       = 96
	saidSize       = 96
	containerSize  = 72
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
	Clock      Clock
	Loss       Loss
	Cmdline    Cmdline
	Mark       Mark
	Said       Said
	Container  Container
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
	h.Type = Type(u16(raw, 0))
	h.Flags = u16(raw, 2)
	h.Size = u32(raw, 4)
	h.Time = u64(raw, 8)
	h.Cgroup = u64(raw, 16)
	h.Start = u64(raw, 24)
	h.ExecID = u64(raw, 32)
	h.Tgid = u32(raw, 40)
	h.Tid = u32(raw, 44)
	if uint64(h.Size) > uint64(len(raw)) || h.Size < headerSize {
		return fmt.Errorf("%w: %s says %d bytes, has %d", ErrMalformed, h.Type, h.Size, len(raw))
	}
	raw = raw[:h.Size]
	fixed, ok := fixedSize(h.Type)
	if !ok {
		return fmt.Errorf("%w: unknown type %d", ErrMalformed, uint16(h.Type))
	}
	if len(raw) < fixed {
		return fmt.Errorf("%w: %s of %d bytes, needs %d", ErrMalformed, h.Type, len(raw), fixed)
	}
	p := payload{rest: raw[fixed:]}
	switch h.Type {
	case TypeFork:
		e.Fork = Fork{
			ChildStart: u64(raw, 48), ChildCgroup: u64(raw, 56),
			ChildTgid: u32(raw, 64), ChildVpid: u32(raw, 68),
		}
	case TypeExec:
		e.Exec = Exec{
			ParentStart: u64(raw, 48), Inode: u64(raw, 56),
			ParentTgid: u32(raw, 64), UID: u32(raw, 68), EUID: u32(raw, 72), EGID: u32(raw, 76),
			Vpid: u32(raw, 80), Dev: u32(raw, 84), Argc: u32(raw, 88), ArgsSize: u32(raw, 92),
			ExeUID: u32(raw, 96), PeakRSS: u32(raw, 100),
			Exe: p.take(int(u16(raw, 104))), Cwd: p.take(int(u16(raw, 106))),
			Filename: p.take(int(u16(raw, 108))), Env: p.take(int(u16(raw, 110))), Args: p.take(int(u16(raw, 112))),
		}
	case TypeExecArgs:
		e.ExecArgs = ExecArgs{Offset: u32(raw, 48), Args: p.take32(u32(raw, 52))}
	case TypeExit:
		e.Exit = Exit{
			CPU: u64(raw, 48), User: u64(raw, 56), System: u64(raw, 64),
			PeakRSS: u64(raw, 72), Status: u32(raw, 80),
		}
	case TypeOpen:
		e.Open = Open{
			Inode: u64(raw, 48), Error: int32(u32(raw, 56)), Flags: u32(raw, 60),
			Dev: u32(raw, 64), UID: u32(raw, 68),
			Path: p.take(int(u16(raw, 72))), Name: p.take(int(u16(raw, 74))),
		}
		if e.Open.Error < 0 {
			return fmt.Errorf("%w: open with error %d", ErrMalformed, e.Open.Error)
		}
	case TypeConnect:
		e.Connect = Connect{
			Cookie: u64(raw, 48), Addr: [16]byte(raw[56:72]),
			Family: u16(raw, 72), Protocol: u16(raw, 74), Port: u16(raw, 76), Op: u16(raw, 78),
		}
	case TypeConnectEnd:
		e.ConnectEnd = ConnectEnd{Cookie: u64(raw, 48), Error: int32(u32(raw, 56))}
		if e.ConnectEnd.Error < 0 {
			return fmt.Errorf("%w: connect with error %d", ErrMalformed, e.ConnectEnd.Error)
		}
	case TypeUnix:
		e.Unix = Unix{
			Error: int32(u32(raw, 48)),
			Path:  p.take(int(u16(raw, 52))), Name: p.take(int(u16(raw, 54))),
		}
		if e.Unix.Error < 0 {
			return fmt.Errorf("%w: connect with error %d", ErrMalformed, e.Unix.Error)
		}
	case TypeCgroupMkdir, TypeCgroupRmdir, TypeCgroup:
		e.Cgroup = Cgroup{ID: u64(raw, 48), Parent: u64(raw, 56), Path: p.take32(u32(raw, 64))}
	case TypeCgroupAttach:
		e.Attach = Attach{
			MoverTgid: u32(raw, 48), Vpid: u32(raw, 52), Watched: u32(raw, 60) != 0, Path: p.take32(u32(raw, 56)),
		}
	case TypeProcess:
		e.Process = Process{
			ParentStart: u64(raw, 48), Inode: u64(raw, 56), ParentTgid: u32(raw, 64),
			UID: u32(raw, 68), Vpid: u32(raw, 72), Dev: u32(raw, 76), ExeUID: u32(raw, 84),
			Exe: p.take(int(u16(raw, 80))), Cwd: p.take(int(u16(raw, 82))),
		}
	case TypeSocket:
		e.Socket = Socket{
			Error: int32(u32(raw, 48)), Protocol: u32(raw, 52), Family: u16(raw, 56), Type: u16(raw, 58), Op: u16(raw, 60),
			CID: u32(raw, 64), Port: u32(raw, 68),
		}
		if e.Socket.Error < 0 {
			return fmt.Errorf("%w: socket with error %d", ErrMalformed, e.Socket.Error)
		}
	case TypeNamespace:
		e.Namespace = Namespace{Types: u32(raw, 48), Error: int32(u32(raw, 52)), Op: u16(raw, 56)}
		if e.Namespace.Error < 0 {
			return fmt.Errorf("%w: namespace with error %d", ErrMalformed, e.Namespace.Error)
		}
	case TypeAccess:
		e.Access = Access{
			TargetStart: u64(raw, 48), TargetCgroup: u64(raw, 56), TargetTgid: u32(raw, 64), Error: int32(u32(raw, 68)), Op: u16(raw, 72),
			Exe: p.take(int(u16(raw, 74))),
		}
		if e.Access.Error < 0 {
			return fmt.Errorf("%w: access with error %d", ErrMalformed, e.Access.Error)
		}
	case TypeClock:
		e.Clock = Clock{Wall: int64(u64(raw, 48))}
	case TypeTick:
	case TypeLoss:
		e.Loss = Loss{
			Kind: Type(u16(raw, 48)), Cause: Cause(u16(raw, 50)),
			Count: u64(raw, 56), From: u64(raw, 64), To: u64(raw, 72),
		}
	case TypeCmdline:
		e.Cmdline = Cmdline{Argc: u32(raw, 48), Args: p.take32(u32(raw, 52))}
	case TypeMark:
		e.Mark = Mark{
			TargetStart: u64(raw, 48), Cgroup: u64(raw, 56), PeerCgroup: u64(raw, 64),
			TargetTgid: u32(raw, 72), UID: u32(raw, 76), Op: MarkOp(u16(raw, 80)),
			Source: p.text(raw, 82), Agent: p.text(raw, 84), Session: p.text(raw, 86), Call: p.text(raw, 88),
			Tool: p.text(raw, 90), Traceparent: p.text(raw, 92),
		}
	case TypeSaid:
		e.Said = Said{
			Outside: h.Flags&saidOutside != 0, Trace: [16]byte(raw[48:64]), Span: [8]byte(raw[64:72]), Kind: SaidKind(u16(raw, 72)), TraceFlags: raw[74], Success: Success(raw[75]),
			Agent: p.text(raw, 76), Session: p.text(raw, 78), Call: p.text(raw, 80), Tool: p.text(raw, 82),
			Decision: p.text(raw, 84), Source: p.text(raw, 86), Detail: p.text(raw, 88), UID: u32(raw, 92),
		}
	case TypeContainer:
		e.Container = Container{
			ID: p.text(raw, 52), Runtime: p.text(raw, 54), Name: p.text(raw, 56), Image: p.text(raw, 58), Tag: p.text(raw, 60),
			Pod: p.text(raw, 62), PodUID: p.text(raw, 64), Namespace: p.text(raw, 66), PodPart: p.text(raw, 68), Handler: p.text(raw, 70),
		}
		e.Container.Labels = p.pairs(int(u16(raw, 48)))
		e.Container.Annotations = p.pairs(int(u16(raw, 50)))
	}
	if p.short {
		return fmt.Errorf("%w: %s of %d bytes does not hold its parts", ErrMalformed, h.Type, len(raw))
	}
	return nil
}

func fixedSize(t Type) (int, bool) {
	switch t {
	case TypeFork:
		return forkSize, true
	case TypeExec:
		return execSize, true
	case TypeExecArgs:
		return execArgsSize, true
	case TypeExit:
		return exitSize, true
	case TypeOpen:
		return openSize, true
	case TypeConnect:
		return connectSize, true
	case TypeConnectEnd:
		return connectEndSize, true
	case TypeUnix:
		return unixSize, true
	case TypeCgroupMkdir, TypeCgroupRmdir, TypeCgroup:
		return cgroupSize, true
	case TypeCgroupAttach:
		return attachSize, true
	case TypeProcess:
		return processSize, true
	case TypeSocket:
		return socketSize, true
	case TypeNamespace:
		return namespaceSize, true
	case TypeAccess:
		return accessSize, true
	case TypeClock:
		return clockSize, true
	case TypeTick:
		return headerSize, true
	case TypeLoss:
		return lossSize, true
	case TypeCmdline:
		return cmdlineSize, true
	case TypeMark:
		return markSize, true
	case TypeSaid:
		return saidSize, true
	case TypeContainer:
		return containerSize, true
	}
	return 0, false
}

// payload hands out the variable part of a record piece by piece.
type payload struct {
	rest  []byte
	short bool
}

func (p *payload) take(n int) []byte {
	if n > len(p.rest) {
		p.short = true
		return nil
	}
	// The capacity ends with the piece, so that an append cannot reach the next one.
	piece := p.rest[:n:n]
	p.rest = p.rest[n:]
	return piece
}

func (p *payload) take32(n uint32) []byte {
	if uint64(n) > uint64(len(p.rest)) {
		p.short = true
		return nil
	}
	return p.take(int(n))
}

// text takes the string whose length stands at off in raw.
func (p *payload) text(raw []byte, off int) string {
	n := int(u16(raw, off))
	if n > MaxText {
		p.short = true
		return ""
	}
	return string(p.take(n))
}

func u16(b []byte, off int) uint16 { return binary.LittleEndian.Uint16(b[off:]) }
func u32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func u64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
