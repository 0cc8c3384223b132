// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

// fromOutside is a mark of a harness of the same user, outside of every sandbox.
func fromOutside(op record.MarkOp, call string, target uint32) record.Mark {
	m := record.Mark{Op: op, Session: "swe", Agent: "swe-agent", Call: call, Tool: "bash", UID: 1000, PeerCgroup: outside}
	if target != 0 {
		// As /proc shows it.
		m.TargetTgid, m.TargetStart = target, start(target)-start(target)%10_000_000
	}
	return m
}

func TestPersistentShellServesCallsByMarkers(t *testing.T) {
	w := newWorld(t)
	w.agentAt(10, "/bin/bash")
	w.open(10, "/a/start")
	w.open(10, "/a/same")
	for n, pid := range []uint32{11, 12, 13} {
		call := fmt.Sprintf("c%d", n)
		w.mark(harness, fromOutside(record.MarkBegin, call, 10))
		w.open(10, "/a/same") // by the shell itself, each time
		w.fork(10, pid)
		w.open(pid, "/a/subshell"+call)
		w.start(pid, "/bin/x", false)
		w.open(pid, "/a/"+call)
		w.mark(harness, fromOutside(record.MarkEnd, call, 10))
		w.open(10, "/a/between"+call)
		w.open(10, "/a/same")
	}
	w.open(11, "/a/background")
	w.tick(3 * time.Second)
	w.c.Close()
	for n := range 3 {
		call := fmt.Sprintf("c%d", n)
		w.owned("/a/"+call, call, "marker")
		w.owned("/a/subshell"+call, call, "marker")
		w.owned("/a/between"+call, "", "cgroup")
		s := w.tool(call)
		wants(t, s, map[string]any{span.KeySessionID: "swe", span.KeyAgentName: "swe-agent", span.KeyToolName: "bash", span.KeyPartial: nil})
	}
	w.owned("/a/background", "c0", "started_by")
	var same []any
	for _, s := range w.of(span.Open) {
		if get(s, span.KeyFilePath) == "/a/same" {
			same = append(same, get(s, span.KeyCallID))
		}
	}
	if fmt.Sprint(same) != "[<nil> c0 <nil> c1 <nil> c2 <nil>]" {
		t.Errorf("the shell's own opens are of %v", same)
	}
	if s := w.c.Stats(); s.RefusedMarks != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTwoOpenCallsAreAmbiguous(t *testing.T) {
	t.Run("on one shell", func(t *testing.T) {
		w := newWorld(t)
		w.agentAt(10, "/bin/bash")
		w.mark(harness, fromOutside(record.MarkBegin, "c1", 10))
		w.mark(harness, fromOutside(record.MarkBegin, "c2", 10))
		w.open(10, "/a/shell")
		w.fork(10, 11)
		w.mark(harness, fromOutside(record.MarkEnd, "c1", 10))
		w.open(11, "/a/child")
		w.open(10, "/a/later")
		w.c.Close()
		w.owned("/a/shell", "", "ambiguous")
		w.owned("/a/child", "", "ambiguous")
		w.owned("/a/later", "c2", "marker")
	})
	t.Run("of one agent, unless the environment tells", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		for _, call := range []string{"t1", "t2"} {
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: call, Session: "cs"})
		}
		w.fork(10, 11)
		w.start(11, "/bin/bash", true)
		w.open(11, "/a/x")
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		w.open(12, "/a/y")
		w.c.Close()
		w.owned("/a/x", "", "ambiguous")
		w.owned("/a/y", "", "trace_context")
		if n := w.c.Stats().AmbiguousCalls; n != 1 {
			t.Errorf("%d ambiguous", n)
		}
	})
	t.Run("a call that was begun and never ran stays open no longer than calls are kept", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.CallRetention = time.Minute })
		w.claude(10)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "refused"})
		w.tick(2 * time.Minute)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "next"})
		w.fork(10, 11)
		w.start(11, "/bin/bash", true)
		w.open(11, "/a/x")
		w.c.Close()
		w.owned("/a/x", "next", "marker")
	})
}

// self is the file of the sensor's own program in these tests.
var self = config.FileID{Dev: 8 << 20, Inode: 77}

func withSelf(c *config.Config) { c.Self = self }

func TestHooksMarkCallsOfTheirAgent(t *testing.T) {
	for _, shell := range [][]string{
		nil,
		{"/bin/sh", "-c", "/usr/bin/sheetbend hook claude-code"},
		{"/bin/bash", "-lc", "'/opt/my tools/sheetbend' hook claude-code"},
		{"/bin/sh", "-c", hook.Command("/usr/bin/sheetbend", "claude-code")},
	} {
		w := newWorld(t, withSelf)
		w.claude(10)
		helper := func(pid uint32, op record.MarkOp) {
			w.fork(10, pid)
			env := rt.Args("CLAUDE_CODE_SESSION_ID=cs")
			if shell != nil {
				w.execWith(pid, record.ExecSessionLeader, record.Exec{Exe: rt.Path(shell[0]), Args: rt.Args(shell...), Env: env})
			}
			w.execWith(pid, record.ExecSessionLeader, record.Exec{
				Exe: rt.Path("/usr/bin/sheetbend"), Args: rt.Args("/usr/bin/sheetbend", "hook", "claude-code"), Env: env, Dev: self.Dev, Inode: self.Inode,
			})
			w.mark(pid, record.Mark{Op: op, Source: record.SourceHook, Call: "toolu_1", Tool: "Bash", Session: "cs"})
			w.exit(pid, 0)
		}
		helper(21, record.MarkBegin)
		w.fork(10, 11)
		w.start(11, "/bin/bash", true)
		w.open(11, "/a/x")
		w.exit(11, 0)
		helper(22, record.MarkEnd)
		w.c.Close()
		w.owned("/a/x", "toolu_1", "marker")
		wants(t, w.opened("/a/x"), map[string]any{span.KeySessionID: "cs", span.KeyToolName: "Bash"})
		wants(t, w.execOf(21), map[string]any{span.KeyCallID: nil})
		wants(t, w.execOf(22), map[string]any{span.KeyCallID: nil})
		if s := w.tool("toolu_1"); s.Name != "execute_tool Bash" || w.c.Stats().RefusedMarks != 0 {
			t.Errorf("%q, %+v", s.Name, w.c.Stats())
		}
	}
}

func TestACommandThatOnlyLooksLikeAHookIsACall(t *testing.T) {
	for _, command := range []string{"sheetbend hook x; evil", "sheetbend hook x < forged", "$(evil) sheetbend hook x", "sheetbend hook", "'a' b'/sheetbend hook x", "/tmp/evil sheetbend hook x", ". hook x", "./evil hook x", "evil hook x"} {
		if attribution.StartsHook(&attribution.ProgramStart{Program: agents.Program{Executable: "/bin/sh", Args: string(rt.Args("/bin/sh", "-c", command))}}) {
			t.Errorf("%q is taken for a hook", command)
		}
	}
	// Whoever has a hook's name and arguments, but not its file, is a command, with what it starts, and marks
	// nothing for the agent.
	for _, exe := range []string{"/usr/bin/opencode", "/usr/bin/cline", "/usr/bin/codex"} {
		w := newWorld(t, withSelf)
		w.agentAt(10, exe)
		w.fork(10, 11)
		env := ""
		if exe == "/usr/bin/codex" {
			env = "CODEX_TOOL_CALL_ID=call_1"
		}
		w.execWith(11, record.ExecSessionLeader, record.Exec{Exe: rt.Path("/bin/bash"), Args: rt.Args("/bin/bash", "-c", "/tmp/sheetbend-evil hook x"), Env: rt.Args(env)})
		w.execWith(11, record.ExecSessionLeader, record.Exec{Exe: rt.Path("/tmp/sheetbend-evil"), Args: rt.Args("/tmp/sheetbend-evil", "hook", "x"), Env: rt.Args(env), Dev: self.Dev, Inode: 78})
		w.open(11, "/a/secret")
		w.fork(11, 12)
		w.start(12, "/tmp/evil", true)
		w.mark(12, record.Mark{Op: record.MarkBegin, Call: "forged"})
		w.fork(10, 13)
		w.start(13, "/bin/bash", true, strings.Replace(env, "1", "2", 1))
		w.open(13, "/a/honest")
		w.c.Close()
		evil, honest := get(w.opened("/a/secret"), span.KeyCallID), get(w.opened("/a/honest"), span.KeyCallID)
		if evil == nil || honest == nil || evil == honest || honest == "forged" {
			t.Errorf("%s: the impostor is in call %v, the next command in %v", exe, evil, honest)
		}
	}
}

func TestMarksThatAreRefused(t *testing.T) {
	begin := func(call string) record.Mark { return record.Mark{Op: record.MarkBegin, Call: call, Session: "sess"} }
	on := func(m record.Mark, target uint32) record.Mark {
		m.TargetTgid, m.TargetStart = target, start(target)
		return m
	}
	for _, c := range []struct {
		name string
		do   func(w *world)
	}{
		{"by a process in a call, for its agent", func(w *world) { w.mark(11, on(begin("x"), 10)) }},
		{"by a process in a call, for another one", func(w *world) { w.mark(11, on(begin("x"), 20)) }},
		{"by a process in a call, for a cgroup", func(w *world) { w.mark(11, record.Mark{Op: record.MarkBegin, Call: "x", Cgroup: two}) }},
		{"by a process in a call, ending it", func(w *world) { w.mark(11, record.Mark{Op: record.MarkEnd, Call: "call_1", Session: "sess"}) }},
		{"by a process in a call, ending a call of its agent's", func(w *world) {
			w.mark(10, begin("own"))
			w.mark(11, record.Mark{Op: record.MarkEnd, Call: "own", Session: "sess"})
		}},
		{"by another agent", func(w *world) { w.mark(30, on(begin("x"), 11)) }},
		{"by another agent, on a process of this one", func(w *world) {
			w.mark(30, record.Mark{Op: record.MarkBegin, Call: "x", TargetTgid: 11, TargetStart: start(11)})
		}},
		{"by what was below an agent before the sensor started", func(w *world) {
			w.existing(40, 1, "/usr/bin/claude")
			w.existing(41, 40, "/bin/bash")
			w.mark(41, record.Mark{Op: record.MarkBegin, Call: "x", TargetTgid: 40, TargetStart: start(40)})
		}},
		{"by another agent under the session of this one", func(w *world) { w.mark(30, begin("x")) }},
		{"by another agent, ending a call of this one", func(w *world) {
			w.mark(10, begin("own"))
			w.mark(30, record.Mark{Op: record.MarkEnd, Call: "own", Session: "other"})
		}},
		{"from outside, by another user", func(w *world) {
			m := fromOutside(record.MarkBegin, "x", 11)
			m.UID, m.Session = 1001, ""
			w.mark(harness, m)
		}},
		{"from outside, perhaps: its cgroup is not told", func(w *world) {
			m := fromOutside(record.MarkBegin, "x", 11)
			m.PeerCgroup, m.Session = 0, ""
			w.mark(harness, m)
		}},
		{"by a process in a sandbox whose fork was lost", func(w *world) {
			m := fromOutside(record.MarkBegin, "x", 11)
			m.PeerCgroup, m.Session = two, ""
			w.mark(harness, m)
		}},
		{"from outside, for a cgroup, by any but root", func(w *world) {
			m := fromOutside(record.MarkBegin, "x", 0)
			m.Cgroup = two
			w.mark(harness, m)
		}},
		{"for a process that has ended", func(w *world) {
			w.exit(11, 0)
			w.mark(harness, fromOutside(record.MarkBegin, "x", 11))
		}},
		{"for a pid that is another process now", func(w *world) {
			m := fromOutside(record.MarkBegin, "x", 11)
			m.TargetStart -= second
			w.mark(harness, m)
		}},
		{"from outside, under another session than the agent's", func(w *world) { w.mark(harness, fromOutside(record.MarkBegin, "x", 11)) }},
		{"without a call", func(w *world) { w.mark(10, begin("")) }},
		{"for a session that is not there", func(w *world) { w.mark(harness, fromOutside(record.MarkBegin, "x", 0)) }},
		{"an end without a beginning", func(w *world) { w.mark(10, record.Mark{Op: record.MarkEnd, Call: "x"}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			w.call(10, 11, "call_1")
			w.call(10, 20, "call_2")
			w.begin(30, two)
			w.start(30, "/usr/bin/claude", false)
			c.do(w)
			if n := w.c.Stats().RefusedMarks; n != 1 {
				t.Errorf("%d refused", n)
			}
			for pid, call := range map[uint32]string{11: "call_1", 20: "call_2"} {
				if w.c.lineage.Processes[pid] != nil {
					file := fmt.Sprintf("/a/%d", pid)
					w.open(pid, file)
					defer w.owned(file, call, "call_id")
				}
			}
			w.c.Close()
		})
	}
}

func TestAgentsUnderOneSessionDoNotTakeOverEachOthersCalls(t *testing.T) {
	w := newWorld(t)
	for _, pid := range []uint32{10, 20} {
		w.begin(pid, one)
		w.start(pid, "/usr/bin/claude", false)
		w.mark(pid, record.Mark{Op: record.MarkBegin, Call: "c1"})
	}
	w.mark(20, record.Mark{Op: record.MarkEnd, Call: "c1"})
	if n := w.c.Stats().RefusedMarks; n != 2 || w.c.Stats().OpenMarks != 1 {
		t.Errorf("%d refused, %d open", n, w.c.Stats().OpenMarks)
	}
	w.mark(10, record.Mark{Op: record.MarkEnd, Call: "c1"})
	w.mark(20, record.Mark{Op: record.MarkBegin, Call: "c1"}) // over, and still the other's
	if n := w.c.Stats().RefusedMarks; n != 3 || w.c.Stats().OpenMarks != 0 {
		t.Errorf("%d refused, %d open", n, w.c.Stats().OpenMarks)
	}
}

func TestMarkEndsWithItsProcess(t *testing.T) {
	w := newWorld(t)
	w.agentAt(10, "/bin/bash")
	w.mark(harness, fromOutside(record.MarkBegin, "c1", 10))
	w.exit(10, 0)
	end := w.now
	w.tick(3 * time.Second)
	if s := w.tool("c1"); s.End != wallStart+end-bootStart || w.c.Stats().OpenMarks != 0 {
		t.Errorf("%s, %d open", show([]span.Span{s}), w.c.Stats().OpenMarks)
	}
}

func TestMarksWithinACallMakeCallsBelowIt(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.fork(11, 12)
	w.mark(11, record.Mark{Op: record.MarkBegin, Call: "step", TargetTgid: 12, TargetStart: start(12)})
	w.open(12, "/a/x")
	w.open(11, "/a/y")
	w.mark(11, record.Mark{Op: record.MarkEnd, Call: "step", TargetTgid: 12, TargetStart: start(12)})
	w.open(12, "/a/z")
	w.c.Close()
	w.owned("/a/x", "step", "claimed")
	wants(t, w.opened("/a/x"), map[string]any{span.KeyParentCall: "call_1", span.KeyParentSession: "sess"})
	w.owned("/a/y", "call_1", "call_id")
	w.owned("/a/z", "call_1", "call_id")
}

func TestAProcessCannotTakeTheIDOfAnotherCall(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.call(10, 12, "call_2")
	// Of one that runs, and of one to come.
	w.mark(11, record.Mark{Op: record.MarkBegin, Call: "call_2", Session: "sess"})
	w.open(11, "/a/of two")
	w.mark(11, record.Mark{Op: record.MarkEnd, Call: "call_2", Session: "sess"})
	w.mark(11, record.Mark{Op: record.MarkBegin, Call: "call_3", Session: "sess", Agent: "claude-code"})
	w.open(11, "/a/of three")
	w.call(10, 13, "call_3")
	w.open(12, "/a/two")
	w.open(13, "/a/three")
	w.say(decided("call_3", "approved", "user"))
	w.c.Close()
	w.owned("/a/two", "call_2", "call_id")
	w.owned("/a/three", "call_3", "call_id")
	for _, path := range []string{"/a/of two", "/a/of three"} {
		s := w.opened(path)
		wants(t, s, map[string]any{span.KeyAttribution: "claimed", span.KeyParentCall: "call_1", span.KeyAgentName: "codex"})
		for _, other := range []string{"/a/two", "/a/three"} {
			if s.Trace == w.opened(other).Trace {
				t.Errorf("%s is in the trace of %s", path, other)
			}
		}
	}
	for _, s := range w.of(span.Tool) {
		if approval := get(s, span.KeyApproval); approval == "approved" && get(s, span.KeyAttribution) == "claimed" {
			t.Errorf("what was approved is not what was claimed: %s", show([]span.Span{s}))
		}
	}
}

func TestWhatAProcessBelowNoAgentSaysOfItselfIsItsWord(t *testing.T) {
	w := newWorld(t)
	w.agentAt(10, "/bin/bash")
	w.mark(10, record.Mark{Op: record.MarkBegin, Call: "c1", Session: "somebody's", Agent: "claude-code"})
	w.open(10, "/a/x")
	w.c.Close()
	s := w.opened("/a/x")
	wants(t, s, map[string]any{span.KeyCallID: "c1", span.KeyAttribution: "claimed", span.KeyAgentName: nil})
	if s.Session != span.SandboxID(boot, two) {
		t.Errorf("in the session %s", s.Session)
	}
}

func TestManyCallsOfOneCostTheOthersNone(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxCalls = 64 })
	w.begin(30, one)
	w.start(30, "/usr/bin/codex", false)
	w.fork(30, 31)
	w.start(31, "/bin/bash", true, "CODEX_SESSION_ID=own", "CODEX_TOOL_CALL_ID=honest")
	w.exit(31, 0)
	w.codex(10)
	w.call(10, 11, "call_1")
	for n := range 500 {
		w.mark(11, record.Mark{Op: record.MarkBegin, Call: fmt.Sprint("junk", n)})
		w.mark(11, record.Mark{Op: record.MarkEnd, Call: fmt.Sprint("junk", n)})
	}
	w.tick(3 * time.Second)
	w.say(record.Said{Kind: record.SaidDecision, Session: "own", Call: "honest", Decision: "denied", Source: "user"})
	w.c.Close()
	wants(t, w.only(span.Telemetry), map[string]any{span.KeyCallID: "honest", span.KeyApproval: "denied"})
}

func TestRootMarksACgroup(t *testing.T) {
	w := newWorld(t)
	w.begin(10, two)
	m := fromOutside(record.MarkBegin, "c1", 0)
	m.Cgroup, m.UID = two, 0
	w.mark(harness, m)
	w.open(10, "/a/there")
	w.begin(11, two)
	w.start(11, "/bin/x", false)
	m.Op = record.MarkEnd
	w.mark(harness, m)
	w.open(10, "/a/after")
	w.open(11, "/a/started")
	w.c.Close()
	w.owned("/a/there", "c1", "marker")
	w.owned("/a/after", "", "cgroup")
	w.owned("/a/started", "c1", "started_by")
}

func TestAnAgentThatStartsWhereACallIsOpenIsInIt(t *testing.T) {
	w := newWorld(t)
	w.begin(10, two)
	m := fromOutside(record.MarkBegin, "c1", 0)
	m.Cgroup, m.UID = two, 0
	w.mark(harness, m)
	w.start(10, "/tmp/codex", false) // in the place of what was there before
	w.call(10, 11, "call_A")
	w.open(10, "/a/agent")
	w.open(11, "/a/called")
	w.c.Close()
	for _, path := range []string{"/a/agent", "/a/called"} {
		wants(t, w.opened(path), map[string]any{span.KeyParentCall: "c1", span.KeyRootCall: "c1", span.KeyRootSession: "swe"})
	}
}

func TestOpenMarksAreBounded(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxCalls = 16 })
	for pid := uint32(10); pid < 14; pid++ {
		w.codex(pid)
		for n := range 100 {
			w.mark(pid, record.Mark{Op: record.MarkBegin, Call: fmt.Sprint(pid, n)})
		}
	}
	if w.c.Stats().OpenMarks != 16 || w.c.Stats().RefusedMarks != 384 {
		t.Errorf("%d open, %+v", w.c.Stats().OpenMarks, w.c.Stats())
	}
	for pid := uint32(10); pid < 14; pid++ {
		w.exit(pid, 0)
	}
	if s := w.c.Stats(); w.c.Stats().OpenMarks != 0 || s.Agents != 0 || s.EndedCalls != 16 {
		t.Errorf("%d open, %+v", w.c.Stats().OpenMarks, s)
	}
	w.tick(time.Hour)
	if s := w.c.Stats(); s.EndedCalls != 0 || w.c.Stats().KnownCalls != 0 {
		t.Errorf("%d calls, %+v", w.c.Stats().KnownCalls, s)
	}
}

// A process that has marked calls of itself runs a program with the name of an agent: what it forks then is of two calls,
// and not the agent's own.
func TestWhatAnAgentForksUnderMarksOfItsOwnIsNotTheAgent(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/bash", "bash")
	for _, call := range []string{"first", "second"} {
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: call, PeerCgroup: one})
	}
	w.exec(10, "/home/u/claude", "claude")
	w.fork(10, 11)
	w.exec(11, "/bin/true", "true")
	w.open(11, "/a/read")
	w.c.Close()
	wants(t, w.opened("/a/read"), map[string]any{span.KeyAttribution: "ambiguous", span.KeyCallID: nil})
}
