// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"testing"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

// become starts root's program, which leads no kernel session.
func (w *world) become(pid uint32, args ...string) {
	w.t.Helper()
	w.execWith(pid, 0, record.Exec{Exe: rt.Path(args[0]), Args: rt.Args(args...), Argc: uint32(len(args))})
}

// hookIn starts the sensor's own program, which marks calls, in a process.
func (w *world) hookIn(pid uint32) uint32 {
	w.t.Helper()
	args := []string{"/usr/bin/sheetbend", "hook", "claude-code"}
	w.execWith(pid, 0, record.Exec{Exe: rt.Path(args[0]), Args: rt.Args(args...), Argc: 3, Dev: self.Dev, Inode: self.Inode})
	return pid
}

func (w *world) hookBelow(parent, pid uint32) uint32 {
	w.t.Helper()
	w.fork(parent, pid)
	return w.hookIn(pid)
}

// A mark of sheetbend hook counts as the agent's where the agent has started that and nothing else.
func TestWhatStartedAHookDecidesForWhomItSpeaks(t *testing.T) {
	const command = "/usr/bin/sheetbend hook claude-code"
	sh := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	inPlace := func(args ...string) func(*world) uint32 {
		return func(w *world) uint32 { w.become(20, args...); return w.hookIn(20) }
	}
	forked := func(args ...string) func(*world) uint32 {
		return func(w *world) uint32 { w.become(20, args...); return w.hookBelow(20, 21) }
	}
	git := []string{"/usr/bin/git", "status"}
	for _, c := range []struct {
		name string
		want attribution.MarkedBy
		do   func(w *world) uint32 // 20 is a fork of the agent, and has run nothing yet
	}{
		{"the agent's fork", attribution.MarkedByHook, func(w *world) uint32 { return w.hookIn(20) }},
		{"the agent's own program that prepares the process", attribution.MarkedByHook, func(w *world) uint32 {
			w.execWith(20, 0, record.Exec{Exe: rt.Path("/usr/bin/claude"), Args: rt.Args("claude-prepare"), Argc: 1})
			return w.hookIn(20)
		}},
		{"another copy, which is root's", attribution.MarkedByHook, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.become(20, "/usr/bin/sheetbend", "hook", "claude-code")
			return 20
		}},
		{"a shell", attribution.MarkedByHook, inPlace(sh(command)...)},
		{"a shell that forks", attribution.MarkedByHook, forked(sh(command)...)},
		{"a shell that is told a name", attribution.MarkedByHook, forked("/usr/bin/zsh", "-c", "sheetbend hook claude-code")},
		{"a path with a space", attribution.MarkedByHook, inPlace("/bin/bash", "-c", "'/opt/my tools/sheetbend' hook claude-code")},
		{"a shell that looks whether it is there", attribution.MarkedByHook, inPlace(sh(hook.Command("/usr/bin/sheetbend", "claude-code"))...)},
		{"… at a path with a space", attribution.MarkedByHook, inPlace("/bin/bash", "-lc", hook.Command("/opt/my tools/sheetbend", "claude-code"))},
		{"a login shell whose profile runs a program", attribution.MarkedByHook, func(w *world) uint32 {
			w.become(20, "/bin/bash", "-lc", command)
			w.fork(20, 21)
			w.become(21, "/usr/bin/id", "-u")
			return w.hookIn(20)
		}},

		{"a helper", attribution.MarkedBySelf, forked(git...)},
		{"a helper that it takes the place of", attribution.MarkedBySelf, inPlace(git...)},
		{"env", attribution.MarkedBySelf, inPlace("/usr/bin/env", "LD_PRELOAD=/tmp/evil.so", "sheetbend", "hook", "claude-code")},
		{"a helper's shell (a hook of git, fsmonitor)", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, git...)
			w.fork(20, 21)
			w.become(21, sh(command)...)
			return w.hookIn(21)
		}},
		{"a helper's shell that forks", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, git...)
			w.fork(20, 21)
			w.become(21, sh(command)...)
			return w.hookBelow(21, 22)
		}},
		{"a shell in a helper's place", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, git...)
			w.become(20, sh(command)...)
			return w.hookIn(20)
		}},
		{"an MCP server", attribution.MarkedBySelf, forked("/usr/bin/node", "/repo/mcp.js")},
		{"a script in PATH", attribution.MarkedBySelf, forked("/bin/sh", "/home/u/.local/bin/git", "status")},
		{"a script in PATH, whose place it takes", attribution.MarkedBySelf, inPlace("/bin/sh", "/home/u/.local/bin/git", "status")},
		{"a script that is called like the hook", attribution.MarkedBySelf, inPlace("/bin/sh", "/tmp/sheetbend", "hook", "claude-code")},
		{"a script that is called -c", attribution.MarkedBySelf, inPlace("/bin/sh", "--", "-c", command)},
		{"a script with the hook's command as its argument", attribution.MarkedBySelf, forked("/bin/sh", "./-c", command)},
		{"a shell with options", attribution.MarkedBySelf, inPlace("/bin/bash", "--rcfile", "/tmp/evil", "-ic", command)},
		{"a shell with a name and arguments", attribution.MarkedBySelf, inPlace("/bin/sh", "-c", command, "sh", "x")},
		{"a shell that pipes", attribution.MarkedBySelf, forked(sh("/tmp/forge|" + command)...)},
		{"a shell that pipes, and execs", attribution.MarkedBySelf, inPlace(sh("forge | " + command)...)},
		{"a shell that runs something first", attribution.MarkedBySelf, inPlace(sh("/tmp/x;" + command)...)},
		{"… on a line of its own", attribution.MarkedBySelf, inPlace(sh("/tmp/x\n" + command)...)},
		{"… and only then", attribution.MarkedBySelf, inPlace(sh("x && " + command)...)},
		{"… where something else is there", attribution.MarkedBySelf, inPlace(sh("test ! -x /tmp/x || exec " + command)...)},
		{"… where a test fails", attribution.MarkedBySelf, inPlace(sh("test ! -x /usr/bin/sheetbend || x || exec " + command)...)},
		{"… with a longer name", attribution.MarkedBySelf, inPlace(sh("test ! -x /usr/bin/sheetbend || exec /usr/bin/sheetbend hook claude-code x")...)},
		{"… in a test of something", attribution.MarkedBySelf, inPlace(sh("test ! -x $(x) || exec $(x) hook claude-code")...)},
		{"… in the background", attribution.MarkedBySelf, inPlace(sh("/tmp/x&" + command)...)},
		{"… in its arguments", attribution.MarkedBySelf, inPlace(sh("sheetbend hook $(x)")...)},
		{"… and after it", attribution.MarkedBySelf, forked(sh(command + ";x")...)},
		{"a shell with a forged input", attribution.MarkedBySelf, inPlace(sh(command + "</tmp/forged")...)},
		{"a shell with a forged text", attribution.MarkedBySelf, inPlace(sh(command + " <<< '{}'")...)},
		{"a shell that sets a variable", attribution.MarkedBySelf, inPlace(sh("LD_PRELOAD=/tmp/evil.so " + command)...)},
		{"a shell that makes a function of it", attribution.MarkedBySelf, forked(sh("sheetbend() { x; }; sheetbend hook claude-code")...)},
		{"a shell that sources a file", attribution.MarkedBySelf, forked(sh(". hook x")...)},
		{"a shell that evaluates", attribution.MarkedBySelf, forked(sh("eval hook x")...)},
		{"a user's own program that is called sh", attribution.MarkedBySelf, func(w *world) uint32 {
			w.execWith(20, 0, record.Exec{Exe: rt.Path("/home/u/bin/sh"), Args: rt.Args(sh(command)...), Argc: 3, ExeUID: 1000})
			return w.hookIn(20)
		}},
		{"a shell's file under another name (busybox nc)", attribution.MarkedBySelf, func(w *world) uint32 {
			w.execWith(20, 0, record.Exec{Exe: rt.Path("/bin/busybox"), Args: rt.Args("nc", "-c", command), Argc: 3})
			return w.hookIn(20)
		}},
		{"a program that calls itself a shell", attribution.MarkedBySelf, func(w *world) uint32 {
			w.execWith(20, 0, record.Exec{Exe: rt.Path("/usr/bin/evil"), Args: rt.Args(sh(command)...), Argc: 3})
			return w.hookIn(20)
		}},
		{"a shell that has run another program in its place", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.become(20, "/usr/bin/evil")
			return w.hookIn(20)
		}},
		{"a shell's child that has run another program", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.fork(20, 21)
			w.become(21, "/usr/bin/evil")
			return w.hookIn(21)
		}},
		{"a child of that", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.fork(20, 21)
			w.become(21, "/usr/bin/evil")
			return w.hookBelow(21, 22)
		}},
		{"a shell whose next program was lost", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.execIDs[20]++
			w.open(20, "/a/lost")
			return w.hookIn(20)
		}},
		{"a shell whose child's program was lost", attribution.MarkedBySelf, func(w *world) uint32 {
			w.become(20, sh(command)...)
			w.fork(20, 21)
			w.execIDs[21]++
			return w.hookIn(21)
		}},
		{"the agent's fork whose first program was lost", attribution.MarkedBySelf, func(w *world) uint32 {
			w.execIDs[20]++
			return w.hookIn(20)
		}},
		{"the hook's child", attribution.MarkedBySelf, func(w *world) uint32 {
			w.hookIn(20)
			return w.hookBelow(20, 21)
		}},
		{"a call", attribution.MarkedBySelf, func(w *world) uint32 {
			w.start(20, "/bin/bash", true)
			return w.hookBelow(20, 21)
		}},
		{"a call whose place it takes", attribution.MarkedBySelf, func(w *world) uint32 {
			w.start(20, "/bin/bash", true)
			return w.hookIn(20)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, withSelf)
			w.agentAt(10, "/usr/bin/claude")
			w.fork(10, 20)
			hook := c.do(w)
			w.mark(hook, record.Mark{Op: record.MarkBegin, Source: record.SourceHook, Call: "toolu_VICTIM", Session: "victim", Tool: "Bash"})
			w.sayAs(hook, record.Said{Kind: record.SaidSession, Session: "victim"})
			w.open(hook, "/etc/gshadow")
			w.fork(10, 40)
			w.start(40, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=honest")
			w.open(40, "/a/next")
			w.c.Close()
			next, planted := w.opened("/a/next"), w.opened("/etc/gshadow")
			if c.want == attribution.MarkedByHook {
				wants(t, next, map[string]any{span.KeyCallID: "toolu_VICTIM", span.KeyAttribution: "marker", span.KeyMarkedBy: "hook"})
				return
			}
			if get(next, span.KeyAttribution) != "inferred" || get(planted, span.KeyAttribution) == "marker" || get(planted, span.KeyMarkedBy) == "hook" {
				t.Errorf("%s", show([]span.Span{next, planted}))
			}
			wants(t, next, map[string]any{span.KeySessionID: "honest"})
		})
	}
}

// A command that is named to the agent's call is of that call, whatever it runs.
func TestAHookThatTheAgentStartsForACallIsTheCalls(t *testing.T) {
	w := newWorld(t, withSelf)
	w.codex(10)
	w.fork(10, 11)
	w.execWith(11, 0, record.Exec{
		Exe: rt.Path("/usr/bin/sheetbend"), Args: rt.Args("sheetbend", "hook", "codex"), Env: rt.Args("CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1"),
		Dev: self.Dev, Inode: self.Inode,
	})
	w.mark(11, record.Mark{Op: record.MarkBegin, Source: record.SourceHook, Call: "call_2", Session: "sess"})
	w.open(11, "/a/hook")
	w.call(10, 12, "call_2")
	w.open(12, "/a/next")
	w.c.Close()
	wants(t, w.execOf(11), map[string]any{span.KeyCallID: "call_1", span.KeyAttribution: "call_id"})
	wants(t, w.opened("/a/hook"), map[string]any{span.KeyAttribution: "claimed", span.KeyParentCall: "call_1", span.KeyMarkedBy: "self"})
	wants(t, w.opened("/a/next"), map[string]any{span.KeyCallID: "call_2", span.KeyAttribution: "call_id", span.KeyMarkedBy: nil})
}

// An agent that an interpreter runs is its script, too: whatever else the same interpreter runs is another program.
func TestAnotherScriptInTheAgentsInterpreterIsNotTheAgent(t *testing.T) {
	const cli = "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"
	dialect := agents.Dialect{Name: "mine", Scripts: []string{"mine/main.py"}, Env: agents.Env{Session: []string{"MINE_SESSION"}, Leaders: true}}
	node, python := []string{"/usr/bin/node", cli}, []string{"/usr/bin/python3.12", "/opt/mine/main.py"}
	for _, c := range []struct {
		name   string
		agent  []string
		starts []string // directly, after it has started another program
		is     string
	}{
		{"a status line", node, []string{"/usr/bin/node", "/home/u/.claude/status.js"}, "helper"},
		{"a server of tools, with options", node, []string{"/usr/bin/node", "--no-warnings", "/repo/mcp.js"}, "helper"},
		{"code in an argument", node, []string{"/usr/bin/node", "-e", "evil()", cli}, "helper"},
		{"code from the standard input", node, []string{"/usr/bin/node"}, "helper"},
		{"a module of python", python, []string{"/usr/bin/python3.12", "-m", "evil"}, "helper"},
		{"a script of python", python, []string{"/usr/bin/python3.12", "/tmp/evil.py"}, "helper"},
		{"a script with the name of the agent's", node, []string{"/usr/bin/node", "/tmp/@anthropic-ai/claude-code/cli.js"}, "agent within"},
		{"the agent's script in another interpreter", node, []string{"/tmp/node", cli}, "agent within"},
		{"its own script", node, []string{"/usr/bin/node", "--max-old-space-size=99", cli}, "agent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, withSelf, func(c *config.Config) { c.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{dialect}) })
			w.begin(10, two)
			w.become(10, c.agent...)
			w.fork(10, 11)
			w.start(11, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=honest", "MINE_SESSION=honest")
			w.fork(10, 20)
			w.become(20, c.starts...)
			w.fork(20, 21)
			w.start(21, "/bin/bash", true)
			w.open(21, "/a/below")
			w.hookBelow(20, 22)
			w.mark(22, record.Mark{Op: record.MarkBegin, Call: "toolu_HOOK"})
			w.mark(20, record.Mark{Op: record.MarkBegin, Call: "toolu_OWN"})
			w.fork(10, 30)
			w.start(30, "/bin/bash", true, "CLAUDE_CODE_SESSION_ID=honest", "MINE_SESSION=honest")
			w.open(30, "/a/next")
			w.c.Close()
			for path, want := range map[string]map[string]string{
				"/a/below": {"helper": "<nil> session", "agent within": "honest inferred", "agent": "<nil> inferred"},
				"/a/next":  {"helper": "<nil> inferred", "agent within": "<nil> inferred", "agent": "<nil> ambiguous"},
			} {
				s := w.opened(path)
				if got := fmt.Sprint(get(s, span.KeyParentSession), " ", get(s, span.KeyAttribution)); got != want[c.is] {
					t.Errorf("%q, want %q: %s", got, want[c.is], show([]span.Span{s}))
				}
			}
		})
	}
}

// The scripts of npm packages start the agent proper: another script of theirs, or a native program.
func TestALauncherHandsOverOnce(t *testing.T) {
	launcher := []string{"/usr/bin/node", "/usr/lib/node_modules/@github/copilot/npm-loader.js"}
	for _, proper := range [][]string{
		{"/usr/bin/node", "/usr/lib/node_modules/@github/copilot/index.js"},
		{"/usr/lib/node_modules/@github/copilot-linux-x64/copilot"},
	} {
		for _, before := range [][]string{nil, {"/usr/bin/node", "/usr/lib/node_modules/npm/bin/npm-cli.js"}} {
			w := newWorld(t)
			w.begin(10, two)
			w.become(10, launcher...)
			if before != nil {
				w.fork(10, 11)
				w.become(11, before...)
			}
			w.fork(10, 20)
			w.become(20, proper...)
			w.fork(20, 21)
			w.start(21, "/bin/bash", true, "COPILOT_AGENT_SESSION_ID=s")
			w.open(21, "/a/call")
			w.open(20, "/a/proper")
			w.c.Close()
			nested := get(w.opened("/a/proper"), span.KeyParentSession) != nil
			if nested != (before != nil) {
				t.Errorf("%q, after %q: %s", proper, before, show([]span.Span{w.opened("/a/proper")}))
			}
			wants(t, w.opened("/a/call"), map[string]any{span.KeyAttribution: "inferred", span.KeySessionID: "s"})
		}
	}
}
