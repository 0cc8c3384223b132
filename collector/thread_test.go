// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// callIn starts the first process of a call of codex in a thread of a session.
func (w *world) callIn(agent, pid uint32, session, thread, id string) {
	w.t.Helper()
	w.fork(agent, pid)
	w.start(pid, "/bin/bash", true, "CODEX_SESSION_ID="+session, "CODEX_THREAD_ID="+thread, "CODEX_TOOL_CALL_ID="+id)
}

// delegated has the agent say that a call of a tool is over, and which subagent it began.
func (w *world) delegated(agent uint32, tool, call, thread string) {
	w.t.Helper()
	more := record.More("").With(record.MoreThread, thread)
	w.mark(agent, record.Mark{Op: record.MarkEnd, Session: "root", Call: call, Tool: tool, More: more})
}

// serving starts a Codex that serves several sessions.
func (w *world) serving(pid uint32) {
	w.t.Helper()
	w.begin(pid, two)
	w.execWith(pid, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("codex", "app-server"), UID: 1000, EUID: 1000})
}

func of(session string, s record.Said) record.Said {
	s.Session = session
	return s
}

// Who is a subagent, whose session that is, and who might break it.
func TestThreads(t *testing.T) {
	starts := func(session string) record.Said {
		return record.Said{Kind: record.SaidSession, Agent: "codex", Session: session}
	}
	for _, c := range []struct {
		name string
		do   func(w *world)
		then func(w *world)
	}{
		{
			"a call of a subagent is in a session with a parent, of the same agent",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.open(11, "/a/main")
				w.callIn(10, 12, "root", "sub", "call_2")
				w.open(12, "/a/sub")
				w.open(10, "/a/agent")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/main"), map[string]any{span.KeySessionID: "root", span.KeyParentSession: nil, span.KeyRootSession: nil})
				wants(w.t, w.opened("/a/sub"), map[string]any{
					span.KeySessionID: "sub", span.KeyParentSession: "root", span.KeyRootSession: "root", span.KeyParentCall: nil,
					span.KeyCallID: "call_2", span.KeyInstance: codexInstance, span.KeyAttribution: "call_id",
				})
				wants(w.t, w.opened("/a/agent"), map[string]any{span.KeySessionID: "root", span.KeyAttribution: "session"})
				wants(w.t, w.tool("call_2"), map[string]any{span.KeyConversationID: "sub"})
			},
		},
		{
			"telemetry that begins a further session renames none that is known",
			func(w *world) {
				w.codex(10)
				w.sayAs(10, starts("root"))
				w.sayAs(10, starts("sub"))
				w.open(10, "/a/agent")
				w.tick(3 * time.Second)
				w.callIn(10, 11, "root", "sub", "call_1")
				w.open(11, "/a/sub")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/agent"), map[string]any{span.KeySessionID: "root"})
				wants(w.t, w.opened("/a/sub"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "root"})
			},
		},
		{
			"each has its own approvals, told before or after, by the agent or from outside",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.sayAs(10, of("sub", decided("call_2", "approved", "user")))
				w.callIn(10, 12, "root", "sub", "call_2")
				w.sayAs(10, of("root", decided("call_1", "approved", "config")))
				w.callIn(10, 13, "root", "sub", "call_3")
				w.say(of("sub", decided("call_3", "denied", "user")))
			},
			func(w *world) {
				wants(w.t, w.tool("call_1"), map[string]any{span.KeyApproval: "approved", span.KeyApprovalSource: "config"})
				wants(w.t, w.tool("call_2"), map[string]any{span.KeyApproval: "approved", span.KeyApprovalSource: "user"})
				wants(w.t, w.tool("call_3"), map[string]any{span.KeyApproval: "denied"})
			},
		},
		{
			"a call is found by its id, where the commands do not name the subagent that the agent tells of",
			func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.sayAs(10, of("sub", decided("call_1", "approved", "config")))
			},
			func(w *world) {
				wants(w.t, w.tool("call_1"), map[string]any{span.KeyApproval: "approved", span.KeySessionID: "sess"})
			},
		},
		{
			"one id in two sessions of an agent is two calls",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.callIn(10, 12, "root", "sub", "call_1")
				w.sayAs(10, of("sub", decided("call_1", "denied", "user")))
			},
			func(w *world) {
				for _, s := range w.of(span.Tool) {
					want := map[any]string{"root": "unknown", "sub": "denied"}[get(s, span.KeySessionID)]
					wants(w.t, s, map[string]any{span.KeyApproval: want})
				}
				if n := len(w.of(span.Tool)); n != 2 {
					w.t.Errorf("%d calls", n)
				}
			},
		},
		{
			"what a call says is no thread",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.fork(11, 12)
				w.start(12, "/bin/sh", false, "CODEX_SESSION_ID=root", "CODEX_THREAD_ID=mine", "CODEX_TOOL_CALL_ID=call_1")
				w.open(12, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "root", span.KeyParentSession: nil})
				wants(w.t, w.execOf(12), map[string]any{span.KeyClaimContradicted: true, span.KeyClaimSession: "mine"})
			},
		},
		{
			"nor is one that the agent was started with",
			func(w *world) {
				w.codex(10, "CODEX_THREAD_ID=launcher")
				w.callIn(10, 11, "root", "launcher", "call_1")
				w.open(11, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "root", span.KeyParentSession: nil})
			},
		},
		{
			"a session that is in use elsewhere is no thread, and a thread is no other agent's session",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.callIn(10, 12, "root", "sub", "call_2")
				w.codex(20)
				w.callIn(20, 21, "other", "root", "call_3")
				w.open(21, "/a/x")
				w.callIn(20, 22, "other", "sub", "call_4")
				w.open(22, "/a/y")
				w.codex(30)
				w.callIn(30, 31, "sub", "sub", "call_5")
				w.open(31, "/a/z")
			},
			func(w *world) {
				for _, path := range []string{"/a/x", "/a/y"} {
					wants(w.t, w.opened(path), map[string]any{span.KeySessionID: "other", span.KeyParentSession: nil})
				}
				if s := get(w.opened("/a/z"), span.KeySessionID); s == "sub" {
					w.t.Errorf("in session %v", s)
				}
				if n := w.c.Stats().RefusedSessions; n != 3 {
					w.t.Errorf("%d refused", n)
				}
			},
		},
		{
			"a thread of an agent in a call gives its session to an agent outside of calls",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.fork(11, 20)
				w.start(20, "/usr/bin/codex", false)
				w.callIn(20, 21, "inner", "theirs", "call_2")
				w.open(21, "/a/before")
				w.tick(time.Second)
				w.codex(30)
				w.callIn(30, 31, "theirs", "theirs", "call_3")
				w.open(31, "/a/x")
				w.open(21, "/a/after")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "theirs", span.KeyParentSession: nil})
				wants(w.t, w.opened("/a/after"), map[string]any{span.KeySessionID: "inner", span.KeyParentSession: "root", span.KeyParentCall: "call_1"})
			},
		},
		{
			"a subagent of an agent in a call names its parent, and the outermost call",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.fork(11, 20)
				w.start(20, "/usr/bin/codex", false)
				w.callIn(20, 21, "inner", "sub", "call_2")
				w.open(21, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{
					span.KeySessionID: "sub", span.KeyParentSession: "inner", span.KeyParentCall: nil, span.KeyRootSession: "root", span.KeyRootCall: "call_1",
				})
			},
		},
		{
			"the session that the user configured wins",
			func(w *world) {
				w.begin(10, one)
				w.start(10, "/usr/bin/codex", false)
				w.callIn(10, 11, "root", "sub", "call_1")
				w.open(11, "/a/x")
				w.sayAs(10, of("sub", decided("call_1", "approved", "user")))
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "s1", span.KeyParentSession: nil})
				wants(w.t, w.tool("call_1"), map[string]any{span.KeyApproval: "approved"})
			},
		},
		{
			"a call that a hook marked is in the thread that its command names",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.mark(10, record.Mark{Op: record.MarkBegin, Session: "root", Call: "call_2"})
				w.callIn(10, 12, "root", "sub", "call_2")
				w.open(12, "/a/x")
				w.mark(10, record.Mark{Op: record.MarkEnd, Session: "root", Call: "call_2"})
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "sub", span.KeyCallID: "call_2", span.KeyAttribution: "marker"})
				if n := len(w.of(span.Tool)); n != 2 || w.c.Stats().RefusedMarks != 0 {
					w.t.Errorf("%d calls, %+v", n, w.c.Stats())
				}
			},
		},
		{
			"a mark names the subagent",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.mark(10, record.Mark{Op: record.MarkBegin, Session: "root", Call: "call_2", More: record.More("").With(record.MoreThread, "sub")})
				w.fork(10, 12)
				w.start(12, "/bin/bash", true, "CODEX_CI=1")
				w.open(12, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "root", span.KeyCallID: "call_2"})
			},
		},
		{
			"the call that began a subagent is its parent, as the end of that call says",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.delegated(10, "spawn_agent", "agent_1", "sub")
				w.delegated(10, "spawn_agent", "agent_2", "sub")
				w.callIn(10, 12, "root", "sub", "call_2")
				w.open(12, "/a/sub")
				w.callIn(10, 13, "root", "other", "call_3")
				w.open(13, "/a/other")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/sub"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "root", span.KeyParentCall: "agent_1"})
				wants(w.t, w.opened("/a/other"), map[string]any{span.KeySessionID: "other", span.KeyParentSession: "root", span.KeyParentCall: nil})
				if n := w.c.Stats().RefusedMarks; n != 0 {
					w.t.Errorf("%d marks refused", n)
				}
			},
		},
		{
			"what another tool gives names no subagent",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.delegated(10, "mcp__planted__tool", "agent_1", "sub")
				w.callIn(10, 12, "root", "sub", "call_2")
				w.open(12, "/a/sub")
				w.codex(20)
				w.callIn(20, 21, "other", "other", "call_3")
				w.delegated(20, "mcp__planted__tool", "agent_2", "taken")
				w.codex(30)
				w.callIn(30, 31, "taken", "taken", "call_4")
				w.open(31, "/a/taken")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/sub"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "root", span.KeyParentCall: nil})
				wants(w.t, w.opened("/a/taken"), map[string]any{span.KeySessionID: "taken"})
			},
		},
		{
			"where one variable names both, a further session is a subagent's",
			func(w *world) {
				w.agentAt(10, "/usr/bin/copilot")
				for i, s := range []string{"root", "sub", "root"} {
					pid := uint32(11 + i)
					w.fork(10, pid)
					w.start(pid, "/bin/bash", true, "COPILOT_AGENT_SESSION_ID="+s)
					w.open(pid, fmt.Sprint("/a/", i))
					w.open(10, fmt.Sprint("/a/agent", i))
				}
			},
			func(w *world) {
				for i := range 3 {
					wants(w.t, w.opened(fmt.Sprint("/a/agent", i)), map[string]any{span.KeySessionID: "root"})
				}
				wants(w.t, w.opened("/a/0"), map[string]any{span.KeySessionID: "root", span.KeyParentSession: nil})
				wants(w.t, w.opened("/a/1"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "root"})
				wants(w.t, w.opened("/a/2"), map[string]any{span.KeySessionID: "root", span.KeyParentSession: nil})
			},
		},
		{
			"ids that are unique within a session only stand behind its own",
			func(w *world) {
				w.agentAt(10, "/usr/bin/within")
				for i, thread := range []string{"", "1", ""} {
					pid := uint32(11 + i)
					w.fork(10, pid)
					w.start(pid, "/bin/bash", true, "SESSION=root", "THREAD="+thread)
					w.open(pid, fmt.Sprint("/a/", i))
				}
				w.agentAt(20, "/usr/bin/within")
				w.fork(20, 21)
				w.start(21, "/bin/bash", true, "SESSION=other", "THREAD=1")
				w.open(21, "/a/other")
			},
			func(w *world) {
				for path, session := range map[string]string{"/a/0": "root", "/a/1": "root/1", "/a/2": "root", "/a/other": "other/1"} {
					wants(w.t, w.opened(path), map[string]any{span.KeySessionID: session})
				}
			},
		},
		{
			"an agent that begins another session, not a subagent, goes on in that",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_1")
				w.callIn(10, 12, "next", "next", "call_2")
				w.open(12, "/a/x")
				w.open(10, "/a/agent")
			},
			func(w *world) {
				for _, path := range []string{"/a/x", "/a/agent"} {
					wants(w.t, w.opened(path), map[string]any{span.KeySessionID: "next", span.KeyParentSession: nil})
				}
			},
		},
		{
			"one that serves several does not: what it does itself is of any of them",
			func(w *world) {
				w.serving(10)
				w.callIn(10, 11, "first", "first", "call_1")
				w.open(10, "/a/alone")
				w.tick(3 * time.Second)
				w.callIn(10, 12, "second", "second", "call_2")
				w.open(10, "/a/agent")
				w.open(12, "/a/second")
				w.open(11, "/a/first")
				w.callIn(10, 13, "first", "first", "call_3")
				w.open(13, "/a/again")
				w.callIn(10, 14, "first", "sub", "call_4")
				w.open(14, "/a/sub")
				w.sayAs(10, of("first", decided("call_3", "approved", "user")))
				w.sayAs(10, of("second", decided("call_2", "denied", "user")))
				w.sayAs(10, starts("third"))
				w.open(10, "/a/still")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/alone"), map[string]any{span.KeySessionID: "first", span.KeyAttribution: "session"})
				for _, path := range []string{"/a/agent", "/a/still"} {
					wants(w.t, w.opened(path), map[string]any{span.KeySessionID: codexInstance, span.KeyAttribution: "ambiguous", span.KeyInstance: codexInstance})
				}
				for path, session := range map[string]string{"/a/first": "first", "/a/second": "second", "/a/again": "first"} {
					wants(w.t, w.opened(path), map[string]any{span.KeySessionID: session, span.KeyParentSession: nil, span.KeyAttribution: "call_id"})
				}
				wants(w.t, w.opened("/a/sub"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: "first"})
				wants(w.t, w.tool("call_3"), map[string]any{span.KeyApproval: "approved", span.KeyConversationID: "first"})
				wants(w.t, w.tool("call_2"), map[string]any{span.KeyApproval: "denied", span.KeyConversationID: "second"})
			},
		},
		{
			"a hook marks a call of one of several by the session that it names",
			func(w *world) {
				w.serving(10)
				w.callIn(10, 11, "first", "first", "call_1")
				w.callIn(10, 12, "second", "second", "call_2")
				w.mark(10, record.Mark{Op: record.MarkBegin, Session: "first", Call: "call_3"})
				w.callIn(10, 13, "first", "first", "call_3")
				w.open(13, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "first", span.KeyCallID: "call_3", span.KeyAttribution: "marker"})
			},
		},
		{
			"threads are bounded, and one that is forgotten comes back",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_0")
				for i := range uint32(600) {
					w.callIn(10, 100+i, "root", fmt.Sprint("sub", i%300), fmt.Sprint("call_", i))
					w.open(100+i, fmt.Sprint("/a/", i))
					w.exit(100+i, 0)
				}
			},
			func(w *world) {
				for i := range 600 {
					wants(w.t, w.opened(fmt.Sprint("/a/", i)), map[string]any{span.KeySessionID: fmt.Sprint("sub", i%300), span.KeyParentSession: "root"})
				}
				if n := w.c.Stats().RefusedSessions; n != 0 {
					w.t.Errorf("%d refused", n)
				}
			},
		},
		{
			"one that is forgotten is free for another agent",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "root", "call_0")
				for i := range uint32(257) {
					w.callIn(10, 100+i, "root", fmt.Sprint("sub", i), fmt.Sprint("call_", i))
					w.exit(100+i, 0)
				}
				for i, thread := range []string{"sub0", "sub1"} {
					pid := uint32(1000 + 10*i)
					w.codex(pid)
					w.callIn(pid, pid+1, thread, thread, "call_x")
					w.open(pid+1, "/a/"+thread)
				}
			},
			func(w *world) {
				wants(w.t, w.opened("/a/sub0"), map[string]any{span.KeySessionID: "sub0", span.KeyParentSession: nil})
				if s := get(w.opened("/a/sub1"), span.KeySessionID); s == "sub1" {
					w.t.Error("the session of a subagent that is known is another agent's")
				}
			},
		},
		{
			"they go with the agent, and another one may resume them",
			func(w *world) {
				w.codex(10)
				w.callIn(10, 11, "root", "sub", "call_1")
				w.exit(11, 0)
				w.exit(10, 0)
				w.tick(time.Second)
				w.codex(20)
				w.callIn(20, 21, "sub", "sub", "call_2")
				w.open(21, "/a/x")
			},
			func(w *world) {
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "sub", span.KeyParentSession: nil})
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(conf *config.Config) {
				conf.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{{
					Name: "within", Executables: []string{"within"},
					Env: agents.Env{Session: []string{"SESSION"}, Thread: []string{"THREAD"}, ThreadsWithin: true, Leaders: true},
				}})
			})
			c.do(w)
			w.c.Close()
			c.then(w)
		})
	}
}
