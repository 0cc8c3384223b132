// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

const (
	ms     = uint64(time.Millisecond)
	second = uint64(time.Second)

	wallStart = uint64(1_790_000_000_000_000_000)
	bootStart = 1000 * second

	boot = "b00t"
)

// codexInstance is that of the agent whose first program is the first of pid 10.
var codexInstance = span.AgentInstance(boot, image1(10, 1))

// world is a kernel for tests: it keeps pids, exec counts and the time, and feeds a collector.
type world struct {
	t     testing.TB
	c     *Collector
	now   uint64
	spans []span.Span
	flush int

	execIDs map[uint32]uint64
	cgroup  map[uint32]uint64
	records [][]byte
}

func (w *world) Span(s *span.Span) { w.spans = append(w.spans, clone(s)) }
func (w *world) Flush()            { w.flush++ }

func clone(s *span.Span) span.Span {
	c := *s
	c.Links = slices.Clone(s.Links)
	c.Attrs = slices.Clone(s.Attrs)
	for i := range c.Attrs {
		c.Attrs[i].List = slices.Clone(c.Attrs[i].List)
	}
	return c
}

// The cgroups of the world. /agents/one and /agents/two are sandboxes.
const (
	one       = uint64(11)
	two       = uint64(12)
	oneInside = uint64(13)
	outside   = uint64(99)
)

func newWorld(t testing.TB, change ...func(*config.Config)) *world {
	t.Helper()
	config := config.Config{
		BootID: boot,
		Sandboxes: []config.Selector{
			{Cgroup: "/agents/one", Session: "s1", Agent: "codex"},
			{Cgroup: "/agents/*"},
		},
	}
	for _, f := range change {
		f(&config)
	}
	w := &world{t: t, now: bootStart, execIDs: map[uint32]uint64{}, cgroup: map[uint32]uint64{}}
	c, err := New(config, w)
	if err != nil {
		t.Fatal(err)
	}
	w.c = c
	w.raw(record.AppendClock(nil, w.now, int64(wallStart)))
	w.raw(record.AppendCgroup(nil, w.now, one, 1, "/agents/one"))
	w.raw(record.AppendCgroup(nil, w.now, oneInside, one, "/agents/one/inside"))
	w.raw(record.AppendCgroup(nil, w.now, two, 1, "/agents/two"))
	return w
}

func (w *world) raw(b []byte) {
	w.t.Helper()
	w.records = append(w.records, b)
	if err := w.c.Record(b); err != nil && !errors.Is(err, ErrRefused) {
		w.t.Fatal(err)
	}
}

func start(pid uint32) uint64 { return bootStart + uint64(pid) }

func (w *world) header(pid uint32) record.Header {
	w.now += ms
	cgroup := w.cgroup[pid]
	if cgroup == 0 {
		cgroup = one
	}
	return record.Header{Time: w.now, Cgroup: cgroup, Start: start(pid), ExecID: w.execIDs[pid], Tgid: pid, Tid: pid}
}

// begin starts a process in a cgroup from outside, as CLONE_INTO_CGROUP does.
func (w *world) begin(pid uint32, cgroup uint64) {
	w.t.Helper()
	h := w.header(1)
	h.Cgroup = outside
	w.cgroup[pid] = cgroup
	w.raw(rt.Record(h, record.Fork{ChildStart: start(pid), ChildCgroup: cgroup, ChildTgid: pid, ChildVpid: pid}))
}

func (w *world) fork(parent, child uint32) {
	w.t.Helper()
	h := w.header(parent)
	w.execIDs[child] = w.execIDs[parent]
	w.cgroup[child] = h.Cgroup
	w.raw(rt.Record(h, record.Fork{ChildStart: start(child), ChildCgroup: h.Cgroup, ChildTgid: child, ChildVpid: child}))
}

func (w *world) exec(pid uint32, exe string, args ...string) {
	w.t.Helper()
	w.execWith(pid, 0, record.Exec{Exe: rt.Path(exe), Filename: []byte(exe), Args: rt.Args(args...), Argc: uint32(len(args))})
}

func (w *world) execWith(pid uint32, flags uint16, r record.Exec) {
	w.t.Helper()
	w.execIDs[pid]++
	h := w.header(pid)
	h.Flags = flags
	if r.Cwd == nil {
		r.Cwd = rt.Path("/repo")
	}
	if r.ArgsSize == 0 {
		r.ArgsSize = uint32(len(r.Args))
	}
	r.Vpid = pid
	if r.Inode == 0 {
		r.Inode = inodeOf(r.Exe)
	}
	w.raw(rt.Record(h, r))
}

// inodeOf gives each path a file of its own.
func inodeOf(path []byte) uint64 {
	h := fnv.New64a()
	h.Write(path)
	return h.Sum64()
}

func (w *world) exit(pid uint32, status uint32) {
	w.t.Helper()
	w.raw(rt.Record(w.header(pid), record.Exit{Status: status, CPU: 5, User: 3, System: 2, PeakRSS: 7}))
}

func (w *world) open(pid uint32, path string) {
	w.t.Helper()
	w.openWith(pid, 0, record.Open{Path: rt.Path(path), Name: []byte(path)})
}

func (w *world) openWith(pid uint32, flags uint16, r record.Open) {
	w.t.Helper()
	if r.Error == 0 && r.Inode == 0 {
		r.Inode = 42
	}
	h := w.header(pid)
	h.Flags = flags
	w.raw(rt.Record(h, r))
}

// act is a record of a process without flags: of a socket, namespace or access.
func (w *world) act(pid uint32, body any) {
	w.t.Helper()
	w.raw(rt.Record(w.header(pid), body))
}

func (w *world) reach(pid uint32, flags uint16, r record.Access) {
	w.t.Helper()
	h := w.header(pid)
	h.Flags = flags
	w.raw(rt.Record(h, r))
}

// tick lets time pass, with a tick each 100 ms.
func (w *world) tick(d time.Duration) {
	w.t.Helper()
	for end := w.now + uint64(d); w.now < end; {
		w.now = min(end, w.now+100*ms)
		w.raw(record.AppendTick(nil, w.now))
	}
}

// of gives the spans of a kind so far.
func (w *world) of(k span.Kind) []span.Span {
	var list []span.Span
	for _, s := range w.spans {
		if s.Kind == k {
			list = append(list, s)
		}
	}
	return list
}

// only gives the one span of a kind.
func (w *world) only(k span.Kind) span.Span {
	w.t.Helper()
	list := w.of(k)
	if len(list) != 1 {
		w.t.Fatalf("%d spans %s, want 1: %s", len(list), k, show(list))
	}
	return list[0]
}

// exec span of a pid.
func (w *world) execOf(pid uint32) span.Span {
	w.t.Helper()
	for _, s := range w.of(span.Exec) {
		if get(s, span.KeyPID) == int64(pid) {
			return s
		}
	}
	w.t.Fatalf("no process.exec of %d in %s", pid, show(w.spans))
	return span.Span{}
}

func show(list []span.Span) string {
	var out string
	for _, s := range list {
		out += fmt.Sprintf("\n%s trace %x id %x parent %x %d+%d failed=%v %q", s.Name, s.Trace[:4], s.ID, s.Parent, s.Start-wallStart, s.End-s.Start, s.Failed, s.Status)
		for _, a := range s.Attrs {
			out += fmt.Sprintf(" %s=%v", a.Key, value(a))
		}
	}
	return out
}

func value(a span.Attr) any {
	switch a.Kind {
	case span.StringAttr:
		return a.Str
	case span.IntAttr:
		return a.Int
	case span.BoolAttr:
		return a.Int == 1
	case span.StringsAttr:
		return a.List
	}
	return nil
}

// get gives an attribute's value, nil when it is not there.
func get(s span.Span, key string) any {
	for _, a := range s.Attrs {
		if a.Key == key {
			return value(a)
		}
	}
	return nil
}

// wants checks attributes; nil means absent.
func wants(t testing.TB, s span.Span, want map[string]any) {
	t.Helper()
	for key, v := range want {
		got := get(s, key)
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		if list, ok := v.([]string); ok {
			if gotList, ok := got.([]string); !ok || !slices.Equal(gotList, list) {
				t.Errorf("%s: %s = %q, want %q", s.Name, key, got, list)
			}
			continue
		}
		if got != v {
			t.Errorf("%s: %s = %v, want %v", s.Name, key, got, v)
		}
	}
}

// existing tells of a process that is older than the sensor.
func (w *world) existing(pid, parent uint32, exe string) {
	w.t.Helper()
	w.cgroup[pid] = two
	h := w.header(pid)
	file := rt.Path(exe)
	w.raw(rt.Record(h, record.Process{ParentTgid: parent, ParentStart: start(parent), Vpid: pid, Inode: inodeOf(file), Exe: file, Cwd: rt.Path("/repo")}))
	w.raw(record.AppendCmdline(nil, h, 1, rt.Args(exe)))
}

// withPinned adds an agent with pins to the built-in ones.
func withPinned() []agents.Dialect {
	root := uint32(0)
	return agents.Merge(agents.Builtin(), []agents.Dialect{{Name: "pinned", Executables: []string{"pinned"}, Path: []string{"/usr/bin/*"}, Owner: &root}})
}
