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

func TestSelect(t *testing.T) {
	selectors := []config.Selector{{Cgroup: "/agents/*/job"}, {Cgroup: "/agents/*"}, {Cgroup: "/agents/x"}, {Cgroup: "/a[0-9]"}}
	for _, c := range []struct {
		path     string
		root     string
		selector int
	}{
		{"/agents/x", "/agents/x", 1},
		{"/agents/x/job", "/agents/x", 1},
		{"/agents/x/job/deep", "/agents/x", 1},
		{"/agents", "", -1},
		{"/", "", -1},
		{"", "", -1},
		{"/other/agents/x", "", -1},
		{"/a7/b", "/a7", 3},
	} {
		root, selector, ok := config.Select(selectors, c.path)
		if !ok {
			selector = -1
		}
		if root != c.root || selector != c.selector {
			t.Errorf("%q: %q by %d, want %q by %d", c.path, root, selector, c.root, c.selector)
		}
	}
}

func (w *world) attach(pid uint32, cgroup uint64, path string, watched bool) {
	w.t.Helper()
	w.cgroup[pid] = cgroup
	w.raw(rt.Record(w.header(pid), record.Attach{MoverTgid: 9, Vpid: pid, Watched: watched, Path: []byte(path)}))
}

func TestSandboxWithoutASessionIsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.begin(10, two)
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	s := w.only(span.Exec)
	id := span.SandboxID(boot, two)
	wants(t, s, map[string]any{span.KeySandboxID: id, span.KeySessionID: id, span.KeyAgentName: nil, span.KeyCgroup: "/agents/two"})
	if s.Trace != span.TraceFor(id, "", 0) || s.Resource.Attrs[0].Str != "sandbox" {
		t.Errorf("trace %x, resource %v", s.Trace, s.Resource.Attrs)
	}
}

func TestSessionMayHaveTheSandboxesName(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Sandboxes = []config.Selector{{Cgroup: "/agents/*", Session: "job-{name}"}} })
	w.begin(10, two)
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeySessionID: "job-two"})
}

func TestServiceNameOfTheHostWins(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.Resource = []span.Attr{{Key: span.KeyServiceName, Kind: span.StringAttr, Str: "mine"}}
	})
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	if r := w.only(span.Exec).Resource; len(r.Attrs) != 1 || r.Attrs[0].Str != "mine" {
		t.Errorf("resource %v", r.Attrs)
	}
}

func TestDirectoriesBelowASandboxAreTheSandboxes(t *testing.T) {
	w := newWorld(t)
	w.begin(10, oneInside)
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeySandboxID: span.SandboxID(boot, one), span.KeyCgroup: "/agents/one/inside"})
}

func TestCgroupsMadeLater(t *testing.T) {
	w := newWorld(t)
	w.raw(rt.Record(w.header(1), record.Cgroup{ID: 50, Parent: 1, Path: []byte("/agents/new")}))
	w.raw(rt.Record(w.header(1), record.Cgroup{ID: 51, Parent: 1, Path: []byte("/provisional")}))
	w.begin(10, 50)
	w.exec(10, "/bin/x", "x")
	w.begin(11, 51)
	w.exec(11, "/bin/y", "y")
	w.open(11, "/repo/x")
	w.exit(11, 0)
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeySandboxID: span.SandboxID(boot, 50), span.KeyCgroup: "/agents/new"})
	if len(w.of(span.Open)) != 0 || w.c.Stats().Ignored == 0 {
		t.Errorf("spans %s, %+v", show(w.spans), w.c.Stats())
	}
}

func TestSandboxIsForgottenWithItsDirectory(t *testing.T) {
	rmdir := func(w *world, id uint64) {
		h := w.header(1)
		h.Type = record.TypeCgroupRmdir
		w.raw(rt.Record(h, record.Cgroup{ID: id}))
	}
	t.Run("at once when it is empty", func(t *testing.T) {
		w := newWorld(t)
		before := w.c.Stats()
		rmdir(w, oneInside)
		rmdir(w, one)
		rmdir(w, two)
		if s := w.c.Stats(); before.Sandboxes != 2 || before.Cgroups != 3 || s.Sandboxes != 0 || s.Cgroups != 0 {
			t.Errorf("%+v then %+v", before, s)
		}
	})
	t.Run("with the processes whose exits were lost", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, two)
		w.exec(10, "/bin/x", "x")
		rmdir(w, two)
		wants(t, w.only(span.Exec), map[string]any{span.KeyExitUnknown: true})
		if s := w.c.Stats(); s.Sandboxes != 1 || s.Processes != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("but not with a process of which only a thread was in it", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		h := w.header(10)
		h.Cgroup, h.Tid = oneInside, 17
		w.raw(rt.Record(h, record.Attach{MoverTgid: 10, Vpid: 10, Watched: true, Path: []byte("/agents/one/inside")}))
		h = w.header(1)
		h.Type = record.TypeCgroupRmdir
		w.raw(rt.Record(h, record.Cgroup{ID: oneInside, Parent: one}))
		if p := w.c.lineage.Processes[10]; p == nil || p.Cgroup != w.c.lineage.Cgroups[one] || p.Cgroup.Processes != 1 {
			t.Fatalf("the process is %+v", p)
		}
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyExitCode: 0, span.KeyExitUnknown: nil})
	})
	t.Run("with its last process when that had left it", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, two)
		w.exec(10, "/bin/x", "x")
		w.attach(10, outside, "/user", true)
		rmdir(w, two)
		if s := w.c.Stats(); s.Sandboxes != 2 {
			t.Errorf("%+v", s)
		}
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyExitCode: 0})
		if s := w.c.Stats(); s.Sandboxes != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestEscape(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.attach(10, oneInside, "/agents/one/inside", true)
	if len(w.of(span.Escape)) != 0 {
		t.Error("a move within the sandbox is told as an escape")
	}
	// A record from the new place may come before the word of the move.
	w.cgroup[10] = two
	w.open(10, "/repo/early")
	w.attach(10, two, "/agents/two", true)
	at := w.now
	w.open(10, "/repo/x")
	w.fork(10, 11)
	w.exec(11, "/bin/y", "y")
	w.exit(11, 0)
	w.exit(10, 0)
	s := w.only(span.Escape)
	wants(t, s, map[string]any{
		span.KeyCgroupFrom: "/agents/one/inside", span.KeyCgroupTo: "/agents/two", span.KeyMoverPID: 9,
		span.KeyCgroup: "/agents/two", span.KeySandboxID: span.SandboxID(boot, one), span.KeyExecutableName: "x",
	})
	if s.ID != span.EscapeSpan(boot, image1(10, 1), 10, at) || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.End-s.Start != 1000 {
		t.Errorf("span %s", show([]span.Span{s}))
	}
	for _, s := range w.spans {
		wants(t, s, map[string]any{span.KeySandboxID: span.SandboxID(boot, one)})
	}
	wants(t, w.execOf(11), map[string]any{span.KeyCgroup: "/agents/two"})
}

func TestForkIntoAnotherCgroupIsAnEscape(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.raw(rt.Record(w.header(10), record.Fork{ChildStart: start(11), ChildCgroup: outside, ChildTgid: 11}))
	w.execIDs[11], w.cgroup[11] = 1, outside
	w.exec(11, "/bin/y", "y")
	w.exit(11, 0)
	wants(t, w.only(span.Escape), map[string]any{span.KeyPID: 11, span.KeyCgroupFrom: "/agents/one", span.KeyCgroupTo: nil, span.KeyMoverPID: 10})
	wants(t, w.execOf(11), map[string]any{span.KeySandboxID: span.SandboxID(boot, one)})
}

func TestProcessMovedIntoASandboxJoinsIt(t *testing.T) {
	w := newWorld(t)
	w.attach(30, one, "/agents/one", false)
	w.open(30, "/repo/x")
	w.exec(30, "/bin/x", "x")
	w.exit(30, 0)
	wants(t, w.only(span.Open), map[string]any{span.KeyUnknownProcess: nil, span.KeyExecutablePath: nil, span.KeyPID: 30})
	if s := w.only(span.Exec); s.Parent != (span.ID{}) {
		t.Errorf("parent %x", s.Parent)
	}
	if len(w.of(span.Escape)) != 0 {
		t.Error("an escape")
	}
}

func TestEscapeOfAnUnknownProcessIsALoss(t *testing.T) {
	w := newWorld(t)
	w.attach(30, outside, "/user", true)
	w.tick(100 * time.Millisecond)
	if list := w.of(span.Loss); len(list) != 2 {
		t.Errorf("spans %s", show(list))
	}
	if n := w.c.Stats().Unassigned; n != 1 {
		t.Errorf("%d unassigned", n)
	}
}

func TestLosses(t *testing.T) {
	w := newWorld(t)
	from := w.now
	w.now += second
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: oneInside}, record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 12, From: from, To: w.now}))
	s := w.only(span.Loss)
	wants(t, s, map[string]any{
		span.KeyLost: 12, span.KeyLostCause: "ring_full", span.KeyLostKind: "open", span.KeySessionID: "s1", span.KeyCgroup: "/agents/one/inside",
		span.KeyPID: nil,
	})
	if !s.Failed || s.End-s.Start != second || s.Parent != (span.ID{}) {
		t.Errorf("span %s", show([]span.Span{s}))
	}
	w.raw(record.AppendLoss(nil, record.Header{}, record.Loss{Kind: record.TypeExec, Cause: record.CauseMissed, Count: 1, From: from, To: w.now}))
	if list := w.of(span.Loss); len(list) != 3 || list[1].Session != "s1" || list[2].Session == "s1" || list[1].ID == list[2].ID {
		t.Errorf("spans %s", show(list))
	}
	if n := w.c.Stats().KernelLost; n != 13 {
		t.Errorf("%d lost", n)
	}
}

func TestTheLossesOfASandboxThatIsGoneAreToldInItsSession(t *testing.T) {
	w := newWorld(t)
	w.raw(rt.Record(record.Header{Time: w.now, Type: record.TypeCgroupRmdir}, record.Cgroup{ID: two, Path: []byte("/agents/two")}))
	w.tick(900 * time.Millisecond)
	gone := record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 12, From: bootStart, To: w.now}
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: two}, gone))
	if s := w.only(span.Loss); s.Session != span.SandboxID(boot, two) {
		t.Errorf("told to %s", s.Session)
	}
	w.raw(record.AppendLoss(nil, record.Header{}, gone)) // of anybody: the one that is gone, too
	if n := len(w.of(span.Loss)); n != 3 {
		t.Errorf("%d told, want one more in each session", n)
	}
	w.tick(5 * time.Second)
	if len(w.c.lineage.Gone.ByID) != 0 || w.c.lineage.Gone.Order.Len() != 0 {
		t.Error("it is remembered for ever")
	}
}

func TestMalformedRecordsAreTold(t *testing.T) {
	w := newWorld(t)
	bad := rt.Record(w.header(10), record.Open{Name: []byte("abc")})
	bad[72] = 200 // name_len
	for _, b := range [][]byte{bad, bad, {1, 2, 3}} {
		if err := w.c.Record(b); err == nil {
			t.Error("no error")
		}
	}
	w.tick(100 * time.Millisecond)
	list := w.of(span.Loss)
	if len(list) != 4 { // two kinds to two sessions
		t.Fatalf("spans %s", show(list))
	}
	wants(t, list[0], map[string]any{span.KeyLost: 2, span.KeyLostCause: "malformed", span.KeyLostKind: "open"})
	w.tick(100 * time.Millisecond)
	if n := len(w.of(span.Loss)); n != 4 {
		t.Errorf("told again: %d", n)
	}
}
