// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		name, glob, cgroup string
		selects, leads     bool
	}{
		{"a directory that matches is selected", "/agents/*", "/agents/a", true, false},
		{"and everything below it", "/agents/*", "/agents/a/b/c", true, false},
		{"its parent leads to it", "/agents/*", "/agents", false, true},
		{"so does the root", "/agents/*", "/", false, true},
		{"a neighbour does neither", "/agents/*", "/system.slice", false, false},
		{"a neighbour's child does neither", "/agents/*", "/system.slice/a", false, false},
		{"a star does not cross a slash", "/a*/c", "/ab/b/c", false, false},
		{"stars in the middle lead on both sides", "/kubepods/*/pod*/agent", "/kubepods/burstable/pod1", false, true},
		{"a wrong component in the middle does not lead", "/kubepods/*/pod*/agent", "/kubepods/burstable/x", false, false},
		{"a class", "/agents/[ab]", "/agents/b", true, false},
		{"a class of what it is not", "/agents/[^a]*", "/agents/a1", false, false},
		{"a class with an exclamation mark", `/agents/[\!a]`, "/agents/!", true, false},
		{"an exclamation mark behind an opening bracket within a class", "/agents/[a[!]", "/agents/!", true, false},
		{"a trailing slash changes nothing", "/agents/a/", "/agents/a", true, false},
		{"a name that only begins alike is another", "/agents/a", "/agents/ab", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := ParseGlob(c.glob)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Selects(c.cgroup); got != c.selects {
				t.Errorf("%s selects %s: %v", c.glob, c.cgroup, got)
			}
			if got := g.Leads(c.cgroup); got != c.leads {
				t.Errorf("%s leads through %s: %v", c.glob, c.cgroup, got)
			}
		})
	}
}

func TestGlobsThatAreRefused(t *testing.T) {
	for glob, says := range map[string]string{
		"":                        "does not begin with /",
		"agents/*":                "does not begin with /",
		"/":                       "whole host",
		"//":                      "whole host",
		"/a/**":                   "not supported",
		"/a/../b":                 `".."`,
		"/a/[":                    "bad pattern",
		"/a/[!b]*":                "[^…]",
		`/a/\[[!b]`:               "[^…]",
		strings.Repeat("/a", 100): "100 components",
	} {
		_, err := ParseGlob(glob)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: error %v does not say %q", glob, err, says)
		}
	}
}
