// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// The scene of every forgery: an agent with session sess runs two calls, call_GOOD and call_EVIL, and a helper of its
// own. Another agent runs in another sandbox. The attacker has what a call, the helper, the other sandbox or another
// user outside of all can do, and wants what he does to be told of call_GOOD or of another session.
const (
	codex   = uint32(10) // the agent
	good    = uint32(11)
	evil    = uint32(20)
	helper  = uint32(30)
	claude  = uint32(40)
	other   = uint32(60) // the agent in the other sandbox
	secret  = "/etc/gshadow"
	traceOf = "TRACEPARENT=00-%s-%s-01"
)

// known are the two files that are codex in the scene: the agent's own, and another one of that name.
var known, planted = config.FileID{Dev: 8 << 20, Inode: 501}, config.FileID{Dev: 8 << 20, Inode: 666}

// program starts a file of its own.
func (w *world) program(pid uint32, file config.FileID, leader bool, args []string, env ...string) {
	w.t.Helper()
	flags := uint16(0)
	if leader {
		flags = record.ExecSessionLeader
	}
	w.execWith(pid, flags, record.Exec{
		Exe: rt.Path(args[0]), Filename: []byte(args[0]), Args: rt.Args(args...), Argc: uint32(len(args)), Env: rt.Args(env...),
		UID: 1000, EUID: 1000, Dev: file.Dev, Inode: file.Inode,
	})
}

// fake starts a program that is named like an agent and starts a call as that does. It returns the call's process.
func (w *world) fake(parent, pid uint32, file config.FileID, session, call string) uint32 {
	w.t.Helper()
	w.fork(parent, pid)
	w.program(pid, file, false, []string{"/tmp/codex"})
	w.fork(pid, pid+1)
	w.start(pid+1, "/bin/bash", true, "CODEX_SESSION_ID="+session, "CODEX_TOOL_CALL_ID="+call)
	return pid + 1
}

// child forks a process and starts a plain program with this environment in it.
func (w *world) child(parent, pid uint32, env ...string) uint32 {
	w.t.Helper()
	w.fork(parent, pid)
	w.start(pid, "/bin/evil", true, env...)
	return pid
}

func scene(t *testing.T) *world {
	w := newWorld(t, withSelf, withContainers, func(c *config.Config) { c.Sandboxes = append(c.Sandboxes, prod()) })
	w.begin(codex, two)
	w.program(codex, known, false, []string{"/usr/bin/codex"})
	w.call(codex, good, "call_GOOD")
	w.call(codex, evil, "call_EVIL")
	w.fork(codex, helper)
	w.start(helper, "/usr/bin/git", false)
	w.begin(other, one)
	w.start(other, "/usr/bin/codex", false)
	w.fork(other, other+1)
	w.start(other+1, "/bin/bash", true, "CODEX_SESSION_ID=s1", "CODEX_TOOL_CALL_ID=call_OTHER")
	return w
}

// The rules that hold the forgeries off. Each row was seen to fail without its rule. Two stand behind both ruleOwnNames and
// ruleAuthor, and fail without the two: a call that begins the other one, and one that ends what its agent has begun.
const (
	ruleIntroduced = "an environment is believed where the agent introduces it"
	ruleOwnTrace   = "nobody joins a trace of the sensor's own"
	ruleParent     = "an agent below another one is one of its own"
	ruleOutermost  = "the outermost call is on every span"
	ruleFile       = "a worker is of the agent's own file"
	ruleName       = "an agent is known by the name of its file"
	ruleItself     = "a process marks itself and its children"
	ruleOwnNames   = "what a process marks of itself has names of its own"
	ruleAuthor     = "only who began a call ends it, or begins it again"
	ruleSession    = "the word of a process for its session is not taken"
	ruleRename     = "a mark renames no session that is known"
	ruleCgroup     = "a cgroup is marked from outside"
	ruleUser       = "from outside, a user marks what is his"
	ruleUnknown    = "who is not known is not outside"
	ruleCallTells  = "a call tells nothing of calls"
	ruleTeller     = "what changes a call is told by its agent, its hook, or its user outside"
	ruleAgentTells = "only the agent itself tells its session"
	ruleTaken      = "a session in use is not to be had"
	ruleOfUser     = "no session has another user's name"
	ruleLineage    = "a process stays in its call wherever it goes"
)

// as a claude of the scene, which gives no call ids: calls are its children that lead kernel sessions.
func (w *world) withClaude() {
	w.t.Helper()
	w.agentAt(claude, "/usr/bin/claude")
}

func TestForgeries(t *testing.T) {
	before := scene(t)
	own, others := before.topOf(codexInstance, "call_GOOD"), before.topOf(span.AgentInstance(boot, image1(other, 1)), "call_OTHER")
	sensors := fmt.Sprintf(traceOf, hex.EncodeToString(own.Trace[:]), hex.EncodeToString(own.Span[:]))
	begin := func(call, session string) record.Mark {
		return record.Mark{Op: record.MarkBegin, Call: call, Session: session}
	}
	at := func(m record.Mark, target uint32) record.Mark {
		m.TargetTgid, m.TargetStart = target, start(target)
		return m
	}
	fact := func(kind record.SaidKind, call string) record.Said {
		return record.Said{Kind: kind, Agent: "codex", Session: "sess", Call: call, Decision: record.Approved, Source: "user", Success: record.SuccessOK}
	}
	// Who acts: 0 if nobody has to, as the forgery is to change what others do.
	for _, c := range []struct {
		name    string
		rule    string
		outside bool // of call_EVIL
		do      func(w *world) uint32
		then    func(w *world)
	}{
		// By the environment.
		{name: "environment: the other call's id", rule: ruleIntroduced, do: func(w *world) uint32 {
			return w.child(evil, 21, "CODEX_TOOL_CALL_ID=call_GOOD")
		}},
		{name: "environment: the other call's id, two generations on", rule: ruleIntroduced, do: func(w *world) uint32 {
			return w.child(w.child(evil, 21), 22, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
		}},
		{name: "environment: another session's id", rule: ruleIntroduced, do: func(w *world) uint32 {
			return w.child(evil, 21, "CODEX_SESSION_ID=s1", "CODEX_THREAD_ID=s1", "CODEX_TOOL_CALL_ID=call_OTHER")
		}},
		{name: "environment: the variable twice", rule: ruleIntroduced, do: func(w *world) uint32 {
			return w.child(evil, 21, "CODEX_TOOL_CALL_ID=call_GOOD", "CODEX_TOOL_CALL_ID=call_EVIL")
		}},
		{name: "environment: emptied, then set by a second program", rule: ruleIntroduced, do: func(w *world) uint32 {
			w.child(evil, 21)
			w.start(21, "/bin/evil", false, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
			return 21
		}},
		{name: "environment: the call's own first process starts again with another id", rule: ruleIntroduced, do: func(w *world) uint32 {
			w.start(evil, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
			return evil
		}},
		{name: "environment: the sensor's own trace, in a call", rule: ruleIntroduced, do: func(w *world) uint32 { return w.child(evil, 21, sensors) }},
		{name: "environment: a helper that a call has planted names the other call to its child", rule: ruleIntroduced, outside: true, do: func(w *world) uint32 {
			return w.child(helper, 31, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
		}},
		{name: "environment: a helper names another session", rule: ruleIntroduced, outside: true, do: func(w *world) uint32 {
			return w.child(helper, 31, "CODEX_SESSION_ID=SOMEBODY-ELSES", "CODEX_TOOL_CALL_ID=call_OTHER")
		}},
		{name: "environment: the sensor's own trace, by the agent to a call", rule: ruleOwnTrace, outside: true, do: func(w *world) uint32 {
			w.withClaude()
			return w.child(claude, 41, sensors)
		}},
		{name: "environment: the trace context of a parallel call", rule: ruleIntroduced, outside: true, do: func(w *world) uint32 {
			w.withClaude()
			const first, second = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"
			w.child(claude, 41, fmt.Sprintf(traceOf, first, "b7ad6b7169203331"))
			w.child(claude, 43, fmt.Sprintf(traceOf, second, "b7ad6b7169203332"))
			return w.child(43, 44, fmt.Sprintf(traceOf, first, "b7ad6b7169203331"))
		}, then: func(w *world) {
			if a, b := w.noticeOf(43), w.opened(secret); a.Trace != b.Trace {
				w.t.Errorf("in another call's trace: %s", show([]span.Span{a, b}))
			}
		}},

		// By argv and the names of programs.
		{name: "program: an agent in a call that names the other call", rule: ruleParent, do: func(w *world) uint32 {
			return w.fake(evil, 21, planted, "sess", "call_GOOD")
		}},
		{name: "program: the agent's own file, in a call", rule: ruleParent, do: func(w *world) uint32 { return w.fake(evil, 21, known, "sess", "call_GOOD") }},
		{name: "program: an agent in a call that claims the other sandbox's session", rule: ruleTaken, do: func(w *world) uint32 {
			return w.fake(evil, 21, planted, "s1", "call_OTHER")
		}},
		{name: "program: two agents, nested", rule: ruleOutermost, do: func(w *world) uint32 {
			return w.fake(w.fake(evil, 21, planted, "S1", "call_A"), 23, planted, "S2", "call_A")
		}},
		{name: "program: five agents, nested, with ids of the true ones", rule: ruleOutermost, do: func(w *world) uint32 {
			p := evil
			for pid := uint32(21); pid < 31; pid += 2 {
				p = w.fake(p, 100+pid, planted, "sess", "call_GOOD")
			}
			return p
		}},
		{name: "program: a script that is an agent's, in a call", rule: ruleParent, do: func(w *world) uint32 {
			w.fork(evil, 21)
			w.program(21, planted, false, []string{"/usr/bin/node", "/tmp/@anthropic-ai/claude-code/cli.js"})
			return w.child(21, 22, "CLAUDE_CODE_SESSION_ID=sess")
		}},
		{name: "program: only argv[0] is the agent's", rule: ruleName, do: func(w *world) uint32 {
			w.fork(evil, 21)
			w.execWith(21, 0, record.Exec{Exe: rt.Path("/tmp/x"), Args: rt.Args("/usr/bin/codex"), Argc: 1, UID: 1000, EUID: 1000, Dev: 1, Inode: 9})
			return w.child(21, 22, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
		}, then: func(w *world) { w.c.Close(); w.owned(secret, "call_EVIL", "call_id") }},
		{name: "program: a copy of the agent below a helper", rule: ruleParent, outside: true, do: func(w *world) uint32 {
			return w.fake(helper, 31, planted, "sess", "call_GOOD")
		}},
		{name: "program: the agent's own file below a helper", rule: ruleParent, outside: true, do: func(w *world) uint32 {
			return w.fake(helper, 31, known, "sess", "call_GOOD")
		}},
		{name: "program: a copy of the agent deep below a helper", rule: ruleParent, outside: true, do: func(w *world) uint32 {
			w.fork(helper, 31)
			w.start(31, "/bin/sh", false)
			return w.fake(31, 32, planted, "sess", "call_GOOD")
		}},
		{name: "program: a helper itself becomes a copy of the agent", rule: ruleParent, outside: true, do: func(w *world) uint32 {
			w.program(helper, planted, false, []string{"/tmp/codex"})
			w.fork(helper, 31)
			w.start(31, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
			return 31
		}},
		{name: "program: a copy of the agent that the agent finds first in its PATH", rule: ruleFile, outside: true, do: func(w *world) uint32 {
			return w.fake(codex, 31, planted, "sess", "call_GOOD")
		}},

		// By marks on the local socket.
		{name: "mark: a call begins the other one", rule: ruleOwnNames, do: func(w *world) uint32 {
			w.mark(evil, begin("call_GOOD", "sess"))
			return w.child(evil, 21)
		}},
		{name: "mark: a call begins one that is to come", rule: ruleOwnNames, do: func(w *world) uint32 {
			w.mark(evil, begin("call_NEXT", "sess"))
			return w.child(evil, 21)
		}},
		{name: "mark: a call begins one on its agent", rule: ruleItself, do: func(w *world) uint32 {
			w.mark(evil, at(begin("call_GOOD", "sess"), codex))
			return evil
		}},
		{name: "mark: a call begins one on the other call's process", rule: ruleItself, do: func(w *world) uint32 {
			w.mark(evil, at(begin("call_NEW", "sess"), good))
			return evil
		}, then: func(w *world) { w.open(good, "/a/good"); w.c.Close(); w.owned("/a/good", "call_GOOD", "call_id") }},
		{name: "mark: a call names another session", rule: ruleSession, do: func(w *world) uint32 {
			w.mark(evil, begin("call_OTHER", "SOMEBODY-ELSES"))
			return w.child(evil, 21)
		}},
		{name: "mark: a call ends what its agent has begun", rule: ruleAuthor, outside: true, do: func(w *world) uint32 {
			w.withClaude()
			w.mark(claude, begin("toolu_1", "cs"))
			w.fork(claude, 41)
			w.start(41, "/bin/bash", true)
			w.mark(41, record.Mark{Op: record.MarkEnd, Call: "toolu_1", Session: "cs"})
			w.fork(claude, 43)
			w.start(43, "/bin/bash", true)
			return 43
		}, then: func(w *world) { w.owned(secret, "toolu_1", "marker") }},
		{name: "mark: a helper renames the session", rule: ruleSession, outside: true, do: func(w *world) uint32 {
			w.withClaude()
			w.child(claude, 41, "CLAUDE_CODE_SESSION_ID=cs")
			w.fork(claude, 42)
			w.start(42, "/usr/bin/git", false)
			w.mark(42, begin("toolu_H", "SOMEBODY-ELSES"))
			return 42
		}, then: func(w *world) {
			w.open(claude, "/a/claude")
			w.c.Close()
			wants(w.t, w.opened("/a/claude"), map[string]any{span.KeySessionID: "cs"})
			wants(w.t, w.opened(secret), map[string]any{span.KeySessionID: "cs"})
		}},
		{name: "mark: the agent's hook renames the session", rule: ruleRename, outside: true, do: func(w *world) uint32 {
			w.fork(codex, 31)
			w.hookIn(31)
			w.mark(31, begin("call_H", "SOMEBODY-ELSES"))
			return 31
		}},
		{name: "mark: a copy of the agent below a helper marks for the agent", rule: ruleParent, outside: true, do: func(w *world) uint32 {
			w.fake(helper, 31, planted, "sess", "call_GOOD")
			w.mark(31, begin("call_GOOD", "sess"))
			w.fork(31, 35)
			w.start(35, "/bin/bash", true)
			return 35
		}},
		{name: "mark: a helper marks a process of another agent", rule: ruleItself, outside: true, do: func(w *world) uint32 {
			w.mark(helper, at(begin("call_H", ""), other+1))
			return helper
		}, then: func(w *world) { w.open(other+1, "/a/other"); w.c.Close(); w.owned("/a/other", "call_OTHER", "call_id") }},
		{name: "mark: a cgroup, from inside", rule: ruleCgroup, do: func(w *world) uint32 {
			w.mark(evil, record.Mark{Op: record.MarkBegin, Call: "call_MINE", Session: "sess", Cgroup: two})
			w.begin(80, two)
			w.start(80, "/bin/x", false)
			return evil
		}, then: func(w *world) { w.open(80, "/a/beside"); w.c.Close(); w.owned("/a/beside", "", "cgroup") }},
		{name: "mark: another sandbox", rule: ruleItself, do: func(w *world) uint32 {
			w.mark(other+1, begin("call_GOOD", "sess"))
			w.mark(other+1, at(begin("call_NEW", "sess"), good))
			return evil
		}, then: func(w *world) { w.open(good, "/a/good"); w.c.Close(); w.owned("/a/good", "call_GOOD", "call_id") }},
		{name: "mark: another user outside", rule: ruleUser, do: func(w *world) uint32 {
			m := fromOutside(record.MarkBegin, "call_NEW", good)
			m.UID, m.Session = 2000, "sess"
			w.mark(harness, m)
			m.TargetTgid, m.TargetStart = 0, 0
			w.mark(harness, m)
			return evil
		}, then: func(w *world) { w.open(good, "/a/good"); w.c.Close(); w.owned("/a/good", "call_GOOD", "call_id") }},
		{name: "mark: of nobody knows where, and of a sandbox whose fork was lost", rule: ruleUnknown, do: func(w *world) uint32 {
			for _, cgroup := range []uint64{0, two} {
				m := fromOutside(record.MarkBegin, "call_NEW", good)
				m.Session, m.PeerCgroup = "sess", cgroup
				w.mark(harness, m)
			}
			return evil
		}, then: func(w *world) { w.open(good, "/a/good"); w.c.Close(); w.owned("/a/good", "call_GOOD", "call_id") }},

		// By telemetry.
		{name: "telemetry: a call approves itself", rule: ruleCallTells, do: func(w *world) uint32 {
			w.sayAs(evil, fact(record.SaidDecision, "call_EVIL"))
			w.sayAs(evil, fact(record.SaidResult, "call_EVIL"))
			return evil
		}},
		{name: "telemetry: a call denies the other one", rule: ruleCallTells, do: func(w *world) uint32 {
			s := fact(record.SaidDecision, "call_GOOD")
			s.Decision = record.Denied
			w.sayAs(evil, s)
			return evil
		}},
		{name: "telemetry: a call and a helper name the session", rule: ruleAgentTells, do: func(w *world) uint32 {
			s := fact(record.SaidSession, "")
			s.Session = "SOMEBODY-ELSES"
			w.sayAs(evil, s)
			w.sayAs(helper, s)
			return evil
		}},
		{name: "telemetry: a call gives a trace", rule: ruleCallTells, do: func(w *world) uint32 {
			w.sayAs(evil, agentSpan("call_EVIL", 1))
			w.sayAs(evil, agentSpan("call_NEXT", 1))
			return evil
		}},
		{name: "telemetry: the sensor's own trace, from the agent", rule: ruleOwnTrace, do: func(w *world) uint32 {
			s := agentSpan("call_NEXT", 1)
			s.Trace, s.Span = own.Trace, own.Span
			w.sayAs(codex, s)
			return evil
		}},
		{name: "telemetry: a helper that a call has planted", rule: ruleTeller, do: func(w *world) uint32 {
			w.sayAs(helper, fact(record.SaidDecision, "call_EVIL"))
			w.sayAs(helper, agentSpan("call_EVIL", 1))
			return evil
		}},
		{name: "telemetry: of nobody knows whom", rule: ruleTeller, do: func(w *world) uint32 {
			w.sayAs(0, fact(record.SaidDecision, "call_EVIL"))
			w.sayAs(0, agentSpan("call_EVIL", 1))
			return evil
		}},
		{name: "telemetry: another user outside", rule: ruleTeller, do: func(w *world) uint32 {
			s := fact(record.SaidDecision, "call_EVIL")
			s.Outside, s.UID = true, 2000
			w.sayAs(0, s)
			return evil
		}},
		{name: "telemetry: the other sandbox's agent", rule: ruleTeller, do: func(w *world) uint32 {
			w.sayAs(other, fact(record.SaidDecision, "call_EVIL"))
			w.sayAs(other, agentSpan("call_EVIL", 1))
			return evil
		}},
		{name: "telemetry: a request of a call, of agents that it started, and of a process whose fork was lost", rule: ruleCallTells, do: func(w *world) uint32 {
			w.sayAs(evil, record.Said{Kind: record.SaidRequest})
			w.sayAs(7777, record.Said{Kind: record.SaidRequest})
			w.fake(evil, 21, planted, "sess", "call_GOOD")
			w.sayAs(21, record.Said{Kind: record.SaidRequest})
			w.fake(22, 23, known, "S2", "call_A")
			w.sayAs(23, record.Said{Kind: record.SaidRequest})
			w.sayAs(codex, record.Said{Kind: record.SaidRequest})
			return evil
		}, then: func(w *world) {
			if n := w.c.Stats().RefusedSenders; n != 4 {
				w.t.Errorf("%d refused, want 4", n)
			}
		}},

		// By names.
		{name: "name: another sandbox's agent claims the session in use", rule: ruleTaken, outside: true, do: func(w *world) uint32 {
			w.raw(record.AppendCgroup(nil, w.now, 15, 1, "/agents/three"))
			w.begin(70, 15)
			w.start(70, "/usr/bin/codex", false)
			return w.child(70, 71, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_GOOD")
		}},
		{name: "name: a session that reads like another user's", rule: ruleOfUser, do: func(w *world) uint32 {
			return w.fake(evil, 21, planted, "sess of uid 2000", "call_GOOD")
		}, then: func(w *world) {
			w.c.Close()
			if s := w.opened(secret); get(s, span.KeySessionID) == "sess of uid 2000" {
				w.t.Errorf("it has the name: %s", show([]span.Span{s}))
			}
		}},
		{name: "name: a session that is another sandbox's id", rule: ruleTaken, do: func(w *world) uint32 {
			return w.fake(evil, 21, planted, span.SandboxID(boot, two), "call_GOOD")
		}, then: func(w *world) {
			w.c.Close()
			if s := w.opened(secret); get(s, span.KeySessionID) == span.SandboxID(boot, two) {
				w.t.Errorf("it has the name: %s", show([]span.Span{s}))
			}
		}},
		{name: "name: a call moves into the other sandbox's cgroup", rule: ruleLineage, do: func(w *world) uint32 {
			w.attach(evil, one, "/agents/one", true)
			return evil
		}},
		{name: "annotation: a call moves into a container whose pod names the other call", rule: ruleLineage, do: func(w *world) uint32 {
			w.podContainer(webCgroup, web.ID)
			w.runtimeSays(annotated(web, config.SessionAnnotation, "run-42", config.CallAnnotation, "call_GOOD"))
			w.attach(evil, webCgroup, podPath+web.ID, true)
			return evil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("the rule is: %s", c.rule)
				}
			}()
			w := scene(t)
			actor := c.do(w)
			if w.c.attribution.Agents["SOMEBODY-ELSES"] != nil {
				t.Error("an agent has somebody else's session")
			}
			w.open(actor, secret)
			// And what is honest goes on as before.
			w.open(codex, "/a/agent")
			w.call(codex, 90, "call_NEXT")
			w.open(90, "/a/next")
			w.tick(3 * time.Second)
			if c.then != nil {
				c.then(w)
			}
			w.c.Close()
			s := w.opened(secret)
			call, by, trace := get(s, span.KeyCallID), get(s, span.KeyAttribution), s.Trace
			if trace == own.Trace || call == "call_GOOD" && get(s, span.KeySessionID) == "sess" && get(s, span.KeyParentCall) == nil {
				t.Errorf("it is told of the other call: %s", show([]span.Span{s}))
			}
			if trace == others.Trace || get(s, span.KeySessionID) == "s1" && actor < other {
				t.Errorf("it is told of the other session: %s", show([]span.Span{s}))
			}
			if !c.outside && call != "call_EVIL" && get(s, "sheetbend.root.call") != "call_EVIL" {
				t.Errorf("the call that it came from is not on it: %s", show([]span.Span{s}))
			}
			if !c.outside && call != "call_EVIL" && get(s, "sheetbend.root.session") != "sess" {
				t.Errorf("the session that it came from is not on it: %s", show([]span.Span{s}))
			}
			if call == "call_GOOD" && get(s, span.KeySessionID) == "sess" && by != "claimed" {
				t.Errorf("a query by session and call finds it: %s", show([]span.Span{s}))
			}
			w.owned("/a/next", "call_NEXT", "call_id")
			next := w.opened("/a/next")
			wants(t, next, map[string]any{span.KeySessionID: "sess", span.KeyApproval: nil})
			if next.Trace != w.topOf(codexInstance, "call_NEXT").Trace {
				t.Errorf("the next call is in another trace: %s", show([]span.Span{next}))
			}
			wants(t, w.opened("/a/agent"), map[string]any{span.KeySessionID: "sess", span.KeyCallID: nil})
			for _, id := range []string{"call_GOOD", "call_EVIL"} {
				told := 0
				for _, k := range w.of(span.Tool) {
					if get(k, span.KeyCallID) != id || get(k, span.KeyParentSession) != nil || get(k, span.KeySandboxID) != span.SandboxID(boot, two) {
						continue
					}
					told++
					wants(t, k, map[string]any{span.KeyApproval: "unknown", span.KeyToolResult: nil, span.KeySessionID: "sess"})
					if k.Trace != w.topOf(codexInstance, id).Trace {
						t.Errorf("the call is in another trace: %s", show([]span.Span{k}))
					}
				}
				if told != 1 {
					t.Errorf("%d execute_tool of %s", told, id)
				}
			}
		})
	}
}
