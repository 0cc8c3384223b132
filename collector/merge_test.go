// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A marked agent marks its calls, gives their commands the trace contexts of its own spans, and reports the ids later.
type marked struct{ *world }

func newMarked(t *testing.T) marked {
	w := newWorld(t)
	w.claude(10)
	return marked{w}
}

func (w marked) begins(call string) {
	w.t.Helper()
	w.mark(10, record.Mark{Op: record.MarkBegin, Call: call, Tool: "Bash", Session: "cs"})
}

func (w marked) ends(call string) {
	w.t.Helper()
	w.mark(10, record.Mark{Op: record.MarkEnd, Call: call, Session: "cs"})
}

// runs starts a command below a span of the agent's, sampled or not; it opens /a/PID.
func (w marked) runs(pid uint32, of byte, sampled bool) {
	w.t.Helper()
	w.fork(10, pid)
	trace, parent := contextOf(of)
	flags := 0
	if sampled {
		flags = 1
	}
	w.start(pid, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=cs", fmt.Sprintf("TRACEPARENT=00-%x-%x-%02x", trace, parent, flags))
	w.open(pid, fmt.Sprint("/a/", pid))
}

func contextOf(of byte) (trace span.TraceID, parent span.ID) {
	binary.BigEndian.PutUint64(trace[:], 7)
	parent[7] = of
	return trace, parent
}

// reports has the agent say the id of a span of its own, and that the call was approved.
func (w marked) reports(of byte, call string) {
	w.t.Helper()
	s := record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "claude-code", Session: "cs", Call: call, Tool: "Bash"}
	s.Trace, s.Span = contextOf(of)
	w.sayAs(10, s)
	w.sayAs(10, record.Said{Kind: record.SaidDecision, Agent: "claude-code", Session: "cs", Call: call, Decision: "approved", Source: "config"})
}

// one checks that a call is told once, on its session.call and its execute_tool if there is one, with what was reported.
func (w marked) one(call string, tools int) {
	w.t.Helper()
	n := 0
	for _, s := range w.of(span.Tool) {
		if get(s, span.KeyCallID) == call {
			n++
			wants(w.t, s, map[string]any{span.KeyApproval: "approved", span.KeyGenAIToolName: "Bash"})
		}
	}
	told := 0
	for _, s := range w.of(span.SessionCall) {
		if get(s, span.KeyCallID) == call {
			told++
			wants(w.t, s, map[string]any{span.KeyApproval: "approved"})
		}
	}
	if n != tools || told != 1 {
		w.t.Errorf("%s has %d execute_tool, want %d, and %d session.call: %s", call, n, tools, told, show(w.spans))
	}
}

// nothing checks that no call is told without an id.
func (w marked) nothing() {
	w.t.Helper()
	for _, s := range append(w.of(span.Tool), w.of(span.SessionCall)...) {
		if get(s, span.KeyCallID) == nil {
			w.t.Errorf("a call without an id: %s", show([]span.Span{s}))
		}
	}
	if s := w.c.Stats(); s.RefusedMarks != 0 || s.DroppedFacts != 0 || s.RefusedFacts != 0 {
		w.t.Errorf("%+v", s)
	}
}

// Marks and telemetry at once tell no less than one of them alone.
func TestACallThatIsMarkedAndReportedIsOne(t *testing.T) {
	for _, sampled := range []bool{false, true} {
		tools := 1
		if sampled {
			tools = 0 // the agent's own span stands for the call
		}
		t.Run(fmt.Sprint("several marks are open, sampled ", sampled), func(t *testing.T) {
			w := newMarked(t)
			w.begins("t1")
			w.begins("t2")
			w.runs(11, 1, sampled)
			w.runs(12, 2, sampled)
			w.exit(11, 0)
			w.exit(12, 0)
			w.ends("t1")
			w.reports(1, "t1")
			w.reports(2, "t2") // its mark is still open
			w.open(10, "/a/agent")
			w.ends("t2")
			w.fork(10, 13)
			w.start(13, "/bin/bash", true)
			w.open(13, "/a/next")
			w.c.Close()
			w.owned("/a/agent", "", "session")
			w.owned("/a/next", get(w.opened("/a/next"), span.KeyCallID).(string), "unannounced")
			w.one("t1", tools)
			w.one("t2", tools)
		})
		t.Run(fmt.Sprint("the command goes on, sampled ", sampled), func(t *testing.T) {
			w := newMarked(t)
			w.begins("t1")
			w.begins("t2")
			w.runs(11, 1, sampled)
			w.reports(1, "t1")
			w.open(11, "/a/late")
			w.exit(11, 0)
			w.ends("t1")
			w.reports(2, "t2")
			w.ends("t2") // it was never run
			w.c.Close()
			w.owned("/a/late", "t1", "trace_context")
			w.one("t1", tools)
			w.one("t2", 0)
			w.nothing()
		})
		t.Run(fmt.Sprint("one mark is open, sampled ", sampled), func(t *testing.T) {
			w := newMarked(t)
			w.begins("t1")
			w.runs(11, 1, sampled)
			w.exit(11, 0)
			w.ends("t1")
			w.reports(1, "t1")
			w.c.Close()
			w.owned("/a/11", "t1", "marker")
			w.one("t1", tools)
			w.nothing()
		})
		t.Run(fmt.Sprint("the mark comes after the report, sampled ", sampled), func(t *testing.T) {
			w := newMarked(t)
			w.runs(11, 1, sampled)
			w.reports(1, "t1")
			w.begins("t1")
			w.open(11, "/a/late")
			w.exit(11, 0)
			w.ends("t1")
			w.c.Close()
			w.owned("/a/late", "t1", "trace_context")
			w.one("t1", tools)
			w.nothing()
		})
		t.Run(fmt.Sprint("the mark comes after the command, sampled ", sampled), func(t *testing.T) {
			w := newMarked(t)
			w.runs(11, 1, sampled)
			w.begins("t1")
			w.exit(11, 0)
			w.ends("t1")
			w.reports(1, "t1")
			w.c.Close()
			w.one("t1", tools)
			w.nothing()
		})
	}
	t.Run("a notice has gone out: its span follows", func(t *testing.T) {
		w := newMarked(t)
		w.begins("t1")
		w.begins("t2")
		w.runs(11, 1, true)
		w.tick(3 * time.Second)
		w.reports(1, "t1")
		w.open(11, "/a/late")
		w.exit(11, 0)
		w.ends("t1")
		w.ends("t2")
		w.c.Close()
		w.owned("/a/late", "t1", "trace_context")
		for _, notice := range w.of(span.ToolStart) {
			found := false
			for _, s := range w.of(span.Tool) {
				found = found || get(notice, span.KeyNoticeOf) == fmt.Sprintf("%x", s.ID)
			}
			if !found {
				t.Errorf("no span follows %s", show([]span.Span{notice}))
			}
		}
	})
	t.Run("the user is asked for longer than the hold: the command is below the agent's span all the same", func(t *testing.T) {
		w := newMarked(t)
		w.begins("t1")
		w.tick(3 * time.Second)
		w.runs(11, 1, true)
		w.exit(11, 0)
		w.ends("t1")
		w.reports(1, "t1")
		w.c.Close()
		trace, parent := contextOf(1)
		if s := w.execOf(11); s.Trace != trace || s.Parent != parent {
			t.Errorf("%s", show([]span.Span{s}))
		}
		w.owned("/a/11", "t1", "marker")
		w.one("t1", 1)
		notice, tool := w.only(span.ToolStart), w.tool("t1")
		if get(notice, span.KeyNoticeOf) != fmt.Sprintf("%x", tool.ID) || tool.Trace != notice.Trace {
			t.Errorf("no span follows %s: %s", show([]span.Span{notice}), show([]span.Span{tool}))
		}
	})
	t.Run("an agent's word about another one's call changes nothing", func(t *testing.T) {
		w := newMarked(t)
		w.begins("t1")
		w.begins("t2")
		w.runs(11, 1, true)
		w.agentAt(30, "/usr/bin/claude")
		s := record.Said{Kind: record.SaidContext, Agent: "claude-code", Session: "cs", Call: "t1"}
		s.Trace, s.Span = contextOf(1)
		w.sayAs(30, s)
		w.open(11, "/a/late")
		w.c.Close()
		w.owned("/a/late", "", "trace_context")
	})
	t.Run("a report of another call is not that of the only mark's", func(t *testing.T) {
		w := newMarked(t)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "t1", Session: "cs"})
		w.runs(11, 1, false)
		w.reports(1, "t2")
		w.c.Close()
		s := w.tool("t1")
		wants(t, s, map[string]any{span.KeyApproval: "unknown", span.KeyGenAIToolName: "unknown"})
		if len(w.of(span.Telemetry)) != 0 {
			t.Errorf("%s", show(w.spans))
		}
	})
}
