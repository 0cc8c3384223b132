// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"slices"
	"strings"
	"testing"
)

func TestWrappersAreLookedThrough(t *testing.T) {
	codex, claude := Find(Builtin(), "codex").Wrappers, Find(Builtin(), "claude-code").Wrappers
	gemini, cursor := Find(Builtin(), "gemini-cli").Wrappers, Find(Builtin(), "cursor-agent").Wrappers
	snapshot := "if [ -n \"$PATH\" ]; then export PATH='/x':\"$PATH\"; else export PATH='/x'; fi\n\nexec '/bin/zsh' -c "
	for _, c := range []struct {
		name  string
		w     Wrappers
		args  []string
		text  string   // of a shell, or
		words []string // a program
		next  bool     // the next program says it
	}{
		{name: "a shell", args: []string{"/bin/bash", "-lc", "make test | tail"}, text: "make test | tail"},
		{name: "options before", args: []string{"bash", "-O", "extglob", "+x", "--norc", "-c", "ls"}, text: "ls"},
		{name: "a login shell", args: []string{"-zsh", "-l", "-c", "ls"}, text: "ls"},
		{name: "a shell in a shell", args: []string{"sh", "-c", "bash -c ls"}, text: "bash -c ls"},
		{name: "a script's file", args: []string{"sh", "build.sh", "-c"}, words: []string{"sh", "build.sh", "-c"}},
		{name: "a shell without anything", args: []string{"bash", "-c"}, words: []string{"bash", "-c"}},
		{name: "a program", args: []string{"rg", "--json", "x"}, words: []string{"rg", "--json", "x"}},
		{name: "nothing"},
		{name: "codex's sandbox", w: codex, args: []string{"/a/codex-linux-sandbox", "--policy", "{}", "--", "bash", "-lc", "ls"}, text: "ls"},
		{name: "two sandboxes", w: codex, args: []string{"bwrap", "--", "codex-linux-sandbox", "--", "rg", "x"}, words: []string{"rg", "x"}},
		{name: "a sandbox that does not say what it runs", w: codex, args: []string{"bwrap", "--args", "9"}, words: []string{"bwrap", "--args", "9"}, next: true},
		{name: "a sandbox of nobody's", args: []string{"bwrap", "--", "ls"}, words: []string{"bwrap", "--", "ls"}},
		{name: "codex's snapshot", w: codex, args: []string{"bash", "-c", snapshot + `'echo '"'"'a b'"'"'; exit 7'`}, text: "echo 'a b'; exit 7"},
		{name: "a snapshot that runs a program", w: codex, args: []string{"bash", "-c", snapshot[:len(snapshot)-14] + "rg x"}, words: []string{"rg", "x"}},
		{name: "a snapshot that was cut", w: codex, args: []string{"bash", "-c", strings.TrimSuffix(snapshot, "'/bin/zsh' -c ")}, text: strings.TrimSuffix(snapshot, "'/bin/zsh' -c ")},
		{name: "claude's", w: claude, args: []string{"bash", "-c", `source /s.sh && eval 'a && eval '\''b'\''' < /dev/null && pwd -P >| /tmp/c`}, text: "a && eval 'b'"},
		{name: "an unquoted word of claude's", w: claude, args: []string{"bash", "-c", `source /s.sh && eval ls < /dev/null`}, text: "ls"},
		{name: "a word in double quotes", w: claude, args: []string{"bash", "-c", `x && eval "echo \"\$A\" \a" < /dev/null`}, text: `echo "$A" \a`},
		{name: "gemini's", w: gemini, args: []string{"bash", "-c", "shopt -u x; _bgpids_file=/t\n(\n  trap 'jobs -p > \"$_bgpids_file\"' EXIT\ncat a\ncat b\n)\n__code=$?\nexit $__code"}, text: "cat a\ncat b"},
		{name: "cursor's", w: cursor, args: []string{"bash", "-c", `eval -- "$snap" && { builtin eval "$1" < /dev/null; }; exit`, "--", "make"}, text: "make"},
		{name: "cursor's, without a command", w: cursor, args: []string{"bash", "-c", `builtin eval "$1"`}, text: `builtin eval "$1"`},
	} {
		got, known := c.w.Inner(c.args)
		if got.Text != c.text || !slices.Equal(got.Args, c.words) || known == c.next {
			t.Errorf("%s: %q %q %t", c.name, got.Text, got.Args, known)
		}
	}
	// However they nest, it ends.
	long := slices.Repeat([]string{"bwrap", "--"}, 1000)
	if got, _ := codex.Inner(append(long, "ls")); len(got.Args) != 2001-2*maxWrappers {
		t.Errorf("%d are left", len(got.Args))
	}
}

func TestWrappersAreChecked(t *testing.T) {
	for _, s := range []Script{{As: AsText}, {After: "x"}, {After: "x", As: "word "}} {
		d := Dialect{Name: "a", Executables: []string{"a"}, Wrappers: Wrappers{Scripts: []Script{s}}}
		if d.Validate() == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}
