// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"path/filepath"
	"strings"
	"testing"
)

func FuzzFind(f *testing.F) {
	f.Add("22 27 0:21 / /proc rw,relatime - proc proc rw\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw\n", "/a/b")
	f.Add("40 1 0:38 /pod/x /mnt/my\\040cgroups rw - cgroup2 none rw\n - \n40 1 0:38 / - cgroup2\n", "../..")
	f.Fuzz(func(t *testing.T, mountinfo, cgroup string) {
		m, up, err := find(strings.NewReader(mountinfo))
		if up < 0 || err != nil && m != (Mount{}) {
			t.Fatalf("%v, %d up, and %+v", err, up, m)
		}
		if err != nil {
			return
		}
		if m.Dir == "" {
			t.Fatal("a mount nowhere")
		}
		if within, err := filepath.Rel(m.Dir, m.dir(cgroup)); err == nil && !filepath.IsLocal(within) {
			t.Fatalf("cgroup %q lies outside of %q, at %q", cgroup, m.Dir, m.dir(cgroup))
		}
	})
}

func FuzzParseOf(f *testing.F) {
	f.Add("12:devices:/user.slice\n0::/agents/one (deleted)\n")
	f.Add("0::")
	f.Fuzz(func(t *testing.T, text string) {
		if cgroup, ok := parseOf(text); !ok && cgroup != "" || strings.Contains(cgroup, "\n") || !strings.Contains(text, cgroup) {
			t.Fatalf("%q, %v", cgroup, ok)
		}
	})
}

func FuzzParseGlob(f *testing.F) {
	f.Add("/agents/*", "/agents/a/b")
	f.Add("/kubepods/[ab]*/pod\\*", "/kubepods")
	f.Add("/a/[", "/")
	f.Fuzz(func(t *testing.T, glob, cgroup string) {
		g, err := ParseGlob(glob)
		if err != nil {
			return
		}
		if g.Selects("/") {
			t.Fatalf("%q selects the whole host", glob)
		}
		if g.Selects(cgroup) && (g.Leads(cgroup) || !g.Selects(cgroup+"/below")) {
			t.Fatalf("%q selects %q, and leads through it or leaves out what is below", glob, cgroup)
		}
		if again, err := ParseGlob(g.String()); err != nil || again.Selects(cgroup) != g.Selects(cgroup) {
			t.Fatalf("%q written again is %q (%v)", glob, g.String(), err)
		}
	})
}
