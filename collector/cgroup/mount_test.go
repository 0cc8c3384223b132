// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const proc = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
	const v1 = "36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n"
	for _, c := range []struct {
		name, mountinfo string
		dir             string
		err             error
		says            string
	}{
		{name: "a v2-only host", mountinfo: proc + "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", dir: "/sys/fs/cgroup"},
		{name: "a hybrid host mounts v2 beside v1", mountinfo: proc + v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", dir: "/sys/fs/cgroup/unified"},
		{name: "a v1-only host", mountinfo: proc + v1, err: ErrV1Only},
		{name: "no cgroup mount at all", mountinfo: proc, err: ErrNotMounted},
		{name: "an empty file", mountinfo: "", err: ErrNotMounted},
		{name: "a bind mount of a part comes first", mountinfo: "40 1 0:38 /pod/x /mnt/part rw - cgroup2 cgroup2 rw\n" +
			"41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", dir: "/sys/fs/cgroup"},
		{name: "only a part of the hierarchy", mountinfo: "40 1 0:38 /pod/x /mnt/part rw - cgroup2 cgroup2 rw\n", says: "/mnt/part"},
		{name: "above this process's cgroup namespace, but not from the root", mountinfo: "40 1 0:38 /../.. /no/such/mount rw - cgroup2 cgroup2 rw\n", says: "/no/such/mount"},
		{name: "the first of two whole mounts", mountinfo: "40 1 0:38 / /a rw - cgroup2 none rw\n41 1 0:38 / /b rw - cgroup2 none rw\n", dir: "/a"},
		{name: "a mount point with a space", mountinfo: `40 1 0:38 / /mnt/my\040cgroups rw - cgroup2 none rw` + "\n", dir: "/mnt/my cgroups"},
		{name: "a directory whose name imitates the separator", mountinfo: "40 1 0:38 / /mnt/-\\040cgroup2 rw - tmpfs none rw\n", err: ErrNotMounted},
		{name: "lines that are cut short", mountinfo: "1 2\n - \n40 1 0:38 / - cgroup2\n", err: ErrNotMounted},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _, err := find(strings.NewReader(c.mountinfo))
			switch {
			case c.err != nil && !errors.Is(err, c.err):
				t.Fatalf("error %v, want %v", err, c.err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Fatalf("error %v does not say %q", err, c.says)
			case c.err == nil && c.says == "" && err != nil:
				t.Fatal(err)
			}
			if m.Dir != c.dir {
				t.Errorf("mount %q, want %q", m.Dir, c.dir)
			}
		})
	}
}

func TestPathsOfANamespaceAreMadeAbsolute(t *testing.T) {
	m := Mount{Dir: "/sys/fs/cgroup", namespace: "/kubepods/podx/ctr"}
	for in, want := range map[string]string{
		"/": "/kubepods/podx/ctr", "/below": "/kubepods/podx/ctr/below", "/..": "/kubepods/podx", "/../../pody/c": "/kubepods/pody/c",
		"/../../..": "/", "/../../../../../x": "/x", "/..odd": "/kubepods/podx/ctr/..odd", "": "",
	} {
		if got := m.absolute(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	if got := (Mount{Dir: "/sys/fs/cgroup"}).absolute("/a"); got != "/a" {
		t.Errorf("without a namespace /a is %q", got)
	}
}

func TestPathsCannotLeaveTheMount(t *testing.T) {
	m := Mount{Dir: "/sys/fs/cgroup"}
	for in, want := range map[string]string{
		"/a/b":           "/sys/fs/cgroup/a/b",
		"/":              "/sys/fs/cgroup",
		"a":              "/sys/fs/cgroup/a",
		"/../../etc":     "/sys/fs/cgroup/etc",
		"/a/../../b/./c": "/sys/fs/cgroup/b/c",
	} {
		if got := m.dir(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
