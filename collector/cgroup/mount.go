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
	"strings"
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
	return find(f)
}

// find reads the format of proc_pid_mountinfo(5):
//
//	41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw
func find(mountinfo io.Reader) (Mount, error) {
	var whole, part string
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
			} else if part == "" {
				part = dir
			}
		}
	}
	if err := lines.Err(); err != nil {
		return Mount{}, fmt.Errorf("look for the cgroup v2 mount: %w", err)
	}
	switch {
	case whole != "":
		return Mount{Dir: whole}, nil
	case part != "":
		return Mount{}, fmt.Errorf("only a part of the cgroup v2 hierarchy is mounted, at %s: mount it from its root "+
			"(in a container, mount the host's /sys/fs/cgroup)", part)
	case v1:
		return Mount{}, ErrV1Only
	}
	return Mount{}, ErrNotMounted
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
