// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A hostile world does at random what agents, their commands and whoever is around them may do: several sandboxes, agents
// within agents, joined traces, agents that nobody knows, hooks, marks, losses, processes older than the sensor.
type hostile struct {
	*world
	random  *rand.Rand
	pids    []uint32 // that run
	next    uint32
	cookies uint64
	open    []uint64 // cookies of connects without an outcome
	by      map[uint64]uint32
}

func newHostile(t testing.TB, seed uint64, change ...func(*config.Config)) *hostile {
	h := &hostile{random: rand.New(rand.NewPCG(seed, 1)), next: 100, by: map[uint64]uint32{}}
	h.world = newWorld(t, append([]func(*config.Config){withSelf, func(c *config.Config) {
		c.Sandboxes = []config.Selector{{Cgroup: "/agents/one", Session: "s1", Unknown: true}, {Cgroup: "/agents/*", Unknown: true}}
		c.MaxSpansPerTrace, c.MaxTraceBytes, c.Names = 30+int(seed%3)*1000, 1<<20, seed%2 == 0
	}, anyAgent(config.AllAgents)}, change...)...)
	return h
}

func (h *hostile) pick() uint32 {
	if len(h.pids) == 0 || h.random.IntN(20) == 0 {
		h.next++
		h.begin(h.next, []uint64{one, oneInside, two}[h.random.IntN(3)])
		h.pids = append(h.pids, h.next)
	}
	return h.pids[h.random.IntN(len(h.pids))]
}

func (h *hostile) fork(parent uint32) uint32 {
	h.next++
	h.world.fork(parent, h.next)
	h.pids = append(h.pids, h.next)
	return h.next
}

func (h *hostile) program(pid uint32) {
	n := h.random.IntN(9999)
	leads := uint16(record.ExecSessionLeader)
	switch h.random.IntN(12) {
	case 0:
		h.start(pid, "/usr/bin/codex", false)
	case 1:
		h.start(pid, "/usr/bin/claude", false)
	case 2:
		h.run(pid, 0, []string{"/usr/bin/node", "/opt/agent/main.js"})
	case 3:
		h.run(pid, leads, []string{"/bin/sh", "-c", "make"})
	case 4:
		h.start(pid, "/bin/bash", true, fmt.Sprintf("CODEX_SESSION_ID=sess%d", n%3), fmt.Sprintf("CODEX_TOOL_CALL_ID=call_%d", n%20))
	case 5:
		h.start(pid, "/bin/bash", true, "CLAUDECODE=1", fmt.Sprintf("TRACEPARENT=00-%032x-%016x-01", n%4+1, n%40+1))
	case 6:
		h.become(pid, "/bin/sh", "-c", "/usr/bin/sheetbend hook claude-code")
	case 7:
		h.hookIn(pid)
	case 8:
		h.start(pid, "/usr/bin/opencode", false)
	case 9:
		h.shellFor(pid, h.next+1, "/bin/bash", "/usr/bin/sheetbend hook x")
		h.next++
		h.pids = append(h.pids, h.next)
	default:
		h.exec(pid, "/bin/x", "x", fmt.Sprint(n))
	}
}

// step does one thing.
func (h *hostile) step() {
	pid := h.pick()
	n := h.random.IntN(50)
	switch h.random.IntN(22) {
	case 0, 1:
		h.program(h.fork(pid))
	case 2:
		h.fork(pid)
	case 3:
		h.program(pid)
	case 4, 5:
		h.world.open(pid, fmt.Sprintf("/src/%d/f%d", n%3, n))
	case 6:
		h.write(pid, fmt.Sprintf("/repo/%d", n), uint64(n+1), n%2 == 0)
	case 7:
		h.change(pid, 0, fmt.Sprintf("/repo/%d", n), fmt.Sprintf("/etc/%d", n), record.Change{Op: record.ChangeRename, Inode: uint64(n + 1)})
	case 8:
		h.change(pid, 0, "", fmt.Sprintf("/repo/%d", n), record.Change{Op: record.ChangeUnlink, Inode: uint64(n + 1), Nlink: 1})
	case 9:
		h.cookies++
		r := to(fmt.Sprintf("192.0.2.%d:443", n), unix.IPPROTO_TCP)
		r.Cookie, h.by[h.cookies] = h.cookies, pid
		h.connect(pid, r)
		h.open = append(h.open, h.cookies)
	case 10:
		if len(h.open) > 0 {
			i := h.random.IntN(len(h.open))
			cookie := h.open[i]
			h.open = slices.Delete(h.open, i, i+1)
			end := record.ConnectEnd{Cookie: cookie}
			if n%4 == 0 {
				end.Error = int32(unix.ECONNREFUSED)
			}
			h.raw(rt.Record(h.header(h.by[cookie]), end))
			if n%3 == 0 {
				h.closed(h.by[cookie], cookie, record.Close{Sent: 3, Received: 4})
			}
		}
	case 11:
		h.world.openWith(pid, 0, record.Open{Name: []byte("/etc/shadow"), Error: int32(unix.EACCES)})
	case 12:
		h.now += ms
		h.lose(pid, h.cgroup[pid], uint64(n+1))
	case 13:
		h.now += ms
		h.raw(record.AppendLoss(nil, record.Header{}, record.Loss{Kind: record.TypeExec, Cause: record.CauseMissed, Count: 3, From: h.now, To: h.now}))
	case 14:
		h.refused(pid, 0, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/x")})
	case 15, 16:
		h.exit(pid, uint32(h.random.IntN(3))<<8)
		h.pids = slices.DeleteFunc(h.pids, func(p uint32) bool { return p == pid })
	case 17:
		h.tick(time.Duration(h.random.IntN(2500)) * time.Millisecond)
	case 18:
		op := record.MarkBegin
		if n%2 == 0 {
			op = record.MarkEnd
		}
		switch peer := pid; n % 3 {
		case 0:
			h.mark(peer, record.Mark{Op: op, Call: fmt.Sprintf("m%d-%d", pid, n%4)})
		case 1:
			h.mark(harness, record.Mark{Op: op, Call: fmt.Sprintf("h%d", n%4), Session: "swe", TargetTgid: pid, TargetStart: start(pid), PeerCgroup: outside})
		default:
			h.mark(peer, record.Mark{Op: op, Source: record.SourceHook, Call: fmt.Sprintf("k%d-%d", pid, n%4)})
		}
	case 19:
		h.say(decided(fmt.Sprintf("call_%d", n%20), "approved", "user"))
	case 20:
		h.next++
		h.cgroup[h.next], h.execIDs[h.next] = two, h.execIDs[pid]+1
		h.sees(h.next, pid, 1, []string{"/usr/bin/codex", "/bin/sh", "/usr/bin/claude"}[n%3])
		h.pids = append(h.pids, h.next)
	default:
		h.raw(rt.Record(h.header(pid), record.Unix{Path: rt.Path("/run/docker.sock"), Name: []byte("/link")}))
	}
}

// all gives what was sent, as pointers.
func (w *world) all() (list []*span.Span) {
	for i := range w.spans {
		list = append(list, &w.spans[i])
	}
	return list
}

func TestHostileMixesAreWholeTraces(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHostile(t, seed)
			log := &factLog{h.world, map[int][]any{}}
			h.c.Restart().SetJournal(log)
			for n := range 400 {
				h.step()
				if seed%4 > 1 && n == 200 {
					h.restart(log)
				}
			}
			if seed%2 == 0 {
				for _, pid := range h.pids {
					h.exit(pid, 0)
				}
				h.tick(62 * time.Second)
			}
			h.c.Close()
			CheckTraces(t, h.all())
			if seed%4 < 2 {
				CheckAccounts(t, h.all())
			}
		})
	}
}

// restart has another collector go on, which is given the records and what does not follow from them.
func (h *hostile) restart(log *factLog) {
	h.t.Helper()
	to := &gate{world: h.world}
	c, err := New(*h.c.config, to)
	if err != nil {
		h.t.Fatal(err)
	}
	c.Restart().Resuming(true)
	for n, raw := range h.records {
		_ = c.Record(raw)
		for _, f := range log.facts[n] {
			switch f := f.(type) {
			case Slice:
				c.Restart().SetSlice(f)
			case Claim:
				c.Restart().SetClaim(f)
			case Reach:
				c.Restart().SetReach(f)
			}
		}
	}
	c.Restart().Resuming(false)
	to.open, h.c = true, c
	c.Restart().SetJournal(log)
}

// A gate is a sink that takes nothing until it is open.
type gate struct {
	*world
	open bool
}

func (g *gate) Span(s *span.Span) {
	if g.open {
		g.world.Span(s)
	}
}

type factLog struct {
	*world
	facts map[int][]any
}

func (l *factLog) add(f any) {
	n := len(l.records) - 1
	l.facts[n] = append(l.facts[n], f)
}

func (l *factLog) Slice(s Slice)   { l.add(s) }
func (l *factLog) Claimed(k Claim) { l.add(k) }
func (l *factLog) Reached(r Reach) { l.add(r) }
