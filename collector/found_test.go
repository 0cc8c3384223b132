// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func anyAgent(names ...string) func(*Config) {
	return func(c *Config) { c.Sandboxes = append(c.Sandboxes, Selector{Agents: names}) }
}

// execFound is an exec outside of every sandbox, of a program that the kernel side looked for.
func (w *world) execFound(pid uint32, cgroup uint64, exe string, args ...string) {
	w.t.Helper()
	w.cgroup[pid] = cgroup
	w.execWith(pid, record.ExecFound, record.Exec{Exe: rt.Path(exe), Filename: []byte(exe), Args: rt.Args(args...), Argc: uint32(len(args))})
}

func TestAnAgentOutsideOfAllSandboxesIsASandboxOfItsOwn(t *testing.T) {
	w := newWorld(t, anyAgent(AllAgents))
	w.raw(record.AppendCgroup(nil, w.now, outside, 0, "/user.slice/terminal"))
	w.execFound(7, outside, "/usr/bin/node", "node", "/usr/lib/node_modules/@openai/codex/bin/codex.js")
	w.fork(7, 8)
	w.exec(8, "/opt/codex/codex", "codex")
	w.fork(8, 9)
	w.execWith(9, 0, record.Exec{
		Exe: rt.Path("/bin/bash"), Filename: []byte("/bin/bash"), Args: rt.Args("bash", "-c", "true"), Argc: 3,
		Env: rt.Args("CODEX_SESSION_ID=thread-1", "CODEX_TOOL_CALL_ID=call_1"),
	})
	w.open(9, "/repo/secret")
	w.exit(9, 0)
	w.exit(8, 0)
	w.exit(7, 0)
	w.c.Close()
	sandbox := span.FoundSandboxID(boot, span.Image{Tgid: 7, Start: start(7), ExecID: 1})
	for _, s := range w.spans {
		wants(t, s, map[string]any{span.KeySandboxID: sandbox, span.KeyAgentName: "codex"})
	}
	wants(t, w.execOf(7), map[string]any{span.KeyCgroup: "/user.slice/terminal", span.KeyAttribution: "session", span.KeyCallID: nil})
	wants(t, w.execOf(9), map[string]any{span.KeyCallID: "call_1", span.KeySessionID: "thread-1", span.KeyCgroup: "/user.slice/terminal"})
	wants(t, w.only(span.Open), map[string]any{span.KeyCallID: "call_1", span.KeyFilePath: "/repo/secret"})
	if st := w.c.Stats(); st.Sandboxes != 2 || st.Processes != 0 { // the two of the world are left
		t.Errorf("left behind: %+v", st)
	}
}

func TestAProgramThatIsNoAgentIsNotTaken(t *testing.T) {
	w := newWorld(t, anyAgent("claude-code"))
	w.execFound(7, outside, "/usr/bin/node", "node", "server.js")
	w.open(7, "/etc/passwd")
	w.execFound(8, outside, "/opt/codex", "codex") // an agent, but not one that is asked for
	w.execFound(9, outside, "/opt/claude", "sed")  // not under its own name
	w.cgroup[10] = outside
	w.exec(10, "/opt/claude", "claude") // not found by the kernel side: in no sandbox
	w.c.Close()
	if len(w.spans) != 0 {
		t.Errorf("told: %s", show(w.spans))
	}
	for pid := uint32(7); pid <= 10; pid++ {
		if w.c.Knows(pid, start(pid)) {
			t.Errorf("process %d is known", pid)
		}
	}
	w.execFound(11, outside, "/opt/claude", "claude")
	if !w.c.Knows(11, start(11)) || w.c.Knows(11, start(12)) {
		t.Error("the agent is not known, or another one under its pid")
	}
}

func TestOneWhoMovesAboutOutsideOfAllSandboxesHasNotEscaped(t *testing.T) {
	w := newWorld(t, anyAgent(AllAgents))
	w.execFound(7, outside, "/opt/claude", "claude")
	h := w.header(7)
	h.Cgroup = 100
	w.raw(rt.Record(h, record.Attach{Path: []byte("/elsewhere"), Watched: true}))
	w.cgroup[7] = 100
	h = w.header(7)
	w.raw(rt.Record(h, record.Fork{ChildStart: start(8), ChildCgroup: 101, ChildTgid: 8, ChildVpid: 8, ParentTgid: 7}))
	w.cgroup[8], w.execIDs[8] = 101, w.execIDs[7]
	w.exec(8, "/bin/true", "true")
	if n := len(w.of(span.Escape)); n != 0 {
		t.Errorf("%d escapes told", n)
	}
	w.cgroup[7] = 100
	w.open(7, "/repo/x")
	// Into another sandbox: it stays who it is, and that is told.
	h = w.header(7)
	h.Cgroup = two
	w.raw(rt.Record(h, record.Attach{Path: []byte("/agents/two"), Watched: true}))
	w.c.Close()
	wants(t, w.only(span.Open), map[string]any{span.KeyCgroup: "/elsewhere", span.KeyAgentName: "claude-code"})
	wants(t, w.only(span.Escape), map[string]any{span.KeyCgroupTo: "/agents/two", span.KeyAgentName: "claude-code"})
}

func TestAgentsOlderThanTheSensorAreFoundWithWhatIsBelowThem(t *testing.T) {
	w := newWorld(t, anyAgent(AllAgents))
	old := func(pid, parent uint32, flags uint16, exe string, args ...string) {
		w.cgroup[pid] = outside
		h := w.header(pid)
		h.Flags = flags
		if flags&record.ExecFound != 0 {
			w.raw(record.AppendCmdline(nil, h, uint32(len(args)), rt.Args(args...)))
		}
		w.raw(rt.Record(h, record.Process{ParentTgid: parent, ParentStart: start(parent), Vpid: pid, Exe: rt.Path(exe)}))
	}
	old(7, 1, record.ExecFound, "/usr/bin/node", "node", "/usr/bin/claude")
	old(8, 7, 0, "/bin/bash")
	old(9, 1, record.ExecFound, "/usr/bin/node", "node", "server.js")
	old(10, 9, 0, "/bin/bash")
	w.open(8, "/repo/x")
	w.open(10, "/repo/y")
	w.c.Close()
	wants(t, w.execOf(7), map[string]any{span.KeyPreexisting: true, span.KeyAgentName: "claude-code", span.KeyArgsCount: 2, span.KeyCommandLine: "node /usr/bin/claude"})
	wants(t, w.only(span.Open), map[string]any{span.KeyFilePath: "/repo/x", span.KeyPID: 8, span.KeyAgentName: "claude-code"})
	if n := len(w.of(span.Exec)); n != 2 {
		t.Errorf("%d programs told, want the agent and its shell: %s", n, show(w.spans))
	}
}

func TestWhoIsBelowAnAgentIsKnownByItsParentWhenItsForkWasLost(t *testing.T) {
	w := newWorld(t, anyAgent(AllAgents))
	w.execFound(7, outside, "/opt/claude", "claude")
	below := func(pid, parent uint32, cgroup uint64) {
		w.cgroup[pid] = cgroup
		w.execWith(pid, 0, record.Exec{
			Exe: rt.Path("/bin/cat"), Filename: []byte("/bin/cat"), Args: rt.Args("cat"), Argc: 1, ParentTgid: parent, ParentStart: start(parent),
		})
		w.open(pid, "/repo/x")
	}
	below(8, 7, outside)
	below(9, 8, 100)
	below(11, 10, outside) // of nobody's
	w.c.Close()
	opens := w.of(span.Open)
	if len(opens) != 2 {
		t.Fatalf("%d opens told, want those of the two below the agent: %s", len(opens), show(w.spans))
	}
	for _, s := range opens {
		wants(t, s, map[string]any{span.KeyAgentName: "claude-code"})
	}
	if n := len(w.of(span.Escape)); n != 0 {
		t.Errorf("%d escapes told", n)
	}
}
