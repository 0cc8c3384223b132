// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Codex in code mode: the model calls a program, and that calls tools. Each of those is a call, with an id of Codex's.
func TestNestedCalls(t *testing.T) {
	within := func(call, above string) record.Said {
		s := agentSpan(call, 1)
		s.More = record.More("").With(record.MoreParent, above)
		return s
	}
	for _, c := range []struct {
		name string
		do   func(w *world)
		then func(w *world)
	}{
		{
			"the id is the agent's own, as its level says",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "exec-1")
				w.open(11, "/a/x")
				w.call(10, 12, "call_1")
				w.open(12, "/a/y")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{
					span.KeyCallID: "exec-1", span.KeyCallIDLevel: "nested", span.KeyParentCall: nil, span.KeyParentSession: nil, span.KeyAttribution: "call_id",
				})
				wants(w.t, w.opened("/a/y"), map[string]any{span.KeyCallID: "call_1", span.KeyCallIDLevel: nil})
			},
		},
		{
			"known in time, the model's call is on each span",
			func(w *world) {
				w.codex(10)
				w.say(within("exec-1", "call_1"))
				w.say(within("exec-2", "call_1"))
				w.call(10, 11, "exec-1")
				w.call(10, 12, "exec-2")
				w.open(11, "/a/x")
				w.open(12, "/a/y")
			},
			func(w *world) {
				for _, path := range []string{"/a/x", "/a/y"} {
					wants(w.t, w.opened(path), map[string]any{
						span.KeyCallIDLevel: "nested", span.KeyParentCall: "call_1", span.KeyParentSession: nil, span.KeyRootCall: nil,
					})
				}
			},
		},
		{
			"known late, it is on tool.telemetry and on session.call",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "exec-1")
				w.open(11, "/a/x")
				w.tick(3 * time.Second)
				w.say(within("exec-1", "call_1"))
				w.say(within("exec-1", "call_2"))
				w.exit(11, 0)
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyParentCall: nil})
				for _, kind := range []span.Kind{span.Telemetry, span.SessionCall} {
					wants(w.t, w.only(kind), map[string]any{span.KeyCallID: "exec-1", span.KeyCallIDLevel: "nested", span.KeyParentCall: "call_1"})
				}
			},
		},
		{
			"told after the agent's span of the call, it is news all the same",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "exec-1")
				w.exit(11, 0)
				w.tick(3 * time.Second)
				w.say(agentSpan("exec-1", 1))
				w.say(within("exec-1", "call_1"))
			},
			func(w *world) {
				list := w.of(span.Telemetry)
				if len(list) != 2 || get(list[0], span.KeyParentCall) != nil || get(list[1], span.KeyParentCall) != "call_1" {
					w.t.Errorf("%s", show(list))
				}
			},
		},
		{
			"a call of the model is in no other one, whatever is said",
			func(w *world) {
				w.codex(10)
				w.say(within("call_1", "call_2"))
				w.call(10, 11, "call_1")
				w.open(11, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyCallIDLevel: nil, span.KeyParentCall: nil})
			},
		},
		{
			"a call says nothing of itself, nor does a sender that nobody knows, and an id has its bound",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "exec-1")
				w.sayAs(11, within("exec-1", "call_1"))
				w.sayAs(0, within("exec-1", "call_2"))
				w.say(within("exec-1", strings.Repeat("x", 257)))
				w.open(11, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyCallIDLevel: "nested", span.KeyParentCall: nil})
			},
		},
		{
			"in an agent within a call, the call above is the nearest one that is known",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 20)
				w.start(20, "/usr/bin/codex", false)
				w.fork(20, 21)
				w.start(21, "/bin/bash", true, "CODEX_SESSION_ID=inner", "CODEX_TOOL_CALL_ID=exec-1")
				w.open(21, "/a/x")
				w.tick(3 * time.Second)
				s := within("exec-1", "call_2")
				s.Session = "inner"
				w.say(s)
				w.open(21, "/a/y")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyParentCall: "call_1", span.KeyParentSession: "sess", span.KeyRootCall: "call_1"})
				wants(w.t, w.opened("/a/y"), map[string]any{span.KeyParentCall: "call_2", span.KeyParentSession: "sess", span.KeyRootCall: "call_1"})
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.do(w)
			w.c.Close()
			c.then(w)
		})
	}
}
