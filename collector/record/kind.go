// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"strconv"
)

// Type tells records apart. Those below 256 come from the kernel.
type Type uint16

// The record types.
const (
	TypeFork         Type = 1
	TypeExec         Type = 2
	TypeExecArgs     Type = 3
	TypeExit         Type = 4
	TypeOpen         Type = 5
	TypeConnect      Type = 6
	TypeConnectEnd   Type = 7
	TypeUnix         Type = 8
	TypeCgroupMkdir  Type = 9
	TypeCgroupRmdir  Type = 10
	TypeCgroupAttach Type = 11
	TypeProcess      Type = 12
	TypeSocket       Type = 13
	TypeNamespace    Type = 14
	TypeAccess       Type = 15
	TypeChange       Type = 16
	TypeListen       Type = 17
	TypeAccept       Type = 18
	TypeClose        Type = 19
	TypePacket       Type = 20
	TypeExecFailed   Type = 21
	TypeOOM          Type = 22

	TypeClock   Type = 256 // wall time at a boot time; first of every stream
	TypeTick    Type = 257 // about every 100 ms; nothing else makes time pass for the collector
	TypeLoss    Type = 258 // records that could not be delivered
	TypeCgroup  Type = 259 // a cgroup that existed at start
	TypeCmdline Type = 260 // argv of a process that existed at start
	TypeMark    Type = 261 // begin or end of a tool call, from the local socket
	TypeSaid    Type = 262 // one fact from an agent's own telemetry

	TypeContainer Type = 263 // what a container runtime says of a container

	TypeLimit Type = 264 // a limit of a sandbox's cgroup was hit
	TypeWatch Type = 265 // a user has a cgroup watched, by the local API
)

// A kind is what has to be known of a type of record, whoever handles it.
type kind struct {
	// name: of a kernel record that of its enum record_type, in lower case and without the prefix.
	name string
	// size: bytes of the record without its payload, those of its struct in bpf/records.h.
	size int
	read func(e *Event, raw []byte, r *reader) // raw: the whole record, of size bytes at least
	// ofProcess: what a process does while it runs, as an open. Its losses are counted by process (PROCESS_KINDS in
	// bpf/records.h says the same).
	ofProcess bool
}

// kinds has one row for each type. Tests fail for a type of bpf/records.h without a row, and for a row whose type has
// no sample in recordtest, no handler in the collector or no name in docs/spans.md.
var kinds = [...]kind{
	TypeFork:         {"fork", 72, readFork, false},
	TypeExec:         {"exec", 120, readExec, false},
	TypeExecArgs:     {"exec_args", 56, readExecArgs, false},
	TypeExit:         {"exit", 88, readExit, false},
	TypeOpen:         {"open", 80, readOpen, true},
	TypeConnect:      {"connect", 80, readConnect, true},
	TypeConnectEnd:   {"connect_end", 64, readConnectEnd, false},
	TypeUnix:         {"unix", 56, readUnix, true},
	TypeCgroupMkdir:  {"cgroup_mkdir", cgroupSize, readCgroup, false},
	TypeCgroupRmdir:  {"cgroup_rmdir", cgroupSize, readCgroup, false},
	TypeCgroupAttach: {"cgroup_attach", 64, readCgroupAttach, false},
	TypeProcess:      {"process", 88, readProcess, false},
	TypeSocket:       {"socket", 72, readSocket, true},
	TypeNamespace:    {"namespace", 64, readNamespace, true},
	TypeChange:       {"change", 112, readChange, true},
	TypeListen:       {"listen", 88, readListen, true},
	TypeAccept:       {"accept", 96, readAccept, true},
	TypeClose:        {"close", 128, readClose, true},
	TypePacket:       {"packet", 112, readPacket, true},
	TypeExecFailed:   {"exec_failed", 56, readExecFailed, true},
	TypeOOM:          {"oom", 64, readOOM, false},
	TypeAccess:       {"access", 80, readAccess, true},
	TypeClock:        {"clock", clockSize, readClock, false},
	TypeTick:         {"tick", headerSize, readNothing, false},
	TypeLoss:         {"loss", lossSize, readLoss, false},
	TypeCgroup:       {"cgroup", cgroupSize, readCgroup, false},
	TypeCmdline:      {"cmdline", cmdlineSize, readCmdline, false},
	TypeMark:         {"mark", markSize, readMark, false},
	TypeSaid:         {"said", saidSize, readSaid, false},
	TypeContainer:    {"container", containerSize, readContainer, false},
	TypeLimit:        {"limit", limitSize, readLimit, false},
	TypeWatch:        {"watch", watchSize, readWatch, false},
}

// kind is the row of a type; an empty one where it has none.
func (t Type) kind() *kind {
	if int(t) < len(kinds) {
		return &kinds[t]
	}
	return &kind{}
}

// Types are all that have a row.
func Types() (types []Type) {
	for t, k := range kinds {
		if k.name != "" {
			types = append(types, Type(t))
		}
	}
	return types
}

// String is the name used for a kind of lost record, for example "exec"; "type_300" of one that is not known.
func (t Type) String() string {
	if name := t.kind().name; name != "" {
		return name
	}
	return "type_" + strconv.Itoa(int(t))
}

// Size is how many bytes a record has at least; 0: the type is not known.
func (t Type) Size() int { return t.kind().size }

// OfProcess tells whether a record of this type is about what a process does while it runs.
func (t Type) OfProcess() bool { return t.kind().ofProcess }

// TypeOf is the type of an encoded record, 0 if it is too short to have one.
func TypeOf(raw []byte) Type {
	if len(raw) < 2 {
		return 0
	}
	return Type(binary.LittleEndian.Uint16(raw))
}

// SetTime changes the time of an encoded record that was decoded.
func SetTime(raw []byte, time uint64) { binary.LittleEndian.PutUint64(raw[8:], time) }
