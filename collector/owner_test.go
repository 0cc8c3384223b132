// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
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

const three = uint64(15) // a sandbox of its own, in tests that make it

// session is a short agent of a user that says its session.
func (w *world) session(cgroup uint64, uid, pid uint32, session string) {
	w.t.Helper()
	w.begin(pid, cgroup)
	w.execWith(pid, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("/usr/bin/codex"), UID: uid})
	w.commandOf(uid, pid, pid+1, session, "call_1")
	w.open(pid+1, "/a/"+session+"/"+strconv.Itoa(int(pid)))
	w.exit(pid+1, 0)
	w.exit(pid, 0)
}

func TestNobodyPushesOutWhoseAnEndedSessionIs(t *testing.T) {
	const many = 3 * attribution.MaxRetiredOwners / 2
	for name, flood := range map[string]func(w *world, n uint32){
		"of another sandbox":           func(w *world, n uint32) { w.session(three, 1000, 1000+2*n, fmt.Sprint("s", n)) },
		"of many users there":          func(w *world, n uint32) { w.session(three, n, 1000+2*n, fmt.Sprint("s", n)) },
		"of another user beside it":    func(w *world, n uint32) { w.session(two, 1001, 1000+2*n, fmt.Sprint("s", n)) },
		"outside of all sandboxes":     func(w *world, n uint32) { w.foundAgent(1000 + 2*n); w.exit(1000+2*n, 0) },
		"nested, that claim sessions":  func(w *world, n uint32) { w.nestedAgent(1000+2*n, fmt.Sprint("s", n)) },
		"nested, that claim no others": func(w *world, n uint32) { w.nestedAgent(1000+2*n, "") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.Sandboxes = append(c.Sandboxes, config.Selector{Agents: []string{"codex"}}) })
			w.raw(record.AppendCgroup(nil, w.now, three, 1, "/agents/three"))
			w.codex(10)
			w.call(10, 11, "call_1")
			for n := range uint32(3) {
				w.session(two, 1000, 100+2*n, fmt.Sprint("ended", n))
			}
			for n := range uint32(many) {
				flood(w, n)
			}
			w.session(three, 1000, 50, "ended0")
			w.session(two, 1000, 60, "ended0")
			w.tick(3 * time.Second)
			if s := w.opened("/a/ended0/50"); s.Session == "ended0" {
				t.Error("another sandbox has taken the session")
			}
			if s := w.opened("/a/ended0/60"); s.Session != "ended0" {
				t.Errorf("its own sandbox goes on with it in %q", s.Session)
			}
			if n := w.c.Stats().RetiredSessions; n > attribution.MaxRetiredOwners || len(w.c.attribution.Sessions.Shares) > 2*n {
				t.Errorf("%d are remembered, in %d shares", n, len(w.c.attribution.Sessions.Shares))
			}
		})
	}
}

// foundAgent is one outside of all sandboxes.
func (w *world) foundAgent(pid uint32) {
	w.t.Helper()
	w.execIDs[pid]++
	w.cgroup[pid] = outside
	h := w.header(pid)
	h.Flags = record.ExecFound
	w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/usr/bin/codex"), Cwd: rt.Path("/repo"), Args: rt.Args("codex"), Argc: 1, UID: 1000, EUID: 1000, ParentTgid: 1}))
}

// nestedAgent is a short one in the call of process 11.
func (w *world) nestedAgent(pid uint32, session string) {
	w.t.Helper()
	w.fork(11, pid)
	w.start(pid, "/tmp/codex", false)
	if session != "" {
		w.commandOf(1000, pid, pid+1, session, "call_1")
		w.exit(pid+1, 0)
	}
	w.exit(pid, 0)
}

func TestASessionThatIsOverIsForItsOwnKindOfAgentAlone(t *testing.T) {
	for name, c := range map[string]struct {
		first, then func(w *world)
		refused     bool
	}{
		"another agent of its kind": {nil, func(w *world) { w.session(two, 1000, 20, "it") }, false},
		"another kind of agent": {nil, func(w *world) {
			w.claude(20)
			w.fork(20, 21)
			w.start(21, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=it")
			w.open(21, "/a/it/20")
		}, true},
		"another sandbox, after one with a configured session": {
			func(w *world) { w.session(one, 1000, 10, "it") }, func(w *world) { w.session(two, 1000, 20, "it") }, true,
		},
		"a sandbox with a configured session goes on": {
			func(w *world) { w.session(one, 1000, 10, "it") }, func(w *world) { w.session(one, 1000, 20, "it") }, false,
		},
		"an agent outside of calls, after one in a call": {func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			w.nestedAgent(12, "it")
		}, func(w *world) { w.session(three, 1000, 20, "it") }, false},
		"another user's agent outside of calls, after one in a call": {func(w *world) {
			w.codex(10)
			w.call(10, 11, "call_1")
			w.nestedAgent(12, "it")
		}, func(w *world) { w.session(three, 0, 20, "it") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.raw(record.AppendCgroup(nil, w.now, three, 1, "/agents/three"))
			if c.first == nil {
				c.first = func(w *world) { w.session(two, 1000, 10, "it") }
			}
			c.first(w)
			before := w.c.Stats().RefusedSessions
			c.then(w)
			w.tick(3 * time.Second)
			want := "it"
			if w.cgroup[20] == one {
				want = "s1"
			}
			if s := w.opened("/a/it/20"); (s.Session != want) != c.refused || (w.c.Stats().RefusedSessions > before) != c.refused {
				t.Errorf("it is in session %q, %d were refused", s.Session, w.c.Stats().RefusedSessions-before)
			}
		})
	}
}
