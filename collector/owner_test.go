// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// codexOf starts an agent of a user, with a call in a session.
func (w *world) codexOf(uid, agent, child uint32, session, call string) {
	w.t.Helper()
	w.begin(agent, two)
	w.execWith(agent, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("/usr/bin/codex"), UID: uid})
	w.commandOf(uid, agent, child, session, call)
}

func (w *world) commandOf(uid, agent, child uint32, session, call string) {
	w.t.Helper()
	w.fork(agent, child)
	w.execWith(child, record.ExecSessionLeader, record.Exec{
		Exe: rt.Path("/bin/bash"), Args: rt.Args("/bin/bash"), UID: uid, Env: rt.Args("CODEX_SESSION_ID="+session, "CODEX_TOOL_CALL_ID="+call),
	})
}

func TestNobodyKeepsAnotherUsersAgentFromItsSession(t *testing.T) {
	for name, c := range map[string]struct {
		first, then uint32
		over        bool // the first is, before the other comes
	}{
		"root's comes later":                {65534, 0, false},
		"root's was first":                  {0, 65534, false},
		"neither is root's":                 {1001, 1000, false},
		"the first is over":                 {65534, 0, true},
		"the first one is root's, and over": {0, 1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			approve := func(uid uint32, decision string) {
				s := decided("call_0", decision, "user")
				s.Session, s.UID = "shared", uid
				w.say(s)
			}
			w.codexOf(c.first, 10, 11, "shared", "call_0")
			w.open(11, "/a/first")
			if c.over {
				w.exit(11, 0)
				w.exit(10, 0)
			}
			w.codexOf(c.then, 20, 21, "shared", "call_0")
			w.open(21, "/a/then")
			s := decided("call_0", "denied", "user")
			s.Session = "shared"
			w.sayAs(20, s)
			if c.first != 0 {
				approve(c.first, "approved")
			}
			w.c.Close()
			first, then := w.opened("/a/first"), w.opened("/a/then")
			if first.Session == then.Session || first.Trace == then.Trace {
				t.Errorf("both are in session %q", first.Session)
			}
			for path, s := range map[string]span.Span{"/a/first": first, "/a/then": then} {
				wants(t, s, map[string]any{span.KeyCallID: "call_0", span.KeyAttribution: "call_id"})
				if s.Session != "shared" && s.Session != "shared of uid 0" && s.Session != "shared of uid 1000" && s.Session != "shared of uid 65534" {
					t.Errorf("%s is in session %q", path, s.Session)
				}
			}
			wants(t, w.execOf(21), map[string]any{span.KeyClaimContradicted: nil})
			for _, tool := range w.of(span.Tool) {
				wants(t, tool, map[string]any{span.KeyConversationID: "shared"})
				want := "unknown"
				switch {
				case tool.Session == then.Session:
					want = "denied"
				case c.first != 0:
					want = "approved"
				}
				wants(t, tool, map[string]any{span.KeyApproval: want})
			}
			if s := w.c.Stats(); s.RefusedSessions != 0 || len(w.of(span.Tool)) != 2 {
				t.Errorf("%+v, %s", s, show(w.of(span.Tool)))
			}
		})
	}
}

func TestNobodyTakesTheNameOfAnotherUsersSession(t *testing.T) {
	w := newWorld(t)
	w.codexOf(65534, 10, 11, "shared of uid 0", "call_0")
	w.codexOf(65534, 12, 13, "shared", "call_0")
	w.codexOf(0, 20, 21, "shared", "call_0")
	w.open(21, "/a/honest")
	w.c.Close()
	wants(t, w.opened("/a/honest"), map[string]any{span.KeySessionID: "shared of uid 0"})
	wants(t, w.execOf(11), map[string]any{span.KeyClaimContradicted: true})
}

// What an agent said before its call was seen is not for another's call of the same names.
func TestFactsWaitForTheirOwnCall(t *testing.T) {
	w := newWorld(t)
	w.codexOf(0, 20, 21, "shared", "call_0")
	s := decided("call_1", "denied", "user")
	s.Session = "shared"
	w.sayAs(20, s)
	w.codexOf(65534, 10, 11, "shared", "call_1")
	w.commandOf(0, 20, 22, "shared", "call_1")
	w.tick(time.Second)
	w.open(22, "/a/x")
	w.c.Close()
	for _, tool := range w.of(span.Tool) {
		want := "unknown"
		if tool.Session == "shared" && get(tool, span.KeyCallID) == "call_1" {
			want = "denied"
		}
		wants(t, tool, map[string]any{span.KeyApproval: want})
	}
}
