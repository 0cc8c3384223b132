// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how deep a hierarchy is walked, against a tree that grows while it is walked.
const maxDepth = 128

// Create makes the cgroup, and its parents where they are missing.
func (m Mount) Create(cgroup string) error {
	if err := os.MkdirAll(m.dir(cgroup), 0o755); err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, err)
	}
	return nil
}

// Make makes a cgroup below one that is there, for processes: its error is os.ErrInvalid where only threads may be.
func (m Mount) Make(cgroup string) error {
	if err := os.Mkdir(m.dir(cgroup), 0o755); err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, err)
	}
	kind, err := os.ReadFile(m.dir(cgroup) + "/cgroup.type")
	if err == nil && strings.TrimSpace(string(kind)) != "domain" {
		err = fmt.Errorf("it is %q: %w", strings.TrimSpace(string(kind)), os.ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, errors.Join(err, unix.Rmdir(m.dir(cgroup))))
	}
	return nil
}

// Owner is the user that a cgroup's directory belongs to.
func (m Mount) Owner(cgroup string) (uid uint32, err error) {
	var st unix.Stat_t
	err = unix.Lstat(m.dir(cgroup), &st)
	return st.Uid, err
}

// Open opens the cgroup's directory, for CLONE_INTO_CGROUP and flock. The file is
// close-on-exec.
func (m Mount) Open(cgroup string) (*os.File, error) {
	f, err := os.OpenFile(m.dir(cgroup), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", cgroup, err)
	}
	return f, nil
}

// Children lists the names of the directories directly below the cgroup, sorted. A cgroup
// that is gone has none.
func (m Mount) Children(cgroup string) ([]string, error) {
	entries, err := os.ReadDir(m.dir(cgroup))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cgroup %s: %w", cgroup, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Procs lists the processes in the cgroup and below it, each once for each cgroup that has
// threads of it. A cgroup that is gone has none.
func (m Mount) Procs(cgroup string) ([]int, error) {
	return m.procs(cgroup, 0)
}

func (m Mount) procs(cgroup string, depth int) ([]int, error) {
	if depth > maxDepth {
		return nil, nil
	}
	pids, err := m.direct(cgroup)
	if err != nil {
		return nil, err
	}
	children, err := m.Children(cgroup)
	if err != nil {
		return nil, err
	}
	for _, c := range children {
		below, err := m.procs(path.Join(cgroup, c), depth+1)
		if err != nil {
			return nil, err
		}
		pids = append(pids, below...)
	}
	return pids, nil
}

// direct lists the processes in the cgroup itself.
func (m Mount) direct(cgroup string) (pids []int, err error) {
	text, err := os.ReadFile(m.dir(cgroup) + "/cgroup.procs")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	// A threaded cgroup refuses the read: its processes are listed by the domain above it.
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("list the processes of cgroup %s: %w", cgroup, err)
	}
	for line := range strings.FieldsSeq(string(text)) {
		// 0 stands for a process of another pid namespace: it cannot be named here.
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Move puts a process into the cgroup. A process that is gone is no error.
func (m Mount) Move(pid int, cgroup string) error {
	err := os.WriteFile(m.dir(cgroup)+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("move process %d to cgroup %s: %w", pid, cgroup, err)
	}
	return nil
}

// Kill sends SIGKILL to every process in the cgroup and below it. It uses cgroup.kill
// (5.14+), which no fork can outrun, and otherwise kills what it lists until none is left
// or ctx ends.
func (m Mount) Kill(ctx context.Context, cgroup string) error {
	err := os.WriteFile(m.dir(cgroup)+"/cgroup.kill", []byte("1"), 0)
	if err == nil {
		return nil
	}
	// Opening with O_CREATE in cgroupfs is refused with EPERM or EACCES where the file does not exist.
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("kill the processes of cgroup %s: %w", cgroup, err)
	}
	return retry(ctx, func() (bool, error) {
		pids, err := m.Procs(cgroup)
		if err != nil {
			return true, err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return true, fmt.Errorf("kill process %d of cgroup %s: %w", pid, cgroup, err)
			}
		}
		return len(pids) == 0, nil
	})
}

// Populated says whether a process, dying ones included, is in the cgroup or below it. A
// cgroup that is gone is not populated.
func (m Mount) Populated(cgroup string) (bool, error) {
	text, err := os.ReadFile(m.dir(cgroup) + "/cgroup.events")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether cgroup %s is populated: %w", cgroup, err)
	}
	return strings.Contains("\n"+string(text), "\npopulated 1\n"), nil
}

// WaitEmpty returns when nothing runs in the cgroup or below it any more, or with ctx's error.
func (m Mount) WaitEmpty(ctx context.Context, cgroup string) error {
	return retry(ctx, func() (bool, error) {
		populated, err := m.Populated(cgroup)
		return !populated, err
	})
}

// Remove removes the cgroup and the directories below it. The kernel refuses while a
// process is in it (EBUSY), which a killed process is for some milliseconds more: Remove tries
// again until ctx ends. A cgroup that is gone is no error.
func (m Mount) Remove(ctx context.Context, cgroup string) error {
	err := retry(ctx, func() (bool, error) {
		err := m.remove(cgroup, 0)
		return !errors.Is(err, unix.EBUSY), err
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", cgroup, err)
	}
	return nil
}

func (m Mount) remove(cgroup string, depth int) error {
	err := unix.Rmdir(m.dir(cgroup))
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// The kernel says EBUSY for directories below, too.
	if (!errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY)) || depth > maxDepth {
		return err
	}
	children, listErr := m.Children(cgroup)
	if listErr != nil || len(children) == 0 {
		return err
	}
	for _, c := range children {
		if err := m.remove(path.Join(cgroup, c), depth+1); err != nil {
			return err
		}
	}
	err = unix.Rmdir(m.dir(cgroup))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// retry calls step until it is done or ctx ends. cgroup.events can be polled for, but not for
// "the last dying task has let go of the directory".
func retry(ctx context.Context, step func() (done bool, err error)) error {
	const first, longest = time.Millisecond, 50 * time.Millisecond
	pause := first
	for {
		done, err := step()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// read returns the cgroup of a process as /proc shows it, relative to the root of this
// process's cgroup namespace.
func read(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("look up the cgroup of process %d: %w", pid, err)
	}
	p, ok := parseOf(string(text))
	if !ok {
		return "", fmt.Errorf("look up the cgroup of process %d: it is in no cgroup v2 directory", pid)
	}
	return p, nil
}

// parseOf takes the path as it stands. Behind that of a removed cgroup the kernel writes " (deleted)", but that has no
// living process; a sandbox may call its own directory so, next to another's.
func parseOf(text string) (cgroup string, ok bool) {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, true
		}
	}
	return "", false
}
