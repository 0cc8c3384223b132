// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

const harness = uint32(5) // a process outside of every sandbox

// start runs a program with an environment; a leader has called setsid before, and is given a command if it is a shell.
func (w *world) start(pid uint32, exe string, leader bool, env ...string) {
	w.t.Helper()
	flags, args := uint16(0), []string{exe}
	if leader {
		flags = record.ExecSessionLeader
		if exe == "/bin/bash" {
			args = append(args, "-c", "true")
		}
	}
	w.run(pid, flags, args, env...)
}

// run starts a program with arguments, the first of which is its path.
func (w *world) run(pid uint32, flags uint16, args []string, env ...string) {
	w.t.Helper()
	w.execWith(pid, flags, record.Exec{
		Exe: rt.Path(args[0]), Filename: []byte(args[0]), Args: rt.Args(args...), Argc: uint32(len(args)), Env: rt.Args(env...), UID: 1000, EUID: 1000,
	})
}

// codex starts an agent that names its calls, claude one that may give a trace context.
func (w *world) codex(pid uint32, env ...string)  { w.agentAt(pid, "/usr/bin/codex", env...) }
func (w *world) claude(pid uint32, env ...string) { w.agentAt(pid, "/usr/bin/claude", env...) }

func (w *world) agentAt(pid uint32, exe string, env ...string) {
	w.t.Helper()
	w.begin(pid, two)
	w.start(pid, exe, false, env...)
}

// call starts the first process of a call of codex.
func (w *world) call(agent, pid uint32, id string) {
	w.t.Helper()
	w.fork(agent, pid)
	w.start(pid, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID="+id)
}

// nameOf is what the ids of a call are made of: of the agent of an instance, that began first.
func (w *world) nameOf(instance, id string) string {
	w.t.Helper()
	var first *attribution.Call
	for _, k := range w.c.attribution.Calls {
		if k.CallName == id && k.Traces.Instance() == instance && (first == nil || k.Life.Began < first.Life.Began) {
			first = k
		}
	}
	if first == nil {
		w.t.Fatalf("no call %s of %s", id, instance)
	}
	return fmt.Sprint(first.CallName, " ", first.Life.Began)
}

// topOf is where a call's execute_tool stands.
func (w *world) topOf(instance, id string) span.Link {
	w.t.Helper()
	name := w.nameOf(instance, id)
	return span.Link{Trace: span.TraceFor(instance, name, 0), Span: span.ToolSpan(instance, name, 0)}
}

func (w *world) mark(peer uint32, m record.Mark) {
	w.t.Helper()
	w.now += ms
	w.raw(record.AppendMark(nil, w.now, peer, start(peer), m))
}

// say is telemetry that reaches the intake by way of somebody outside of every sandbox.
func (w *world) say(s record.Said) {
	w.t.Helper()
	s.Outside = true
	w.sayAs(0, s)
}

// sayAs is telemetry of a process; 0: nobody knows whose.
func (w *world) sayAs(pid uint32, s record.Said) {
	w.t.Helper()
	w.now += ms
	at := uint64(0)
	if pid != 0 {
		at = start(pid)
	}
	w.raw(record.AppendSaid(nil, w.now, pid, at, s))
}

// opened gives the file.open span of a path.
func (w *world) opened(path string) span.Span {
	w.t.Helper()
	var found []span.Span
	for _, s := range w.of(span.Open) {
		if get(s, span.KeyFilePath) == path {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d spans of opening %s, want 1: %s", len(found), path, show(w.spans))
	}
	return found[0]
}

// owned checks whose the open of a path is: the call ("" for none) and how that is known.
func (w *world) owned(path, call, by string) {
	w.t.Helper()
	want := map[string]any{span.KeyCallID: call, span.KeyAttribution: by}
	if call == "" {
		want[span.KeyCallID] = nil
	}
	wants(w.t, w.opened(path), want)
}

func (w *world) tool(id string) span.Span {
	w.t.Helper()
	for _, s := range w.of(span.Tool) {
		if get(s, span.KeyCallID) == id {
			return s
		}
	}
	w.t.Fatalf("no execute_tool of %s in %s", id, show(w.spans))
	return span.Span{}
}

// Each rule of docs/design/attribution.md, and who might break it.
func TestAttribution(t *testing.T) {
	const carrier = "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, c := range []struct {
		name string
		do   func(w *world)
		then func(w *world)
	}{
		{
			name: "the agent's child belongs to the call that its environment names, the agent's own doings to the session",
			do: func(w *world) {
				w.codex(10)
				w.open(10, "/a/before")
				w.call(10, 11, "call_1")
				w.open(11, "/a/in")
				w.open(10, "/a/agent")
			},
			then: func(w *world) {
				w.owned("/a/in", "call_1", "call_id")
				w.owned("/a/agent", "", "session")
				wants(w.t, w.opened("/a/in"), map[string]any{span.KeySessionID: "sess", span.KeyAgentName: "codex"})
				wants(w.t, w.opened("/a/agent"), map[string]any{span.KeySessionID: "sess", span.KeyAgentName: "codex"})
				if in := w.opened("/a/in"); in.Resource.Attrs[0].Str != "codex" || in.Trace != w.topOf(codexInstance, "call_1").Trace {
					w.t.Errorf("%s", show([]span.Span{in}))
				}
			},
		}, {
			name: "a forged call id, session and trace context in a child rebind nothing and are told",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.start(12, "/bin/evil", true, "CODEX_SESSION_ID=other", "CODEX_TOOL_CALL_ID=call_2", carrier)
				w.open(12, "/a/x")
				w.fork(12, 13)
				w.start(13, "/bin/evil", true, "CODEX_SESSION_ID=other", "CODEX_TOOL_CALL_ID=call_2", carrier)
				w.open(13, "/a/y")
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				w.owned("/a/y", "call_1", "call_id")
				wants(w.t, w.opened("/a/y"), map[string]any{span.KeySessionID: "sess"})
				wants(w.t, w.execOf(12), map[string]any{
					span.KeyClaimContradicted: true, span.KeyClaimCall: "call_2", span.KeyClaimSession: "other", span.KeyCallID: "call_1",
				})
				wants(w.t, w.execOf(13), map[string]any{span.KeyClaimContradicted: nil}) // handed on, not claimed anew
			},
		}, {
			name: "a forged trace context in a call that is joined is told",
			do: func(w *world) {
				w.claude(10)
				w.fork(10, 11)
				w.start(11, "/bin/bash", true, carrier)
				w.fork(11, 12)
				w.start(12, "/bin/make", false, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-1111111111111111-01")
				w.fork(11, 13)
				w.start(13, "/bin/evil", false, "TRACEPARENT=00-11111111111111111111111111111111-1111111111111111-01")
			},
			then: func(w *world) {
				wants(w.t, w.execOf(12), map[string]any{span.KeyClaimContradicted: nil})
				wants(w.t, w.execOf(13), map[string]any{
					span.KeyClaimContradicted: true, span.KeyClaimTraceparent: "00-11111111111111111111111111111111-1111111111111111-01",
				})
				if a, b := w.execOf(11), w.execOf(13); a.Trace != b.Trace || b.Parent != a.ID {
					w.t.Errorf("%s", show([]span.Span{a, b}))
				}
			},
		}, {
			name: "an emptied environment changes nothing",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.start(12, "/bin/x", false)
				w.open(12, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				wants(w.t, w.execOf(12), map[string]any{span.KeyClaimContradicted: nil})
			},
		}, {
			name: "a double fork, a session of its own and a new parent change nothing",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.fork(12, 13)
				w.exit(12, 0)
				w.exit(11, 0)
				w.execWith(13, record.ExecSessionLeader, record.Exec{Exe: rt.Path("/bin/daemon"), ParentTgid: 1, ParentStart: 1})
				w.open(13, "/a/x")
			},
			then: func(w *world) { w.owned("/a/x", "call_1", "started_by") },
		}, {
			name: "what outlives its call and acts during the next one is still its own",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.start(12, "/bin/server", true, "CODEX_TOOL_CALL_ID=call_1")
				w.exit(11, 0)
				w.tick(10 * time.Second)
				w.call(10, 20, "call_2")
				w.open(12, "/a/server")
				w.open(20, "/a/next")
			},
			then: func(w *world) {
				w.owned("/a/server", "call_1", "started_by")
				w.owned("/a/next", "call_2", "call_id")
			},
		}, {
			name: "parallel calls of one agent stay apart",
			do: func(w *world) {
				w.codex(10)
				w.fork(10, 11)
				w.fork(10, 12)
				w.start(12, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_2")
				w.start(11, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
				w.open(11, "/a/1")
				w.open(12, "/a/2")
			},
			then: func(w *world) {
				w.owned("/a/1", "call_1", "call_id")
				w.owned("/a/2", "call_2", "call_id")
			},
		}, {
			name: "two processes that the agent starts for one call are of one call",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.exit(11, 1<<8)
				w.tick(5 * time.Second)
				w.call(10, 12, "call_1")
				w.open(12, "/a/again")
			},
			then: func(w *world) {
				w.owned("/a/again", "call_1", "call_id")
				if n := len(w.of(span.Tool)); n != 1 {
					w.t.Errorf("%d execute_tool", n)
				}
			},
		}, {
			name: "a pid that is used again is another process",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				// The exit of 11 is lost; the agent forks a process with the same pid for no call.
				h := w.header(10)
				w.raw(rt.Record(h, record.Fork{ChildStart: start(11) + second, ChildCgroup: two, ChildTgid: 11, ChildVpid: 11}))
				h = w.header(11)
				h.Cgroup, h.Start, h.ExecID = two, start(11)+second, 2
				w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/usr/bin/git"), Args: rt.Args("git"), Argc: 1}))
				h.Time += ms
				w.raw(rt.Record(h, record.Open{Path: rt.Path("/a/x"), Inode: 1}))
			},
			then: func(w *world) { w.owned("/a/x", "", "session") },
		}, {
			name: "a call id that was introduced before the sensor started is not believed",
			do: func(w *world) {
				w.existing(10, 1, "/usr/bin/codex")
				w.existing(11, 10, "/bin/bash")
				w.fork(11, 12)
				w.start(12, "/bin/x", false, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
				w.open(12, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "", "session")
				wants(w.t, w.execOf(12), map[string]any{span.KeyClaimContradicted: nil, span.KeyAgentName: "codex"})
			},
		}, {
			name: "an agent older than the sensor is believed from its second call on",
			do: func(w *world) {
				w.existing(10, 1, "/usr/bin/codex")
				w.call(10, 11, "call_1")
				w.open(11, "/a/1")
				w.call(10, 12, "call_2")
				w.open(12, "/a/2")
			},
			then: func(w *world) {
				wants(w.t, w.opened("/a/1"), map[string]any{span.KeyAttribution: "inferred", span.KeySessionID: "sess"})
				w.owned("/a/2", "call_2", "call_id")
			},
		}, {
			name: "parents told of after their children are found",
			do: func(w *world) {
				w.existing(11, 10, "/bin/bash")
				w.existing(10, 1, "/usr/bin/codex")
				w.open(11, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "", "session")
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyAgentName: "codex"})
			},
		}, {
			name: "a shell builtin that opens a file without an exec is the call's",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.open(11, "/a/self")
				w.fork(11, 12)
				w.open(12, "/a/subshell")
			},
			then: func(w *world) {
				w.owned("/a/self", "call_1", "call_id")
				w.owned("/a/subshell", "call_1", "call_id")
			},
		}, {
			name: "moving to another cgroup changes nothing",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.attach(11, outside, "/user", true)
				w.open(11, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				wants(w.t, w.only(span.Escape), map[string]any{span.KeyCallID: "call_1"})
			},
		}, {
			name: "input written to a process of an earlier call leaves it there",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.tick(3 * time.Second)
				w.fork(10, 9)
				w.execWith(9, 0, record.Exec{Exe: rt.Path("/usr/bin/sheetbend"), Args: rt.Args("sheetbend", "hook", "codex")})
				w.mark(9, record.Mark{Op: record.MarkBegin, Call: "call_2", Tool: "write_stdin", Session: "sess"})
				w.open(11, "/a/x")
				w.fork(11, 12)
				w.open(12, "/a/y")
				w.mark(9, record.Mark{Op: record.MarkEnd, Call: "call_2", Session: "sess"})
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				w.owned("/a/y", "call_1", "call_id")
				if s := w.tool("call_2"); s.Name != "execute_tool write_stdin" {
					w.t.Errorf("%q", s.Name)
				}
			},
		}, {
			name: "an agent in a call is a session of its own with a parent, whatever it calls itself",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.start(12, "/usr/bin/claude", false, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
				w.open(12, "/a/inner")
				w.fork(12, 13)
				w.start(13, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1", "CLAUDE_CODE_SESSION_ID=nested")
				w.open(13, "/a/nested")
				w.exit(11, 0)
			},
			then: func(w *world) {
				outer := map[string]any{span.KeyParentSession: "sess", span.KeyParentCall: "call_1", span.KeyAgentName: "claude-code", span.KeySessionID: "nested"}
				wants(w.t, w.opened("/a/inner"), outer)
				wants(w.t, w.opened("/a/nested"), outer)
				w.owned("/a/inner", "", "session")
				if call, _ := get(w.opened("/a/nested"), span.KeyCallID).(string); !strings.HasPrefix(call, "inferred-") {
					w.t.Errorf("call %q", call)
				}
			},
		}, {
			name: "an agent in a call cannot take the session of another",
			do: func(w *world) {
				w.codex(10)
				w.call(10, 11, "call_1")
				w.fork(11, 12)
				w.start(12, "/tmp/codex", false)
				w.fork(12, 13)
				w.start(13, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
				w.open(13, "/a/x")
				w.fork(12, 14)
				w.start(14, "/bin/bash", true, "CODEX_SESSION_ID=s1", "CODEX_TOOL_CALL_ID=call_9")
				w.open(14, "/a/y")
			},
			then: func(w *world) {
				for _, file := range []string{"/a/x", "/a/y"} {
					s := w.opened(file)
					if !strings.HasPrefix(s.Session, "agent-") {
						w.t.Errorf("session %q", s.Session)
					}
					wants(w.t, s, map[string]any{span.KeyParentSession: "sess", span.KeyParentCall: "call_1"})
				}
				wants(w.t, w.execOf(13), map[string]any{span.KeyClaimContradicted: true, span.KeyClaimSession: "sess"})
				if w.opened("/a/x").Trace == w.topOf(codexInstance, "call_1").Trace {
					w.t.Error("in the other's trace")
				}
				if n := w.c.Stats().RefusedSessions; n != 2 {
					w.t.Errorf("%d refused", n)
				}
			},
		}, {
			name: "launcher and worker are one agent",
			do: func(w *world) {
				w.begin(10, two)
				w.execWith(10, 0, record.Exec{Exe: rt.Path("/usr/bin/node"), Args: rt.Args("node", "/usr/lib/node_modules/.bin/codex", "exec")})
				w.fork(10, 11)
				w.start(11, "/opt/codex", false)
				w.call(11, 12, "call_1")
				w.open(12, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				wants(w.t, w.execOf(11), map[string]any{span.KeyParentSession: nil, span.KeySessionID: "sess"})
			},
		}, {
			name: "the agent's own program may prepare the process of a call",
			do: func(w *world) {
				w.codex(10)
				w.fork(10, 11)
				w.execWith(11, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("/proc/self/exe", "--codex-run-as-process-setup")})
				w.execWith(11, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("codex-linux-sandbox"), Env: rt.Args("CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")})
				w.fork(11, 12)
				w.execWith(12, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("codex-linux-sandbox"), Env: rt.Args("CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")})
				w.write(12, "/a/x", 7, false) // what it reads folds
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeyParentSession: nil})
			},
		}, {
			name: "children that no call is named for are the agent's helpers where it names all calls",
			do: func(w *world) {
				w.codex(10)
				w.fork(10, 11)
				w.start(11, "/usr/bin/git", true, carrier)
				w.open(11, "/a/x")
			},
			then: func(w *world) { w.owned("/a/x", "", "session") },
		}, {
			name: "where an agent names no call, each of its children that leads a kernel session is one",
			do: func(w *world) {
				w.claude(10)
				w.fork(10, 11)
				w.start(11, "/usr/bin/git", false)
				w.open(11, "/a/helper")
				w.fork(10, 12)
				w.start(12, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=cs")
				w.open(12, "/a/1")
				w.fork(10, 13)
				w.start(13, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=cs")
				w.open(13, "/a/2")
			},
			then: func(w *world) {
				w.owned("/a/helper", "", "session")
				for pid, file := range map[uint32]string{12: "/a/1", 13: "/a/2"} {
					w.owned(file, span.InferredCall(boot, span.Image{Tgid: pid, Start: start(pid), ExecID: 2}), "inferred")
				}
				if hints := w.c.Stats().Hints; len(hints) != 1 || !strings.Contains(hints[0], "--agent-telemetry") {
					w.t.Errorf("%q", hints)
				}
			},
		}, {
			name: "a session that the user gave wins",
			do: func(w *world) {
				w.begin(10, one)
				w.start(10, "/usr/bin/codex", false)
				w.call(10, 11, "call_1")
				w.open(11, "/a/x")
			},
			then: func(w *world) {
				w.owned("/a/x", "call_1", "call_id")
				wants(w.t, w.opened("/a/x"), map[string]any{span.KeySessionID: "s1"})
				wants(w.t, w.tool("call_1"), map[string]any{span.KeySessionID: "s1", span.KeyConversationID: "sess"})
			},
		}, {
			name: "the program of an agent that its pins do not fit is none",
			do: func(w *world) {
				w.begin(10, two)
				w.start(10, "/tmp/pinned", false)
				w.begin(20, two)
				w.execWith(20, 0, record.Exec{Exe: rt.Path("/usr/bin/pinned"), ExeUID: 1000})
				w.begin(30, two)
				w.start(30, "/usr/bin/pinned", false)
			},
			then: func(w *world) {
				wants(w.t, w.execOf(10), map[string]any{span.KeyAgentName: nil, span.KeyAttribution: "cgroup"})
				wants(w.t, w.execOf(20), map[string]any{span.KeyAgentName: nil})
				wants(w.t, w.execOf(30), map[string]any{span.KeyAgentName: "pinned", span.KeyAttribution: "session"})
			},
		}, {
			name: "a child of the agent whose first exec was lost is of no call",
			do: func(w *world) {
				w.codex(10)
				w.fork(10, 11)
				w.execIDs[11]++
				w.open(11, "/a/x")
				w.start(11, "/bin/bash", true, "CODEX_TOOL_CALL_ID=call_1")
				w.open(11, "/a/y")
				w.mark(11, record.Mark{Op: record.MarkBegin, Call: "call_1", TargetTgid: 10, TargetStart: start(10)})
			},
			then: func(w *world) {
				w.owned("/a/x", "", "session")
				w.owned("/a/y", "", "session")
				if w.c.Stats().RefusedMarks != 1 {
					w.t.Error("it may mark calls")
				}
			},
		}, {
			name: "a process whose fork was lost is of no call, even below the agent",
			do: func(w *world) {
				w.codex(10)
				w.execWith(11, 0, record.Exec{Exe: rt.Path("/bin/x"), ParentTgid: 10, ParentStart: start(10), Env: rt.Args("CODEX_TOOL_CALL_ID=call_1")})
				w.cgroup[11] = two
			},
			then: func(w *world) { wants(w.t, w.execOf(11), map[string]any{span.KeyCallID: nil}) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.Agents = withPinned() })
			c.do(w)
			w.c.Close()
			c.then(w)
		})
	}
}

func TestExecuteTool(t *testing.T) {
	t.Run("it stands over the call's first program and waits the whole hold", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		began := w.now
		w.exit(11, 0)
		end := w.now
		w.tick(1900 * time.Millisecond)
		if len(w.of(span.Tool)) != 0 {
			t.Fatal("sent before the hold ended")
		}
		w.tick(200 * time.Millisecond)
		s, root, name := w.tool("call_1"), w.execOf(11), fmt.Sprint("call_1 ", began)
		if s.ID != span.ToolSpan(codexInstance, name, 0) || s.Trace != span.TraceFor(codexInstance, name, 0) || s.Parent != (span.ID{}) || root.Parent != s.ID || root.Trace != s.Trace {
			t.Errorf("%s", show([]span.Span{s, root}))
		}
		if s.Start != wallStart+began-bootStart || s.End != wallStart+end-bootStart {
			t.Errorf("from %d to %d", s.Start-wallStart, s.End-wallStart)
		}
		story := span.Ref{Link: span.Link{Trace: span.StoryFor(codexInstance, 0), Span: span.CallSpan(codexInstance, name)}, Rel: span.ToStory}
		if len(s.Links) != 1 || s.Links[0] != story {
			t.Errorf("links %v", s.Links)
		}
		// The first program links to the agent that forked it.
		if len(root.Links) != 1 || root.Links[0].Span != span.ExecSpan(boot, image1(10, 1)) || root.Links[0].Rel != span.ToParent {
			t.Errorf("links %v", root.Links)
		}
		wants(t, s, map[string]any{
			span.KeyOperationName: "execute_tool", span.KeyGenAIToolName: "unknown", span.KeyConversationID: "sess", span.KeyGenAIAgentName: "codex", span.KeyApproval: "unknown",
			span.KeyAttribution: "call_id", span.KeyPartial: nil, span.KeyApprovalViolated: nil, span.KeyCallBegan: int(began),
		})
	})
	t.Run("of a much longer call the end follows", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.tick(61 * time.Second)
		s := w.tool("call_1")
		wants(t, s, map[string]any{span.KeyPartial: true})
		w.exit(11, 0)
		e := w.only(span.ToolEnd)
		if e.Parent != s.ID || e.Trace != s.Trace || e.Start != s.Start || e.End != wallStart+w.now-bootStart {
			t.Errorf("%s", show([]span.Span{s, e}))
		}
	})
	t.Run("a call with more spans than a trace goes on in another, linked", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 3 })
		w.codex(10)
		w.call(10, 11, "call_1")
		for n := range 5 {
			w.open(11, fmt.Sprintf("/a/%d", n))
		}
		w.c.Close()
		s := w.opened("/a/4")
		top := w.topOf(codexInstance, "call_1")
		if roots := w.follows(6)[s.Trace]; s.Trace == top.Trace || len(roots) != 1 || roots[0].Kind != span.Tool || roots[0].Links[len(roots[0].Links)-1] != (span.Ref{Link: top, Rel: span.ToCall}) {
			t.Errorf("%s %v", show(append(roots, s)), s.Links)
		}
	})
	t.Run("two agents under one session with the same call id have calls of their own", func(t *testing.T) {
		w := newWorld(t)
		for _, agent := range []uint32{10, 20} {
			w.begin(agent, one)
			w.start(agent, "/usr/bin/codex", false)
			w.fork(agent, agent+1)
			w.start(agent+1, "/bin/bash", true, fmt.Sprintf("CODEX_SESSION_ID=own%d", agent), "CODEX_TOOL_CALL_ID=call_0")
		}
		w.c.Close()
		list := w.of(span.Tool)
		if len(list) != 2 || list[0].ID == list[1].ID || list[0].Trace == list[1].Trace || get(list[1], span.KeyCallID) != "call_0" {
			t.Errorf("%s", show(list))
		}
	})
}

func TestTraceContext(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	carrier := func(flags string) string { return "TRACEPARENT=00-" + trace + "-" + parent + "-" + flags }
	run := func(t *testing.T, own, given string) *world {
		w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 3 })
		w.claude(10, own)
		w.fork(10, 11)
		w.start(11, "/bin/bash", true, given)
		return w
	}
	t.Run("the call's spans hang under the agent's own span", func(t *testing.T) {
		w := run(t, "", carrier("01"))
		w.open(11, "/a/x")
		w.c.Close()
		s := w.execOf(11)
		if hex.EncodeToString(s.Trace[:]) != trace || hex.EncodeToString(s.Parent[:]) != parent || len(w.of(span.Tool)) != 0 {
			t.Errorf("%s", show(w.spans))
		}
		wants(t, s, map[string]any{span.KeyAttribution: "trace_context", span.KeyCallID: nil, span.KeyCallRoot: true, span.KeyCallContext: trace + "-" + parent})
		if !s.Remote || w.opened("/a/x").Remote {
			t.Error("the parent of the call's first span, and of no other, is another's")
		}
	})
	t.Run("beyond its share they go into a trace of ours that links to it", func(t *testing.T) {
		w := run(t, "", carrier("01"))
		for n := range 5 {
			w.open(11, fmt.Sprintf("/a/%d", n))
		}
		w.c.Close()
		s := w.opened("/a/4")
		roots := w.follows(6)[s.Trace]
		if hex.EncodeToString(s.Trace[:]) == trace || len(roots) != 1 || roots[0].Kind != span.Tool || hex.EncodeToString(roots[0].Links[len(roots[0].Links)-1].Span[:]) != parent {
			t.Errorf("%s %v", show(append(roots, s)), s.Links)
		}
	})
	t.Run("one that is not sampled is linked, not joined", func(t *testing.T) {
		w := run(t, "", carrier("00"))
		w.c.Close()
		s := w.only(span.Tool)
		if hex.EncodeToString(s.Trace[:]) == trace || hex.EncodeToString(s.Links[len(s.Links)-1].Span[:]) != parent {
			t.Errorf("%s %v", show([]span.Span{s}), s.Links)
		}
	})
	t.Run("one that the agent was given itself names no call", func(t *testing.T) {
		w := run(t, carrier("01"), carrier("01"))
		w.c.Close()
		wants(t, w.execOf(11), map[string]any{span.KeyAttribution: "inferred"})
	})
	t.Run("one that comes again names no second call", func(t *testing.T) {
		w := run(t, "", carrier("01"))
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, carrier("01"))
		w.c.Close()
		wants(t, w.execOf(12), map[string]any{span.KeyAttribution: "unannounced"})
	})
	t.Run("of an agent that only passes it on it names none", func(t *testing.T) {
		w := newWorld(t)
		w.agentAt(10, "/usr/bin/gemini")
		w.fork(10, 11)
		w.start(11, "/bin/bash", true, carrier("01"))
		w.c.Close()
		wants(t, w.execOf(11), map[string]any{span.KeyAttribution: "inferred"})
	})
	t.Run("telemetry gives the call its id later", func(t *testing.T) {
		w := run(t, "", carrier("01"))
		said := record.Said{Kind: record.SaidContext, TraceFlags: 1, Agent: "claude-code", Call: "toolu_1", Tool: "Bash"}
		_, _ = hex.Decode(said.Trace[:], []byte(trace))
		_, _ = hex.Decode(said.Span[:], []byte(parent))
		w.say(said)
		w.open(11, "/a/x")
		w.c.Close()
		w.owned("/a/x", "toolu_1", "trace_context")
		wants(t, w.opened("/a/x"), map[string]any{span.KeyToolName: "Bash"})
	})
}

func TestNobodyTakesASessionBeforeItsOwnerHasIt(t *testing.T) {
	nested := func(w *world, session string) {
		w.codex(10)
		w.call(10, 11, "call_1")
		w.fork(11, 12)
		w.start(12, "/tmp/claude", false) // anybody can call a program so
		w.fork(12, 13)
		w.start(13, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID="+session)
		w.open(13, "/a/evil")
	}
	t.Run("an agent that nobody started in a call gets it back", func(t *testing.T) {
		w := newWorld(t)
		nested(w, "resumed")
		w.claude(30)
		w.fork(30, 31)
		w.start(31, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=resumed")
		w.open(31, "/a/honest")
		w.open(12, "/a/later")
		w.c.Close()
		wants(t, w.opened("/a/honest"), map[string]any{span.KeySessionID: "resumed", span.KeyParentSession: nil})
		wants(t, w.opened("/a/later"), map[string]any{span.KeySessionID: span.AgentInstance(boot, image1(12, 3)), span.KeyParentSession: "sess"})
		wants(t, w.execOf(31), map[string]any{span.KeyClaimContradicted: nil})
	})
	t.Run("one that was another's is not to be had in a call", func(t *testing.T) {
		w := newWorld(t)
		w.claude(30)
		w.fork(30, 31)
		w.start(31, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=mine")
		w.exit(31, 0)
		w.exit(30, 0)
		nested(w, "mine")
		w.c.Close()
		if s := w.opened("/a/evil"); s.Session == "mine" {
			t.Error("it has the session of one that is over")
		}
	})
	t.Run("a configured one is nobody's", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) {
			c.Sandboxes = append(c.Sandboxes, config.Selector{Cgroup: "/later", Session: "fixed"}, config.Selector{Cgroup: "/more/*", Session: "s-{name}"})
		})
		nested(w, "fixed")
		w.fork(12, 14)
		w.start(14, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=s-three")
		w.open(14, "/a/early")
		w.raw(record.AppendCgroup(nil, w.now, 77, 1, "/more/three"))
		w.begin(50, 77)
		w.start(50, "/usr/bin/x", false)
		w.open(50, "/a/honest")
		w.open(14, "/a/late")
		w.c.Close()
		if s := w.opened("/a/evil"); s.Session == "fixed" {
			t.Error("an agent has the session of a sandbox to come")
		}
		wants(t, w.opened("/a/honest"), map[string]any{span.KeySessionID: "s-three", span.KeyAgentName: nil})
		if s := w.opened("/a/late"); s.Session == "s-three" {
			t.Error("it shares the session of a sandbox that came later")
		}
	})
}

func TestAnAgentInACallJoinsNoTrace(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.call(10, 20, "call_2")
	top := w.topOf(codexInstance, "call_2")
	trace, id := top.Trace, top.Span
	w.fork(11, 12)
	w.start(12, "/tmp/claude", false)
	w.fork(12, 13)
	w.start(13, "/bin/bash", true, fmt.Sprintf("TRACEPARENT=00-%x-%x-01", trace[:], id[:]))
	w.claude(30) // nor does any agent join one of ours
	w.fork(30, 31)
	w.start(31, "/bin/bash", true, fmt.Sprintf("TRACEPARENT=00-%x-00000000000000aa-01", trace[:]))
	w.c.Close()
	for _, pid := range []uint32{13, 31} {
		if s := w.execOf(pid); s.Trace == trace {
			t.Errorf("process %d is in the trace of call_2", pid)
		}
	}
}

func TestACommandThatAnAgentDidNotAnnounceIsTold(t *testing.T) {
	w := newWorld(t, withSelf)
	w.claude(10)
	w.fork(10, 11)
	w.start(11, "/bin/bash", true)
	w.open(11, "/a/first") // it has not named a call so far: nothing is known of its ways
	w.mark(10, record.Mark{Op: record.MarkBegin, Call: "t1"})
	w.fork(10, 12)
	w.start(12, "/bin/bash", true)
	w.mark(10, record.Mark{Op: record.MarkEnd, Call: "t1"})
	w.fork(10, 13)
	w.start(13, "/bin/bash", true)
	w.open(13, "/a/idle")
	w.c.Close()
	wants(t, w.opened("/a/first"), map[string]any{span.KeyAttribution: "inferred"})
	wants(t, w.execOf(12), map[string]any{span.KeyAttribution: "marker"})
	wants(t, w.opened("/a/idle"), map[string]any{span.KeyAttribution: "unannounced"})
}

func TestWithoutTheAgentsSpansACallHasItsOwnRoot(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.OwnTraces = true })
	w.claude(10)
	w.fork(10, 11)
	w.start(11, "/bin/bash", true, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.c.Close()
	s, root := w.only(span.Tool), w.execOf(11)
	if root.Parent != s.ID || root.Trace != s.Trace || hex.EncodeToString(s.Links[len(s.Links)-1].Span[:]) != "b7ad6b7169203331" {
		t.Errorf("%s %v", show(w.spans), s.Links)
	}
}
