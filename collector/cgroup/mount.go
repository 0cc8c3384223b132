// SPDX-License-Identifier: Apache-2.0

// Package cgroup speaks with the cgroup v2 file system: where it is mounted, which
// directory has which id, which processes are in it, and which directories the
// selectors of the configuration mean.
//
// Paths are relative to the mount and begin with "/", as the kernel's records give them.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrV1Only says that this host mounts cgroup v1 hierarchies and no v2 one.
var ErrV1Only = errors.New("only cgroup v1 is mounted here: boot with systemd.unified_cgroup_hierarchy=1 " +
	"or mount the v2 hierarchy (mount -t cgroup2 none /sys/fs/cgroup/unified)")

// ErrNotMounted says that no cgroup hierarchy is mounted at all.
var ErrNotMounted = errors.New("cgroup v2 is not mounted: mount it (mount -t cgroup2 none /sys/fs/cgroup); " +
	"in a container, mount the host's /sys/fs/cgroup into it")

// Mount is a mounted cgroup v2 hierarchy.
type Mount struct {
	Dir string // where it is mounted, absolute
	// namespace is the root of this process's cgroup namespace, "" if that is the hierarchy's: what /proc/PID/cgroup
	// is relative to.
	namespace string
}

// Find looks for the cgroup v2 mount of this process's mount namespace. It prefers one
// that shows the hierarchy from its root (bind mounts of a part do not) and may return
// ErrV1Only or ErrNotMounted.
func Find() (Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Mount{}, fmt.Errorf("look for the cgroup v2 mount: %w", err)
	}
	defer f.Close()
	m, up, err := find(f)
	if err != nil || up == 0 {
		return m, err
	}
	if err := m.findNamespace(up); err != nil {
		return Mount{}, fmt.Errorf("look for this process's cgroup below %s: %w", m.Dir, err)
	}
	return m, nil
}

// find reads the format of proc_pid_mountinfo(5):
//
//	41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw
//
// In a cgroup namespace of its own, as a container that is not privileged has, a process sees the root of what is
// mounted relative to that: /../.. is two directories above it. up says how many.
func find(mountinfo io.Reader) (m Mount, up int, err error) {
	var whole, part, above string
	v1 := false
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20) // overlay mounts list their layers: lines of many KiB are real
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if !ok {
			continue
		}
		mount, super := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(super) < 1 {
			continue
		}
		switch super[0] {
		case "cgroup":
			v1 = true
		case "cgroup2":
			root, dir := unescape(mount[3]), unescape(mount[4])
			if root == "/" && whole == "" {
				whole = dir
			} else if n := strings.Count(root, "/.."); above == "" && n > 0 && root == strings.Repeat("/..", n) &&
				isRoot(dir) {
				above, up = dir, n
			} else if part == "" {
				part = dir
			}
		}
	}
	if err := lines.Err(); err != nil {
		return Mount{}, 0, fmt.Errorf("look for the cgroup v2 mount: %w", err)
	}
	switch {
	case above != "":
		// What has "/" as its root is then the part below this process.
		return Mount{Dir: above}, up, nil
	case whole != "":
		return Mount{Dir: whole}, 0, nil
	case part != "":
		return Mount{}, 0, fmt.Errorf(
			"only a part of the cgroup v2 hierarchy is mounted, at %s: mount it from its root "+
				"(in a container, mount the host's /sys/fs/cgroup)", part)
	case v1:
		return Mount{}, 0, ErrV1Only
	}
	return Mount{}, 0, ErrNotMounted
}

// isRoot says whether a mount shows the hierarchy from its root, whose node id is 1.
func isRoot(dir string) bool {
	id, err := handle(unix.AT_FDCWD, dir)
	return err == nil && id == 1
}

// maxSearched bounds the directories that are looked at for this process's own.
const maxSearched = 1 << 16

// findNamespace looks for the directory that this process is in, which is as deep as its namespace and its place in
// that say.
func (m *Mount) findNamespace(up int) error {
	own, err := read(os.Getpid())
	if err != nil {
		return err
	}
	if strings.HasPrefix(own, "/..") {
		return fmt.Errorf("it is in %s, outside of its own cgroup namespace", own)
	}
	within := len(strings.FieldsFunc(own, func(r rune) bool { return r == '/' }))
	level := []string{"/"}
	searched := 0
	for range up + within {
		var next []string
		for _, dir := range level {
			names, err := m.Children(dir)
			if err != nil {
				return err
			}
			for _, name := range names {
				if searched++; searched > maxSearched {
					return fmt.Errorf("more than %d cgroups", maxSearched)
				}
				next = append(next, path.Join(dir, name))
			}
		}
		level = next
	}
	for _, dir := range level {
		pids, err := m.direct(dir)
		if err == nil && slices.Contains(pids, os.Getpid()) {
			m.namespace = dir
			for range within {
				m.namespace = path.Dir(m.namespace)
			}
			return nil
		}
	}
	return errors.New("it is not there: run it in the pid namespace of the host")
}

// Of returns the cgroup of a process.
func (m Mount) Of(pid int) (string, error) {
	cgroup, err := read(pid)
	return m.absolute(cgroup), err
}

// absolute is the path from the hierarchy's root of one that /proc/PID/cgroup shows: relative to this process's
// namespace, and what is outside of it with "/.." for each directory up.
func (m Mount) absolute(cgroup string) string {
	if m.namespace == "" || cgroup == "" {
		return cgroup
	}
	from := m.namespace
	for {
		rest, ok := strings.CutPrefix(cgroup, "/..")
		if !ok || rest != "" && rest[0] != '/' {
			break
		}
		from, cgroup = path.Dir(from), rest
	}
	return path.Join(from, cgroup)
}

// unescape undoes the kernel's octal escapes of space, tab, newline, backslash and '#'.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// dir is the absolute file name of a cgroup, which no path leads out of.
func (m Mount) dir(cgroup string) string {
	return filepath.Join(m.Dir, path.Clean("/"+cgroup))
}
