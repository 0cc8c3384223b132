// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func id(n int) (i span.ID) {
	binary.BigEndian.PutUint64(i[:], uint64(n))
	return i
}

func text(key, v string) span.Attr { return span.Attr{Key: key, Kind: span.StringAttr, Str: v} }
func num(key string, n int64) span.Attr {
	return span.Attr{Key: key, Kind: span.IntAttr, Int: n}
}
func flag(key string) span.Attr { return span.Attr{Key: key, Kind: span.BoolAttr, Int: 1} }

// give hands a span over as the collector does: in memory that is used again.
func give(v *View, session string, kind span.Kind, n, parent int, attrs ...span.Attr) {
	s := &span.Span{
		ID: id(n), Parent: id(parent), Above: id(parent), Kind: kind, Name: kind.String(), Start: uint64(n) * 1000, End: uint64(n)*1000 + 500,
		Session: session, Attrs: attrs,
	}
	v.Span(s)
	clear(s.Attrs)
	*s = span.Span{}
}

// draw writes a tree in one line: kind, and what stands below in parentheses.
func draw(nodes []client.Node) string {
	var parts []string
	for _, n := range nodes {
		p := n.Kind
		if c := draw(n.Children); c != "" {
			p += "(" + c + ")"
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, " ")
}

func TestASessionIsSummedUpWithItsCallsAndWhatRuns(t *testing.T) {
	v := New(Options{})
	agent, callA := text(span.KeyAgentName, "codex"), text(span.KeyCallID, "a")
	give(v, "s", span.Exec, 1, 0, agent, flag(span.KeyPartial))
	give(v, "s", span.Exec, 2, 1, agent, callA, text(span.KeyToolName, "shell"), text(span.KeyAttribution, "call_id"), flag(span.KeyPartial))
	give(v, "s", span.Exec, 3, 2, agent, callA)
	give(v, "s", span.Open, 4, 3, agent, callA)
	list := v.List(0)
	if len(list) != 1 || list[0].ID != "s" || list[0].Agent != "codex" || list[0].Processes != 2 || list[0].Spans != 4 {
		t.Fatalf("%+v", list)
	}
	c := list[0].Calls
	if len(c) != 1 || c[0].ID != "a" || c[0].Tool != "shell" || c[0].Attribution != "call_id" || c[0].Processes != 1 || c[0].Failed {
		t.Errorf("%+v", c)
	}
	give(v, "s", span.Exit, 5, 2, agent, callA)
	tool := &span.Span{ID: id(6), Kind: span.Tool, Session: "s", Failed: true, Attrs: []span.Attr{callA, text(span.KeyApproval, "denied")}}
	v.Span(tool)
	if c := v.List(0)[0].Calls; c[0].Processes != 0 || !c[0].Failed || c[0].Approval != "denied" {
		t.Errorf("%+v", c)
	}
	tree := v.Tree(0, "s")
	if got := draw(tree.Roots); got != "execute_tool process.exec(process.exec(process.exec(file.open) process.exit))" {
		t.Error(got)
	}
}

// A process in a call may say that it is in one of the same id, but tells nothing of the agent's.
func TestACallThatAProcessClaimsIsAnother(t *testing.T) {
	v := New(Options{})
	agent, c0, by := text(span.KeyAgentName, "codex"), text(span.KeyCallID, "c0"), text(span.KeyAttribution, "call_id")
	own := text(span.KeyAttribution, "claimed")
	give(v, "s", span.Tool, 1, 0, agent, c0, by, text(span.KeyToolName, "shell"), text(span.KeyApproval, "denied"))
	give(v, "s", span.Exec, 2, 1, agent, c0, by, flag(span.KeyPartial))
	give(v, "s", span.Tool, 3, 0, agent, c0, own, text(span.KeyToolName, "x"), text(span.KeyApproval, "unknown"))
	give(v, "s", span.Exec, 4, 2, agent, c0, own, text(span.KeyToolName, "x"), flag(span.KeyPartial))
	// What either has left running.
	left, started := text(span.KeyAttribution, "started_by"), text(span.KeyStartedBy, "c0")
	give(v, "s", span.Exec, 5, 2, agent, c0, left, started, flag(span.KeyPartial))
	give(v, "s", span.Exec, 6, 4, agent, c0, left, started, flag(span.KeyPartial), text(span.KeyMarkedBy, "self"))
	list := v.List(0)
	if len(list) != 1 || len(list[0].Calls) != 2 {
		t.Fatalf("%+v", list)
	}
	for _, c := range list[0].Calls {
		want := map[string]string{"call_id": "shell denied", "claimed": "x unknown"}[c.Attribution]
		if c.ID != "c0" || c.Tool+" "+c.Approval != want || c.Processes != 2 {
			t.Errorf("%+v", c)
		}
	}
}

func TestASpanInAnotherTraceStandsUnderItsProgram(t *testing.T) {
	v := New(Options{})
	give(v, "s", span.Exec, 1, 0)
	v.Span(&span.Span{ID: id(3), Trace: span.TraceID{9}, Kind: span.Exec, Session: "s", Above: id(1), StandIn: true})
	v.Span(&span.Span{ID: id(2), Trace: span.TraceID{9}, Kind: span.Open, Session: "s", Parent: id(3), Above: id(1)})
	if got := draw(v.Tree(0, "s").Roots); got != "process.exec(file.open)" {
		t.Error(got)
	}
}

func TestUsersSeeTheSessionsOfTheirOwnProgramsOnly(t *testing.T) {
	v := New(Options{User: 7})
	give(v, "mine", span.Exec, 1, 0, num(span.KeyRealUserID, 1000))
	give(v, "mine", span.Exec, 2, 1, num(span.KeyRealUserID, 0))
	give(v, "other", span.Exec, 3, 0, num(span.KeyUserID, 1001))
	give(v, "unknown", span.Open, 4, 0)
	for uid, want := range map[uint32]string{0: "mine other unknown", 7: "mine other unknown", 1000: "mine", 1001: "other", 1002: ""} {
		var got []string
		for _, s := range v.List(uid) {
			got = append(got, s.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("user %d sees %q, want %q", uid, got, want)
		}
	}
	if v.Tree(1000, "other") != nil || v.Tree(1000, "mine") == nil || v.Tree(0, "none") != nil {
		t.Error("a tree of another user's session, or not of one's own")
	}
}

func TestMemoryIsBoundedWhateverComes(t *testing.T) {
	v := New(Options{Bytes: 1 << 20, Sessions: 10, Calls: 5})
	long := strings.Repeat("x", 1<<20)
	n := 0
	for s := range 30 {
		for range 300 {
			n++
			give(v, fmt.Sprint("s", s), span.Exec, n, 0, text(span.KeyCallID, fmt.Sprint(n)), flag(span.KeyPartial),
				text("long", long), span.Attr{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: []string{long, long, long}})
			give(v, fmt.Sprint("s", s), span.Open, n+1_000_000, n)
		}
	}
	total, sum := 0, 0
	for _, se := range v.sessions {
		for _, q := range []*queue{&se.structure, &se.activity} {
			sum += q.bytes
			for i := range q.all() {
				total += size(&q.all()[i])
			}
		}
		if len(se.live) > maxLive || len(se.calls) > 5 || len(se.byCall) != len(se.calls) {
			t.Errorf("%d live, %d calls", len(se.live), len(se.calls))
		}
	}
	if len(v.sessions) != 10 || v.recent.Len() != 10 || total > 1<<20 || total != v.bytes || sum != v.bytes {
		t.Errorf("%d sessions, %d bytes, %d by the queues, %d counted", len(v.sessions), total, sum, v.bytes)
	}
	list := v.List(0)
	last := list[len(list)-1]
	tree := v.Tree(0, last.ID)
	if last.ID != "s29" || last.Spans != 600 || tree.Dropped == 0 || len(tree.Roots) == 0 {
		t.Errorf("%+v, %d dropped, %d roots", last.ID, tree.Dropped, len(tree.Roots))
	}
	if _, err := json.Marshal(tree); err != nil {
		t.Error(err)
	}
}

func TestAVeryDeepTreeIsToldBesideAndCanBeRead(t *testing.T) {
	v := New(Options{})
	const deep = 3000
	for i := 1; i <= deep; i++ {
		give(v, "s", span.Exec, i, i-1)
	}
	raw, err := json.Marshal(v.Tree(0, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var back client.Tree
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(raw), "process.exec"); got != deep {
		t.Errorf("%d nodes, want %d", got, deep)
	}
}

func TestSpansThatAreEachOthersParentsEndNothing(t *testing.T) {
	v := New(Options{})
	give(v, "s", span.Exec, 1, 2)
	give(v, "s", span.Exec, 2, 1)
	give(v, "s", span.Exec, 3, 3)
	if got := draw(v.Tree(0, "s").Roots); got != "process.exec" {
		t.Error(got)
	}
}

func TestTheViewIsAskedWhileSpansCome(t *testing.T) {
	v := New(Options{Bytes: 64 << 10})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 1; i < 3000; i++ {
			give(v, fmt.Sprint("s", i%3), span.Exec, i, i-3, text("k", "v"), span.Attr{Key: "l", Kind: span.StringsAttr, List: []string{"a"}})
		}
	})
	for range 4 {
		all.Go(func() {
			for range 100 {
				for _, s := range v.List(0) {
					v.Tree(0, s.ID)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkSpan(b *testing.B) {
	v := New(Options{})
	attrs := make([]span.Attr, 30)
	for i := range attrs {
		attrs[i] = text(fmt.Sprint("key.", i), "some value of an attribute")
	}
	s := &span.Span{Kind: span.Open, Session: "s", Attrs: attrs}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.ID = id(i)
		v.Span(s)
	}
}
