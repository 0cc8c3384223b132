// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
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
