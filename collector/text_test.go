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
		ps, err := compilePatterns([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.yes {
			if !ps.match([]byte(p)) {
				t.Errorf("%q does not match %q", c.pattern, p)
			}
		}
		for _, p := range c.no {
			if ps.match([]byte(p)) {
				t.Errorf("%q matches %q", c.pattern, p)
			}
		}
	}
}

func TestPatternsThatCannotBeMeant(t *testing.T) {
	for _, p := range []string{"", "etc/x", "*/x", "/a/***", strings.Repeat("/x", 4000)} {
		if _, err := compilePatterns([]string{p}); err == nil {
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
		ps, err := compilePatterns([]string{pattern})
		if err != nil {
			t.Fatal(err)
		}
		want := slowGlob(pattern, s)
		if got := ps.match([]byte(s)); got != want {
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
	ps, err := compilePatterns([]string{"/?" + all.String() + "/*"})
	if err != nil {
		t.Fatal(err)
	}
	if !ps.match([]byte("/*"+all.String()+"/x")) || ps.match([]byte("/*"+all.String()[1:]+"/x")) {
		t.Error("a byte is taken for another")
	}
}

// The time is to grow with the length of the path, not with its square.
func BenchmarkHostilePath(b *testing.B) {
	ps, err := compilePatterns([]string{"/lib/**.so.*", "/lib/**.so", "/lib/**/a*b/**"})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{128, 512, 2048} {
		p := []byte("/lib/" + strings.Repeat(".so.", n/2) + strings.Repeat("/a", n/2))
		b.Run(strconv.Itoa(len(p)), func(b *testing.B) {
			for b.Loop() {
				ps.match(p)
			}
		})
	}
}

func BenchmarkHostileArgument(b *testing.B) {
	for _, part := range []string{"=", "h=", "apixkey=", "s ss ", "eyJ.", "://a:", "bearer "} {
		arg := strings.Repeat(part, 128<<10/len(part))
		b.Run(part, func(b *testing.B) {
			for b.Loop() {
				maskText(arg)
			}
		})
	}
}

func TestLongArgumentsAreSearchedAndShownUpToABound(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("=", n) }
	for _, c := range []struct {
		name   string
		arg    string
		want   string
		hidden bool
		cut    bool
	}{
		{"one of the bound's length is whole", fill(maxSearched), fill(maxSearched), false, false},
		{"what comes after the bound is not shown", fill(maxSearched) + " --password=x", fill(maxSearched), false, true},
		{"a value that begins beyond the bound is not shown", fill(maxSearched-9) + " password=secret", fill(maxSearched-9) + " password", false, true},
		{"a value across the bound is masked", fill(maxSearched-12) + " password=" + "secret", fill(maxSearched-12) + " password=****", true, true},
		{"a URL's password across the bound is masked", fill(maxSearched-8) + "://a:secret@host", fill(maxSearched-8) + "://a:****", true, true},
		{"a token across the bound is masked", fill(maxSearched-6) + "ghp_0123456789abcdef0123", fill(maxSearched-6) + "****", true, true},
		{"a character is not cut through", fill(maxSearched-1) + "é", fill(maxSearched - 1), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{c.arg}
			hidden, cut := maskArgs(args)
			if args[0] != c.want || hidden != c.hidden || cut != c.cut {
				t.Errorf("…%q, %v, %v", args[0][max(0, len(args[0])-40):], hidden, cut)
			}
		})
	}
}

func TestHostilePathsCostLittleToMatch(t *testing.T) {
	noise, err := compilePatterns([]string{"/**a*a*a*a*a*b", "**/a**/a**/a**/c"})
	if err != nil {
		t.Fatal(err)
	}
	p := []byte("/" + strings.Repeat("a/a", 1365))
	done := make(chan bool)
	go func() { done <- noise.match(p) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("still matching")
	}
}

func TestCleanIsPathClean(t *testing.T) {
	for _, p := range []string{"/", "//", "/a", "/a/", "/a//b", "/./a", "/a/./b/.", "/..", "/../a", "/a/..", "/a/../..", "/a/b/../../c/..//d", "/a/...", "/.a/..b/c.."} {
		if got := string(clean([]byte(p))); got != path.Clean(p) {
			t.Errorf("%q: %q, want %q", p, got, path.Clean(p))
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("/a/../b//./c")
	f.Fuzz(func(t *testing.T, p string) {
		p = "/" + p
		if got := string(clean([]byte(p))); got != path.Clean(p) {
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
		if got := string(appendRequested(nil, rt.Path(c.base), c.flags, []byte(c.name))); got != c.want {
			t.Errorf("%q from %q: %q, want %q", c.name, c.base, got, c.want)
		}
	}
}

func TestMasking(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string // nil: nothing is masked
	}{
		{"an option with its value", []string{"x", "--password", "p", "q"}, []string{"x", "--password", "****", "q"}},
		{"an option with =", []string{"--api-key=k"}, []string{"--api-key=****"}},
		{"an option that is followed by another one", []string{"--token", "--verbose"}, nil},
		{"a variable", []string{"env", "GH_TOKEN=abc", "A=b"}, []string{"env", "GH_TOKEN=****", "A=b"}},
		{"within a shell command", []string{"sh", "-c", "DB_PASS='a b' run --x; echo done"}, []string{"sh", "-c", "DB_PASS='****' run --x; echo done"}},
		{"within JSON", []string{`{"user":"u","password": "p,q","n":1}`}, []string{`{"user":"u","password": "****","n":1}`}},
		{"within a query", []string{"http://h/?a=b&access_token=t&c=d"}, []string{"http://h/?a=b&access_token=****&c=d"}},
		{"an authorization header", []string{"-H", "Authorization: Bearer abcdef"}, []string{"-H", "Authorization: Bearer ****"}},
		{"another scheme", []string{"-H", "authorization: Basic dTpw"}, []string{"-H", "authorization: Basic ****"}},
		{"a key header", []string{"-H", "X-Api-Key: abc"}, []string{"-H", "X-Api-Key: ****"}},
		{"a bearer token elsewhere", []string{"bearer abcdefgh1234"}, []string{"bearer ****"}},
		{"the password of a URL", []string{"git", "clone", "https://user:pw@host/x"}, []string{"git", "clone", "https://user:****@host/x"}},
		{"a URL without a password", []string{"ssh://git@host:22/x", "https://host/a:b@c"}, nil},
		{"user and password", []string{"curl", "-u", "me:pw"}, []string{"curl", "-u", "me:****"}},
		{"user and password after other short options", []string{"curl", "-sSu", "me:pw"}, []string{"curl", "-sSu", "me:****"}},
		{"and joined to them", []string{"curl", "-suhim:pw"}, []string{"curl", "-suhim:****"}},
		{"an option with a value is no user", []string{"curl", "-ou", "http://x"}, nil},
		{"a script in a script", []string{"bash", "-c", `bash -c "true --api-key pw" && x`}, []string{"bash", "-c", `bash -c "true --api-key ****" && x`}},
		{"twice", []string{"bash", "-c", `bash -c "bash -c \"true --api-key pw\""`}, []string{"bash", "-c", `bash -c "bash -c \"true --api-key ****\""`}},
		{"a quoted value with spaces", []string{"bash", "-c", `x --password "a \" b" y`}, []string{"bash", "-c", `x --password "****" y`}},
		{"numbers of a user and group", []string{"docker", "run", "-u", "1000:1000"}, nil},
		{"tokens of known shapes", []string{"AKIAIOSFODNN7EXAMPLE", "x ghp_0123456789abcdef0123", "sk-ant-0123456789abcdef"}, []string{"****", "x ****", "****"}},
		{"shapes too short or within words", []string{"sk-short", "task-0123456789abcdef0123", "risk-0123456789abcdef0123"}, nil},
		{"what only looks similar", []string{"--password-file=/x", "bypass=1", "compass: north", "tokenize", "PWD=/home", "keyboard=us", "a=b", "x:y", "author: me"}, nil},
		{"user and password within a shell command", []string{"bash", "-c", "cd x && curl -s -u admin:pw 'http://h'; id"}, []string{"bash", "-c", "cd x && curl -s -u admin:**** 'http://h'; id"}},
		{"an option within a shell command", []string{"bash", "-lc", "x --pwd 'a b' --token \"t u\"\ny --token"}, []string{"bash", "-lc", "x --pwd '****' --token \"****\"\ny --token"}},
		{"passwords that only their program tells", []string{"bash", "-c", "sudo sshpass -p pw ssh -p 22 h | FOO=1 mysql -ppw db; tar -pxf y"}, []string{"bash", "-c", "sudo sshpass -p **** ssh -p 22 h | FOO=1 mysql -p**** db; tar -pxf y"}},
		{"the same without a shell", []string{"/usr/bin/sshpass", "-p", "pw", "ssh"}, []string{"/usr/bin/sshpass", "-p", "****", "ssh"}},
		{"cookies", []string{"curl", "-H", "Cookie: a=b; c=d", "http://h"}, []string{"curl", "-H", "Cookie: ****", "http://h"}},
		{"options of another command", []string{"sh", "-c", "ssh -p 22 h; grep -u a:b; docker run -u 1000:1000 x"}, []string{"sh", "-c", "ssh -p 22 h; grep -u a:****; docker run -u 1000:1000 x"}},
		{"an end of camel case", []string{"authToken=x", "dbPass=x"}, []string{"authToken=****", "dbPass=****"}},
		{"an empty value", []string{"--password=", "x"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := slices.Clone(c.args)
			hidden, _ := maskArgs(got)
			want := c.want
			if want == nil {
				want = c.args
			}
			if !slices.Equal(got, want) || hidden != (c.want != nil) {
				t.Errorf("%q, %v", got, hidden)
			}
		})
	}
}

func FuzzMask(f *testing.F) {
	f.Add("Authorization: Bearer x", "--token")
	f.Add("://a:b@", "a=b")
	f.Add("\"password\" : \"", "-u")
	f.Fuzz(func(_ *testing.T, a, b string) {
		maskArgs([]string{a, b, a})
	})
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{BootID: boot, Sandboxes: []Selector{{Cgroup: "/agents/*"}}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"a relative glob", func(c *Config) { c.Sandboxes[0].Cgroup = "agents" }, "begin with a slash"},
		{"the root", func(c *Config) { c.Sandboxes[0].Cgroup = "/" }, "whole host"},
		{"a trailing slash", func(c *Config) { c.Sandboxes[0].Cgroup = "/agents/" }, `"/agents"`},
		{"a malformed glob", func(c *Config) { c.Sandboxes[0].Cgroup = "/a[" }, "syntax error"},
		{"a NUL in the session", func(c *Config) { c.Sandboxes[0].Session = "a\x00b" }, "NUL"},
		{"a negative hold", func(c *Config) { c.Hold = -1 }, "hold"},
		{"a trace of one span", func(c *Config) { c.MaxSpansPerTrace = 1 }, "max_spans_per_trace"},
		{"a pattern that matches nothing", func(c *Config) { c.Noise = []string{"x"} }, "noise"},
		{"a sensitive pattern that matches nothing", func(c *Config) { c.Sensitive = []string{"x"} }, "sensitive"},
		{"too many selectors", func(c *Config) { c.Sandboxes = make([]Selector, 2000) }, "selectors"},
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
	w := newWorld(t, func(c *Config) { c.Noise, c.Sensitive = []string{}, []string{} })
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.open(10, "/etc/ld.so.cache")
	w.exit(10, 0)
	w.only(span.Open)
}
