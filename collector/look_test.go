// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// sees is a look that finds a process, with the program that it runs by then: records of its fork and execs wait in the ring.
func (w *world) sees(pid, parent uint32, execs uint64, exe string) {
	w.t.Helper()
	h := w.header(pid)
	h.Cgroup, h.ExecID = two, w.execIDs[parent]+execs
	w.raw(rt.Record(h, record.Process{ParentTgid: parent, ParentStart: start(parent), Vpid: pid, Exe: rt.Path(exe), Cwd: rt.Path("/repo")}))
	w.raw(record.AppendCmdline(nil, h, 1, rt.Args(exe)))
}

func TestALookOverridesNoRecordThatWaitsInTheRing(t *testing.T) {
	for name, looks := range map[string]func(w *world){
		"no look":                     func(*world) {},
		"at the call's first program": func(w *world) { w.sees(11, 10, 1, "/bin/bash") },
		"before its exec":             func(w *world) { w.sees(11, 10, 0, "/usr/bin/codex") },
		"two programs on":             func(w *world) { w.sees(11, 10, 2, "/bin/cat") },
		"parent and child":            func(w *world) { w.sees(11, 10, 1, "/bin/bash"); w.sees(12, 11, 1, "/bin/cat") },
		"child before parent":         func(w *world) { w.sees(12, 11, 1, "/bin/cat"); w.sees(11, 10, 1, "/bin/bash") },
		"an agent of that name":       func(w *world) { w.sees(12, 11, 1, "/tmp/codex") },
		"again and again": func(w *world) {
			for range 3 {
				w.sees(11, 10, 1, "/bin/bash")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			w.call(10, 20, "call_0")
			looks(w)
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/bin/cat", false)
			w.open(12, "/a/deep")
			w.start(11, "/bin/cat", false)
			w.open(11, "/a/first")
			w.tick(3 * time.Second)
			w.c.Close()
			w.owned("/a/first", "call_1", "call_id")
			w.owned("/a/deep", "call_1", "call_id")
			for _, pid := range []uint32{11, 12} {
				wants(t, w.execOf(pid), map[string]any{span.KeyCallID: "call_1", span.KeyAttribution: "call_id", span.KeySessionID: "sess"})
			}
			for _, s := range w.of(span.Exec) {
				if get(s, span.KeyPreexisting) != nil {
					t.Errorf("told twice: %s", show([]span.Span{s}))
				}
			}
			if s := w.c.Stats(); s.Agents != 1 && s.Agents != 0 || s.Calls != 2 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestWhatACallLeftBehindKeepsNoResumedSessionFromItsId(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.fork(11, 12)
	w.start(12, "/bin/server", true)
	w.exit(11, 0)
	w.exit(10, 0)
	w.tick(5 * time.Second)
	w.codex(30) // codex resume
	w.call(30, 31, "call_2")
	w.open(31, "/a/resumed")
	w.open(30, "/a/agent")
	w.open(12, "/a/server")
	w.tick(3 * time.Second)
	w.c.Close()
	w.owned("/a/resumed", "call_2", "call_id")
	w.owned("/a/server", "call_1", "call_id")
	for _, file := range []string{"/a/resumed", "/a/agent", "/a/server"} {
		wants(t, w.opened(file), map[string]any{span.KeySessionID: "sess"})
	}
	wants(t, w.execOf(31), map[string]any{span.KeyClaimContradicted: nil})
	if n := w.c.Stats().RefusedSessions; n != 0 {
		t.Errorf("%d sessions refused", n)
	}
}

func TestASessionInUseIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		leave  func(w *world)
		cgroup uint64
		uid    uint32
		exe    string
	}{
		"the agent runs":                         {func(*world) {}, two, 1000, "/usr/bin/codex"},
		"a helper of it runs":                    {func(w *world) { w.fork(10, 13); w.start(13, "/usr/bin/mcp", false); w.exit(10, 0) }, two, 1000, "/usr/bin/codex"},
		"what a call left, of another sandbox":   {func(w *world) { w.exit(10, 0) }, three, 1000, "/usr/bin/codex"},
		"what a call left, of another agent":     {func(w *world) { w.exit(10, 0) }, two, 1000, "/usr/bin/claude"},
		"it ended, and that is another sandbox":  {func(w *world) { w.exit(11, 0); w.exit(10, 0) }, three, 1000, "/usr/bin/codex"},
		"it is long over, in another sandbox":    {func(w *world) { w.exit(11, 0); w.exit(10, 0); w.tick(time.Hour) }, three, 1000, "/usr/bin/codex"},
		"what a call left claims it, as a child": {nil, two, 1000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.raw(record.AppendCgroup(nil, w.now, three, 1, "/agents/three"))
			w.codex(10)
			w.call(10, 11, "call_1")
			if c.leave == nil { // a program like the agent, below what is left
				w.exit(10, 0)
				w.fork(11, 20)
				w.start(20, "/usr/bin/codex", false)
			} else {
				c.leave(w)
				w.begin(20, c.cgroup)
				w.start(20, c.exe, false)
			}
			w.fork(20, 21)
			w.start(21, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CLAUDE_CODE_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_2")
			w.open(21, "/a/x")
			w.tick(3 * time.Second)
			w.c.Close()
			if id := get(w.opened("/a/x"), span.KeySessionID); id == "sess" {
				t.Errorf("the session was taken: %s", show([]span.Span{w.opened("/a/x")}))
			}
			if get(w.execOf(21), span.KeyClaimSession) != "sess" {
				t.Errorf("the claim is not on the span: %s", show([]span.Span{w.execOf(21)}))
			}
		})
	}
}

func TestAnAgentThatIsFoundOutsideOfAllSandboxesResumesItsSession(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Sandboxes = append(c.Sandboxes, Selector{Agents: []string{"codex"}}) })
	w.foundAgent(10)
	w.call(10, 11, "call_1")
	w.exit(10, 0)
	w.tick(5 * time.Second)
	w.foundAgent(30)
	w.call(30, 31, "call_2")
	w.open(31, "/a/resumed")
	w.tick(3 * time.Second)
	w.c.Close()
	wants(t, w.opened("/a/resumed"), map[string]any{span.KeySessionID: "sess", span.KeyCallID: "call_2"})
}

func TestNothingThatCallsLeftBehindKeepsASessionFromWhoResumesIt(t *testing.T) {
	left := func(w *world, call, pid uint32) { // a call's process leaves another one
		w.fork(call, pid)
		w.start(pid, "/bin/server", true)
		w.exit(call, 0)
	}
	for name, leave := range map[string]func(w *world){
		"nothing": func(*world) {},
		"one":     func(w *world) { w.call(10, 11, "call_1"); left(w, 11, 12) },
		"several, of several calls": func(w *world) {
			for n := range uint32(4) {
				w.call(10, 40+2*n, fmt.Sprint("call_", 50+n))
				left(w, 40+2*n, 41+2*n)
			}
		},
		"an agent by name": func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/tmp/codex", false)
			w.exit(11, 0)
		},
		"an agent by name, that had claimed it first": func(w *world) {
			w.codex(60)
			w.fork(60, 61)
			w.start(61, "/bin/bash", true, "CODEX_SESSION_ID=other", "CODEX_TOOL_CALL_ID=call_0")
			w.fork(61, 62)
			w.start(62, "/tmp/codex", false)
			w.call(62, 63, "call_9")
			w.exit(61, 0)
			w.exit(60, 0)
		},
		"one whose exec was lost": func(w *world) {
			w.fork(10, 12)
			w.execIDs[12] += 2
			w.open(12, "/a/lost")
		},
		"one that is older than the sensor": func(w *world) { w.existing(12, 10, "/bin/server"); w.open(12, "/a/older") },
		"one of several open calls": func(w *world) {
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: "m1"})
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: "m2"})
			w.fork(10, 12)
			w.start(12, "/bin/server", true, "CODEX_SESSION_ID=sess")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			leave(w)
			w.call(10, 19, "call_0")
			w.exit(19, 0)
			w.exit(10, 0)
			w.tick(5 * time.Second)
			for n := range uint32(3) { // resumed again and again, and the first and the last leave something
				agent := 100 + 10*n
				w.codex(agent)
				w.call(agent, agent+1, fmt.Sprint("call_", agent))
				w.open(agent+1, fmt.Sprint("/a/resumed", n))
				w.fork(agent+1, agent+2)
				w.start(agent+2, "/bin/server", true)
				w.open(agent+2, fmt.Sprint("/a/server", n))
				w.exit(agent+1, 0)
				if n == 1 {
					w.exit(agent+2, 0)
				}
				w.open(agent, fmt.Sprint("/a/agent", n))
				w.exit(agent, 0)
				w.tick(5 * time.Second)
			}
			for n := range 3 {
				call := fmt.Sprint("call_", 100+10*n)
				w.owned(fmt.Sprint("/a/resumed", n), call, "call_id")
				w.owned(fmt.Sprint("/a/server", n), call, "call_id")
				for _, file := range []string{"/a/resumed", "/a/agent", "/a/server"} {
					wants(t, w.opened(fmt.Sprint(file, n)), map[string]any{span.KeySessionID: "sess"})
				}
			}
			// It was in use, and is when somebody goes on with it.
			w.codex(200)
			w.call(200, 201, "call_200")
			w.codex(210)
			w.call(210, 211, "call_210")
			w.open(211, "/a/second")
			w.tick(3 * time.Second)
			if s := w.opened("/a/second"); s.Session == "sess" {
				t.Error("two agents have the session at once")
			}
			for pid := range w.c.processes {
				w.exit(pid, 0)
			}
			if o := w.c.owners.bySession["sess"]; o == nil || o.users != 0 || o.left != 0 || w.c.Stats().Agents != 0 {
				t.Errorf("%+v when all is over, %d agents", o, w.c.Stats().Agents)
			}
		})
	}
}
