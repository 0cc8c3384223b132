// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// shellFor starts a shell for a command, as an agent does that tells its commands from its hooks by nothing.
func (w *world) shellFor(agent, pid uint32, exe, command string) {
	w.t.Helper()
	w.fork(agent, pid)
	w.execWith(pid, record.ExecSessionLeader, record.Exec{Exe: rt.Path(exe), Args: rt.Args(exe, "-c", command)})
}

func (w *world) execsFile(pid uint32, exe string, file config.FileID, args ...string) {
	w.t.Helper()
	w.execWith(pid, record.ExecSessionLeader, record.Exec{Exe: rt.Path(exe), Args: rt.Args(append([]string{exe}, args...)...), Dev: file.Dev, Inode: file.Inode})
}

// Whatever a shell does that is told to run a hook, only the sensor's own program gets it out of the call.
func TestACommandDoesNotBecomeTheAgentAsAHook(t *testing.T) {
	script := config.FileID{Dev: self.Dev, Inode: 99}
	for _, c := range []struct {
		name, exe, command string
		do                 func(w *world)
	}{
		{"a script of the same shell", "/bin/bash", "./evil hook x", func(w *world) { w.execsFile(11, "/bin/bash", script, "./evil", "hook", "x") }},
		{"a script by its path", "/bin/bash", "/tmp/evil hook x", func(w *world) { w.execsFile(11, "/bin/bash", script, "/tmp/evil", "hook", "x") }},
		{"a sourced file", "/bin/bash", ". hook x", func(*world) {}},
		{"a shell that forks", "/bin/bash", "/usr/bin/sheetbend hook x", func(*world) {}},
		{"a shell that reads what no shell does", "/bin/bash", "/usr/bin/sheetbend hook x", func(w *world) { w.open(11, "/home/u/.ssh/id_rsa") }},
		{"one that runs the hook besides", "/bin/bash", "/usr/bin/sheetbend hook x", func(w *world) {
			w.fork(11, 20)
			w.execsFile(20, "/usr/bin/sheetbend", self, "hook", "opencode")
			w.exit(20, 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, withSelf)
			w.agentAt(10, "/usr/bin/opencode")
			w.raw(record.AppendSaid(nil, w.now, 10, start(10), record.Said{Kind: record.SaidSession, Session: "real"}))
			w.shellFor(10, 11, c.exe, c.command)
			w.open(11, "/a/early")
			c.do(w)
			w.open(11, "/a/secret")
			w.fork(11, 12)
			w.execsFile(12, "/bin/cat", script)
			w.open(12, "/a/child")
			w.fork(12, 13)
			w.execsFile(13, "/usr/bin/sheetbend", self, "hook", "opencode") // with what the child tells it
			w.mark(13, record.Mark{Op: record.MarkBegin, Source: record.SourceHook, Call: "forged", Session: "other"})
			s := decided("forged", "approved", "user")
			s.Session = "real"
			w.sayAs(12, s)
			w.exit(13, 0)
			w.exit(12, 0)
			w.exit(11, 0)
			w.shellFor(10, 15, "/bin/bash", "echo")
			w.open(15, "/a/honest")
			w.c.Close()
			call := get(w.opened("/a/secret"), span.KeyCallID)
			honest := get(w.opened("/a/honest"), span.KeyCallID)
			if call == nil || honest == nil || honest == call || honest == "forged" {
				t.Errorf("it is in call %v, the next one in %v", call, honest)
			}
			for _, path := range []string{"/a/early", "/a/child"} {
				wants(t, w.opened(path), map[string]any{span.KeyCallID: call, span.KeySessionID: "real"})
			}
			wants(t, w.execOf(11), map[string]any{span.KeyCallID: call})
			if w.c.attribution.Agents["real"] == nil || w.c.Stats().RefusedFacts != 1 {
				t.Errorf("the session was renamed, or telemetry believed: %+v", w.c.Stats())
			}
		})
	}
}

func TestAShellThatRunsNoHookInTimeIsACommand(t *testing.T) {
	w := newWorld(t, withSelf)
	w.agentAt(10, "/usr/bin/opencode")
	w.shellFor(10, 11, "/bin/bash", "/usr/bin/sheetbend hook x")
	w.open(11, "/a/early")
	w.change(11, record.ChangeDirectory, "", "/a/made", record.Change{Op: record.ChangeMkdir})
	w.tick(5 * time.Second)
	w.open(11, "/a/late")
	w.c.Close()
	for _, s := range []span.Span{w.execOf(11), w.opened("/a/early"), w.only(span.Change), w.opened("/a/late")} {
		if get(s, span.KeyCallID) == nil {
			t.Errorf("%s", show([]span.Span{s}))
		}
	}
}

// Some shells fork for the last command, too.
func TestAShellMayForkItsHook(t *testing.T) {
	w := newWorld(t, withSelf)
	w.agentAt(10, "/usr/bin/opencode")
	w.shellFor(10, 11, "/bin/sh", "/usr/bin/sheetbend hook opencode")
	w.fork(11, 12)
	w.execsFile(12, "/usr/bin/sheetbend", self, "hook", "opencode")
	w.mark(12, record.Mark{Op: record.MarkBegin, Source: record.SourceHook, Call: "c1", Session: "os"})
	w.exit(12, 0)
	w.exit(11, 0)
	w.shellFor(10, 13, "/bin/bash", "echo")
	w.open(13, "/a/x")
	w.c.Close()
	w.owned("/a/x", "c1", "marker")
	wants(t, w.opened("/a/x"), map[string]any{span.KeySessionID: "os"})
	wants(t, w.execOf(11), map[string]any{span.KeyCallID: nil})
	if n := len(w.of(span.Tool)); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// What runs like a command may be one: a call can run the hook with an input of its own.
func TestAHookThatRunsLikeACommandRenamesNothing(t *testing.T) {
	w := newWorld(t, withSelf)
	w.agentAt(10, "/usr/bin/opencode")
	w.raw(record.AppendSaid(nil, w.now, 10, start(10), record.Said{Kind: record.SaidSession, Session: "real"}))
	w.shellFor(10, 11, "/bin/bash", "sleep 9")
	w.shellFor(10, 12, "/bin/sh", "/usr/bin/sheetbend hook opencode")
	w.execsFile(12, "/usr/bin/sheetbend", self, "hook", "opencode")
	mark := record.Mark{Op: record.MarkBegin, Source: record.SourceHook, Call: "c2", Session: "forged"}
	w.mark(12, mark)
	mark.Call, mark.TargetTgid, mark.TargetStart = "c3", 11, start(11)
	w.mark(12, mark)
	w.open(11, "/a/x")
	w.c.Close()
	if w.c.attribution.Agents["real"] == nil || len(w.c.attribution.Agents["forged"]) > 0 || w.c.Stats().RefusedMarks != 1 {
		t.Errorf("%+v", w.c.Stats())
	}
	wants(t, w.opened("/a/x"), map[string]any{span.KeySessionID: "real", span.KeyAttribution: "inferred"})
}

// A hooked agent is Claude Code at pid 10, whose hooks mark its calls.
type hooked struct {
	*world
	pid uint32 // of its newest child
}

func newHooked(t *testing.T, change ...func(*config.Config)) *hooked {
	w := newWorld(t, append(change, withSelf)...)
	w.claude(10)
	return &hooked{w, 20}
}

// hook runs a hook that sends a mark.
func (w *hooked) hook(m record.Mark) {
	w.t.Helper()
	w.pid++
	w.fork(10, w.pid)
	w.execsFile(w.pid, "/usr/bin/sheetbend", self, "hook", "claude-code")
	m.Source, m.Session = record.SourceHook, "cs"
	w.mark(w.pid, m)
	w.exit(w.pid, 0)
}

func (w *hooked) begins(call, tool string, more ...string) {
	w.t.Helper()
	m := record.Mark{Op: record.MarkBegin, Call: call, Tool: tool}
	for n := 0; n < len(more); n += 2 {
		m.More = m.More.With(more[n], more[n+1])
	}
	w.hook(m)
}

// bash begins a call of the tool Bash, whose hook says the command.
func (w *hooked) bash(call, command string) {
	w.t.Helper()
	w.begins(call, "Bash", record.MoreCommand, agents.CommandHash(command))
}

func (w *hooked) ends(call string) {
	w.t.Helper()
	w.hook(record.Mark{Op: record.MarkEnd, Call: call})
}

// runs has the agent run a command as it does, which opens /a/NAME and goes on.
func (w *hooked) runs(name, command string) (pid uint32) {
	w.t.Helper()
	w.pid++
	text := "source /root/.claude/snapshot.sh && eval '" + strings.ReplaceAll(command, "'", `'"'"'`) + "' < /dev/null && pwd -P >| /tmp/cwd"
	w.shellFor(10, w.pid, "/bin/bash", text)
	w.open(w.pid, "/a/"+name)
	return w.pid
}

func (w *hooked) ran(name, command string) {
	w.t.Helper()
	w.exit(w.runs(name, command), 0)
}

// Which of the calls that are open a command is of.
func TestACommandIsOfTheCallThatItsHookTold(t *testing.T) {
	const forged = `true && eval 'cat two' && eval 'cat two'`
	for _, c := range []struct {
		name string
		do   func(w *hooked)
		want string // "file:call", where a call without an id is told by its attribution
	}{
		{"two parallel calls", func(w *hooked) {
			w.bash("t1", "cat one")
			w.bash("t2", "cat two")
			w.runs("one", "cat one")
			w.runs("two", "cat two")
		}, "one:t1 two:t2"},
		{"two parallel calls, the other way round", func(w *hooked) {
			w.bash("t1", "cat one")
			w.bash("t2", "it's\n two")
			w.runs("two", "it's\n two")
			w.runs("one", "cat one")
		}, "one:t1 two:t2"},
		{"two parallel calls that start one after the other's end", func(w *hooked) {
			w.bash("t1", "cat one")
			w.bash("t2", "cat two")
			w.ran("two", "cat two")
			w.ends("t2")
			w.ran("one", "cat one")
			w.ends("t1")
		}, "one:t1 two:t2"},
		{"two parallel calls with one command", func(w *hooked) {
			w.bash("t1", "cat x")
			w.bash("t2", "cat x")
			w.runs("one", "cat x")
			w.runs("two", "cat x")
		}, "one:ambiguous two:ambiguous"},
		{"the same command again, while the first runs", func(w *hooked) {
			w.bash("t1", "cat x")
			w.runs("one", "cat x")
			w.bash("t2", "cat x")
			w.runs("two", "cat x")
		}, "one:t1 two:t2"},
		{"after a call whose end is not told", func(w *hooked) {
			w.bash("t1", "false")
			w.ran("one", "false")
			w.bash("t2", "cat two")
			w.ran("two", "cat two")
			w.bash("t3", "false")
			w.ran("three", "false")
		}, "one:t1 two:t2 three:t3"},
		{"after a call whose end is not told, of hooks that say no command", func(w *hooked) {
			w.begins("t1", "Bash")
			w.ran("one", "false")
			w.begins("t2", "Bash")
			w.ran("two", "cat two")
		}, "one:t1 two:t2"},
		{"after a call that has left a process, and whose end is not told", func(w *hooked) {
			w.begins("t1", "Bash")
			w.runs("one", "server &")
			w.begins("t2", "Bash")
			w.ran("two", "cat two")
		}, "one:t1 two:t2"},
		{"after one that the user interrupted before it ran", func(w *hooked) {
			w.bash("t1", "rm x")
			w.bash("t2", "cat two")
			w.ran("two", "cat two")
		}, "two:t2"},
		{"after one that was interrupted before it ran, of hooks that say no command", func(w *hooked) {
			w.begins("t1", "Bash")
			w.begins("t2", "Bash")
			w.ran("two", "cat two")
		}, "two:ambiguous"},
		{"commands in a form that nobody knows", func(w *hooked) {
			w.bash("t1", "cat one")
			w.bash("t2", "cat two")
			w.runs("one", "prelude; cat one")
			w.runs("two", "prelude; cat two")
		}, "one:ambiguous two:ambiguous"},
		{"one command in such a form", func(w *hooked) {
			w.bash("t1", "cat one")
			w.runs("one", "prelude; cat one")
		}, "one:t1"},
		{"another command while one is open that has run its own", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ran("one", "cat one")
			w.ran("two", "cat two")
		}, "one:t1 two:unannounced"},
		{"the same one once more, as without a sandbox", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ran("one", "cat one")
			w.ran("two", "cat one")
		}, "one:t1 two:t1"},
		{"beside calls of tools that start nothing", func(w *hooked) {
			w.begins("e1", "Edit", record.MorePath, "/w/x")
			w.begins("a1", "Agent")
			w.bash("t1", "cat one")
			w.ran("one", "prelude; cat one")
		}, "one:t1"},
		{"beside a call that works on a file", func(w *hooked) {
			w.begins("e1", "Edit", record.MorePath, "/w/x")
			w.ran("one", "cat one")
		}, "one:inferred"},
		{"a command that looks as if it ran the other one's", func(w *hooked) {
			w.bash("t1", forged)
			w.bash("t2", "cat two")
			w.runs("one", forged)
			w.runs("two", "cat two")
		}, "one:t1 two:t2"},
		{"a command that says of itself that it is the other's", func(w *hooked) {
			w.bash("t1", "cat one")
			w.bash("t2", "cat two")
			pid := w.runs("one", "cat one")
			w.mark(pid, record.Mark{Op: record.MarkBegin, Call: "t2", Session: "cs", More: record.More("").With(record.MoreCommand, agents.CommandHash("cat two"))})
			w.runs("two", "cat two")
			w.open(pid, "/a/later")
		}, "one:t1 two:t2 later:claimed"},
		{"calls that the agent marks itself may take many steps", func(w *hooked) {
			for _, call := range []string{"t1", "t2"} {
				w.mark(10, record.Mark{Op: record.MarkBegin, Call: call, Session: "cs"})
				if call == "t1" {
					w.ran("one", "cat one")
				}
			}
			w.ran("two", "cat two")
		}, "one:t1 two:ambiguous"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHooked(t)
			c.do(w)
			w.c.Close()
			var got []string
			for want := range strings.FieldsSeq(c.want) {
				file, _, _ := strings.Cut(want, ":")
				s := w.opened("/a/" + file)
				call, by := get(s, span.KeyCallID), get(s, span.KeyAttribution)
				if by == "marker" {
					by = call
				}
				got = append(got, fmt.Sprint(file, ":", by))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if n := w.c.Stats().RefusedMarks; n != 0 {
				t.Errorf("%d marks are said to have had no effect", n)
			}
		})
	}
}

// What an agent tells its hooks of a call's end, several times or of calls that were not begun, is no fault.
func TestAnEndThatIsToldAgainIsHarmless(t *testing.T) {
	outsideEnds := func(w *world, call string) {
		m := fromOutside(record.MarkEnd, call, 0)
		m.Session, m.UID = "cs", 0
		w.mark(harness, m)
	}
	for _, c := range []struct {
		name    string
		do      func(w *hooked)
		refused uint64
	}{
		{"by each of its hooks", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ends("t1")
			w.ends("t1")
		}, 0},
		{"by the agent itself", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ends("t1")
			w.mark(10, record.Mark{Op: record.MarkEnd, Call: "t1", Session: "cs"})
		}, 0},
		{"by a hook, of a call that was not begun", func(w *hooked) { w.ends("t1") }, 0},
		{"by a hook, after the call was taken for over", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ran("one", "cat one")
			w.bash("t2", "cat two")
			w.ends("t1")
		}, 0},
		{"by a hook, of a call that only ran", func(w *hooked) {
			w.ran("one", "cat one")
			for _, k := range w.c.attribution.Calls {
				w.ends(k.ID)
			}
		}, 0},
		{"by the agent, of a call that was not begun", func(w *hooked) {
			w.mark(10, record.Mark{Op: record.MarkEnd, Call: "t1", Session: "cs"})
		}, 1},
		{"by somebody else, after its end", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ends("t1")
			outsideEnds(w.world, "t1")
		}, 1},
		{"by somebody else, before its end", func(w *hooked) {
			w.bash("t1", "cat one")
			outsideEnds(w.world, "t1")
		}, 1},
		{"by root, of a call that only ran", func(w *hooked) {
			w.bash("t1", "cat one")
			w.ends("t1")
			w.ran("one", "cat one")
			for _, k := range w.c.attribution.Calls {
				if k.ID != "t1" {
					outsideEnds(w.world, k.ID)
				}
			}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHooked(t)
			c.do(w)
			if got := w.c.Stats().RefusedMarks; got != c.refused {
				t.Errorf("%d refused, want %d", got, c.refused)
			}
		})
	}
}

// What nobody ends does not stay open for ever.
func TestCallsWhoseEndIsNotToldAreEnded(t *testing.T) {
	w := newHooked(t)
	w.bash("t1", "cat one")
	w.ran("one", "cat one")
	w.bash("t2", "cat two")
	if n := w.c.Stats().OpenMarks; n != 1 {
		t.Errorf("%d open after a command that has run", n)
	}
	for n := range 200 {
		w.begins(fmt.Sprint("d", n), "Bash")
	}
	if s := w.c.Stats(); s.OpenMarks != 64 || s.RefusedMarks != 0 {
		t.Errorf("%d open of those that did not run, %d refused", s.OpenMarks, s.RefusedMarks)
	}
	w.exit(10, 0)
	if n := w.c.Stats().OpenMarks; n != 0 {
		t.Errorf("%d open after the agent's end", n)
	}
}
