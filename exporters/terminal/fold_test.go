// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A build is a screen: programs of one name are one row, what they wrote is counted by directory, and what failed or is
// sensitive keeps its row.
func TestABuildIsAScreenWithExactCounts(t *testing.T) {
	var spans []span.Span
	add := func(s span.Span) byte {
		s.ID = span.ID{1: byte(len(spans) >> 8), 2: byte(len(spans)), 7: byte(span.Exec)}
		spans = append(spans, s)
		return byte(len(spans) - 1)
	}
	under := func(s span.Span, id span.ID) span.Span {
		s.Parent, s.Above = id, id
		return s
	}
	add(exec(0, 0, 1, 0, 9*ms, "/usr/bin/make", argv("make"), cwd("/w"), exit(0)))
	top := spans[0].ID
	for i := range 40 {
		pid := int64(100 + i)
		add(under(exec(0, 0, pid, 1*ms, uint64(2+i)*ms, "/usr/bin/cc", argv("cc", "-c", fmt.Sprint(i, ".c")), cwd("/w"), exit(0)), top))
		cc := spans[len(spans)-1].ID
		for f := range 3 {
			add(under(open(0, 0, pid, ms, "create", fmt.Sprintf("/w/out/%d/%d.o", i, f)), cc))
		}
		add(under(open(0, 0, pid, ms, "read", "/nowhere", errno("ENOENT")), cc))
		if i == 7 {
			add(under(open(0, 0, pid, ms, "read", "/home/ada/.aws/credentials", yes(span.KeySensitive)), cc))
		}
	}
	add(under(failed(exec(0, 0, 900, 1*ms, 2*ms, "/usr/bin/cc", argv("cc", "-c", "bad.c"), exit(1))), top))
	add(under(failed(open(0, 0, 1, ms, "write", "/etc/x", errno("EACCES"))), top))
	for i := range 50 {
		add(under(made(span.Change, 0, 0, 1, ms, ms, text(span.KeyFileOperation, "unlink"), text(span.KeyFilePath, fmt.Sprintf("/w/old/%d", i))), top))
	}
	add(under(made(span.Change, 0, 0, 1, ms, ms, text(span.KeyFileOperation, "unlink"), text(span.KeyFilePath, "/w/old"), yes(span.KeyFolded), number(span.KeyCount, 1000)), top))
	got := render(t, Options{Width: 100, Fold: true}, spans)
	for _, want := range []string{
		"cc … ×40 (", "create   ./out/ (120)", "[sensitive]", "cc -c bad.c", "exit 1", "refused  /etc/x", "deleted  ./old/ (1050)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if n := strings.Count(got, "\n"); n > 15 || t.Failed() {
		t.Errorf("%d lines:\n%s", n, got)
	}
	if n := strings.Count(render(t, Options{Width: 100}, spans), "\n"); n < 200 {
		t.Errorf("without folding there are %d lines", n)
	}
}

func TestWhatAnAgentDoesForItselfIsALine(t *testing.T) {
	own := func(s span.Span) span.Span {
		s.Instance = "agent-1"
		return s
	}
	inCall := func(s span.Span) span.Span {
		s = own(s)
		s.Attrs = append(s.Attrs, text(span.KeyCallID, "call_1"))
		return s
	}
	tool := inCall(made(span.Tool, 50, 0, 0, 20*ms, 30*ms, text(span.KeyCallTitle, "make test")))
	shell := inCall(exec(51, 0, 60, 20*ms, 30*ms, "/bin/sh", argv("sh", "-c", "make test"), number(span.KeyParentPID, 11), exit(0)))
	shell.Parent, shell.Above = tool.ID, tool.ID
	spans := []span.Span{
		own(exec(1, 0, 10, 0, 90*ms, "/usr/bin/node", argv("node", "codex.js"), exit(0))),
		own(exec(2, 1, 11, 1*ms, 80*ms, "/opt/codex", argv("codex"), exit(0))),
		own(open(3, 2, 11, 2*ms, "create", "/home/ada/.codex/state")), own(open(4, 2, 11, 2*ms, "read", "/home/ada/.codex/config")),
		own(open(5, 2, 11, 2*ms, "read", "/home/ada/.codex/auth.json", yes(span.KeySensitive))),
		own(exec(6, 2, 12, 3*ms, 4*ms, "/usr/bin/git", argv("git", "status"), exit(0))), own(exec(7, 2, 13, 3*ms, 4*ms, "/usr/bin/git", argv("git", "log"), exit(0))),
		own(open(9, 2, 19, 2*ms, "read", "/home/ada/.codex/by-a-fork")),
		own(connect(8, 2, 11, 2*ms, 3*ms, "tcp", "203.0.113.1", 443)), tool, shell,
	}
	got := render(t, Options{Width: 100, Fold: true}, spans)
	for _, want := range []string{"node codex.js", "itself   2 reads, 1 file written, 1 connection, 3 programs (git ×2, codex)", "auth.json", "└─ call make test", "└─ sh -c 'make test'"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if all := render(t, Options{Width: 100}, spans); strings.Contains(all, "itself") || !strings.Contains(all, "git status") {
		t.Errorf("unfolded:\n%s", all)
	}
}

func TestWithoutUnicodeADrawingIsASCII(t *testing.T) {
	spans := append(story(), exec(90, 0, 77, 0, ms, "/bin/naïve→", argv("naïve→", "語"), exit(0)))
	for _, width := range []int{0, 60, 100} {
		got := render(t, Options{Width: width, ASCII: true}, spans)
		for line := range strings.Lines(got) {
			for _, r := range line {
				if r > 0x7e {
					t.Fatalf("%q", line)
				}
			}
			if width > 0 && len(line) > width+1 {
				t.Errorf("%d columns: %q", len(line), line)
			}
		}
		if !strings.Contains(got, `na\u00efve->`) || !strings.Contains(got, "|-") {
			t.Error(got)
		}
	}
}
