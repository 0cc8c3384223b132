// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

const (
	// runsCgroup holds the cgroups of all runs, relative to the mount.
	runsCgroup = "/sheetbend"
	runPrefix  = "run-"
	// removeWithin bounds how long the last dying processes may hold a cgroup.
	removeWithin = 5 * time.Second
)

// A session is the cgroup of one run. While its directory is locked it is in use; the kernel
// unlocks it when sheetbend ends, however that happens, and a later start cleans it.
type session struct {
	mount cgroup.Mount
	path  string
	id    uint64
	dir   *os.File // locked
}

// newSession makes a cgroup that no other run has.
func newSession(m cgroup.Mount) (*session, error) {
	const attempts = 10 // a cleaner may take the directory before it is locked
	var last error
	for range attempts {
		s, err := trySession(m)
		if err == nil {
			return s, nil
		}
		last = err
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return nil, fmt.Errorf("make a cgroup for the session: %w%s", last, adviceOnCgroups(m, last))
}

// adviceOnCgroups says what to do about a file system that takes no directory.
func adviceOnCgroups(m cgroup.Mount, err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf(": %s is mounted read-only: mount -o remount,rw %s, "+
			"or in a container mount the host's writable into it", m.Dir, m.Dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Sprintf(": this process may not write in %s: run it as root with CAP_DAC_OVERRIDE", m.Dir)
	}
	return ""
}

func trySession(m cgroup.Mount) (_ *session, err error) {
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	s := &session{mount: m, path: path.Join(runsCgroup, runPrefix+hex.EncodeToString(random[:]))}
	if err := m.Create(s.path); err != nil {
		return nil, err
	}
	if s.dir, err = m.Open(s.path); err != nil {
		return nil, err
	}
	var undo cleanups
	defer undo.onError(&err)
	undo.add(s.path, s.dir.Close)
	if err := unix.Flock(int(s.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	// Still there once it is locked: from now on no cleaner takes it.
	if s.id, err = m.ID(s.path); err != nil {
		return nil, err
	}
	return s, nil
}

// holds says whether a process is in the cgroup or below it.
func (s *session) holds(pid int) bool {
	cg, err := s.mount.Of(pid)
	return err == nil && (cg == s.path || strings.HasPrefix(cg, s.path+"/"))
}

// remove takes the cgroup away, and with it the directory of all runs if this was the last.
func (s *session) remove() error {
	defer s.dir.Close()
	ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	err := s.mount.Remove(ctx, s.path)
	removeEmptyRuns(s.mount)
	return err
}

// removeEmptyRuns may find other runs there: then it stays.
func removeEmptyRuns(m cgroup.Mount) {
	if names, err := m.Children(runsCgroup); err == nil && len(names) == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // one attempt
		_ = m.Remove(ctx, runsCgroup)
	}
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return strconv.Itoa(n) + " processes"
}

// cleanSessions removes the cgroups of runs that were killed. It returns a line about each that
// still has processes: they are somebody's work, and nobody's any more to end.
func cleanSessions(m cgroup.Mount) (lines []string) {
	names, err := m.Children(runsCgroup)
	if err != nil {
		return nil
	}
	for _, name := range names {
		if !strings.HasPrefix(name, runPrefix) {
			continue
		}
		cg := path.Join(runsCgroup, name)
		dir, err := m.Open(cg)
		if err != nil {
			continue // another start was quicker
		}
		if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if populated, err := m.Populated(cg); err == nil && populated {
				pids, _ := m.Procs(cg)
				lines = append(lines, fmt.Sprintf("a run that was killed left %s in %s: "+
					"end them, the next run removes it", processes(len(pids)), m.Dir+cg))
			} else if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
				if err := m.Remove(ctx, cg); err != nil {
					lines = append(lines, fmt.Sprintf("a run that was killed left a cgroup: %v", err))
				}
				cancel()
			}
		}
		_ = dir.Close()
	}
	return lines
}
