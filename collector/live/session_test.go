// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package live

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

// agentStory are records of agents in sandboxes, with a clock of their own.
type agentStory struct {
	t    testing.TB
	f    *Feed
	now  uint64
	path string
	sink *sent
	was  []*sent // those of before
	conf collector.Config
}

func newStory(t testing.TB) *agentStory {
	s := &agentStory{t: t, now: 1000 * ms, path: filepath.Join(t.TempDir(), "journal")}
	s.conf = collector.Config{
		BootID: "boot", Sandboxes: []collector.Selector{{Cgroup: "/agents/*"}}, Hold: 200 * time.Millisecond,
	}
	s.begin()
	s.pass(record.AppendClock(nil, s.now, int64(s.now)))
	for id, name := range map[uint64]string{11: "/agents/a", 12: "/agents/b"} {
		s.pass(record.AppendCgroup(nil, s.now, id, 1, name))
	}
	return s
}

func (s *agentStory) begin() {
	s.t.Helper()
	s.sink = &sent{}
	s.f = journaled(s.t.(*testing.T), s.path, s.conf, s.sink)
	s.f.resume()
}

func (s *agentStory) kill() {
	s.t.Helper()
	s.was = append(s.was, s.sink)
	if err := s.f.o.Journal.File.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.begin()
}

func (s *agentStory) pass(raws ...[]byte) { s.f.passOn(raws...) }

func (s *agentStory) tick(d time.Duration) {
	for end := s.now + uint64(d); s.now < end; {
		s.now += 100 * ms
		s.pass(record.AppendTick(nil, s.now))
	}
}

func (s *agentStory) header(pid uint32, cgroup, execs uint64) record.Header {
	s.now += ms
	return record.Header{Time: s.now, Cgroup: cgroup, Start: 100*ms + uint64(pid), ExecID: execs, Tgid: pid, Tid: pid}
}

func (s *agentStory) exec(pid uint32, cgroup, execs uint64, exe string, env ...string) {
	h := s.header(pid, cgroup, execs)
	h.Flags = record.ExecSessionLeader
	s.pass(rt.Record(h, record.Exec{Exe: rt.Path(exe), Args: rt.Args(exe), Argc: 1, UID: 1000, EUID: 1000, Cwd: rt.Path("/repo"), Env: rt.Args(env...)}))
}

func (s *agentStory) fork(parent, child uint32, cgroup, execs uint64) {
	h := s.header(parent, cgroup, execs)
	s.pass(rt.Record(h, record.Fork{ChildStart: 100*ms + uint64(child), ChildCgroup: cgroup, ChildTgid: child, ChildVpid: child}))
}

func (s *agentStory) exit(pid uint32, cgroup, execs uint64) {
	s.pass(rt.Record(s.header(pid, cgroup, execs), record.Exit{}))
}

func (s *agentStory) open(pid uint32, cgroup, execs uint64, file string) {
	s.pass(rt.Record(s.header(pid, cgroup, execs), record.Open{Path: rt.Path(file), Name: []byte(file), Inode: 42}))
}

func (s *agentStory) agent(pid uint32, cgroup uint64) {
	s.pass(rt.Record(s.header(1, 99, 0), record.Fork{ChildStart: 100*ms + uint64(pid), ChildCgroup: cgroup, ChildTgid: pid, ChildVpid: pid}))
	s.exec(pid, cgroup, 1, "/usr/bin/codex")
}

func (s *agentStory) call(agent, pid uint32, cgroup uint64, session, call string) {
	s.fork(agent, pid, cgroup, 1)
	s.exec(pid, cgroup, 2, "/bin/bash", "CODEX_SESSION_ID="+session, "CODEX_TOOL_CALL_ID="+call)
}

// sessionOf gives the session of the span of a file.
func (s *agentStory) sessionOf(file string) string {
	s.t.Helper()
	s.tick(time.Second)
	for _, span := range s.sink.passed {
		text := span.text
		if strings.Contains(text, " 1 "+file+" ") {
			_, rest, _ := strings.Cut(text, "{session.id 1 ")
			session, _, _ := strings.Cut(rest, " 0 []}")
			return session
		}
	}
	s.t.Fatalf("no span of %s in %d", file, s.sink.made)
	return ""
}

// restarts are how a sensor ends, and another begins with the journal.
var restarts = map[string]func(s *agentStory){
	"nothing": func(*agentStory) {},
	"a kill":  func(s *agentStory) { s.kill() },
	"an end": func(s *agentStory) {
		s.f.End()
		s.kill()
	},
	"kills and ends": func(s *agentStory) {
		for range 3 {
			s.kill()
			s.tick(2 * time.Second)
			s.f.End()
			s.kill()
			s.tick(2 * time.Second)
		}
	},
}

func TestASessionStaysWhoseItIsOverRestarts(t *testing.T) {
	const a, b = 11, 12
	for name, restart := range restarts {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.agent(10, a)
			s.call(10, 20, a, "ended", "call_1")
			s.exit(20, a, 2)
			s.exit(10, a, 1)
			s.agent(11, a) // leaves two processes
			s.call(11, 21, a, "left", "call_1")
			s.fork(21, 22, a, 2)
			s.call(11, 23, a, "left", "call_2")
			s.exit(21, a, 2)
			s.exit(11, a, 1)
			s.agent(12, a)
			s.call(12, 24, a, "runs", "call_1")
			s.exit(24, a, 2)
			s.agent(13, a) // has had two
			s.call(13, 25, a, "first", "call_1")
			s.exit(25, a, 2)
			s.call(13, 26, a, "second", "call_2")
			s.exit(26, a, 2)
			s.agent(40, b) // is refused now, and lives on
			s.call(40, 50, b, "ended", "call_1")
			s.open(50, b, 2, "/a/early")
			if got := s.sessionOf("/a/early"); got == "ended" {
				t.Error("another sandbox has taken it before the restart")
			}
			s.tick(2 * time.Second) // everything that has ended is left out of the journal
			restart(s)

			s.open(12, a, 1, "/a/runs")
			s.open(13, a, 1, "/a/second")
			s.open(22, a, 2, "/a/left")
			s.open(50, b, 2, "/a/refused")
			for pid, session := range []string{"ended", "left", "runs", "first", "second"} {
				agent, command := 60+uint32(pid), 70+uint32(pid)
				s.agent(agent, b)
				s.call(agent, command, b, session, "call_3")
				s.open(command, b, 2, "/b/"+session)
				if got := s.sessionOf("/b/" + session); got == session {
					t.Errorf("another sandbox has taken %q", session)
				}
				if session == "runs" || session == "second" {
					continue // in use
				}
				agent, command = agent+20, command+20
				s.agent(agent, a)
				s.call(agent, command, a, session, "call_3")
				s.open(command, a, 2, "/again/"+session)
				if got := s.sessionOf("/again/" + session); got != session {
					t.Errorf("who goes on with %q is in %q", session, got)
				}
			}
			for file, want := range map[string]string{"/a/runs": "runs", "/a/second": "second", "/a/left": "left"} {
				if got := s.sessionOf(file); got != want {
					t.Errorf("%s is in session %q, want %q", file, got, want)
				}
			}
			if got := s.sessionOf("/a/refused"); got == "ended" {
				t.Error("what was refused before the restart is taken after it")
			}
		})
	}
}

func TestASessionThatANestedAgentHadIsGivenBackAfterAKill(t *testing.T) {
	const a, b = 11, 12
	for name, restart := range restarts {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.agent(10, a)
			s.call(10, 20, a, "outer", "call_1")
			s.fork(20, 21, a, 2)
			s.exec(21, a, 3, "/usr/bin/codex")
			s.fork(21, 22, a, 3)
			s.exec(22, a, 4, "/bin/bash", "CODEX_SESSION_ID=mine", "CODEX_TOOL_CALL_ID=call_2")
			s.exit(22, a, 4)
			s.tick(2 * time.Second)
			restart(s)
			s.open(21, a, 3, "/nested")
			if got := s.sessionOf("/nested"); got != "mine" {
				t.Errorf("the nested agent is in %q", got)
			}
			s.agent(30, b)
			s.call(30, 40, b, "mine", "call_1")
			s.open(40, b, 2, "/honest")
			s.open(21, a, 3, "/displaced")
			if got := s.sessionOf("/honest"); got != "mine" {
				t.Errorf("the agent outside of calls is in %q", got)
			}
			s.exit(40, b, 2)
			s.exit(30, b, 1)
			s.tick(2 * time.Second)
			restart(s)
			s.open(21, a, 3, "/still")
			for _, file := range []string{"/displaced", "/still"} {
				if file == "/displaced" && name != "nothing" {
					continue // told before the restart
				}
				if got := s.sessionOf(file); got == "mine" {
					t.Errorf("the nested agent is in it at %s", file)
				}
			}
		})
	}
}

// An id that an agent uses again is that of another call, whatever the sensor forgets of the first one.
func TestACallUnderAnIdOfBeforeIsAnotherOneAfterAKill(t *testing.T) {
	const a = 11
	for name, restart := range restarts {
		for _, after := range []bool{false, true} { // it has forgotten the first one
			t.Run(fmt.Sprint(name, " ", after), func(t *testing.T) {
				s := newStory(t)
				s.conf.CallRetention = time.Minute
				s.kill()
				s.agent(10, a)
				s.call(10, 20, a, "s", "call_1")
				s.exit(20, a, 2)
				s.tick(2 * time.Second)
				if after {
					s.tick(time.Minute)
				}
				restart(s)
				s.tick(time.Minute)
				s.call(10, 30, a, "s", "call_1")
				s.exit(30, a, 2)
				s.tick(2 * time.Second)
				all, calls := map[string]string{}, 0
				for _, sink := range append(s.was, s.sink) {
					into(t, all, sink.passed)
				}
				for _, text := range all {
					if strings.HasPrefix(text, "session.call ") {
						calls++
					}
				}
				if calls != 2 {
					t.Errorf("%d calls", calls)
				}
			})
		}
	}
}

// What the first process of a call has said of it is known for as long as the call is not told.
func TestACallIsToldAlikeOverRestarts(t *testing.T) {
	const a = 11
	for name, restart := range restarts {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			mark := func(op record.MarkOp) {
				h := s.header(10, a, 1)
				s.pass(record.AppendMark(nil, h.Time, h.Tgid, h.Start, record.Mark{Op: op, Call: "call_1"}))
			}
			s.agent(10, a)
			mark(record.MarkBegin)
			s.fork(10, 20, a, 1)
			s.exec(20, a, 2, "/bin/make", "CODEX_SESSION_ID=s", "CODEX_CI=1")
			s.pass(rt.Record(s.header(20, a, 2), record.Exit{Status: 3 << 8}))
			s.tick(5 * time.Second)
			restart(s)
			s.tick(time.Second)
			mark(record.MarkEnd)
			s.tick(2 * time.Second)
			for _, span := range s.sink.passed {
				if strings.HasPrefix(span.text, "session.call ") {
					for _, want := range []string{"{sheetbend.call.title 1 /bin/make 0", "{sheetbend.call.exit_code 2  3", "{sheetbend.call.began 2  1003"} {
						if !strings.Contains(span.text, want) {
							t.Errorf("%s without %s", span.text, want)
						}
					}
					return
				}
			}
			t.Error("no session.call")
		})
	}
}
