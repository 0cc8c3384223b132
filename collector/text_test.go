// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"/a/b", []string{"/a/b"}, []string{"/a/b/", "/a/bc", "/a", ""}},
		{"/a/*", []string{"/a/b", "/a/"}, []string{"/a/b/c", "/a", "/b/b"}},
		{"/a/**", []string{"/a/b", "/a/b/c", "/a/"}, []string{"/a", "/ab"}},
		{"/a/*/c", []string{"/a/b/c", "/a//c"}, []string{"/a/b/b/c", "/a/c"}},
		{"/a/**.so", []string{"/a/x.so", "/a/b/c.so", "/a/.so", "/a/x.so/y.so"}, []string{"/a/x.so.1", "/a/xso"}},
		{"/a/**.so.*", []string{"/a/x.so.1", "/a/b/x.so.1.2"}, []string{"/a/x.so", "/a/b.so.d/x"}},
		{"**/.ssh/**", []string{"/root/.ssh/id", "/.ssh/id", "/home/x/.ssh/a/b"}, []string{"/root/.sshx/id", "/root/x.ssh", "/root/.ssh"}},
		{"/a?c", []string{"/abc"}, []string{"/a/c", "/ac", "/abbc"}},
		{"/a*b*c", []string{"/abc", "/axbxc", "/abbcc"}, []string{"/ab/c", "/acb"}},
		{"/**/x/*/y", []string{"/a/x/b/y", "/x/x/x/b/y"}, []string{"/a/x/b/c/y"}},
		{"/[a]", []string{"/[a]"}, []string{"/a"}},
	} {
		ps, err := config.CompilePatterns([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.yes {
			if !ps.Match([]byte(p)) {
				t.Errorf("%q does not match %q", c.pattern, p)
			}
		}
		for _, p := range c.no {
			if ps.Match([]byte(p)) {
				t.Errorf("%q matches %q", c.pattern, p)
			}
		}
	}
}

func TestPatternsThatCannotBeMeant(t *testing.T) {
	for _, p := range []string{"", "etc/x", "*/x", "/a/***", strings.Repeat("/x", 4000)} {
		if _, err := config.CompilePatterns([]string{p}); err == nil {
			t.Errorf("%.20q was taken", p)
		}
	}
}

// slowGlob is what patterns mean, written down without regard to time.
func slowGlob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case strings.HasPrefix(pattern, "**"):
		return slowGlob(pattern[2:], s) || s != "" && slowGlob(pattern, s[1:])
	case pattern[0] == '*':
		return slowGlob(pattern[1:], s) || s != "" && s[0] != '/' && slowGlob(pattern, s[1:])
	}
	return s != "" && (s[0] == pattern[0] || pattern[0] == '?' && s[0] != '/') && slowGlob(pattern[1:], s[1:])
}

func TestPatternsMeanWhatTheyAreDefinedToMean(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(letters string, n int) string {
		var b strings.Builder
		for range random.IntN(n) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	yes := 0
	for range 20_000 {
		pattern := strings.ReplaceAll("/"+pick("ab/.?***", 9), "***", "**")
		if strings.Contains(pattern, "***") {
			continue
		}
		s := "/" + pick("ab/.", 12)
		if random.IntN(4) == 0 { // more than one word of states
			long := strings.Repeat("x", 57+random.IntN(80))
			pattern, s = "/*"+long+pattern[1:], "/"+long+s[1:]
		}
		ps, err := config.CompilePatterns([]string{pattern})
		if err != nil {
			t.Fatal(err)
		}
		want := slowGlob(pattern, s)
		if got := ps.Match([]byte(s)); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, s, got, want)
		}
		if want {
			yes++
		}
	}
	if yes < 500 {
		t.Errorf("only %d matches were tried", yes)
	}
}

func TestPatternsKnowEveryByte(t *testing.T) {
	var all strings.Builder
	for b := range 256 {
		if b != '*' && b != '?' && b != '/' {
			all.WriteByte(byte(b))
		}
	}
	ps, err := config.CompilePatterns([]string{"/?" + all.String() + "/*"})
	if err != nil {
		t.Fatal(err)
	}
	if !ps.Match([]byte("/*"+all.String()+"/x")) || ps.Match([]byte("/*"+all.String()[1:]+"/x")) {
		t.Error("a byte is taken for another")
	}
}

// The time is to grow with the length of the path, not with its square.
func BenchmarkHostilePath(b *testing.B) {
	ps, err := config.CompilePatterns([]string{"/lib/**.so.*", "/lib/**.so", "/lib/**/a*b/**"})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{128, 512, 2048} {
		p := []byte("/lib/" + strings.Repeat(".so.", n/2) + strings.Repeat("/a", n/2))
		b.Run(strconv.Itoa(len(p)), func(b *testing.B) {
			for b.Loop() {
				ps.Match(p)
			}
		})
	}
}

func TestHostilePathsCostLittleToMatch(t *testing.T) {
	noise, err := config.CompilePatterns([]string{"/**a*a*a*a*a*b", "**/a**/a**/a**/c"})
	if err != nil {
		t.Fatal(err)
	}
	p := []byte("/" + strings.Repeat("a/a", 1365))
	done := make(chan bool)
	go func() { done <- noise.Match(p) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("still matching")
	}
}

func TestCleanIsPathClean(t *testing.T) {
	for _, p := range []string{"/", "//", "/a", "/a/", "/a//b", "/./a", "/a/./b/.", "/..", "/../a", "/a/..", "/a/../..", "/a/b/../../c/..//d", "/a/...", "/.a/..b/c.."} {
		if got := string(paths.Clean([]byte(p))); got != path.Clean(p) {
			t.Errorf("%q: %q, want %q", p, got, path.Clean(p))
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("/a/../b//./c")
	f.Fuzz(func(t *testing.T, p string) {
		p = "/" + p
		if got := string(paths.Clean([]byte(p))); got != path.Clean(p) {
			t.Errorf("%q: %q, want %q", p, got, path.Clean(p))
		}
	})
}

func TestRequestedPaths(t *testing.T) {
	for _, c := range []struct {
		base  string
		flags uint16
		name  string
		want  string
	}{
		{"", 0, "/a/../b", "/b"},
		{"/w/x", record.OpenBase, "../y", "/w/y"},
		{"/w", record.OpenBase, ".", "/w"},
		{"/", record.OpenBase, "../../y", "/y"},
		{"", 0, "y", "y"},
		{"/w", record.OpenBase | record.OpenOutside, "../y", "(unreachable)/w/../y"},
		{"/w", record.OpenBase | record.OpenTruncated, "y", "…/w/y"},
		{"/w", record.OpenBase, "", ""},
	} {
		if got := string(paths.AppendRequested(nil, rt.Path(c.base), c.flags, []byte(c.name))); got != c.want {
			t.Errorf("%q from %q: %q, want %q", c.name, c.base, got, c.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := config.Config{BootID: boot, Sandboxes: []config.Selector{{Cgroup: "/agents/*"}}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		want   string
	}{
		{"a relative glob", func(c *config.Config) { c.Sandboxes[0].Cgroup = "agents" }, "begin with a slash"},
		{"the root", func(c *config.Config) { c.Sandboxes[0].Cgroup = "/" }, "whole host"},
		{"a trailing slash", func(c *config.Config) { c.Sandboxes[0].Cgroup = "/agents/" }, `"/agents"`},
		{"a malformed glob", func(c *config.Config) { c.Sandboxes[0].Cgroup = "/a[" }, "syntax error"},
		{"a NUL in the session", func(c *config.Config) { c.Sandboxes[0].Session = "a\x00b" }, "NUL"},
		{"a negative hold", func(c *config.Config) { c.Hold = -1 }, "hold"},
		{"a trace of one span", func(c *config.Config) { c.MaxSpansPerTrace = 1 }, "max_spans_per_trace"},
		{"a pattern that matches nothing", func(c *config.Config) { c.Noise = []string{"x"} }, "noise"},
		{"a sensitive pattern that matches nothing", func(c *config.Config) { c.Sensitive = []string{"x"} }, "sensitive"},
		{"too many selectors", func(c *config.Config) { c.Sandboxes = make([]config.Selector, 2000) }, "selectors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good
			config.Sandboxes = slices.Clone(good.Sandboxes)
			c.change(&config)
			err := config.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if _, err := New(config, &nullSink{}); err == nil {
				t.Error("New took it")
			}
		})
	}
}

func TestEmptyListsAreNotTheDefaults(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Noise, c.Sensitive = []string{}, []string{} })
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.open(10, "/etc/ld.so.cache")
	w.exit(10, 0)
	w.only(span.Open)
}
