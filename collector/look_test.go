// SPDX-License-Identifier: Apache-2.0

package collector

import (
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
	const three = uint64(15)
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
	found := func(pid uint32) {
		w.execIDs[pid]++
		w.cgroup[pid] = outside
		h := w.header(pid)
		h.Flags = record.ExecFound
		w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/usr/bin/codex"), Cwd: rt.Path("/repo"), Args: rt.Args("codex"), Argc: 1, UID: 1000, EUID: 1000, ParentTgid: 1}))
	}
	found(10)
	w.call(10, 11, "call_1")
	w.exit(10, 0)
	w.tick(5 * time.Second)
	found(30)
	w.call(30, 31, "call_2")
	w.open(31, "/a/resumed")
	w.tick(3 * time.Second)
	w.c.Close()
	wants(t, w.opened("/a/resumed"), map[string]any{span.KeySessionID: "sess", span.KeyCallID: "call_2"})
}
