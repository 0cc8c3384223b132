// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// sees is a look that finds a process, with the program that it runs by then: records of its fork and execs wait in the ring.
func (w *world) sees(pid, parent uint32, execs uint64, exe string) {
	w.t.Helper()
	h := w.header(pid)
	h.Cgroup, h.ExecID = two, w.execIDs[parent]+execs
	w.raw(rt.Record(h, record.Process{ParentTgid: parent, ParentStart: start(parent), Vpid: pid, Exe: rt.Path(exe), Cwd: rt.Path("/repo")}))
	w.raw(record.AppendCmdline(nil, h, 1, rt.Args(exe)))
}

func TestALookOverridesNoRecordThatWaitsInTheRing(t *testing.T) {
	for name, looks := range map[string]func(w *world){
		"no look":                     func(*world) {},
		"at the call's first program": func(w *world) { w.sees(11, 10, 1, "/bin/bash") },
		"before its exec":             func(w *world) { w.sees(11, 10, 0, "/usr/bin/codex") },
		"two programs on":             func(w *world) { w.sees(11, 10, 2, "/bin/cat") },
		"parent and child":            func(w *world) { w.sees(11, 10, 1, "/bin/bash"); w.sees(12, 11, 1, "/bin/cat") },
		"child before parent":         func(w *world) { w.sees(12, 11, 1, "/bin/cat"); w.sees(11, 10, 1, "/bin/bash") },
		"an agent of that name":       func(w *world) { w.sees(12, 11, 1, "/tmp/codex") },
		"again and again": func(w *world) {
			for range 3 {
				w.sees(11, 10, 1, "/bin/bash")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			w.call(10, 20, "call_0")
			looks(w)
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/bin/cat", false)
			w.open(12, "/a/deep")
			w.start(11, "/bin/cat", false)
			w.open(11, "/a/first")
			w.tick(3 * time.Second)
			w.c.Close()
			w.owned("/a/first", "call_1", "call_id")
			w.owned("/a/deep", "call_1", "call_id")
			for _, pid := range []uint32{11, 12} {
				wants(t, w.execOf(pid), map[string]any{span.KeyCallID: "call_1", span.KeyAttribution: "call_id", span.KeySessionID: "sess"})
			}
			for _, s := range w.of(span.Exec) {
				if get(s, span.KeyPreexisting) != nil {
					t.Errorf("told twice: %s", show([]span.Span{s}))
				}
			}
			if s := w.c.Stats(); s.Agents != 1 && s.Agents != 0 || s.Calls != 2 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestWhatACallLeftBehindKeepsNoResumedSessionFromItsId(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.fork(11, 12)
	w.start(12, "/bin/server", true)
	w.exit(11, 0)
	w.exit(10, 0)
	w.tick(5 * time.Second)
	w.codex(30) // codex resume
	w.call(30, 31, "call_2")
	w.open(31, "/a/resumed")
	w.open(30, "/a/agent")
	w.open(12, "/a/server")
	w.tick(3 * time.Second)
	w.c.Close()
	w.owned("/a/resumed", "call_2", "call_id")
	w.owned("/a/server", "call_1", "started_by")
	for _, file := range []string{"/a/resumed", "/a/agent", "/a/server"} {
		wants(t, w.opened(file), map[string]any{span.KeySessionID: "sess"})
	}
	wants(t, w.execOf(31), map[string]any{span.KeyClaimContradicted: nil})
	if n := w.c.Stats().RefusedSessions; n != 0 {
		t.Errorf("%d sessions refused", n)
	}
}

func TestASessionInUseIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		leave  func(w *world)
		cgroup uint64
		uid    uint32
		exe    string
	}{
		"the agent runs":                         {func(*world) {}, two, 1000, "/usr/bin/codex"},
		"a helper of it runs":                    {func(w *world) { w.fork(10, 13); w.start(13, "/usr/bin/mcp", false); w.exit(10, 0) }, two, 1000, "/usr/bin/codex"},
		"what a call left, of another sandbox":   {func(w *world) { w.exit(10, 0) }, three, 1000, "/usr/bin/codex"},
		"what a call left, of another agent":     {func(w *world) { w.exit(10, 0) }, two, 1000, "/usr/bin/claude"},
		"it ended, and that is another sandbox":  {func(w *world) { w.exit(11, 0); w.exit(10, 0) }, three, 1000, "/usr/bin/codex"},
		"it is long over, in another sandbox":    {func(w *world) { w.exit(11, 0); w.exit(10, 0); w.tick(time.Hour) }, three, 1000, "/usr/bin/codex"},
		"what a call left claims it, as a child": {nil, two, 1000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.raw(record.AppendCgroup(nil, w.now, three, 1, "/agents/three"))
			w.codex(10)
			w.call(10, 11, "call_1")
			if c.leave == nil { // a program like the agent, below what is left
				w.exit(10, 0)
				w.fork(11, 20)
				w.start(20, "/usr/bin/codex", false)
			} else {
				c.leave(w)
				w.begin(20, c.cgroup)
				w.start(20, c.exe, false)
			}
			w.fork(20, 21)
			w.start(21, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CLAUDE_CODE_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_2")
			w.open(21, "/a/x")
			w.tick(3 * time.Second)
			w.c.Close()
			if id := get(w.opened("/a/x"), span.KeySessionID); id == "sess" {
				t.Errorf("the session was taken: %s", show([]span.Span{w.opened("/a/x")}))
			}
			if get(w.execOf(21), span.KeyClaimSession) != "sess" {
				t.Errorf("the claim is not on the span: %s", show([]span.Span{w.execOf(21)}))
			}
		})
	}
}

func TestAnAgentThatIsFoundOutsideOfAllSandboxesResumesItsSession(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Sandboxes = append(c.Sandboxes, config.Selector{Agents: []string{"codex"}}) })
	w.foundAgent(10)
	w.call(10, 11, "call_1")
	w.exit(10, 0)
	w.tick(5 * time.Second)
	w.foundAgent(30)
	w.call(30, 31, "call_2")
	w.open(31, "/a/resumed")
	w.tick(3 * time.Second)
	w.c.Close()
	wants(t, w.opened("/a/resumed"), map[string]any{span.KeySessionID: "sess", span.KeyCallID: "call_2"})
}

func TestNothingThatCallsLeftBehindKeepsASessionFromWhoResumesIt(t *testing.T) {
	left := func(w *world, call, pid uint32) { // a call's process leaves another one
		w.fork(call, pid)
		w.start(pid, "/bin/server", true)
		w.exit(call, 0)
	}
	for name, leave := range map[string]func(w *world){
		"nothing": func(*world) {},
		"one":     func(w *world) { w.call(10, 11, "call_1"); left(w, 11, 12) },
		"several, of several calls": func(w *world) {
			for n := range uint32(4) {
				w.call(10, 40+2*n, fmt.Sprint("call_", 50+n))
				left(w, 40+2*n, 41+2*n)
			}
		},
		"an agent by name": func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/tmp/codex", false)
			w.exit(11, 0)
		},
		"an agent by name, that had claimed it first": func(w *world) {
			w.codex(60)
			w.fork(60, 61)
			w.start(61, "/bin/bash", true, "CODEX_SESSION_ID=other", "CODEX_TOOL_CALL_ID=call_0")
			w.fork(61, 62)
			w.start(62, "/tmp/codex", false)
			w.call(62, 63, "call_9")
			w.exit(61, 0)
			w.exit(60, 0)
		},
		"one whose exec was lost": func(w *world) {
			w.fork(10, 12)
			w.execIDs[12] += 2
			w.open(12, "/a/lost")
		},
		"one that is older than the sensor": func(w *world) { w.existing(12, 10, "/bin/server"); w.open(12, "/a/older") },
		"one of several open calls": func(w *world) {
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: "m1"})
			w.mark(10, record.Mark{Op: record.MarkBegin, Call: "m2"})
			w.fork(10, 12)
			w.start(12, "/bin/server", true, "CODEX_SESSION_ID=sess")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			leave(w)
			w.call(10, 19, "call_0")
			w.exit(19, 0)
			w.exit(10, 0)
			w.tick(5 * time.Second)
			for n := range uint32(3) { // resumed again and again, and the first and the last leave something
				agent := 100 + 10*n
				w.codex(agent)
				w.call(agent, agent+1, fmt.Sprint("call_", agent))
				w.open(agent+1, fmt.Sprint("/a/resumed", n))
				w.fork(agent+1, agent+2)
				w.start(agent+2, "/bin/server", true)
				w.open(agent+2, fmt.Sprint("/a/server", n))
				w.exit(agent+1, 0)
				if n == 1 {
					w.exit(agent+2, 0)
				}
				w.open(agent, fmt.Sprint("/a/agent", n))
				w.exit(agent, 0)
				w.tick(5 * time.Second)
			}
			for n := range 3 {
				call := fmt.Sprint("call_", 100+10*n)
				w.owned(fmt.Sprint("/a/resumed", n), call, "call_id")
				w.owned(fmt.Sprint("/a/server", n), call, "call_id")
				for _, file := range []string{"/a/resumed", "/a/agent", "/a/server"} {
					wants(t, w.opened(fmt.Sprint(file, n)), map[string]any{span.KeySessionID: "sess"})
				}
			}
			// It was in use, and is when somebody goes on with it.
			w.codex(200)
			w.call(200, 201, "call_200")
			w.codex(210)
			w.call(210, 211, "call_210")
			w.open(211, "/a/second")
			w.tick(3 * time.Second)
			if s := w.opened("/a/second"); s.Session == "sess" {
				t.Error("two agents have the session at once")
			}
			for pid := range w.c.lineage.Processes {
				w.exit(pid, 0)
			}
			if o := w.c.attribution.Sessions.BySession["sess"]; o == nil || o.Users != 0 || o.Left != 0 || w.c.Stats().Agents != 0 {
				t.Errorf("%+v when all is over, %d agents", o, w.c.Stats().Agents)
			}
		})
	}
}

// A storied is a record of a story, in the order of the ring.
type storied struct {
	name string
	pid  uint32
	exec uint64 // count of execs of the process, by then
	exe  string // of the program that runs by then
	raw  []byte
}

// lookStory is an agent with a call: a shell that starts a program and then becomes an agent.
func lookStory() (story []storied) {
	add := func(name string, pid uint32, exec uint64, exe string, flags uint16, body any) {
		h := record.Header{
			Time: bootStart + uint64(len(story)+1)*10*ms, Cgroup: two, Start: start(pid), ExecID: exec, Tgid: pid, Tid: pid, Flags: flags,
		}
		if pid == 1 {
			h.Cgroup = outside
		}
		story = append(story, storied{name, pid, exec, exe, rt.Record(h, body)})
	}
	fork := func(parent, child uint32, exec uint64, exe string) {
		add(fmt.Sprint("F", child), parent, exec, exe, 0, record.Fork{ChildStart: start(child), ChildCgroup: two, ChildTgid: child, ChildVpid: child})
	}
	exec := func(name string, pid, parent uint32, exec uint64, exe string, env ...string) {
		add(name, pid, exec, exe, record.ExecSessionLeader, record.Exec{
			Exe: rt.Path(exe), Filename: []byte(exe), Cwd: rt.Path("/repo"), Args: rt.Args(exe), ArgsSize: uint32(len(exe) + 1), Argc: 1,
			Env: rt.Args(env...), UID: 1000, EUID: 1000, Vpid: pid, ParentTgid: parent, ParentStart: start(parent),
		})
	}
	open := func(pid uint32, exec uint64, exe, file string) {
		add("O"+file, pid, exec, exe, 0, record.Open{Path: rt.Path(file), Name: []byte(file), Inode: 42})
	}
	const codex, bash, cat, claude = "/usr/bin/codex", "/bin/bash", "/bin/cat", "/tmp/claude"
	fork(1, 10, 0, "")
	exec("E10", 10, 1, 1, codex)
	fork(10, 11, 1, codex)
	open(11, 1, codex, "/a/fork")
	exec("E1", 11, 10, 2, bash, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
	open(11, 2, bash, "/a/bash")
	fork(11, 12, 2, bash)
	exec("E12", 12, 11, 3, cat, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
	open(12, 3, cat, "/a/child")
	open(11, 2, bash, "/a/bash again")
	exec("E2", 11, 10, 3, claude, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
	open(11, 3, claude, "/a/claude")
	fork(10, 13, 1, codex)
	open(12, 3, cat, "/a/last")
	return story
}

// A look in any place tells of a process as it was then or later, never before what was read.
func TestALookInAnyPlaceChangesNothingThatRecordsTell(t *testing.T) {
	story := lookStory()
	type look struct {
		pid, parent uint32
		exec        uint64
		exe         string
	}
	programs := []look{
		{11, 10, 1, "/usr/bin/codex"}, {11, 10, 2, "/bin/bash"}, {11, 10, 3, "/tmp/claude"}, {12, 11, 2, "/bin/bash"}, {12, 11, 3, "/bin/cat"}, {10, 1, 0, "/usr/bin/runtime"}, {10, 1, 1, "/usr/bin/codex"},
	}
	looks := [][]look{nil}
	for _, a := range programs {
		looks = append(looks, []look{a})
		for _, b := range programs {
			if a.pid != b.pid {
				looks = append(looks, []look{a, b})
			}
		}
	}
	run := func(lost string, at int, seen []look) (w *world, ok bool) {
		w = newWorld(t)
		read := map[uint32]uint64{}
		for n, r := range story {
			if n == at {
				for _, l := range seen {
					if read[l.pid] > l.exec {
						return nil, false
					}
					h := record.Header{Time: bootStart + uint64(n)*10*ms + 5*ms, Cgroup: two, Start: start(l.pid), ExecID: l.exec, Tgid: l.pid, Tid: l.pid}
					w.raw(rt.Record(h, record.Process{ParentTgid: l.parent, ParentStart: start(l.parent), Vpid: l.pid, UID: 1000, Exe: rt.Path(l.exe), Cwd: rt.Path("/repo")}))
					w.raw(record.AppendCmdline(nil, h, 1, rt.Args(l.exe)))
				}
			}
			if strings.Contains(lost, r.name+" ") {
				continue
			}
			read[r.pid] = r.exec
			w.raw(r.raw)
		}
		w.c.Close()
		return w, true
	}
	count := 0
	for _, lost := range []string{"", "F10 ", "F11 ", "F12 ", "E1 ", "E2 ", "E12 ", "F11 E1 ", "F12 E12 ", "E1 E2 ", "F11 F12 "} {
		without, _ := run(lost, -1, nil)
		for at := range story {
			for _, seen := range looks {
				w, ok := run(lost, at, seen)
				if !ok {
					continue
				}
				count++
				told := func(f string, args ...any) {
					t.Errorf("lost %q, before %s a look at %v: "+f, append([]any{lost, story[at].name, seen}, args...)...)
				}
				if lost == "" {
					if got, want := unnumbered(w.spans), unnumbered(without.spans); got != want {
						told("%s\nwithout it\n%s", got, want)
					}
				}
				for _, r := range story {
					if strings.HasPrefix(r.name, "E") && !strings.Contains(lost, r.name+" ") {
						n := 0
						for _, s := range w.of(span.Exec) {
							if get(s, span.KeyPreexisting) == nil && get(s, span.KeyPID) == int64(r.pid) && get(s, span.KeyExecutablePath) == r.exe {
								n++
							}
						}
						if n != 1 {
							told("%s is told %d times: %s", r.name, n, show(w.of(span.Exec)))
						}
					}
					if file, ok := strings.CutPrefix(r.name, "O"); ok {
						s, before := w.opened(file), without.opened(file)
						if exe := get(s, span.KeyExecutablePath); exe != nil && exe != r.exe {
							told("%s was opened by %v", file, exe)
						}
						if get(s, span.KeyAgentName) == "claude-code" && r.pid == 11 && r.exe != "/tmp/claude" {
							told("%s is of an agent that comes later", file)
						}
						if k := get(before, span.KeyCallID); k != nil && (get(s, span.KeyCallID) != k || s.Session != before.Session) {
							told("%s is taken out of its call: %s", file, show([]span.Span{s}))
						}
						if k := get(s, span.KeyCallID); k != nil && (k != "call_1" || file == "/a/fork") {
							told("%s is put in a call: %s", file, show([]span.Span{s}))
						}
					}
				}
				if t.Failed() {
					return
				}
			}
		}
	}
	t.Logf("%d orders", count)
}

func TestWhatALookHasToldLongAgoIsNotToldAgain(t *testing.T) {
	w := newWorld(t)
	w.cgroup[10] = two
	w.sees(10, 1, 1, "/usr/bin/codex")
	w.tick(5 * time.Second)
	w.start(10, "/usr/bin/codex", false)
	w.call(10, 11, "call_1")
	w.open(11, "/a/x")
	w.tick(5 * time.Second)
	w.owned("/a/x", "call_1", "call_id")
	wants(t, w.noticeOf(10), map[string]any{span.KeyPreexisting: true})
	w.c.Close()
	if n := len(w.of(span.Exec)); n != 2 {
		t.Errorf("%d programs are told, want 2: %s", n, show(w.of(span.Exec)))
	}
}

// unnumbered shows spans without what counts them.
func unnumbered(list []span.Span) string {
	list = slices.Clone(list)
	for i := range list {
		list[i].Attrs = slices.DeleteFunc(slices.Clone(list[i].Attrs), func(a span.Attr) bool { return a.Key == span.KeySeq })
	}
	return show(list)
}
