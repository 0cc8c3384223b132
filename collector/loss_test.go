// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// lose tells of opens of a process that were lost.
func (w *world) lose(pid uint32, cgroup uint64, n uint64) {
	w.t.Helper()
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: cgroup, Tgid: pid, Start: start(pid)},
		record.Loss{Kind: record.TypeOpen, Cause: record.CauseShedRead, Count: n, From: w.now - second, To: w.now}))
}

func TestALossStandsBelowItsProcess(t *testing.T) {
	w := newWorld(t)
	w.begin(10, oneInside)
	w.exec(10, "/bin/find", "find")
	w.fork(10, 11)
	w.lose(10, oneInside, 7)
	w.lose(11, oneInside, 8) // without a program of its own
	losses := w.of(span.Loss)
	w.exit(10, 0)
	find := w.execOf(10)
	for n, pid := range []int{10, 11} {
		wants(t, losses[n], map[string]any{
			span.KeyLost: 7 + n, span.KeyLostCause: "shed_read", span.KeyLostKind: "open", span.KeyPID: pid, span.KeyExecutableName: "find",
			span.KeyCgroup: "/agents/one/inside", span.KeySessionID: "s1",
		})
		if losses[n].Parent != find.ID || losses[n].Trace != find.Trace {
			t.Errorf("%s is not below %s", show(losses[n:n+1]), show([]span.Span{find}))
		}
	}
	if losses[0].ID == losses[1].ID {
		t.Error("two losses have one id")
	}
}

func TestALossOfAProcessThatHasEndedStandsBelowIt(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/find", "find")
	w.exit(10, 0)
	w.begin(20, one) // the process that comes next is not taken for it
	w.tick(time.Second)
	w.lose(10, one, 7)
	if s := w.only(span.Loss); s.Parent != w.execOf(10).ID {
		t.Errorf("span %s", show([]span.Span{s}))
	}
	w.tick(5 * time.Second)
	if len(w.c.lineage.Over.List) != 0 {
		t.Errorf("%d are remembered for ever", len(w.c.lineage.Over.List))
	}
	w.lose(10, one, 7)
	if s := w.of(span.Loss)[1]; s.Parent != (span.ID{}) || s.Session != "s1" {
		t.Errorf("span %s", show([]span.Span{s}))
	}
}

func TestALossInACallIsTheCalls(t *testing.T) {
	w := newWorld(t)
	w.agentAt(10, "/bin/bash")
	w.mark(harness, fromOutside(record.MarkBegin, "c1", 10))
	w.fork(10, 11)
	w.start(11, "/bin/grep", false)
	w.lose(11, one, 7)
	s := w.only(span.Loss)
	w.exit(11, 0)
	w.mark(harness, fromOutside(record.MarkEnd, "c1", 10))
	w.tick(time.Second)
	w.lose(11, one, 9)
	for _, s := range []span.Span{s, w.of(span.Loss)[1]} {
		wants(t, s, map[string]any{span.KeyCallID: "c1", span.KeyAttribution: "marker", span.KeyPID: 11})
		if grep := w.execOf(11); s.Parent != grep.ID || s.Trace != grep.Trace {
			t.Errorf("%s is not below %s", show([]span.Span{s}), show([]span.Span{grep}))
		}
	}
}

// TestALossOfAnUnknownProcessIsItsSessions: its fork was lost, too, for example.
func TestALossOfAnUnknownProcessIsItsSessions(t *testing.T) {
	w := newWorld(t)
	w.lose(10, two, 7)
	if s := w.only(span.Loss); s.Session != span.SandboxID(boot, two) || s.Parent != (span.ID{}) {
		t.Errorf("span %s", show([]span.Span{s}))
	}
	// Of another one in the same time, it is another span.
	loss := record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 1, To: w.now}
	for tgid := uint32(30); tgid < 33; tgid++ {
		w.raw(record.AppendLoss(nil, record.Header{Cgroup: two, Tgid: tgid, Start: start(tgid)}, loss))
	}
	ids := map[span.ID]bool{}
	for n, s := range w.of(span.Loss)[1:] {
		ids[s.ID] = true
		wants(t, s, map[string]any{span.KeyPID: 30 + n})
	}
	if len(ids) != 3 {
		t.Errorf("losses of three processes are %d spans", len(ids))
	}
	// Nobody is taken for a process of the same pid.
	w.begin(20, one)
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: two, Tgid: 20, Start: start(19)}, record.Loss{Kind: record.TypeOpen, Cause: 1, Count: 1, To: w.now}))
	if s := w.of(span.Loss)[4]; s.Session != span.SandboxID(boot, two) {
		t.Errorf("span %s", show([]span.Span{s}))
	}
}

func TestTheCollectorsOwnLossesAreToldToTheSandboxThatTheyAreOf(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxProcesses = 16 })
	w.begin(10, two)
	for n := uint32(100); n < 120; n++ {
		w.begin(n, one)
	}
	w.tick(100 * time.Millisecond)
	s := w.only(span.Loss)
	wants(t, s, map[string]any{span.KeyLost: 5, span.KeyLostCause: "table_full", span.KeySessionID: "s1"})
	if s.Session != "s1" {
		t.Errorf("span %s", show([]span.Span{s}))
	}
}

func TestLossesAreCountedByKindAndSandbox(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.lose(10, one, 7)
	w.lose(99, two, 5)
	w.raw(record.AppendLoss(nil, record.Header{}, record.Loss{Kind: record.TypeExec, Cause: record.CauseMissed, Count: 3, To: w.now}))
	bad := rt.Record(w.header(10), record.Open{Name: []byte("abc")})
	bad[72] = 200 // name_len
	if err := w.c.Record(bad); err == nil {
		t.Fatal("it was malformed")
	}
	byKind, bySandbox := w.c.losses.LossCounts()
	told := func(list []lineage.LossCount) (lines []string) {
		for _, l := range list {
			lines = append(lines, fmt.Sprintf("%s %s%s %d", l.Kind, l.Cause, l.Sandbox, l.Count))
		}
		slices.Sort(lines)
		return lines
	}
	one, two := span.SandboxID(boot, one), span.SandboxID(boot, two)
	if got, want := told(byKind), []string{"exec missed 3", "open malformed 1", "open shed_read 12"}; !slices.Equal(got, want) {
		t.Errorf("by kind %q, want %q", got, want)
	}
	want := []string{" " + one + " 7", " " + two + " 5", " unknown 4"}
	slices.Sort(want)
	if got := told(bySandbox); !slices.Equal(got, want) {
		t.Errorf("by sandbox %q, want %q", got, want)
	}
	if n := w.c.Stats().Lost; n != 16 {
		t.Errorf("%d lost in all", n)
	}
}

// TestTheSandboxesThatLoseAreBounded: what becomes of their series is told as one, and never less than before.
func TestTheSandboxesThatLoseAreBounded(t *testing.T) {
	w := newWorld(t)
	const many = lineage.MaxLossSandboxes + 10
	lose := func(from uint64) {
		for n := range uint64(many) {
			id := from + n
			w.raw(record.AppendCgroup(nil, w.now, id, 1, fmt.Sprintf("/agents/x%d", id)))
			w.lose(7, id, 2)
		}
	}
	lose(1000)
	total := func() (sum, others uint64) {
		_, list := w.c.losses.LossCounts()
		if len(list) > lineage.MaxLossSandboxes+1 {
			t.Errorf("%d series", len(list))
		}
		for _, l := range list {
			sum += l.Count
			if l.Sandbox == "other" {
				others = l.Count
			}
		}
		return sum, others
	}
	if sum, others := total(); sum != 2*many || others != 20 {
		t.Errorf("%d in all, %d of others", sum, others)
	}
	for n := range uint64(many) {
		w.raw(rt.Record(record.Header{Time: w.now, Type: record.TypeCgroupRmdir}, record.Cgroup{ID: 1000 + n, Path: []byte("/agents/x")}))
	}
	lose(2000)
	if sum, others := total(); sum != 4*many || others != 20+2*lineage.MaxLossSandboxes+20 {
		t.Errorf("%d in all, %d of others", sum, others)
	}
}

// Each agent of a sandbox is told of what may be its own, whatever session it is in; what is around it is told once.
func TestALossOfNoProcessIsInEveryAccountOnce(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.start(10, "/usr/bin/claude", false)
	w.begin(20, one)
	w.start(20, "/usr/bin/claude", false)
	w.fork(20, 21)
	w.start(21, "/usr/bin/codex", false)
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: one}, record.Loss{Kind: record.TypeExec, Cause: record.CauseMissed, Count: 3, From: w.now, To: w.now}))
	for _, pid := range []uint32{21, 20, 10} {
		w.exit(pid, 0)
	}
	w.tick(3 * time.Second)
	list := w.of(span.Session)
	if len(list) != 3 {
		t.Fatalf("%s", show(list))
	}
	for _, s := range list {
		wants(t, s, map[string]any{span.KeyLost: 3})
	}
	w.checkAccounts()
}
