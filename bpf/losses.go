// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"sort"

	"github.com/cilium/ebpf"
)

// Loss is a count of records that the kernel side could not deliver, since the start.
type Loss struct {
	Cgroup uint64 // 0 where it is not known
	Kind   uint16 // enum record_type
	Cause  uint16 // enum loss_cause
	Count  uint64
}

// The values of enum loss_cause (records.h).
const (
	LossRingFull uint16 = 1
	LossMapFull  uint16 = 2
	LossScratch  uint16 = 3
	LossMissed   uint16 = 4
)

// The values of enum record_type (records.h).
const (
	RecordFork         uint16 = 1
	RecordExec         uint16 = 2
	RecordExecArgs     uint16 = 3
	RecordExit         uint16 = 4
	RecordOpen         uint16 = 5
	RecordConnect      uint16 = 6
	RecordConnectEnd   uint16 = 7
	RecordUnix         uint16 = 8
	RecordCgroupMkdir  uint16 = 9
	RecordCgroupRmdir  uint16 = 10
	RecordCgroupAttach uint16 = 11
	RecordProcess      uint16 = 12
	RecordSocket       uint16 = 13
	RecordNamespace    uint16 = 14
	RecordAccess       uint16 = 15
)

// programKinds: which records are missing when the kernel skips a run of a program. It
// does so when a program would interrupt itself on the same CPU, and says how often in
// bpf_prog_info.recursion_misses (5.12).
var programKinds = map[string]uint16{
	"process_fork":      RecordFork,
	"process_exec":      RecordExec,
	"process_exit":      RecordExit,
	"open_file":         RecordOpen,
	"open_root":         RecordOpen,
	"open_call_openat":  RecordOpen,
	"open_call_open":    RecordOpen,
	"open_call_creat":   RecordOpen,
	"open_call_openat2": RecordOpen,
	"open_call_handle":  RecordOpen,
	"uring_submit":      RecordOpen,
	"compat_call":       RecordOpen,
	"connect_file":      RecordUnix,
	"connect_call":      RecordUnix,
	"connect_state":     RecordConnectEnd,
	"socket_make":       RecordSocket,
	"socket_call":       RecordSocket,
	"unshare":           RecordNamespace,
	"unshare_call":      RecordNamespace,
	"setns":             RecordNamespace,
	"setns_call":        RecordNamespace,
	"access_check":      RecordAccess,
	"access_ptrace":     RecordAccess,
	"access_readv":      RecordAccess,
	"access_writev":     RecordAccess,
	"access_getfd":      RecordAccess,
	"cgroup_mkdir":      RecordCgroupMkdir,
	"cgroup_rmdir":      RecordCgroupRmdir,
	"cgroup_attach":     RecordCgroupAttach,
}

// counters reads what the programs counted.
func counters(keyed, unkeyed *ebpf.Map) (losses []Loss, err error) {
	var key objectLossKey
	var count uint64
	entries := keyed.Iterate()
	for entries.Next(&key, &count) {
		losses = append(losses, Loss{Cgroup: key.Cgroup, Kind: key.Kind, Cause: key.Cause, Count: count})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the loss counters: %w", err)
	}

	var index uint32
	entries = unkeyed.Iterate()
	for entries.Next(&index, &count) {
		if count > 0 {
			losses = append(losses, Loss{Kind: uint16(index & 31), Cause: uint16(index >> 5), Count: count})
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the unkeyed loss counters: %w", err)
	}
	return losses, nil
}

// Losses returns every count, ordered by cgroup, kind and cause. What a process before has told is not in it, what is left of
// a kernel side that was replaced is.
func (s *Sensor) Losses() ([]Loss, error) {
	losses, err := counters(s.collection.Maps["losses"], s.collection.Maps["losses_unkeyed"])
	if err != nil {
		return nil, err
	}
	missed := map[uint16]uint64{}
	for name, program := range s.programs {
		kind, ok := programKinds[name]
		if !ok {
			continue
		}
		n, err := missedRuns(program)
		if err != nil {
			return nil, fmt.Errorf("read what the kernel skipped of %s: %w", name, err)
		}
		missed[kind] += n
	}
	for kind, n := range missed {
		if n > 0 {
			losses = append(losses, Loss{Kind: kind, Cause: LossMissed, Count: n})
		}
	}
	losses = s.since(losses)
	sort.Slice(losses, func(i, j int) bool {
		a, b := losses[i], losses[j]
		if a.Cgroup != b.Cgroup {
			return a.Cgroup < b.Cgroup
		}
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		return a.Cause < b.Cause
	})
	return losses, nil
}

// since sums up counts of one key, and leaves out what was told before the start.
func (s *Sensor) since(losses []Loss) []Loss {
	s.beforeMu.Lock()
	defer s.beforeMu.Unlock()
	if len(s.before) == 0 {
		return losses
	}
	sums := make(map[lossID]uint64, len(losses))
	for id, n := range s.before {
		sums[id] = -n
	}
	for _, l := range losses {
		sums[lossID{l.Cgroup, l.Kind, l.Cause}] += l.Count
	}
	losses = losses[:0]
	for id, n := range sums {
		if int64(n) > 0 {
			losses = append(losses, Loss{Cgroup: id.cgroup, Kind: id.kind, Cause: id.cause, Count: n})
		}
	}
	return losses
}

func missedRuns(program *ebpf.Program) (uint64, error) {
	stats, err := program.Stats()
	if err != nil {
		return 0, err
	}
	return stats.RecursionMisses, nil
}
