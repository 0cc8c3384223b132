// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func anyAgent(names ...string) func(*config.Config) {
	return func(c *config.Config) { c.Sandboxes = append(c.Sandboxes, config.Selector{Agents: names}) }
}

// execFound is an exec outside of every sandbox, of a program that the kernel side looked for.
func (w *world) execFound(pid uint32, cgroup uint64, exe string, args ...string) {
	w.t.Helper()
	w.cgroup[pid] = cgroup
	w.execWith(pid, record.ExecFound, record.Exec{Exe: rt.Path(exe), Filename: []byte(exe), Args: rt.Args(args...), Argc: uint32(len(args))})
}

func TestAnAgentOutsideOfAllSandboxesIsASandboxOfItsOwn(t *testing.T) {
	w := newWorld(t, anyAgent(config.AllAgents))
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
		if w.c.lineage.Knows(pid, start(pid)) {
			t.Errorf("process %d is known", pid)
		}
	}
	w.execFound(11, outside, "/opt/claude", "claude")
	if !w.c.lineage.Knows(11, start(11)) || w.c.lineage.Knows(11, start(12)) {
		t.Error("the agent is not known, or another one under its pid")
	}
}

func TestOneWhoMovesAboutOutsideOfAllSandboxesHasNotEscaped(t *testing.T) {
	w := newWorld(t, anyAgent(config.AllAgents))
	w.execFound(7, outside, "/opt/claude", "claude")
	h := w.header(7)
	h.Cgroup = 100
	w.raw(rt.Record(h, record.Attach{Path: []byte("/elsewhere"), Watched: true}))
	w.cgroup[7] = 100
	h = w.header(7)
	w.raw(rt.Record(h, record.Fork{ChildStart: start(8), ChildCgroup: 101, ChildTgid: 8, ChildVpid: 8}))
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
	w := newWorld(t, anyAgent(config.AllAgents))
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
	w := newWorld(t, anyAgent(config.AllAgents))
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

func TestAnAgentWhoseFileWasReplacedIsTheAgent(t *testing.T) {
	dialects := func(c *config.Config) { c.Agents = withPinned() }
	const gone = record.ExecUnlinked
	for _, c := range []struct {
		name  string
		flags uint16
		exe   string
		args  []string
		agent any
	}{
		{"a native one", gone, "/opt/codex", []string{"codex"}, "codex"},
		{"a script, by its interpreter", gone, "/usr/bin/node", []string{"node", "/usr/bin/claude"}, "claude-code"},
		{"a pinned one, by its path", gone, "/usr/bin/pinned", []string{"pinned"}, "pinned"},
		{"not one that is pinned to another path", gone, "/tmp/pinned", []string{"pinned"}, nil},
		{"not a file whose own name ends as the kernel marks those without one", 0, "/opt/codex (deleted)", []string{"codex"}, nil},
		{"nor one that has lost such a name", gone, "/opt/codex (deleted)", []string{"codex"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, how := range []string{"that the sensor finds", "that it finds in a sandbox", "that is started"} {
				w := newWorld(t, anyAgent(config.AllAgents), dialects)
				cgroup := outside
				if how == "that it finds in a sandbox" {
					cgroup = two
				}
				w.cgroup[7] = cgroup
				if how == "that is started" {
					w.execWith(7, c.flags|record.ExecFound, record.Exec{Exe: rt.Path(c.exe), Args: rt.Args(c.args...), Argc: uint32(len(c.args))})
				} else {
					w.execIDs[7]++
					w.preexisting(7, c.flags, record.Process{Exe: rt.Path(c.exe)}, c.args...)
				}
				// What it starts is its doing.
				w.fork(7, 8)
				w.exec(8, "/bin/true", "true")
				w.exit(8, 0)
				w.c.Close()
				if c.agent == nil && cgroup == outside {
					if len(w.spans) != 0 {
						t.Errorf("one %s is an agent: %s", how, show(w.spans))
					}
					continue
				}
				wants(t, w.execOf(8), map[string]any{span.KeyAgentName: c.agent})
			}
		})
	}
}

// preexisting is what the look at a process older than the sensor tells.
func (w *world) preexisting(pid uint32, flags uint16, r record.Process, args ...string) {
	w.t.Helper()
	h := w.header(pid)
	h.Flags = flags | record.ExecFound
	w.raw(record.AppendCmdline(nil, h, uint32(len(args)), rt.Args(args...)))
	r.ParentTgid, r.ParentStart, r.Vpid = 1, start(1), pid
	w.raw(rt.Record(h, r))
}

func TestAPinHoldsOnlyWhereRootDecides(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags uint16
		holds bool
	}{
		{"on the host", 0, true},
		{"whose file was replaced", record.ExecUnlinked, true},
		{"in a mount namespace of a user namespace", record.ExecForeignMounts, false},
		{"below another root", record.ExecForeignRoot, false},
		{"which names its executable itself", record.ExecExeSet, false},
		{"by a way into another mount namespace", record.ExecExeOutside, false},
		{"too deep to be told", record.ExecExeTruncated, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, owner := range []bool{true, false} {
				for _, how := range []string{"found", "found in a sandbox", "started", "found and then started"} {
					w := newWorld(t, anyAgent(config.AllAgents), func(c *config.Config) {
						c.Agents = withPinned()
						for i := range c.Agents {
							if owner && c.Agents[i].Name == "pinned" {
								c.Agents[i].Path = nil // by its owner alone
							}
						}
					})
					w.cgroup[7] = outside
					if how != "started" && how != "found" {
						w.cgroup[7] = two
					}
					if how == "started" {
						w.execWith(7, c.flags|record.ExecFound, record.Exec{Exe: rt.Path("/usr/bin/pinned"), Args: rt.Args("pinned"), Argc: 1})
					} else {
						w.execIDs[7]++
						w.preexisting(7, c.flags, record.Process{Exe: rt.Path("/usr/bin/pinned")}, "pinned")
					}
					if how == "found and then started" {
						w.execIDs[7]--
						w.execWith(7, record.ExecFound, record.Exec{Exe: rt.Path("/usr/bin/pinned"), Args: rt.Args("pinned"), Argc: 1})
					}
					w.fork(7, 8)
					w.exec(8, "/bin/true", "true")
					w.exit(8, 0)
					w.c.Close()
					is := slices.ContainsFunc(w.spans, func(s span.Span) bool { return get(s, span.KeyAgentName) == "pinned" })
					if is != c.holds {
						t.Errorf("%s, pinned by owner alone %v: is the agent: %v", how, owner, is)
					}
				}
			}
		})
	}
}
