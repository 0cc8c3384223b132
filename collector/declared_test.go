// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// announce opens a call as an agent does, with the paths that it declares.
// untold has announced paths be not all.
const untold = "untold"

func (w *world) announce(peer uint32, call, tool string, paths ...string) {
	w.t.Helper()
	m := record.Mark{Op: record.MarkBegin, Call: call, Tool: tool, Session: "cs"}
	for _, p := range paths {
		if p == untold {
			m.More = m.More.With(record.MoreUntold, "1")
			continue
		}
		m.More = m.More.With(record.MorePath, p)
	}
	w.mark(peer, m)
}

func (w *world) over(peer uint32, call string) {
	w.t.Helper()
	w.mark(peer, record.Mark{Op: record.MarkEnd, Call: call, Session: "cs"})
}

// rename has a temporary file take the place of another.
func (w *world) rename(pid uint32, from, to string) {
	w.t.Helper()
	w.change(pid, 0, from, to, record.Change{Op: record.ChangeRename, Inode: 7, Replaced: 8})
}

// touched gives the one span of touching a path.
func (w *world) touched(path string) span.Span {
	w.t.Helper()
	var found []span.Span
	for _, s := range w.spans {
		if (s.Kind == span.Open || s.Kind == span.Change) && get(s, span.KeyFilePath) == path {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d spans of touching %s, want 1: %s", len(found), path, show(w.spans))
	}
	return found[0]
}

// Which call it is that works inside of its agent, or none: each row of the table in docs/design/attribution.md.
func TestWhoseAFileIsThatAnAgentTouchesItself(t *testing.T) {
	const agent, helper = uint32(10), uint32(15)
	edit := func(w *world) { w.announce(agent, "e", "Edit", "/repo/a") }
	two := func(w *world) { edit(w); w.announce(agent, "f", "Write", "/repo/b") }
	for _, c := range []struct {
		name           string
		open           func(w *world)
		do             func(w *world)
		file           string // whose span is looked at
		call, by, said any
	}{
		{"with none open it is the session's", func(*world) {},
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"what was declared", edit,
			func(w *world) { w.write(agent, "/repo/a", 1, false) }, "/repo/a", "e", "declared", "confirmed"},
		{"what was not, with one open", edit,
			func(w *world) { w.write(agent, "/repo/x", 1, true) }, "/repo/x", "e", "declared", "undeclared"},
		{"with one open that declares nothing there is nothing to compare", func(w *world) { w.announce(agent, "e", "TodoWrite") },
			func(w *world) { w.write(agent, "/repo/x", 1, true) }, "/repo/x", "e", "declared", nil},
		{"the temporary file of what was declared", edit,
			func(w *world) { w.write(agent, "/repo/a.tmp.1", 1, true) }, "/repo/a.tmp.1", "e", "declared", "confirmed"},
		{"a hidden one", edit,
			func(w *world) { w.write(agent, "/repo/.a.swp", 1, true) }, "/repo/.a.swp", "e", "declared", "confirmed"},
		{"another name that begins alike is none", edit,
			func(w *world) { w.write(agent, "/repo/abc", 1, true) }, "/repo/abc", "e", "declared", "undeclared"},
		{"nor is one elsewhere", edit,
			func(w *world) { w.write(agent, "/tmp/a.tmp", 1, true) }, "/tmp/a.tmp", "e", "declared", "undeclared"},
		{"a rename to what was declared", two,
			func(w *world) { w.rename(agent, "/tmp/x", "/repo/b") }, "/repo/b", "f", "declared", "confirmed"},
		{"a rename from it", two,
			func(w *world) { w.rename(agent, "/repo/b", "/repo/z") }, "/repo/z", "f", "declared", "confirmed"},
		{"a rename to it by way of an open directory", two,
			func(w *world) { w.rename(agent, "/proc/self/fd/11/b.tmp", "/proc/self/fd/11/b") }, "/proc/self/fd/11/b", "f", "declared", "confirmed"},
		{"the temporary file of it there", edit,
			func(w *world) { w.write(agent, "/proc/self/fd/11/a.tmp.1", 1, true) }, "/proc/self/fd/11/a.tmp.1", "e", "declared", "confirmed"},
		{"with several open the declared path decides", two,
			func(w *world) { w.write(agent, "/repo/b", 1, true) }, "/repo/b", "f", "declared", "confirmed"},
		{"with several open and none of them it is one of several", two,
			func(w *world) { w.write(agent, "/repo/x", 1, true) }, "/repo/x", nil, "ambiguous", "undeclared"},
		{"the same, and one of them declares nothing", func(w *world) { edit(w); w.announce(agent, "f", "TodoWrite") },
			func(w *world) { w.write(agent, "/repo/x", 1, true) }, "/repo/x", nil, "ambiguous", nil},
		{"what two declare is of one of several", func(w *world) { edit(w); w.announce(agent, "f", "Edit", "/repo/a") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "ambiguous", "confirmed"},
		{"the file itself counts more than a directory above it", func(w *world) { edit(w); w.announce(agent, "f", "Grep", "/repo") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", "e", "declared", "confirmed"},
		{"after the end it is the session's", func(w *world) { edit(w); w.over(agent, "e") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"a read of what was declared", func(w *world) { w.announce(agent, "r", "Read", "/repo/a") },
			func(w *world) { w.open(agent, "/repo/a") }, "/repo/a", "r", "declared", "confirmed"},
		{"a read below a declared directory", func(w *world) { w.announce(agent, "r", "Grep", "/repo/") },
			func(w *world) { w.open(agent, "/repo/d/a") }, "/repo/d/a", "r", "declared", "confirmed"},
		{"a read of something else", func(w *world) { w.announce(agent, "r", "Read", "/repo/a") },
			func(w *world) { w.open(agent, "/repo/x") }, "/repo/x", nil, "session", nil},
		{"a sensitive one, with one open", func(w *world) { w.announce(agent, "r", "Read", "/repo/a") },
			func(w *world) { w.open(agent, "/etc/shadow") }, "/etc/shadow", "r", "declared", "undeclared"},
		{"a sensitive one, with several open", two,
			func(w *world) { w.open(agent, "/etc/shadow") }, "/etc/shadow", nil, "session", nil},
		{"a refusal was no touch", edit, func(w *world) {
			w.openWith(agent, record.OpenBase, record.Open{Name: []byte("/repo/a"), Flags: unix.O_WRONLY, Error: int32(unix.EACCES)})
		}, "/repo/a", "e", "declared", nil},
		{"what the agent keeps for itself, by its dialect", edit,
			func(w *world) { w.write(agent, "/home/u/.claude.json.lock", 1, true) }, "/home/u/.claude.json.lock", nil, "session", nil},
		{"unless that was declared", func(w *world) { w.announce(agent, "e", "Edit", "/repo/.claude/settings.json") },
			func(w *world) { w.write(agent, "/repo/.claude/settings.json", 1, true) }, "/repo/.claude/settings.json", "e", "declared", "confirmed"},
		{"what the agent has written outside of calls before", func(w *world) {
			w.change(agent, 0, "", "/var/log/agent", record.Change{Op: record.ChangeTruncate, Inode: 1})
			w.tick(3 * time.Second)
			w.spans = nil
			edit(w)
		}, func(w *world) { w.write(agent, "/var/log/agent", 1, false) }, "/var/log/agent", nil, "session", nil},
		{"a device is no file", edit,
			func(w *world) { w.write(agent, "/dev/pts/1", 1, false) }, "/dev/pts/1", nil, "session", nil},
		{"a fork of the agent that runs no other program yet", func(w *world) { edit(w); w.fork(agent, 11) },
			func(w *world) { w.write(11, "/repo/a", 1, true) }, "/repo/a", "e", "declared", "confirmed"},
		{"a helper that was there before", edit,
			func(w *world) { w.write(helper, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"a helper since, of what was declared", func(w *world) { edit(w); w.fork(agent, 20_000_000); w.start(20_000_000, "/usr/bin/rg", false) },
			func(w *world) { w.open(20_000_000, "/repo/a") }, "/repo/a", "e", "declared", "confirmed"},
		{"a helper since, of anything else", func(w *world) { edit(w); w.fork(agent, 20_000_000); w.start(20_000_000, "/usr/bin/rg", false) },
			func(w *world) { w.write(20_000_000, "/repo/x", 1, true) }, "/repo/x", nil, "session", nil},
		{"a command keeps what it does", func(w *world) {
			edit(w)
			w.fork(agent, 11)
			w.start(11, "/bin/bash", true, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		},
			func(w *world) { w.write(11, "/repo/a", 1, true) }, "/repo/a", nil, "trace_context", nil},
		{"a tool that runs commands opens no such call", func(w *world) { w.announce(agent, "e", "Bash", "/repo/a") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"nor does one that has a subagent work", func(w *world) { w.announce(agent, "e", "Task", "/repo/a") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"nor does one without a name", func(w *world) { w.announce(agent, "e", "", "/repo/a") },
			func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"nor does somebody outside", func(w *world) {
			edit(w)
			w.over(agent, "e")
			m := fromOutside(record.MarkBegin, "h", 0)
			m.Session, m.Tool, m.More = "cs", "Edit", record.More("").With(record.MorePath, "/repo/a")
			w.mark(harness, m)
		}, func(w *world) { w.write(agent, "/repo/a", 1, true) }, "/repo/a", nil, "session", nil},
		{"a link on the way: the name that the agent asks for is the declared one", func(w *world) { w.announce(agent, "e", "Edit", "/link/a") }, func(w *world) {
			w.openWith(agent, record.OpenCreated, record.Open{Path: rt.Path("/repo/a.tmp"), Name: []byte("/link/a.tmp"), Inode: 1, Flags: unix.O_WRONLY | unix.O_CREAT})
			w.rename(agent, "/repo/a.tmp", "/repo/a")
		}, "/repo/a", "e", "declared", "confirmed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.claude(agent)
			w.fork(agent, helper)
			w.start(helper, "/usr/bin/git", false)
			c.open(w)
			c.do(w)
			w.c.Close()
			s := w.touched(c.file)
			wants(t, s, map[string]any{span.KeyCallID: c.call, span.KeyAttribution: c.by, span.KeyDeclared: c.said})
			if c.by == "declared" {
				if tool := w.tool(c.call.(string)); s.Trace != tool.Trace || s.Parent != tool.ID {
					t.Errorf("it does not stand below its call: %s", show(w.spans))
				}
			}
			if n := w.c.Stats().RefusedMarks; n != 0 {
				t.Errorf("%d refused", n)
			}
		})
	}
}

func TestACallSaysWhetherItDidWhatWasDeclared(t *testing.T) {
	const agent = uint32(10)
	for _, c := range []struct {
		name  string
		paths []string
		do    func(w *world)
		said  any
	}{
		{"all of it", []string{"/repo/a", "/repo/b"}, func(w *world) { w.write(agent, "/repo/a", 1, true); w.open(agent, "/repo/b") }, "confirmed"},
		{"a part", []string{"/repo/a", "/repo/b"}, func(w *world) { w.write(agent, "/repo/a", 1, true) }, "unmet"},
		{"nothing", []string{"/repo/a"}, func(*world) {}, "unmet"},
		{"the temporary file alone", []string{"/repo/a"}, func(w *world) { w.write(agent, "/repo/a.tmp", 1, true) }, "unmet"},
		{"more than that", []string{"/repo/a"}, func(w *world) { w.write(agent, "/repo/a", 1, true); w.write(agent, "/repo/x", 2, true) }, "undeclared"},
		{"more than what is known of it", []string{untold, "/repo/a"}, func(w *world) { w.write(agent, "/repo/a", 1, true); w.write(agent, "/repo/x", 2, true) }, "confirmed"},
		{"nothing was declared", nil, func(w *world) { w.write(agent, "/repo/x", 2, true) }, nil},
		{"no absolute path was", []string{"a"}, func(w *world) { w.write(agent, "/repo/a", 2, true) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.claude(agent)
			w.announce(agent, "e", "Edit", c.paths...)
			c.do(w)
			w.over(agent, "e")
			w.tick(15 * time.Second)
			for _, s := range []span.Span{w.tool("e"), w.only(span.SessionCall)} {
				wants(t, s, map[string]any{span.KeyDeclared: c.said, span.KeyAttribution: "declared", span.KeyCallID: "e"})
			}
		})
	}
}

// An editor writes beside the file, and renames: the call tells what it has changed by the file's own name.
func TestAnEditStandsOnItsCallWithTheFilesName(t *testing.T) {
	w := newWorld(t)
	w.claude(10)
	w.announce(10, "e", "Edit", "/repo/a.go")
	w.open(10, "/repo/a.go")
	w.write(10, "/repo/a.go.tmp.77.abc", 7, true)
	w.rename(10, "/repo/a.go.tmp.77.abc", "/repo/a.go")
	w.write(10, "/home/u/.claude/log", 9, false)
	w.over(10, "e")
	w.tick(15 * time.Second)
	s := w.only(span.SessionCall)
	wants(t, s, map[string]any{
		span.KeyCallTitle: "Edit a.go", span.KeyFilesModified: 1, span.KeyFilesModifiedNames: []string{"/repo/a.go"}, span.KeyDeclared: "confirmed",
		span.KeyFilesCreated: nil, span.KeyFilesOpened: nil,
	})
	wants(t, w.only(span.Change), map[string]any{span.KeyFilePath: "/repo/a.go", span.KeyCallID: "e", span.KeyToolName: "Edit"})
}

func TestTheTreeShowsAnEditBelowItsCall(t *testing.T) {
	w := newWorld(t)
	w.claude(10)
	w.mcpServer(10, 15)
	w.announce(10, "e", "Edit", "/repo/a.go")
	w.write(10, "/repo/a.go.tmp.77", 7, true)
	w.rename(10, "/repo/a.go.tmp.77", "/repo/a.go")
	w.over(10, "e")
	w.announce(10, "m", "mcp__files__read")
	w.open(15, "/srv/data")
	w.over(10, "m")
	w.exit(15, 0)
	w.exit(10, 0)
	w.tick(15 * time.Second)
	tree := terminal.NewTree(terminal.Options{})
	for i := range w.spans {
		tree.Span(&w.spans[i])
	}
	var out strings.Builder
	if err := tree.Render(&out); err != nil {
		t.Fatal(err)
	}
	edit, read := strings.Index(out.String(), "Edit"), strings.Index(out.String(), "mcp__files__read")
	file, data := strings.Index(out.String(), "-> /repo/a.go"), strings.Index(out.String(), "/srv/data")
	if edit < 0 || file < edit || read < file || data < read {
		t.Errorf("in another order:\n%s", out.String())
	}
}

func TestWithoutToolsInItsDialectAllIsAsBefore(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{{Name: "plain", Executables: []string{"plain"}, Env: agents.Env{Leaders: true}}})
	})
	w.agentAt(10, "/usr/bin/plain")
	w.announce(10, "e", "Edit")
	w.write(10, "/repo/a", 1, true)
	w.fork(10, 11)
	w.start(11, "/bin/bash", true)
	w.open(11, "/a/x")
	w.c.Close()
	w.owned("/repo/a", "", "session")
	w.owned("/a/x", "e", "marker")
}

// A call inside of the agent takes no command, and makes none ambiguous.
func TestACallInsideOfTheAgentLeavesCommandsAlone(t *testing.T) {
	for _, c := range []struct {
		name           string
		env            []string
		open           []string // tools
		call, by, tool any
	}{
		{"the one open command is the call", nil, []string{"Edit", "Bash"}, "c1", "marker", "Bash"},
		{"none was announced: perhaps it is that tool's", nil, []string{"Unknown"}, nil, "inferred", nil},
		{"none was announced, and the tool works on a file", nil, []string{"Edit"}, nil, "unannounced", nil},
		{"it names the call that was taken for one inside", []string{"CODEX_TOOL_CALL_ID=c0"}, []string{"Unknown"}, "c0", "call_id", "Unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(conf *config.Config) {
				conf.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{{Name: "claude-code", Env: agents.Env{Leaders: true, Call: []string{"CODEX_TOOL_CALL_ID"}}}})
			})
			w.claude(10)
			w.announce(10, "named", "Bash")
			w.fork(10, 11)
			w.start(11, "/bin/bash", true)
			w.over(10, "named")
			for n, tool := range c.open {
				if tool == "Unknown" {
					w.announce(10, fmt.Sprint("c", n), tool)
				} else {
					w.announce(10, fmt.Sprint("c", n), tool, "/repo/a")
				}
			}
			w.fork(10, 12)
			w.start(12, "/bin/bash", true, c.env...)
			w.open(12, "/repo/a")
			w.over(10, "c0")
			w.c.Close()
			want := map[string]any{span.KeyAttribution: c.by, span.KeyToolName: c.tool, span.KeyDeclared: nil}
			if c.call != nil {
				want[span.KeyCallID] = c.call
			}
			wants(t, w.opened("/repo/a"), want)
			if n := w.c.Stats().AmbiguousCalls; n != 0 {
				t.Errorf("%d ambiguous", n)
			}
		})
	}
}

// mcpServer starts a helper of an agent.
func (w *world) mcpServer(agent, pid uint32) {
	w.t.Helper()
	w.fork(agent, pid)
	w.start(pid, "/usr/bin/server", false)
}

// What an MCP server does while its call is open.
func TestWhoseTheDoingsOfAnMCPServerAre(t *testing.T) {
	const agent, server, other, own = uint32(10), uint32(15), uint32(16), "agents-own"
	both := func(w *world) { w.mcpServer(agent, server); w.mcpServer(agent, other) }
	one := func(w *world) { w.mcpServer(agent, server) }
	call := func(w *world, id, tool string) { w.announce(agent, id, tool) }
	learn := func(w *world) {
		both(w)
		call(w, "first", "mcp__files__read")
		w.open(server, "/a/first")
		w.over(agent, "first")
	}
	for _, c := range []struct {
		name          string
		do            func(w *world)
		call, by, by2 any // by2: sheetbend.mcp.server
	}{
		{"the only helper is it", func(w *world) { one(w); call(w, "m", "mcp__files__read"); w.open(server, "/a/x") }, "m", "declared", "files"},
		{"what it forks meanwhile is of the call for good", func(w *world) {
			one(w)
			call(w, "m", "mcp__files__read")
			w.fork(server, 17)
			w.exec(17, "/bin/cat", "cat")
			w.over(agent, "m")
			w.open(17, "/a/x")
		}, "m", "started_by", "files"},
		{"what it has forked before is it, too", func(w *world) {
			one(w)
			w.fork(server, 17)
			w.exec(17, "/bin/node", "node")
			call(w, "m", "mcp__files__read")
			w.open(17, "/a/x")
		}, "m", "declared", "files"},
		{"before and after it is the session's", func(w *world) {
			one(w)
			call(w, "m", "mcp__files__read")
			w.over(agent, "m")
			w.open(server, "/a/x")
		}, nil, "session", nil},
		{"a program of the agent's own that stays is not it", func(w *world) {
			one(w)
			w.fork(agent, other)
			w.start(other, "/opt/agent/"+own, false)
			call(w, "m", "mcp__files__read")
			w.open(server, "/a/x")
		}, "m", "declared", "files"},
		{"of two helpers nobody knows which", func(w *world) { both(w); call(w, "m", "mcp__files__read"); w.open(server, "/a/x") }, nil, "ambiguous", nil},
		{"it is learnt where one alone did something", func(w *world) { learn(w); call(w, "m", "mcp__files__read"); w.open(server, "/a/x") }, "m", "declared", "files"},
		{"then the other one is not it", func(w *world) { learn(w); call(w, "m", "mcp__files__read"); w.open(other, "/a/x") }, nil, "session", nil},
		{"and is another server", func(w *world) { learn(w); call(w, "m", "mcp__web__get"); w.open(other, "/a/x") }, "m", "declared", "web"},
		{"not where both did", func(w *world) {
			both(w)
			call(w, "first", "mcp__files__read")
			w.open(server, "/a/first")
			w.open(other, "/a/second")
			w.over(agent, "first")
			call(w, "m", "mcp__files__read")
			w.open(server, "/a/x")
		}, nil, "ambiguous", nil},
		{"nor where two calls were open", func(w *world) {
			both(w)
			call(w, "first", "mcp__files__read")
			call(w, "second", "mcp__web__get")
			w.open(server, "/a/first")
			w.over(agent, "second")
			w.over(agent, "first")
			call(w, "m", "mcp__files__read")
			w.open(server, "/a/x")
		}, nil, "ambiguous", nil},
		{"two calls of one server are one of several", func(w *world) {
			one(w)
			call(w, "m", "mcp__files__read")
			call(w, "n", "mcp__files__read")
			w.open(server, "/a/x")
		}, nil, "ambiguous", nil},
		{"calls of two servers that are known are told apart", func(w *world) {
			learn(w)
			call(w, "second", "mcp__web__get")
			w.open(other, "/a/second")
			w.over(agent, "second")
			call(w, "m", "mcp__files__read")
			call(w, "n", "mcp__web__get")
			w.open(server, "/a/x")
		}, "m", "declared", "files"},
		{"what was started since is not it", func(w *world) {
			call(w, "m", "mcp__files__read")
			w.mcpServer(agent, 20_000_000)
			w.open(20_000_000, "/a/x")
		}, nil, "session", nil},
		{"the agent itself is not it", func(w *world) { one(w); call(w, "m", "mcp__files__read"); w.write(agent, "/a/x", 1, true) }, nil, "session", nil},
		{"what a call has planted is not it", func(w *world) {
			w.fork(agent, 11)
			w.start(11, "/bin/bash", true, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			w.fork(11, 12)
			w.exec(12, "/usr/bin/server", "server")
			call(w, "m", "mcp__files__read")
			w.open(12, "/a/x")
		}, nil, "trace_context", nil},
		{"nor is another agent that is one", func(w *world) {
			one(w)
			w.fork(server, 17)
			w.start(17, "/usr/bin/codex", false)
			call(w, "m", "mcp__files__read")
			w.open(17, "/a/x")
		}, nil, "session", nil},
		{"nor a helper of another agent", func(w *world) {
			w.claude(100)
			w.mcpServer(100, 101)
			call(w, "m", "mcp__files__read")
			w.open(101, "/a/x")
		}, nil, "session", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(conf *config.Config) {
				d := *agents.Find(agents.Builtin(), "claude-code")
				d.Tools.Own = []string{own}
				conf.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{d})
			})
			w.claude(agent)
			c.do(w)
			w.c.Close()
			wants(t, w.touched("/a/x"), map[string]any{span.KeyCallID: c.call, span.KeyAttribution: c.by, span.KeyMCPServer: c.by2})
		})
	}
}

// What counts repeats is of one call each.
func TestWhatIsRepeatedIsOfEachCall(t *testing.T) {
	chmod := func(w *world, pid uint32) {
		w.change(pid, 0, "", "/a/x", record.Change{Op: record.ChangeChmod, Inode: 1, After: 0o600})
	}
	for name, c := range map[string]struct {
		tool string
		pid  uint32
		kind span.Kind
		do   func(w *world, pid uint32)
	}{
		"a change by a server":    {"mcp__files__read", 15, span.Change, chmod},
		"a socket of a server":    {"mcp__files__read", 15, span.Socket, func(w *world, pid uint32) { w.act(pid, record.Socket{Family: unix.AF_PACKET, Type: unix.SOCK_RAW}) }},
		"a change by the agent":   {"Edit", 10, span.Change, chmod},
		"an open by the agent":    {"Edit", 10, span.Open, func(w *world, pid uint32) { w.write(pid, "/a/x", 1, false) }},
		"a read of a folded file": {"Edit", 10, span.Open, func(w *world, pid uint32) { w.open(pid, "/a/x/y") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.Fold.Files = 1 })
			w.claude(10)
			w.mcpServer(10, 15)
			w.open(10, "/first")
			c.do(w, c.pid)
			for _, call := range []string{"m", "n"} {
				w.announce(10, call, c.tool, "/a/x")
				c.do(w, c.pid)
				w.over(10, call)
			}
			w.c.Close()
			var calls []any
			for _, s := range w.of(c.kind) {
				if get(s, span.KeyFilePath) != "/first" {
					calls = append(calls, get(s, span.KeyCallID))
				}
			}
			if fmt.Sprint(calls) != "[<nil> m n]" {
				t.Errorf("of the calls %v", calls)
			}
		})
	}
}

// A file that a call declares is told by its name, among how many others whatever.
func TestADeclaredFileIsNeitherFoldedNorNoise(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Fold.Files, c.Noise = 1, []string{"/usr/lib/**"} })
	w.claude(10)
	w.open(10, "/first")
	w.announce(10, "m", "Read", "/repo/a", "/usr/lib/b")
	w.open(10, "/repo/a")
	w.open(10, "/usr/lib/b")
	w.open(10, "/usr/lib/c")
	w.c.Close()
	w.owned("/repo/a", "m", "declared")
	w.owned("/usr/lib/b", "m", "declared")
	if n := len(w.of(span.Open)); n != 3 {
		t.Errorf("%d opens", n)
	}
}

// What reports to the intake below an MCP server goes on to do so while its call is open.
func TestAnMCPServerMaySendTelemetryInItsCall(t *testing.T) {
	for _, servers := range []uint32{1, 2} {
		w := newWorld(t)
		w.claude(10)
		for n := range servers {
			w.mcpServer(10, 15+n)
		}
		w.announce(10, "m", "mcp__files__read")
		w.fork(15, 20)
		for _, pid := range []uint32{15, 20}[:3-servers] {
			w.sayAs(pid, record.Said{Kind: record.SaidRequest, Agent: "claude-code"})
		}
		if n := w.c.Stats().RefusedSenders; n != 0 {
			t.Errorf("%d senders refused of %d servers", n, servers)
		}
	}
}

func TestCallsInsideOfAnAgentAreForgotten(t *testing.T) {
	t.Run("an end that nobody tells", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.CallRetention = time.Minute })
		w.claude(10)
		w.announce(10, "lost", "Edit", "/repo/a")
		w.tick(2 * time.Minute)
		w.announce(10, "e", "Edit", "/repo/b")
		w.write(10, "/repo/x", 1, true)
		w.c.Close()
		wants(t, w.touched("/repo/x"), map[string]any{span.KeyCallID: "e"})
	})
	t.Run("commands come with the ids of more than can be open", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		for n := range 64 {
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: fmt.Sprint("c", n), Tool: "exec_command"})
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: fmt.Sprint("p", n), Tool: "apply_patch"})
		}
		for n := range uint32(64) {
			w.call(10, 100+n, fmt.Sprint("p", n))
			w.exit(100+n, 0)
		}
		w.exit(10, 0)
		if n := w.c.Stats().OpenMarks; n != 0 {
			t.Errorf("%d open", n)
		}
	})
	t.Run("an end that nobody tells keeps no command from being unannounced", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.CallRetention = time.Minute })
		w.claude(10)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "t", Tool: "Bash", Session: "cs"})
		w.fork(10, 11)
		w.start(11, "/bin/bash", true)
		w.over(10, "t")
		w.announce(10, "e", "Edit", "/home/u/.claude/settings.json")
		w.announce(10, "f", "SomeTool")
		w.tick(2 * time.Minute)
		w.fork(10, 12)
		w.start(12, "/bin/bash", true)
		w.open(12, "/a/x")
		w.c.Close()
		wants(t, w.opened("/a/x"), map[string]any{span.KeyAttribution: "unannounced"})
	})
	t.Run("the end of one that began before its session was known", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "e", Tool: "Edit"})
		w.over(10, "e")
		if s := w.c.Stats(); s.OpenMarks != 0 || s.RefusedMarks != 0 {
			t.Errorf("%d open, %d refused", s.OpenMarks, s.RefusedMarks)
		}
	})
	t.Run("one that has a subagent work opens nothing", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		w.announce(10, "e", "Task")
		if s := w.c.Stats(); s.OpenMarks != 0 || s.Calls != 0 {
			t.Errorf("%d open", s.OpenMarks)
		}
		w.mark(10, record.Mark{Op: record.MarkEnd, Call: "e", Tool: "Task"})
		if n := w.c.Stats().RefusedMarks; n != 0 {
			t.Errorf("%d refused", n)
		}
	})
	t.Run("the agent's telemetry tells it", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		w.announce(10, "e", "Edit")
		w.sayAs(10, record.Said{Kind: record.SaidResult, Session: "cs", Call: "e", Success: record.SuccessOK})
		if n := w.c.Stats().OpenMarks; n != 0 {
			t.Errorf("%d open", n)
		}
	})
	t.Run("with their agent, and no more than a bound", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxCalls = 1000 })
		w.claude(10)
		w.mcpServer(10, 15)
		for n := range 100 {
			w.announce(10, fmt.Sprint("e", n), []string{"Edit", "mcp__files__read"}[n%2], "/repo/a")
		}
		if s := w.c.Stats(); s.OpenMarks != 64 || s.RefusedMarks != 36 {
			t.Errorf("%d open, %d refused", s.OpenMarks, s.RefusedMarks)
		}
		w.exit(10, 0)
		w.exit(15, 0)
		if s := w.c.Stats(); s.OpenMarks != 0 || s.Agents != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Who is not the agent opens no call inside of it.
func TestNobodyElseOpensACallInsideOfAnAgent(t *testing.T) {
	for name, forge := range map[string]func(w *world){
		"a command":     func(w *world) { w.announce(evil, "forged", "Edit", "/repo/a") },
		"a helper":      func(w *world) { w.announce(helper, "forged", "Edit", "/repo/a") },
		"another agent": func(w *world) { w.announce(other, "forged", "Edit", "/repo/a") },
		"a command, for it": func(w *world) {
			w.mark(evil, record.Mark{Op: record.MarkBegin, Call: "forged", Tool: "Edit", TargetTgid: codex, TargetStart: start(codex),
				More: record.More("").With(record.MorePath, "/repo/a")})
		},
		"a command, that ends the true one": func(w *world) {
			w.announce(codex, "true", "apply_patch", "/repo/b")
			w.over(evil, "true")
			w.write(codex, "/repo/b", 3, true)
			defer func() { wants(w.t, w.touched("/repo/b"), map[string]any{span.KeyCallID: "true"}) }()
			w.over(codex, "true")
			w.tick(3 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(codex)
			w.call(codex, evil, "call_EVIL")
			w.fork(codex, helper)
			w.start(helper, "/usr/bin/git", false)
			w.begin(other, two)
			w.start(other, "/usr/bin/claude", false)
			forge(w)
			w.write(codex, "/repo/a", 1, true)
			w.c.Close()
			wants(t, w.touched("/repo/a"), map[string]any{span.KeyCallID: nil, span.KeyAttribution: "session", span.KeySessionID: "sess"})
		})
	}
}
