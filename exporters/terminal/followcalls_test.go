// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// followed are the lines of ends of calls.
func followed(spans ...span.Span) (lines []string) {
	var out bytes.Buffer
	f := NewFollow(&out, Options{Width: 100})
	for i := range spans {
		f.Span(&spans[i])
	}
	f.Flush()
	for line := range strings.Lines(out.String()) {
		if fields := strings.Fields(line); strings.Contains(line, " done ") {
			lines = append(lines, strings.Join(fields[1:], " "))
		}
	}
	return lines
}

// Whichever of its spans comes first has the line of a call's end, with the code that its first program ended with.
func TestTheEndOfACallHasOneLine(t *testing.T) {
	of := func(s span.Span, id string, began int64, more ...span.Attr) span.Span {
		s.Instance = "agent-1"
		s.Attrs = append(s.Attrs, append(more, text(span.KeyCallID, id))...)
		if began != 0 {
			s.Attrs = append(s.Attrs, number(span.KeyCallBegan, began), text(span.KeyCallTitle, "make "+id))
		}
		return s
	}
	root := of(exec(1, 0, 20, 0, 9*ms, "/bin/sh", argv("sh", "-c", "make a"), exit(3), yes(span.KeyCallRoot)), "a", 0)
	tool := of(failed(made(span.Tool, 2, 0, 0, 0, 10*ms)), "a", 5)
	row := of(failed(made(span.SessionCall, 3, 0, 0, 0, 9*ms, number(span.KeyCallExitCode, 3))), "a", 5)
	again := of(made(span.Tool, 6, 0, 0, 100*ms, 110*ms, text(span.KeyOutcome, "ok")), "a", 77)
	long := of(made(span.Tool, 7, 0, 0, 0, 60_000*ms, yes(span.KeyPartial), yes(span.KeyNoticed)), "b", 6)
	left := of(made(span.SessionCall, 8, 0, 0, 0, 100*ms, number(span.KeyCallExitCode, 0), text(span.KeyOutcome, "ok")), "b", 6)
	end := of(made(span.ToolEnd, 9, 0, 0, 0, 90_000*ms), "b", 6)
	env := of(exec(11, 0, 20, 0, ms, "/usr/bin/env", argv("env", "sh"), yes(span.KeyReplaced), yes(span.KeyCallRoot)), "a", 0)
	sh := of(exec(12, 0, 20, ms, 9*ms, "/bin/sh", argv("sh", "-c", "make a"), exit(4)), "a", 0)
	other := of(exec(13, 0, 21, ms, 9*ms, "/bin/sh", argv("sh"), exit(5)), "a", 0)
	inTheAgents := root
	inTheAgents.Remote = true
	for _, c := range []struct {
		name  string
		spans []span.Span
		want  string
	}{
		{"execute_tool first", []span.Span{root, tool, row}, "done make a 10 ms exit 3"},
		{"what the first program became", []span.Span{env, other, sh, tool}, "done make a 10 ms exit 4"},
		{"session.call first", []span.Span{root, row, tool}, "done make a 9.0 ms exit 3"},
		{"an id that is used again", []span.Span{root, tool, row, again}, "done make a 10 ms exit 3|done make a 10 ms ok"},
		{"what it left runs on", []span.Span{long, left, end}, "done make b 100 ms exit 0"},
		{"in the agent's own trace", []span.Span{inTheAgents, row}, "20 sh done make a 9.0 ms exit 3"},
		{"in the agent's own trace twice", []span.Span{inTheAgents, row, inTheAgents, of(row, "a", 9)}, "20 sh done make a 9.0 ms exit 3|20 sh done make a 9.0 ms exit 3"},
	} {
		if got := strings.Join(followed(c.spans...), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFollowedCallsAreBounded(t *testing.T) {
	var c calls
	for i := range int64(3 * maxTold) {
		s := made(span.Tool, 1, 0, 0, 0, ms, number(span.KeyCallBegan, i))
		if !c.isFirst(&s, s.Attrs) || c.isFirst(&s, s.Attrs) {
			t.Fatal(i)
		}
	}
	if len(c.told) > maxTold || len(c.order) > maxTold {
		t.Error(len(c.told), len(c.order))
	}
}
