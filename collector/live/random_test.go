// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package live

import (
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// random makes records of agents in sandboxes that do whatever comes up.
type random struct {
	*rand.Rand
	now    uint64
	raws   [][]byte
	living []record.Header // by their last program
	pid    uint32
	cookie uint64
	open   []connection // without an outcome
	made   []connection
	marks  [2]string // the call that each agent has marked
}

// A connection is of a cookie, by whoever has made it.
type connection struct {
	by     record.Header
	cookie uint64
	since  uint64 // boottime
	in     bool
}

// randomRecords are records, and a configuration with a hold that is short beside them.
func randomRecords(seed uint64) ([][]byte, collector.Config) {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 1)), now: 1000 * ms, pid: 100}
	r.add(record.AppendClock(nil, r.now, int64(r.now)))
	for id, name := range []string{"/agents/a", "/agents/b"} {
		r.add(record.AppendCgroup(nil, r.now, uint64(11+id), 1, name))
		r.start(record.Header{Tgid: 1, Start: 1, Cgroup: 1}, uint64(11+id), "/usr/bin/codex")
	}
	steps := []func(record.Header){
		r.file, r.file, r.file, r.file, r.connect, r.outcome, r.outcome, r.accept, r.end, r.fork, r.fork, r.exec, r.exec, r.exit,
		r.call, r.mark, r.tick, r.tick, r.tick,
	}
	for range 1500 {
		steps[r.IntN(len(steps))](r.living[r.IntN(len(r.living))])
	}
	return r.raws, collector.Config{
		BootID: "boot", Sandboxes: []collector.Selector{{Cgroup: "/agents/*"}}, Hold: 300 * time.Millisecond,
		MaxSpansPerTrace: 40, Noise: []string{},
	}
}

func (r *random) add(raw []byte) { r.raws = append(r.raws, raw) }

func (r *random) record(h record.Header, body any) {
	r.now += ms
	h.Time, h.Tid = r.now, h.Tgid
	r.add(recordtest.Record(h, body))
}

func (r *random) tick(record.Header) {
	r.now += 100 * ms
	r.add(record.AppendTick(nil, r.now))
}

func (r *random) file(h record.Header) {
	n := r.IntN(20)
	name := fmt.Sprintf("/repo/%d", n)
	e := record.Open{Path: recordtest.Path(name), Name: []byte(name), Inode: uint64(n)}
	if r.IntN(3) == 0 {
		e.Flags = unix.O_WRONLY | unix.O_CREAT
	} else if r.IntN(3) == 0 {
		e.Error = int32(unix.ENOENT)
	}
	r.record(h, e)
}

func (r *random) connect(h record.Header) {
	r.cookie++
	c := record.Connect{Cookie: r.cookie, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Port: 443, Addr: [16]byte{192, 0, 2, 1}}
	r.record(h, c)
	r.open = append(r.open, connection{by: h, cookie: r.cookie})
}

func (r *random) accept(h record.Header) {
	r.cookie++
	r.record(h, record.Accept{Cookie: r.cookie, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Port: 80, Peer: [16]byte{192, 0, 2, byte(r.IntN(3))}})
	r.made = append(r.made, connection{by: h, cookie: r.cookie, since: r.now, in: true})
}

// end is that of a connection, whatever who made it does by then.
func (r *random) end(record.Header) {
	if len(r.made) == 0 {
		return
	}
	n := r.IntN(len(r.made))
	k := r.made[n]
	r.made = append(r.made[:n], r.made[n+1:]...)
	r.record(k.by, record.Close{Cookie: k.cookie, Since: k.since, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Incoming: k.in})
}

func (r *random) outcome(h record.Header) {
	if len(r.open) == 0 {
		return
	}
	n := r.IntN(len(r.open))
	k, errno := r.open[n], int32(0)
	if r.IntN(4) == 0 {
		errno = int32(unix.ECONNREFUSED)
	}
	r.record(h, record.ConnectEnd{Cookie: k.cookie, Error: errno})
	if k.since = r.now; errno == 0 {
		r.made = append(r.made, k)
	}
	r.open = append(r.open[:n], r.open[n+1:]...)
}

func (r *random) start(parent record.Header, cgroup uint64, exe string, env ...string) {
	r.pid++
	child := record.Header{Tgid: r.pid, Start: r.now + uint64(r.pid), Cgroup: cgroup, ExecID: parent.ExecID}
	r.record(parent, record.Fork{ChildStart: child.Start, ChildCgroup: cgroup, ChildTgid: child.Tgid, ChildVpid: child.Tgid})
	r.living = append(r.living, child)
	if exe != "" {
		r.runs(len(r.living)-1, exe, env...)
	}
}

func (r *random) runs(n int, exe string, env ...string) {
	h := &r.living[n]
	h.ExecID++
	r.record(*h, record.Exec{
		Exe: recordtest.Path(exe), Args: recordtest.Args(exe, fmt.Sprint(r.IntN(9))), Argc: 2, UID: 1000, EUID: 1000,
		Cwd: recordtest.Path("/repo"), Env: recordtest.Args(env...),
	})
}

func (r *random) fork(h record.Header) { r.start(h, h.Cgroup, "") }

func (r *random) exec(h record.Header) {
	if n := r.index(h); n > 1 {
		r.runs(n, fmt.Sprintf("/usr/bin/tool%d", r.IntN(9)))
	}
}

func (r *random) index(h record.Header) int {
	for n := range r.living {
		if r.living[n].Tgid == h.Tgid {
			return n
		}
	}
	return -1
}

func (r *random) exit(h record.Header) {
	if n := r.index(h); n > 1 { // the agents stay
		r.record(h, record.Exit{Status: uint32(r.IntN(2)) << 8})
		r.living = append(r.living[:n], r.living[n+1:]...)
	}
}

func (r *random) call(record.Header) {
	agent := r.living[r.IntN(2)]
	r.start(agent, agent.Cgroup, "/bin/bash", fmt.Sprint("CODEX_SESSION_ID=s", agent.Tgid),
		fmt.Sprint("CODEX_TOOL_CALL_ID=call_", r.pid))
}

// mark begins or ends a call by the word of an agent, or starts a command in it.
func (r *random) mark(record.Header) {
	n := r.IntN(2)
	agent, m := r.living[n], record.Mark{Op: record.MarkEnd, Call: r.marks[n]}
	switch {
	case r.marks[n] == "":
		r.marks[n] = fmt.Sprint("marked_", r.now)
		m = record.Mark{Op: record.MarkBegin, Call: r.marks[n]}
	case r.IntN(3) > 0:
		r.start(agent, agent.Cgroup, "/bin/bash", fmt.Sprint("CODEX_SESSION_ID=s", agent.Tgid))
		return
	default:
		r.marks[n] = ""
	}
	r.now += ms
	r.add(record.AppendMark(nil, r.now, agent.Tgid, agent.Start, m))
}
