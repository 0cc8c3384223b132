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
)

// follows checks that every span stands under one of its own trace, or is a root that links to where it goes on, and
// that each trace has at most so many spans. It gives the roots of each trace.
func (w *world) follows(most int) map[span.TraceID][]span.Span {
	w.t.Helper()
	in := map[span.TraceID]map[span.ID]bool{}
	for _, s := range w.spans {
		if in[s.Trace] == nil {
			in[s.Trace] = map[span.ID]bool{}
		}
		if in[s.Trace][s.ID] {
			w.t.Errorf("twice: %s", show([]span.Span{s}))
		}
		in[s.Trace][s.ID] = true
	}
	roots := map[span.TraceID][]span.Span{}
	for _, s := range w.spans {
		switch {
		case s.Parent == (span.ID{}):
			roots[s.Trace] = append(roots[s.Trace], s)
		case !in[s.Trace][s.Parent] && !s.Remote:
			w.t.Errorf("its parent is not in its trace: %s", show([]span.Span{s}))
		}
		if n := len(in[s.Trace]); n > most {
			w.t.Fatalf("%d spans in a trace", n)
		}
	}
	return roots
}

func TestASliceGoesOnUnderWhatStandsForTheProgramsThatStillRun(t *testing.T) {
	for _, c := range []struct {
		name string
		call bool
	}{{"of a sandbox", false}, {"of a call", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 5 })
			const shell, child = 11, 12
			if c.call {
				w.codex(10)
				w.call(10, shell, "call_1")
			} else {
				w.begin(shell, one)
				w.exec(shell, "/bin/bash", "bash")
			}
			w.fork(shell, child)
			w.exec(child, "/bin/cat", "cat")
			for n := range 20 {
				w.open(child, fmt.Sprintf("/a/%d", n))
				w.open(shell, fmt.Sprintf("/b/%d", n))
			}
			w.exit(child, 0)
			w.exit(shell, 0)
			w.c.Close()
			roots := w.follows(5 + 3)
			last := w.opened("/b/19")
			if len(roots) < 5 || w.opened("/a/0").Trace == last.Trace {
				t.Fatalf("%d traces", len(roots))
			}
			for trace, list := range roots {
				standIns := 0
				for _, s := range list {
					if get(s, span.KeyStandIn) == true {
						standIns++
						if len(s.Links) == 0 || s.Links[0].Trace == trace {
							t.Errorf("it does not link to what it stands for: %s", show(list))
						}
					}
				}
				if c.call && len(list) > 1 {
					t.Errorf("roots %s", show(list))
				}
				if trace == last.Trace && standIns == 0 {
					t.Errorf("nothing stands in: %s", show(list))
				}
			}
		})
	}
}

func TestTracesEndByBytes(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxTraceBytes = 64 << 10 })
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	for n := range 100 {
		w.open(10, fmt.Sprintf("/%s/%d", strings.Repeat("x", 4000), n))
	}
	w.c.Close()
	bytes := map[span.TraceID]int{}
	for _, s := range w.of(span.Open) {
		bytes[s.Trace] += len(get(s, span.KeyFilePath).(string))
	}
	for _, n := range bytes {
		if n > 64<<10 {
			t.Errorf("%d bytes of names in a trace", n)
		}
	}
	if len(bytes) < 7 {
		t.Errorf("%d traces", len(bytes))
	}
}

func TestWhatProgramsHaveChangedIsInTheBytesOfTheTraceThatTells(t *testing.T) {
	const most, base = 64 << 10, 1100 // a span without texts
	w := newWorld(t, func(c *config.Config) { c.MaxTraceBytes = most })
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	name := "/" + strings.Repeat("x", 900)
	for pid := uint32(100); pid < 200; pid++ {
		w.fork(10, pid)
		w.exec(pid, "/bin/x", "x")
		w.write(pid, name, 1, false)
	}
	w.tick(2 * time.Minute)
	for pid := uint32(100); pid < 200; pid++ {
		w.exit(pid, 0)
	}
	bytes := map[span.TraceID]int{}
	for _, s := range w.spans {
		names, _ := get(s, span.KeyFilesOpenedNames).([]string)
		if s.Kind == span.Exit && len(names) == 0 {
			t.Fatalf("no names: %s", show([]span.Span{s}))
		}
		bytes[s.Trace] += base + len(strings.Join(names, ""))
	}
	for _, n := range bytes {
		if n > most+4<<10 {
			t.Errorf("%d bytes in a trace", n)
		}
	}
	if len(bytes) < 3 {
		t.Errorf("%d traces", len(bytes))
	}
}

func TestAnAgentsOwnTraceIsBoundedOverAllCalls(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 20 })
	w.claude(10)
	trace := strings.Repeat("a", 32)
	for n := range uint32(30) {
		pid := 20 + 2*n
		w.fork(10, pid)
		w.start(pid, "/bin/bash", true, "CLAUDECODE=1", fmt.Sprintf("TRACEPARENT=00-%s-%016x-01", trace, n+1))
		w.open(pid, fmt.Sprintf("/a/%d", n))
	}
	w.open(20, "/a/secret")
	w.c.Close()
	joined := 0
	for _, s := range w.spans {
		if !s.Trace.Own() {
			joined++
		}
	}
	if joined < 10 || joined > 20+3 {
		t.Errorf("%d spans in the agent's own trace", joined)
	}
	if s := w.opened("/a/secret"); !s.Trace.Own() || s.Parent == (span.ID{}) {
		t.Errorf("%s", show([]span.Span{s}))
	}
}

func TestAnAgentsOwnTraceIsItsOwnAndStaysFull(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 10 })
	pid := uint32(100)
	in := func(agent uint32, trace string) span.Span {
		pid++
		w.cgroup[pid] = w.cgroup[agent]
		w.fork(agent, pid)
		w.start(pid, "/bin/bash", true, "CLAUDECODE=1", fmt.Sprintf("TRACEPARENT=00-%s-%016x-01", trace, pid))
		w.exit(pid, 0)
		return w.execOf(pid)
	}
	w.claude(10)
	first := strings.Repeat("a", 32)
	for range 12 {
		in(10, first)
	}
	for n := range 5000 {
		in(10, fmt.Sprintf("b%031x", n))
	}
	for _, trace := range []string{first, "b" + strings.Repeat("0", 31)} { // it was full; it was forgotten
		if s := in(10, trace); !s.Trace.Own() {
			t.Errorf("%s", show([]span.Span{s}))
		}
	}
	w.begin(20, two)
	w.start(20, "/usr/bin/claude", false)
	if s := in(20, fmt.Sprintf("b%031x", 4999)); !s.Trace.Own() {
		t.Errorf("another agent's: %s", show([]span.Span{s}))
	}
	if s := in(20, strings.Repeat("c", 32)); s.Trace.Own() {
		t.Errorf("%s", show([]span.Span{s}))
	}
}

func TestArgumentsOnASpanAreBounded(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	args := []string{"x", strings.Repeat("'", 60_000), "--token", "s3cret"}
	w.exec(10, "/bin/x", args...)
	w.exit(10, 0)
	s := w.only(span.Exec)
	list := get(s, span.KeyCommandArgs).([]string)
	if n := len(strings.Join(list, "")); n > 4096 || n < 4000 {
		t.Errorf("%d bytes of arguments", n)
	}
	if n := len(get(s, span.KeyCommandLine).(string)); n > 4100 {
		t.Errorf("a command line of %d bytes", n)
	}
	wants(t, s, map[string]any{
		span.KeyArgsTruncated: true, span.KeyArgsCount: 4, span.KeyArgsBytes: len(rt.Args(args...)), span.KeyArgsMasked: true,
	})
	if hash, _ := get(s, span.KeyArgsHash).(string); len(hash) != 64 {
		t.Errorf("hash %q", hash)
	}
}

func TestNoNameLeadsIntoAnothersTrace(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.open(11, "/a/real")
	// Another agent, elsewhere, under the same session and with the same call.
	w.cgroup[20] = two
	w.begin(20, two)
	w.start(20, "/usr/bin/codex", false)
	w.fork(20, 21)
	w.cgroup[21] = two
	w.start(21, "/bin/bash", true, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1")
	w.open(21, "/a/false")
	w.c.Close()
	first, second := w.opened("/a/real"), w.opened("/a/false")
	if first.Trace == second.Trace || first.Parent == second.Parent {
		t.Errorf("%s", show([]span.Span{first, second}))
	}
	ids := map[span.ID]bool{}
	for _, s := range w.spans {
		if ids[s.ID] {
			t.Errorf("twice: %s", show([]span.Span{s}))
		}
		ids[s.ID] = true
	}
}

func TestACallThatIsOverForLongIsAnotherOne(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.exit(11, 0)
	w.tick(w.c.config.CallRetention + w.c.config.Hold)
	w.call(10, 12, "call_1")
	w.exit(12, 0)
	w.c.Close()
	list := w.of(span.Tool)
	if len(list) != 2 || list[0].ID == list[1].ID || list[0].Trace == list[1].Trace {
		t.Errorf("%s", show(list))
	}
}

// A later process is given the records and the slices as they began.
func TestAReplayPlacesSpansAsTheyWere(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 4 })
	log := &sliceLog{world: w}
	w.c.Restart().SetJournal(log)
	w.codex(10)
	w.call(10, 11, "call_1")
	for n := range 20 {
		w.open(11, fmt.Sprintf("/a/%d", n))
	}
	w.tick(3 * 1e9)
	if len(log.slices) < 3 {
		t.Fatalf("%d slices", len(log.slices))
	}
	again := newWorld(t, func(c *config.Config) { *c = *w.c.config })
	c, err := New(*w.c.config, again)
	if err != nil {
		t.Fatal(err)
	}
	again.c, again.spans = c, nil
	c.Restart().Resuming(true)
	for n, raw := range w.records {
		_ = c.Record(raw)
		for _, s := range log.slices[n] {
			c.Restart().SetSlice(s)
		}
	}
	c.Restart().Resuming(false)
	if len(again.spans) != len(w.spans) {
		t.Fatalf("%d spans of %d", len(again.spans), len(w.spans))
	}
	for n := range w.spans {
		if a, b := w.spans[n], again.spans[n]; a.ID != b.ID || a.Trace != b.Trace || a.Parent != b.Parent {
			t.Fatalf("%s", show([]span.Span{a, b}))
		}
	}
	w.open(11, "/a/late")
	_ = c.Record(w.records[len(w.records)-1])
	w.exit(11, 0)
	_ = c.Record(w.records[len(w.records)-1])
	w.c.Close()
	c.Close()
	own := func(w *world) (own span.Span) {
		for _, s := range w.of(span.Exec) {
			if !s.StandIn && get(s, span.KeyPID) == int64(11) {
				own = s
			}
		}
		return own
	}
	if was, is := own(w), own(again); get(was, span.KeyCountPartial) != nil || get(is, span.KeyCountPartial) != true {
		t.Errorf("what was counted before is not known: %s", show([]span.Span{was, is}))
	}
	was, is := w.opened("/a/late"), again.opened("/a/late")
	if was.ID != is.ID || was.Trace == is.Trace {
		t.Errorf("how full a trace is nobody knows after a kill: %s", show([]span.Span{was, is}))
	}
}

type sliceLog struct {
	*world
	slices map[int][]Slice
}

func (l *sliceLog) Slice(s Slice) {
	if l.slices == nil {
		l.slices = map[int][]Slice{}
	}
	n := len(l.records) - 1
	l.slices[n] = append(l.slices[n], s)
}

func (l *sliceLog) Claimed(Claim) {}
func (l *sliceLog) Reached(Reach) {}

func TestAnExecThatIsReportedTwiceIsOne(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.execIDs[10]--
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	w.raw(rt.Record(w.header(10), record.Exit{}))
	if list := w.of(span.Exec); len(list) != 1 || get(list[0], span.KeyExitCode) != int64(0) {
		t.Errorf("%s", show(list))
	}
}
