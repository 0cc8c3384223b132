// SPDX-License-Identifier: Apache-2.0

// Package record reads the record stream: what the kernel programs send, laid out
// in bpf/records.h, and the few records that user space adds to the same stream
// (clock, tick, loss, cgroup, cmdline), so that a capture of it holds all that the collector saw.
//
// The stream is little-endian: the kernel objects are built for bpfel only.
package record

import (
	"bytes"
	"strconv"
)

// Layout is the number of the layout of all records, those of user space and those of bpf/records.h. Who changes
// one raises it, and adds a package that reads the earlier one (layout1 is an example): a capture says which layout
// it has (collector/capture). A journal of another layout is not read. A kind that is only added changes it not. The
// ring that an earlier sensor left has a format of its own: formatOf in bpf/pin.go.
const Layout = 4

// Cause says why a record was lost: enum loss_cause below 256, losses in user space from there on.
type Cause uint16

// The causes of loss.
const (
	CauseRingFull Cause = 1
	CauseMapFull  Cause = 2
	CauseScratch  Cause = 3
	CauseMissed   Cause = 4
	// Left out in favour of more important records, as the ring filled; and because the sandbox had its share of the
	// ring.
	CauseShedRepeat   Cause = 5
	CauseShedNoise    Cause = 6
	CauseShedRead     Cause = 7
	CauseBudgetRepeat Cause = 8
	CauseBudgetNoise  Cause = 9
	CauseBudgetRead   Cause = 10
	CauseBudgetFact   Cause = 11

	CauseMalformed  Cause = 257 // the collector could not decode it
	CauseTableFull  Cause = 258 // a table of the collector was full: state was dropped or not made
	CauseUnassigned Cause = 259 // the collector could not tell whose it was
	CauseNotRead    Cause = 260 // it waited for a sensor of another version, which could not read it
	// A cgroup that was there before it was known or chosen could not be watched, nor what happens in it.
	CauseUnwatched Cause = 261
)

// String is the name used on spans, for example "ring_full".
func (c Cause) String() string {
	if name := causes[c]; name != "" {
		return name
	}
	return "cause_" + strconv.Itoa(int(c))
}

var causes = map[Cause]string{
	CauseRingFull:     "ring_full",
	CauseMapFull:      "map_full",
	CauseScratch:      "scratch",
	CauseMissed:       "missed",
	CauseShedRepeat:   "shed_repeat",
	CauseShedNoise:    "shed_noise",
	CauseShedRead:     "shed_read",
	CauseBudgetRepeat: "budget_repeat",
	CauseBudgetNoise:  "budget_noise",
	CauseBudgetRead:   "budget_read",
	CauseBudgetFact:   "budget_fact",
	CauseMalformed:    "malformed",
	CauseTableFull:    "table_full",
	CauseNotRead:      "not_read",
	CauseUnwatched:    "unwatched",
	CauseUnassigned:   "unassigned",
}

// ChangeUnknown is Change.Before where it is not known.
const ChangeUnknown = ^uint64(0)

// Values of Close.Reason.
const (
	CloseUnknown = 0
	CloseHere    = 1
	ClosePeer    = 2
	CloseError   = 3
)

// Values of Packet.What.
const (
	PacketDNS   = 1
	PacketFirst = 2
)

// Flags of TypePacket.
const (
	PacketOut     = 1
	PacketStream  = 2
	PacketForeign = 4
	PacketLast    = 8
	PacketAnswers = 16
)

// Values of Limit.Which.
const (
	LimitMemoryHigh = 1 // memory.events: high
	LimitMemoryMax  = 2 // memory.events: max
	LimitOOM        = 3 // memory.events: oom
	LimitOOMKill    = 4 // memory.events: oom_kill
	LimitPids       = 5 // pids.events: max
	LimitCPU        = 6 // cpu.stat: nr_throttled
)

// Header begins every record. Times are ns of CLOCK_BOOTTIME, pids those of the
// initial namespace.
type Header struct {
	Type   Type
	Flags  uint16
	Size   uint32
	Time   uint64
	Cgroup uint64
	Start  uint64
	ExecID uint64
	Tgid   uint32
	Tid    uint32
}

// Components is a path as the kernel holds it: names from the leaf up, each ended by NUL.
type Components []byte

// AppendPath appends the path, with a slash before each name; no components are "/".
func (c Components) AppendPath(dst []byte) []byte {
	end := len(c)
	if end > 0 && c[end-1] == 0 {
		end--
	}
	if end <= 0 {
		return append(dst, '/')
	}
	for end >= 0 {
		i := bytes.LastIndexByte(c[:end], 0)
		dst = append(dst, '/')
		dst = append(dst, c[i+1:end]...)
		end = i
	}
	return dst
}

// Fork is struct record_fork.
type Fork struct {
	ChildStart  uint64
	ChildCgroup uint64
	ChildTgid   uint32
	ChildVpid   uint32
}

// Exec is struct record_exec.
type Exec struct {
	ParentStart uint64
	Inode       uint64
	ParentTgid  uint32
	UID, EUID   uint32
	EGID        uint32
	Vpid        uint32
	Dev         uint32
	Argc        uint32
	ArgsSize    uint32
	ExeUID      uint32 // owner of the executable's file
	PeakRSS     uint32 // pages, of what the process ran before
	Exe, Cwd    Components
	Filename    []byte
	Env         []byte // "NAME=value\0"…
	Args        []byte // "arg\0"…: the start of argv
}

// ExecArgs is struct record_exec_args.
type ExecArgs struct {
	Offset uint32
	Args   []byte
}

// Exit is struct record_exit.
type Exit struct {
	CPU, User, System uint64 // ns
	PeakRSS           uint64 // pages
	Status            uint32 // as wait(2)
}

// Open is struct record_open.
type Open struct {
	Inode uint64
	Error int32
	Flags uint32 // O_*
	Dev   uint32
	UID   uint32 // owner of the file
	Path  Components
	Name  []byte // as requested
}

// Connect is struct record_connect.
type Connect struct {
	Cookie   uint64
	Addr     [16]byte
	Family   uint16
	Protocol uint16
	Port     uint16
	Op       uint16
}

// ConnectEnd is struct record_connect_end.
type ConnectEnd struct {
	Cookie uint64
	Error  int32
}

// Unix is struct record_unix.
type Unix struct {
	Error int32
	Path  Components
	Name  []byte
}

// Cgroup is struct record_cgroup: of TypeCgroupMkdir, TypeCgroupRmdir and TypeCgroup.
type Cgroup struct {
	ID     uint64
	Parent uint64
	Path   []byte
}

// Attach is struct record_attach.
type Attach struct {
	MoverTgid uint32
	Vpid      uint32
	Watched   bool
	Path      []byte
}

// Process is struct record_process.
type Process struct {
	ParentStart uint64
	Inode       uint64
	ParentTgid  uint32
	UID         uint32
	Vpid        uint32
	Dev         uint32
	ExeUID      uint32 // owner of the executable's file
	Exe, Cwd    Components
}

// Socket is struct record_socket.
type Socket struct {
	Error    int32
	Protocol uint32 // of a packet socket in network order
	Family   uint16
	Type     uint16 // SOCK_*
	Op       uint16
	CID      uint32 // of a vsock connect
	Port     uint32
}

// Namespace is struct record_namespace.
type Namespace struct {
	Types uint32 // CLONE_NEW*
	Error int32
	Op    uint16
}

// Access is struct record_access.
type Access struct {
	TargetStart  uint64
	TargetCgroup uint64
	TargetTgid   uint32
	Error        int32
	Op           uint16
	Signal       uint32     // AccessSignal: its number
	Exe          Components // of the target, where it is not watched
}

// Change is struct record_change.
type Change struct {
	Inode         uint64
	Replaced      uint64 // inode
	Before, After uint64 // by Op: a mode, uid | gid << 32, a size
	Error         int32
	Flags         uint32 // of the operation
	Dev           uint32
	Nlink         uint32 // before
	Op            uint16
	Mode          uint16 // before, S_IFMT with permissions
	Old, New      ChangedName
	Text          []byte // name of an attribute, type of what is mounted
}

// ChangedName is a name and the directory that it starts from.
type ChangedName struct {
	Dir  Components
	Name []byte
}

// Listen is struct record_listen.
type Listen struct {
	Cookie   uint64
	Addr     [16]byte
	Family   uint16
	Protocol uint16
	Port     uint16
	Error    int32
	Path     Components // of a unix socket, as Name
	Name     []byte
}

// Accept is struct record_accept.
type Accept struct {
	Cookie         uint64
	Addr, Peer     [16]byte
	Family         uint16
	Protocol       uint16
	Port, PeerPort uint16
}

// Close is struct record_close.
type Close struct {
	Cookie         uint64
	Since          uint64 // boottime
	Sent, Received uint64 // bytes of content
	Addr, Peer     [16]byte
	Family         uint16
	Protocol       uint16
	Port, PeerPort uint16
	Error          int32
	Reason         uint16
	Incoming       bool // accepted
}

// Packet is struct record_packet.
type Packet struct {
	Cookie         uint64
	Addr, Peer     [16]byte
	Family         uint16
	Port, PeerPort uint16
	What           uint16
	Offset         uint32 // in the stream
	Size           uint32 // of the whole
	Bytes          []byte
}

// ExecFailed is struct record_exec_failed.
type ExecFailed struct {
	Error int32
	Path  Components
	Name  []byte
}

// OOM is struct record_oom.
type OOM struct {
	LimitCgroup uint64
	ByTgid      uint32
}

// Limit says that a limit of the cgroup of the header was hit Count times since it was looked at last.
type Limit struct {
	Which uint16
	Count uint64
}

// Clock ties the stream's clock to the wall: at Header.Time it was Wall.
type Clock struct {
	Wall int64 // ns since the Unix epoch
}

// Loss says that Count records of a kind were not delivered between From and To
// (ns of boottime). Header.Cgroup is the cgroup of the acting task, 0 if not known; Header.Tgid and Start are its
// process where it is told apart, else 0.
type Loss struct {
	Kind     Type
	Cause    Cause
	Count    uint64
	From, To uint64
}

// Cmdline is argv of the process of the header as /proc showed it.
type Cmdline struct {
	Argc uint32 // true count
	Args []byte // "arg\0"…, at most MaxCmdline bytes
}
