// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

func factOf(kind record.SaidKind, call string) record.Said {
	return record.Said{Kind: kind, Agent: "codex", Session: "sess", Call: call, Tool: "exec_command"}
}

func decided(call, decision, source string) record.Said {
	s := factOf(record.SaidDecision, call)
	s.Decision, s.Source = decision, source
	return s
}

func agentSpan(call string, flags uint8) record.Said {
	s := factOf(record.SaidContext, call)
	s.Trace, s.Span, s.TraceFlags = [16]byte{1, 2}, [8]byte{3, 4}, flags
	return s
}

func TestTelemetryAnnotatesCalls(t *testing.T) {
	t.Run("a decision within the hold is on execute_tool", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.say(decided("call_1", "approved", "user"))
		w.say(record.Said{Kind: record.SaidResult, Session: "sess", Call: "call_1", Success: record.SuccessOK})
		w.c.Close()
		s := w.tool("call_1")
		wants(t, s, map[string]any{
			span.KeyApproval: "approved", span.KeyApprovalSource: "user", span.KeyToolName: "exec_command", span.KeyGenAIToolName: "exec_command",
			span.KeyToolResult: "ok",
		})
		if s.Name != "execute_tool exec_command" || s.Failed || len(w.of(span.Telemetry)) != 0 {
			t.Errorf("%s", show(w.spans))
		}
	})
	t.Run("a later one is a span of its own", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.exit(11, 0)
		w.exit(10, 0)
		w.tick(3 * time.Second)
		w.say(decided("call_1", "approved", "config"))
		s := w.only(span.Telemetry)
		if tool := w.tool("call_1"); s.Parent != tool.ID || s.Trace != tool.Trace || s.End-s.Start != 1000 {
			t.Errorf("%s", show(w.spans))
		}
		wants(t, s, map[string]any{
			span.KeyTelemetryKind: "decision", span.KeyTelemetryWord: "approved", span.KeyTelemetrySource: "config", span.KeyApproval: "approved",
			span.KeyCallID: "call_1", span.KeySessionID: "sess",
		})
	})
	t.Run("a call that was denied and ran is told as violated", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.say(decided("call_1", "denied", "user"))
		w.call(10, 11, "call_1")
		w.c.Close()
		s := w.tool("call_1")
		wants(t, s, map[string]any{span.KeyApproval: "denied", span.KeyApprovalViolated: true})
		if !s.Failed {
			t.Error("not failed")
		}
	})
	t.Run("decisions that differ are a conflict", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.say(decided("call_1", "denied", "user"))
		w.say(decided("call_1", "approved", "user"))
		w.say(decided("call_1", "approved", "user"))
		w.c.Close()
		wants(t, w.tool("call_1"), map[string]any{span.KeyApproval: "conflict", span.KeyApprovalSource: nil})
	})
	t.Run("network and sandbox outcomes are spans of their own", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		s := factOf(record.SaidNetwork, "call_1")
		s.Decision, s.Detail = "denied", "host=example.com"
		w.say(s)
		wants(t, w.only(span.Telemetry), map[string]any{
			span.KeyTelemetryKind: "network", span.KeyTelemetryDetail: "host=example.com", span.KeyTelemetryWord: "denied", span.KeyApproval: "unknown",
		})
	})
	t.Run("they are bounded", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		for n := range 1000 {
			s := factOf(record.SaidNetwork, "call_1")
			s.Detail = fmt.Sprint(n)
			w.say(s)
		}
		if n := len(w.of(span.Telemetry)); n != attribution.MaxReports || w.c.Stats().DroppedFacts != 1000-attribution.MaxReports {
			t.Errorf("%d spans, %+v", n, w.c.Stats())
		}
	})
}

func TestTelemetryContext(t *testing.T) {
	theirs := span.TraceID{1, 2}
	ours := func(w *world) span.TraceID { return w.topOf(codexInstance, "call_1").Trace }
	t.Run("known before the call's first program, it takes the call's spans", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.say(agentSpan("call_1", 1))
		w.say(decided("call_1", "approved", "config"))
		w.call(10, 11, "call_1")
		w.open(11, "/a/x")
		w.c.Close()
		if s := w.execOf(11); s.Trace != theirs || s.Parent != (span.ID{3, 4}) || len(w.of(span.Tool)) != 0 {
			t.Errorf("%s", show(w.spans))
		}
		w.owned("/a/x", "call_1", "call_id")
		wants(t, w.only(span.Telemetry), map[string]any{span.KeyApproval: "approved"})
	})
	t.Run("not sampled, it is a link", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.say(agentSpan("call_1", 0))
		w.call(10, 11, "call_1")
		w.c.Close()
		if s := w.tool("call_1"); s.Trace != ours(w) || s.Links[len(s.Links)-1].Trace != theirs {
			t.Errorf("%v", s.Links)
		}
	})
	t.Run("known within the hold, it is a link of execute_tool", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.say(agentSpan("call_1", 1))
		w.open(11, "/a/x")
		w.c.Close()
		if s := w.tool("call_1"); s.Trace != ours(w) || s.Links[len(s.Links)-1].Trace != theirs || w.opened("/a/x").Trace != ours(w) {
			t.Errorf("%v", s.Links)
		}
	})
	t.Run("later, it is a span with a link", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.tick(3 * time.Second)
		w.say(agentSpan("call_1", 1))
		w.say(agentSpan("call_1", 1))
		if s := w.only(span.Telemetry); s.Trace != ours(w) || len(s.Links) != 1 || s.Links[0].Trace != theirs {
			t.Errorf("%s %v", show([]span.Span{s}), s.Links)
		}
	})
}

func TestTelemetryMovesNothing(t *testing.T) {
	t.Run("of calls that are not there it is forgotten after a time", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.CallRetention, c.MaxCalls = time.Minute, 16 })
		w.codex(10)
		for n := range 100 {
			w.say(decided(fmt.Sprint("call_", n), "denied", ""))
		}
		if s := w.c.Stats(); s.WaitingFacts != 8 || s.DroppedFacts != 92 || len(w.c.telemetry.Waiting.ByCall) != 8 {
			t.Errorf("%+v", s)
		}
		w.tick(2 * time.Minute)
		if s := w.c.Stats(); s.WaitingFacts != 0 || len(w.c.telemetry.Waiting.ByCall) != 0 || len(w.of(span.Telemetry)) != 0 {
			t.Errorf("%+v, %s", s, show(w.spans))
		}
	})
	t.Run("one who says much leaves room for others", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxCalls = 16 })
		w.codex(10)
		w.begin(30, two)
		w.start(30, "/usr/bin/codex", false)
		s := decided("call_1", "denied", "user")
		w.sayAs(10, s)
		for n := range 100 {
			s := decided(fmt.Sprint("x", n), "approved", "user")
			s.Session = "x"
			w.sayAs(30, s)
		}
		w.call(10, 11, "call_1")
		w.c.Close()
		wants(t, w.tool("call_1"), map[string]any{span.KeyApproval: "denied"})
		if len(w.c.telemetry.Waiting.Of) != 1 {
			t.Errorf("%d speakers are counted", len(w.c.telemetry.Waiting.Of))
		}
	})
	t.Run("of one whom nobody knows it is told and marked, and changes nothing", func(t *testing.T) {
		const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		w := newWorld(t)
		w.claude(10)
		w.fork(10, 11)
		w.start(11, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=cs", "TRACEPARENT=00-"+trace+"-"+parent+"-01")
		forged := record.Said{Kind: record.SaidContext, Agent: "claude-code", Session: "cs", Call: "toolu_FORGED", Tool: "Read"}
		_, _ = hex.Decode(forged.Trace[:], []byte(trace))
		_, _ = hex.Decode(forged.Span[:], []byte(parent))
		w.sayAs(0, forged)
		w.sayAs(0, record.Said{Kind: record.SaidDecision, Session: "cs", Call: "toolu_FORGED", Decision: "approved", Source: "user"})
		w.open(11, "/a/x")
		real := forged
		real.Call, real.Tool = "toolu_REAL", "Bash"
		w.sayAs(10, real)
		w.open(11, "/a/y")
		for range 100 {
			w.sayAs(0, forged)
		}
		w.c.Close()
		wants(t, w.opened("/a/x"), map[string]any{span.KeyCallID: "toolu_REAL", span.KeyToolName: "Bash"}) // known when it was sent
		verified := 0
		for _, s := range w.of(span.Telemetry) {
			if get(s, span.KeyTelemetryUnverified) == nil {
				verified++
			}
			wants(t, s, map[string]any{span.KeyApproval: "unknown"})
		}
		if all := len(w.of(span.Telemetry)); all != 1+attribution.MaxUnverified || verified != 1 {
			t.Errorf("%d told, %d of them verified", all, verified)
		}
	})
	t.Run("of another user outside it is told and marked, and changes nothing", func(t *testing.T) {
		for uid, verified := range map[uint32]bool{0: true, 1000: true, 65534: false} {
			for _, first := range []bool{false, true} {
				w := newWorld(t)
				w.begin(10, one)
				w.execWith(10, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("codex"), UID: 1000})
				s := decided("call_1", "approved", "user")
				s.Tool, s.UID = "harmless", uid
				if first {
					w.say(s)
				}
				w.call(10, 11, "call_1")
				if !first {
					w.say(s)
				}
				w.c.Close()
				want := map[string]any{span.KeyApproval: "unknown", span.KeyToolName: nil}
				if verified {
					want = map[string]any{span.KeyApproval: "approved", span.KeyToolName: "harmless"}
				}
				wants(t, w.tool("call_1"), want)
				if told := w.of(span.Telemetry); !verified && (len(told) != 1 || get(told[0], span.KeyTelemetryUnverified) != true) {
					t.Errorf("uid %d: %s", uid, show(told))
				}
			}
		}
	})
	t.Run("a denial of one whom nobody knows closes no call", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "t1", Session: "cs"})
		w.sayAs(0, record.Said{Kind: record.SaidDecision, Session: "cs", Call: "t1", Decision: "denied", Source: "user"})
		w.fork(10, 20)
		w.start(20, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=cs")
		w.open(20, "/a/x")
		w.c.Close()
		w.owned("/a/x", "t1", "marker")
		wants(t, w.tool("t1"), map[string]any{span.KeyApproval: "unknown", span.KeyApprovalViolated: nil})
	})
	t.Run("an agent tells of its own calls only", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.begin(30, two)
		w.start(30, "/usr/bin/claude", false)
		w.sayAs(30, decided("call_1", "approved", "user"))
		w.c.Close()
		wants(t, w.tool("call_1"), map[string]any{span.KeyApproval: "unknown"})
	})
	t.Run("under another session it does not reach the call", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		s := decided("call_1", "denied", "")
		s.Session = "other"
		w.say(s)
		w.c.Close()
		wants(t, w.tool("call_1"), map[string]any{span.KeyApproval: "unknown"})
	})
	t.Run("from a process in a call it is refused", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.raw(record.AppendSaid(nil, w.now, 11, start(11), decided("call_1", "approved", "user")))
		w.c.Close()
		wants(t, w.tool("call_1"), map[string]any{span.KeyApproval: "unknown"})
		if w.c.Stats().RefusedFacts != 1 {
			t.Errorf("%+v", w.c.Stats())
		}
	})
	t.Run("a session is taken from the agent's own process only", func(t *testing.T) {
		w := newWorld(t)
		w.agentAt(10, "/usr/bin/gemini")
		w.raw(record.AppendSaid(nil, w.now, 0, 0, record.Said{Kind: record.SaidSession, Session: "forged"}))
		w.raw(record.AppendSaid(nil, w.now, 10, start(10), record.Said{Kind: record.SaidSession, Session: "g"}))
		w.open(10, "/a/x")
		w.c.Close()
		wants(t, w.opened("/a/x"), map[string]any{span.KeySessionID: "g"})
	})
}

func TestAnAgentWithinACallSendsOnlyIfItIsPinned(t *testing.T) {
	for _, c := range []struct {
		name   string
		pinned bool
		in     func(w *world) // where 30 is forked from 20
		taken  bool
	}{
		{"of an agent", false, func(w *world) { w.codex(10); w.call(10, 20, "call_1") }, false},
		{"of an agent, pinned", true, func(w *world) { w.codex(10); w.call(10, 20, "call_1") }, true},
		{"of a harness", false, func(w *world) {
			w.agentAt(20, "/bin/bash")
			w.mark(harness, fromOutside(record.MarkBegin, "c1", 20))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(cfg *config.Config) {
				cfg.Agents = agents.Builtin()
				for i := range cfg.Agents {
					if cfg.Agents[i].Name == "claude-code" && c.pinned {
						cfg.Agents[i].Path = []string{"/usr/bin/claude"}
					}
				}
			})
			c.in(w)
			w.fork(20, 30)
			w.start(30, "/usr/bin/claude", false)
			w.sayAs(30, record.Said{Kind: record.SaidRequest})
			if taken := w.c.Stats().RefusedSenders == 0; taken != c.taken {
				t.Errorf("taken: %v", taken)
			}
		})
	}
}
