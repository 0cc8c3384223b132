// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// WatchFlags tell what is done with a cgroup.
type WatchFlags uint32

const (
	// WatchTasks: what tasks in the cgroup do is recorded. Directories made below it inherit it.
	WatchTasks WatchFlags = 1
	// WatchChildren: directories made in it are watched from their first instant, provisionally:
	// the caller learns of each by a RECORD_CGROUP_MKDIR and takes back what it did not want.
	WatchChildren WatchFlags = 2
	// WatchProvisional: the watch may be taken back. Processes that come from elsewhere in a sandbox are followed then.
	WatchProvisional WatchFlags = 4
)

// Watch sets what is done with a cgroup, by its v2 id.
func (s *Sensor) Watch(cgroup uint64, flags WatchFlags) error {
	if err := s.kernel.table("cgroups").Put(cgroup, uint32(flags)); err != nil {
		return fmt.Errorf("watch cgroup %d: %w", cgroup, err)
	}
	return nil
}

// Watches says whether what tasks in a cgroup do is recorded.
func (s *Sensor) Watches(cgroup uint64) bool {
	var flags uint32
	return s.kernel.table("cgroups").Lookup(cgroup, &flags) == nil && WatchFlags(flags)&WatchTasks != 0
}

// Within says in which sandbox, by the id of its topmost cgroup, a watched cgroup lies: they share one budget. Until
// that is said a cgroup has one of its own; directories made below it later share it.
func (s *Sensor) Within(cgroup, sandbox uint64) error {
	if err := s.kernel.table("sandboxes").Put(cgroup, sandbox); err != nil {
		return fmt.Errorf("say in which sandbox cgroup %d lies: %w", cgroup, err)
	}
	return nil
}

// Unwatch forgets a cgroup; one that is not watched is no error.
func (s *Sensor) Unwatch(cgroup uint64) error {
	for _, table := range []string{"cgroups", "sandboxes"} {
		err := s.kernel.table(table).Delete(cgroup)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("unwatch cgroup %d: %w", cgroup, err)
		}
	}
	return nil
}

// Follows says whether a process is watched by lineage, wherever it is.
func (s *Sensor) Follows(tgid uint32) bool {
	var start uint64
	return s.kernel.table("followed").Lookup(tgid, &start) == nil && start != 0
}

// Unfollow ends the watching of a process by lineage, not that of its children; one that is not followed is no error.
func (s *Sensor) Unfollow(tgid uint32) error {
	// The kernel side counts the entries: it alone removes them, when the process ends.
	err := s.kernel.table("followed").Update(tgid, uint64(0), ebpf.UpdateExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unfollow process %d: %w", tgid, err)
	}
	return nil
}

// Follow takes an Unfollow back. It says whether there was one.
func (s *Sensor) Follow(tgid uint32, start uint64) (bool, error) {
	followed := s.kernel.table("followed")
	var was uint64
	err := followed.Lookup(tgid, &was)
	if err == nil && was == 0 {
		if err = followed.Update(tgid, start, ebpf.UpdateExist); err == nil {
			return true, nil
		}
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, fmt.Errorf("follow process %d: %w", tgid, err)
	}
	return false, nil
}
