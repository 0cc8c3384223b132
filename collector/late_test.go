// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// However late a connect is answered: a span or a notice is there within its hold, and so on the row of its call.
func TestAConnectIsInTheAccountOfItsCallHoweverLateItIsAnswered(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 1900 * time.Millisecond, 2500 * time.Millisecond, 10 * time.Second} {
		for _, errno := range []unix.Errno{0, unix.ECONNREFUSED} {
			for _, left := range []bool{false, true} {
				w := newWorld(t, func(c *config.Config) { c.Names = true })
				w.codex(10)
				w.command(10, 11, "call_1", "bash", "-c", "x")
				w.fork(11, 12)
				w.exec(12, "/bin/curl", "curl")
				w.connect(12, to("192.0.2.1:443", unix.IPPROTO_TCP))
				at := w.now
				if !left {
					w.exit(12, 0)
				}
				w.exit(11, 0)
				w.tick(after)
				w.connectEnd(12, errno)
				w.tick(15 * time.Second)
				if left {
					w.exit(12, 0)
				}
				w.exit(10, 0)
				w.tick(5 * time.Second)
				what := fmt.Sprint(after, errno, left)
				t.Run(what, func(t *testing.T) {
					wants(t, w.told("call_1"), map[string]any{span.KeyHosts: 1, span.KeyHostNames: []string{"192.0.2.1:443"}})
					wants(t, w.only(span.SessionEnd), map[string]any{span.KeyHosts: 1})
					CheckAccounts(t, w.all())
					if s := w.only(span.Connect); s.Start-wallStart != at-bootStart {
						t.Errorf("%s", show(w.of(span.Connect)))
					}
				})
			}
		}
	}
}

// Whatever becomes of the sandbox of who marks calls: its story has an end.
func TestEveryAgentThatIsNotOverHasAPartialEnd(t *testing.T) {
	w := newWorld(t)
	w.mark(harness, record.Mark{Op: record.MarkBegin, Call: "c", Session: "swe", Cgroup: two, PeerCgroup: outside})
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.attach(10, two, "/agents/two", true)
	w.start(10, "/usr/bin/claude", false)
	w.attach(10, outside, "/user", true)
	h := w.header(1)
	h.Type = record.TypeCgroupRmdir
	w.raw(rt.Record(h, record.Cgroup{ID: two, Path: []byte("/agents/two")}))
	w.tick(3 * time.Second)
	if n := w.c.Stats().Sandboxes; n != 1 {
		t.Fatalf("%d sandboxes", n)
	}
	w.c.Close()
	ends := map[string]bool{}
	for _, s := range w.of(span.SessionEnd) {
		wants(t, s, map[string]any{span.KeyPartial: true})
		ends[s.Instance] = true
	}
	for _, s := range w.of(span.Session) {
		if !ends[s.Instance] {
			t.Errorf("no end of %s", show([]span.Span{s}))
		}
	}
	if len(ends) != 2 {
		t.Errorf("%d ends", len(ends))
	}
}

// What comes when the account of an agent or a sandbox has gone out, early where too much waits, takes no room that nobody
// gives back.
func TestWhatComesLateTakesNoRoom(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxPending = 20 })
	pid := uint32(100)
	for n := range 300 {
		pid++
		w.begin(pid, one)
		w.start(pid, "/usr/bin/claude", false)
		if n%8 == 0 {
			r := to(fmt.Sprintf("192.0.2.%d:443", n%250), unix.IPPROTO_TCP)
			r.Cookie = uint64(pid)
			w.connect(pid, r)
		}
		w.exit(pid, 0)
	}
	w.tick(5 * time.Second)
	h := w.header(1)
	h.Type = record.TypeCgroupRmdir
	w.raw(rt.Record(h, record.Cgroup{ID: one, Path: []byte("/agents/one")}))
	w.tick(5 * time.Second)
	if s := w.c.Stats(); s.Destinations != 0 || s.EarlySpans == 0 {
		t.Errorf("%d destinations are kept of what is over; %d spans early", s.Destinations, s.EarlySpans)
	}
}
