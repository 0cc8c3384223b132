// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Which commands the user has typed, and who says so.
func TestWhichCommandsTheUserHasTyped(t *testing.T) {
	trace, parent := contextOf(7)
	given := "TRACEPARENT=00-" + hex.EncodeToString(trace[:]) + "-" + hex.EncodeToString(parent[:]) + "-01"
	asked := func(agent string) record.Said {
		s := record.Said{Kind: record.SaidContext, Agent: agent, Session: "cs", More: record.More("").With(record.MoreOrigin, record.OriginUser)}
		s.Trace, s.Span = trace, parent
		return s
	}
	// opens has a child of the agent, which is 10, open the file that is asked about.
	opens := func(w *world, env ...string) {
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, env...)
		w.open(12, "/a/x")
	}
	claude := func(w *world, s record.Said, by uint32) {
		w.claude(10)
		opens(w, "CLAUDE_CODE_SESSION_ID=cs", given)
		if by == 12 || by == 10 {
			w.sayAs(by, s)
		} else {
			s.UID = by
			w.say(s)
		}
		w.exit(12, 0)
	}
	for _, c := range []struct {
		name       string
		do         func(w *world)
		by, origin any
	}{
		{"Codex gives it the session alone", func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			opens(w, "CODEX_SESSION_ID=sess")
		}, "inferred", "user"},
		{"what is forked of it is the user's, too", func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			w.fork(10, 13)
			w.start(13, "/bin/bash", true, "CODEX_SESSION_ID=sess")
			w.fork(13, 12)
			w.open(12, "/a/x")
		}, "inferred", "user"},
		{"before any command of the model, too", func(w *world) {
			w.codex(10)
			opens(w, "CODEX_SESSION_ID=sess")
		}, "inferred", "user"},
		{"an older one names no call, and the thread alone", func(w *world) {
			w.codex(10)
			opens(w, "CODEX_THREAD_ID=sess")
		}, "inferred", nil},
		{"nor is it the user's where Codex itself was started with that", func(w *world) {
			w.codex(10, "CODEX_SESSION_ID=sess")
			w.call(10, 11, "call_1")
			opens(w, "CODEX_SESSION_ID=sess")
		}, "session", nil},
		{"a command of the model has another variable", func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			opens(w, "CODEX_SESSION_ID=sess", "CODEX_CI=1")
		}, "unannounced", nil},
		{"a helper has none", func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			opens(w)
		}, "session", nil},
		{"it is not of the call of the model that is open", func(w *world) {
			w.codex(10)
			w.mark(10, record.Mark{Op: record.MarkBegin, Session: "sess", Call: "call_1", Tool: "exec_command"})
			w.call(10, 11, "call_1")
			w.mark(10, record.Mark{Op: record.MarkBegin, Session: "sess", Call: "call_2", Tool: "exec_command"})
			opens(w, "CODEX_SESSION_ID=sess")
		}, "inferred", "user"},
		{"a command cannot make another its user's", func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=")
			w.open(12, "/a/x")
		}, "call_id", nil},
		{"Claude Code has told of its span", func(w *world) { claude(w, asked("claude-code"), 10) }, "trace_context", "user"},
		{"or the user's own collector has", func(w *world) { claude(w, asked("claude-code"), 0) }, "trace_context", "user"},
		{"the command itself has", func(w *world) { claude(w, asked("claude-code"), 12) }, "trace_context", nil},
		{"another user has", func(w *world) { claude(w, asked("claude-code"), 4321) }, "trace_context", nil},
		{"of another session", func(w *world) {
			s := asked("claude-code")
			s.Session = "other"
			claude(w, s, 10)
		}, "trace_context", nil},
		{"a call that has an id is the model's", func(w *world) {
			s := asked("claude-code")
			w.claude(10)
			opens(w, "CLAUDE_CODE_SESSION_ID=cs", given)
			named := s
			named.Call, named.More = "toolu_1", ""
			w.sayAs(10, named)
			w.sayAs(10, s)
			w.exit(12, 0)
		}, "trace_context", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.do(w)
			w.c.Close()
			open := w.opened("/a/x")
			wants(t, open, map[string]any{span.KeyAttribution: c.by, span.KeyCallOrigin: c.origin})
			for _, s := range append(w.of(span.Tool), w.of(span.SessionCall)...) {
				if get(s, span.KeyCallID) == get(open, span.KeyCallID) && get(s, span.KeyCallContext) == get(open, span.KeyCallContext) {
					wants(t, s, map[string]any{span.KeyCallOrigin: c.origin})
				}
			}
			if n := w.c.Stats().RefusedFacts; n != 0 && c.by != "trace_context" {
				t.Errorf("%d facts refused", n)
			}
		})
	}
}

// Most of what the user asks is no command: that is no fault.
func TestWhatTheUserAskedIsNoFault(t *testing.T) {
	w := newWorld(t)
	w.claude(10)
	s := record.Said{Kind: record.SaidContext, Agent: "claude-code", Session: "cs", More: record.More("").With(record.MoreOrigin, record.OriginUser)}
	s.Trace, s.Span = contextOf(7)
	w.sayAs(10, s)
	if n := w.c.Stats().RefusedFacts; n != 0 {
		t.Errorf("%d facts refused", n)
	}
}
