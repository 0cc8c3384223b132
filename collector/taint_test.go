// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// into is an access of an operation to a process.
func into(op uint16, pid uint32) record.Access {
	return record.Access{Op: op, TargetTgid: pid, TargetStart: start(pid), TargetCgroup: two}
}

// memory opens the memory of a process, by a name, as the trampoline form tells it.
func (w *world) memory(by, pid uint32, name string, open uint16, flags uint32) {
	w.t.Helper()
	w.reach(by, 0, into(record.AccessProc, pid))
	w.openWith(by, record.OpenOnProc|open, record.Open{Path: rt.Path(name), Name: []byte(name), Flags: flags})
}

// tainted gives the processes of which the span of an open says that somebody has reached into them, and checks that
// all of these name the same call.
func (w *world) tainted(prefix string, by string, pid uint32) (list string) {
	w.t.Helper()
	var found []string
	for _, s := range w.of(span.Open) {
		path, below := strings.CutPrefix(fmt.Sprint(get(s, span.KeyFilePath)), prefix)
		if !below || get(s, span.KeyTainted) == nil {
			continue
		}
		found = append(found, path)
		want := map[string]any{span.KeyTainted: true, span.KeyTaintedCall: by, span.KeyTaintedPID: int(pid)}
		if by == "" {
			want[span.KeyTaintedCall] = nil
		}
		wants(w.t, s, want)
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// The processes of the tables below.
const (
	theAgent, worker              = 10, 15 // codex, and a fork of it that runs nothing else
	inOne, inTwo, inTwoToo        = 11, 12, 16
	git, gitToo, hookOfAgent      = 13, 14, 17
	otherAgent, nobody, nobodyToo = 30, 40, 41
	late                          = 50 // and on: what begins after the reach
)

func reachScene(t *testing.T) *world {
	w := newWorld(t, withSelf)
	w.codex(theAgent)
	w.call(theAgent, inOne, "call_1")
	w.call(theAgent, inTwo, "call_2")
	w.fork(inTwo, inTwoToo)
	for _, pid := range []uint32{git, gitToo} {
		w.fork(theAgent, pid)
		w.start(pid, "/usr/bin/git", false)
	}
	w.hookBelow(theAgent, hookOfAgent)
	w.fork(theAgent, worker)
	w.claude(otherAgent)
	for _, pid := range []uint32{nobody, nobodyToo} {
		w.begin(pid, two)
		w.exec(pid, "/bin/bash", "bash")
	}
	return w
}

// Who is tainted by whom: rows of docs/design/attribution.md.
func TestWhoeverReachesIntoAnotherTaintsIt(t *testing.T) {
	const (
		agentsOwn = "/new/50 /old/10 /old/15" // the agent, its worker, and the call that it begins then
		none      = ""
	)
	attach := func(by, pid uint32) func(*world) {
		return func(w *world) { w.reach(by, 0, into(record.AccessAttach, pid)) }
	}
	op := func(op uint16) func(*world) {
		return func(w *world) { w.reach(inOne, 0, into(op, theAgent)) }
	}
	mem := func(name string, open uint16, flags uint32) func(*world) {
		return func(w *world) { w.memory(inOne, theAgent, name, open, flags) }
	}
	file := func(name string, open uint16, flags uint32) func(*world) {
		return func(w *world) {
			w.openWith(inOne, record.OpenOnProc|open, record.Open{Path: rt.Path(name), Name: []byte(name), Flags: flags})
		}
	}
	for _, c := range []struct {
		name string
		do   func(*world)
		want string
		by   string // call
		pid  uint32
	}{
		{"a call into the agent", attach(inOne, theAgent), agentsOwn, "call_1", inOne},
		{"a call into the agent's worker", attach(inOne, worker), agentsOwn, "call_1", inOne},
		{"a helper into the agent", attach(git, theAgent), agentsOwn, "", git},
		{"another agent into the agent", attach(otherAgent, theAgent), agentsOwn, "", otherAgent},
		{"nobody's process into the agent", attach(nobody, theAgent), agentsOwn, "", nobody},
		{"the agent's worker into the agent", attach(worker, theAgent), none, "", 0},
		{"the agent into its call", attach(theAgent, inOne), none, "", 0},
		{"the agent into its helper", attach(theAgent, git), none, "", 0},
		{"a call into its own process", attach(inTwo, inTwoToo), none, "", 0},
		{"a call into another call, of which one has forked before", attach(inOne, inTwo), "/new/52 /old/12", "call_1", inOne},
		{"a helper into a call", attach(git, inTwo), "/new/52 /old/12", "", git},
		{"a call into a helper", attach(inOne, git), "/new/53 /old/13", "call_1", inOne},
		{"a helper into a helper", attach(git, gitToo), none, "", 0},
		{"a helper into a hook, which speaks for the agent", attach(git, hookOfAgent), "/old/17", "", git},
		{"a call into nobody's process", attach(inOne, nobody), "/new/54 /old/40", "call_1", inOne},
		{"nobody's process into nobody's", attach(nobodyToo, nobody), none, "", 0},

		{"PTRACE_SEIZE", op(record.AccessSeize), agentsOwn, "call_1", inOne},
		{"process_vm_writev", op(record.AccessWrite), agentsOwn, "call_1", inOne},
		{"a call of no known kind, as of 32 bits", op(record.AccessOther), agentsOwn, "call_1", inOne},
		{"process_vm_readv", op(record.AccessRead), none, "", 0},
		{"pidfd_getfd", op(record.AccessGetfd), none, "", 0},
		{"a signal", op(record.AccessSignal), none, "", 0},
		{"a file of /proc, without an open for writing", op(record.AccessProc), none, "", 0},
		{"its memory, for writing", mem("/proc/10/mem", 0, unix.O_RDWR), agentsOwn, "call_1", inOne},
		{"its memory, where pids are others", mem("/proc/7/mem", record.OpenForeign, unix.O_WRONLY), agentsOwn, "call_1", inOne},
		{"its memory, for reading", mem("/proc/10/mem", 0, unix.O_RDONLY), none, "", 0},
		{"its memory, by the name alone", file("/proc/10/mem", 0, unix.O_WRONLY), agentsOwn, "call_1", inOne},
		{"its memory, by the thread's name alone", file("/proc/10/task/10/mem", 0, unix.O_WRONLY), agentsOwn, "call_1", inOne},
		{"a name of a /proc that may be its own", file("/proc/10/mem", record.OpenForeign, unix.O_WRONLY), none, "", 0},
		{"a file that is called so", file("/tmp/10/mem", 0, unix.O_WRONLY), none, "", 0},
		{"another file of /proc", file("/proc/10/oom_score_adj", 0, unix.O_WRONLY), none, "", 0},
		{"its own memory", file("/proc/11/mem", 0, unix.O_WRONLY), none, "", 0},
		{"its memory by another thread than was let in", func(w *world) {
			w.reach(inOne, 0, into(record.AccessProc, theAgent))
			h := w.header(inOne)
			h.Flags, h.Tid = record.OpenOnProc|record.OpenForeign, 999
			w.raw(rt.Record(h, record.Open{Path: rt.Path("/proc/1/mem"), Inode: 1, Flags: unix.O_WRONLY}))
		}, none, "", 0},

		{"refused", func(w *world) {
			r := into(record.AccessAttach, theAgent)
			r.Error = int32(unix.EPERM)
			w.reach(inOne, 0, r)
		}, none, "", 0},
		{"memory that is refused", func(w *world) {
			r := into(record.AccessProc, theAgent)
			r.Error = int32(unix.EACCES)
			w.reach(inOne, 0, r)
			w.openWith(inOne, record.OpenOnProc, record.Open{Name: []byte("/proc/10/mem"), Flags: unix.O_WRONLY, Error: int32(unix.EACCES)})
		}, none, "", 0},
		{"an older process of that pid", func(w *world) {
			r := into(record.AccessAttach, theAgent)
			r.TargetStart--
			w.reach(inOne, 0, r)
		}, none, "", 0},
		{"a target that is not known", func(w *world) {
			w.reach(inOne, record.AccessTargetUnknown, record.Access{Op: record.AccessAttach})
		}, none, "", 0},
		{"the first one stays", func(w *world) {
			attach(inOne, theAgent)(w)
			attach(inTwo, theAgent)(w)
		}, agentsOwn, "call_1", inOne},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := reachScene(t)
			old := []uint32{theAgent, worker, inOne, inTwo, inTwoToo, git, gitToo, hookOfAgent, otherAgent, nobody, nobodyToo}
			for _, pid := range old {
				w.open(pid, fmt.Sprintf("/before/%d", pid))
			}
			c.do(w)
			for _, pid := range old {
				w.open(pid, fmt.Sprintf("/old/%d", pid))
			}
			w.call(theAgent, late, "call_3")
			for n, parent := range []uint32{inOne, inTwo, git, nobody} { // whose child runs a program of its own
				pid := late + 1 + uint32(n)
				w.fork(parent, pid)
				w.start(pid, "/bin/child", false)
			}
			for pid := uint32(late); pid < late+5; pid++ {
				w.open(pid, fmt.Sprintf("/new/%d", pid))
			}
			w.c.Close()
			if got := w.tainted("", c.by, c.pid); got != c.want {
				t.Errorf("tainted: %s; want %s", got, c.want)
			}
		})
	}
}

func TestATaintedAgentsCallsAreFlaggedAndThoseOfBeforeAreNot(t *testing.T) {
	w := reachScene(t)
	w.open(theAgent, "/a/same")
	w.reach(inOne, 0, into(record.AccessWrite, theAgent))
	w.open(theAgent, "/a/same")
	w.call(theAgent, late, "call_3")
	w.exit(late, 0)
	w.exit(inOne, 0)
	w.c.Close()

	flag := map[string]any{span.KeyTainted: true, span.KeyTaintedCall: "call_1", span.KeyTaintedPID: inOne}
	for _, s := range w.spans {
		of := get(s, span.KeyCallID)
		switch {
		case of == "call_3":
			wants(t, s, flag)
			wants(t, s, map[string]any{span.KeyAttribution: "call_id"}) // as it is known
		case of == "call_1" || of == "call_2" || s.Kind == span.Session:
			wants(t, s, map[string]any{span.KeyTainted: nil})
		}
	}
	if n := len(w.of(span.SessionCall)); n < 3 {
		t.Errorf("%d session.call", n)
	}
	// The agent's own program began before, and what it opened is not counted together.
	wants(t, w.execOf(theAgent), map[string]any{span.KeyTainted: nil})
	var same []any
	for _, s := range w.of(span.Open) {
		if get(s, span.KeyFilePath) == "/a/same" {
			same = append(same, get(s, span.KeyTainted), get(s, span.KeyCount))
		}
	}
	if want := []any{nil, int64(1), true, int64(1)}; !slices.Equal(same, want) {
		t.Errorf("%v, want %v", same, want)
	}
}

func TestATaintGoesOnInAnotherProgramAnAgentAndAMark(t *testing.T) {
	w := reachScene(t)
	// A tracer stays attached over an exec; what the process becomes was decided by what was reached into.
	w.reach(inOne, 0, into(record.AccessAttach, inTwo))
	w.start(inTwo, "/usr/bin/make", false)
	w.fork(inTwo, late)
	w.start(late, "/usr/bin/claude", false)
	w.fork(late, late+1)
	w.start(late+1, "/bin/bash", true)
	w.open(late+1, "/a/nested")
	// A hook that was reached into may mark anything.
	w.reach(git, 0, into(record.AccessAttach, hookOfAgent))
	w.mark(hookOfAgent, record.Mark{Op: record.MarkBegin, Call: "call_hook", Session: "sess"})
	w.mark(hookOfAgent, record.Mark{Op: record.MarkEnd, Call: "call_hook", Session: "sess"})
	w.tick(20 * time.Second)
	w.c.Close()

	by := map[string]any{span.KeyTainted: true, span.KeyTaintedCall: "call_1", span.KeyTaintedPID: inOne}
	wants(t, w.opened("/a/nested"), by)
	wants(t, w.execOf(late), by)
	made := 0
	for _, s := range w.of(span.Exec) {
		if get(s, span.KeyExecutablePath) == "/usr/bin/make" {
			made++
			wants(t, s, by)
		}
	}
	if made != 1 {
		t.Errorf("%d spans of make", made)
	}
	wants(t, w.tool("call_hook"), map[string]any{
		span.KeyMarkedBy: "hook", span.KeyTainted: true, span.KeyTaintedCall: nil, span.KeyTaintedPID: git,
	})
}

// What a call has left running does for whoever asks for it, after the call's end.
func TestWhatACallLeftRunningIsStartedByIt(t *testing.T) {
	hook := func(w *world, op record.MarkOp, id string) {
		w.mark(hookOfAgent, record.Mark{Op: op, Call: id, Session: "sess"})
	}
	for _, c := range []struct {
		name string
		do   func(w *world) // opens /a/own, and /a/left
	}{
		{"a server whose call's command has ended", func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/bin/server", true)
			w.open(12, "/a/own")
			w.exit(11, 0)
			w.open(12, "/a/left")
		}},
		{"a child that such a server starts for a later call (tmux, build daemons)", func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(12, "/usr/bin/tmux", true)
			w.open(12, "/a/own")
			w.exit(11, 0)
			w.call(10, 13, "call_2")
			w.fork(12, 14)
			w.start(14, "/bin/bash", true, "CODEX_TOOL_CALL_ID=call_2")
			w.open(14, "/a/left")
		}},
		{"the agent starts another command for the call, until that ends", func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.exit(11, 0)
			w.call(10, 13, "call_1")
			w.open(12, "/a/own")
			w.exit(13, 0)
			w.open(12, "/a/left")
		}},
		{"one of two commands goes on", func(w *world) {
			w.call(10, 11, "call_1")
			w.call(10, 13, "call_1")
			w.fork(11, 12)
			w.exit(11, 0)
			w.open(12, "/a/own")
			w.exit(13, 0)
			w.open(12, "/a/left")
		}},
		{"a mark ends, and the command runs on (run in the background)", func(w *world) {
			hook(w, record.MarkBegin, "call_1")
			w.call(10, 11, "call_1")
			w.open(11, "/a/own")
			hook(w, record.MarkEnd, "call_1")
			w.open(11, "/a/left")
		}},
		{"a mark is open, whatever has ended", func(w *world) {
			hook(w, record.MarkBegin, "call_1")
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.exit(11, 0)
			w.open(12, "/a/own")
			hook(w, record.MarkEnd, "call_1")
			w.open(12, "/a/left")
		}},
		{"the command becomes an agent, which is the call's command until it ends", func(w *world) {
			w.call(10, 11, "call_1")
			w.fork(11, 12)
			w.start(11, "/usr/bin/claude", true)
			w.open(12, "/a/own")
			w.exit(11, 0)
			w.open(12, "/a/left")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, withSelf)
			w.codex(10)
			w.hookBelow(10, hookOfAgent)
			c.do(w)
			w.c.Close()
			wants(t, w.opened("/a/own"), map[string]any{span.KeyCallID: "call_1", span.KeyStartedBy: nil})
			if by := get(w.opened("/a/own"), span.KeyAttribution); by == "started_by" {
				t.Error("it is the call's own")
			}
			wants(t, w.opened("/a/left"), map[string]any{
				span.KeyCallID: "call_1", span.KeyStartedBy: "call_1", span.KeyAttribution: "started_by", span.KeySessionID: "sess",
			})
		})
	}
}

func TestWhatBeganBeforeTheEndOfACallIsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.fork(11, 12)
	w.start(12, "/bin/server", true)
	w.write(12, "/repo/during", 7, true)
	w.open(12, "/a/same")
	w.exit(11, 0)
	w.open(12, "/a/same")
	w.write(12, "/repo/after", 8, true)
	w.start(12, "/bin/next", true)
	w.exit(12, 0)
	w.tick(20 * time.Second)
	w.c.Close()

	own := map[string]any{span.KeyAttribution: "call_id", span.KeyStartedBy: nil}
	var programs []any
	for _, s := range w.spans {
		path := get(s, span.KeyExecutablePath)
		switch {
		case s.Kind == span.Exec && path == "/bin/server", s.Kind == span.Tool, s.Kind == span.SessionCall:
			wants(t, s, own)
		case s.Kind == span.Exec && path == "/bin/next":
			wants(t, s, map[string]any{span.KeyAttribution: "started_by", span.KeyStartedBy: "call_1"})
		default:
			continue
		}
		programs = append(programs, path)
	}
	if len(programs) != 4 {
		t.Errorf("%v", programs)
	}
	var same []any
	for _, s := range w.of(span.Open) {
		if get(s, span.KeyFilePath) == "/a/same" {
			same = append(same, get(s, span.KeyAttribution), get(s, span.KeyCount))
		}
	}
	if want := []any{"call_id", int64(1), "started_by", int64(1)}; !slices.Equal(same, want) {
		t.Errorf("%v, want %v", same, want)
	}
	// session.call has what was changed until the end, the agent all.
	wants(t, w.told("call_1"), map[string]any{span.KeyFilesCreated: 1, span.KeyFilesCreatedNames: []string{"/repo/during"}})
	wants(t, w.only(span.Session), map[string]any{span.KeyPartial: true})
}

func TestWhatAProcessesOwnCallLeftRunningKeepsWhoSaidSo(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.mark(11, record.Mark{Op: record.MarkBegin, Call: "own"})
	w.fork(11, 12)
	w.mark(11, record.Mark{Op: record.MarkEnd, Call: "own"})
	w.open(12, "/a/left")
	w.c.Close()
	wants(t, w.opened("/a/left"), map[string]any{
		span.KeyCallID: "own", span.KeyStartedBy: "own", span.KeyAttribution: "started_by", span.KeyMarkedBy: "self", span.KeyParentCall: "call_1",
	})
}

// reachLog is the journal of a world: of who has reached into whom, by the count of records before.
type reachLog struct {
	*world
	reaches map[int][]Reach
}

func (reachLog) Slice(Slice)   {}
func (reachLog) Claimed(Claim) {}
func (l reachLog) Reached(r Reach) {
	l.reaches[len(l.records)] = append(l.reaches[len(l.records)], r)
}

// A later process that is not given the record of the access knows it all the same.
func TestAReachIsAFactOfTheJournal(t *testing.T) {
	w := reachScene(t)
	l := reachLog{w, map[int][]Reach{}}
	w.c.Restart().SetJournal(l)
	w.reach(inOne, 0, into(record.AccessAttach, worker))
	w.reach(inOne, 0, into(record.AccessAttach, inTwo))
	w.reach(inOne, 0, into(record.AccessAttach, inTwo))
	w.exit(inTwo, 0) // what lives of it was forked before
	if len(l.reaches) != 2 {
		t.Fatalf("%v", l.reaches)
	}
	later := &world{t: t, now: w.now, execIDs: w.execIDs, cgroup: w.cgroup}
	c, err := New(*w.c.config, later)
	if err != nil {
		t.Fatal(err)
	}
	later.c = c
	c.Restart().Resuming(true)
	for n, raw := range w.records {
		var e record.Event
		if e.Decode(raw) == nil && e.Header.Type != record.TypeAccess {
			later.raw(raw)
		}
		for _, r := range l.reaches[n+1] {
			c.Restart().SetReach(r)
		}
	}
	c.Restart().Resuming(false)
	later.open(theAgent, "/a/10")
	later.open(inTwoToo, "/a/16")
	later.call(theAgent, late, "call_3")
	later.open(late, "/a/50")
	later.c.Close()
	if got, want := later.tainted("/a/", "call_1", inOne), "10 50"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
