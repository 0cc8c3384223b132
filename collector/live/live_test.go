// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

const ms = uint64(time.Millisecond)

// host is a scripted kernel: its steps are what one Read after the other meets. It is the clock, too.
type host struct {
	boot uint64
	wall int64

	steps    []func() ([]byte, error)
	cancel   context.CancelFunc
	losses   []bpf.Loss // as the counters are
	reported map[bpf.Loss]uint64
	lossErr  error
	existing [][]byte
	flushed  bool

	toldAt, last uint64

	dirs    map[string]uint64 // path -> id
	limits  map[string]cgroup.Limits
	watches map[uint64]bpf.WatchFlags
	within  map[uint64]uint64 // cgroup -> sandbox
	log     []string
	onList  func(cg string)
}

func newHost() *host {
	return &host{boot: 1000 * ms, wall: int64(5_000_000 * ms), dirs: map[string]uint64{"/": 1}, watches: map[uint64]bpf.WatchFlags{}, within: map[uint64]uint64{}, reported: map[bpf.Loss]uint64{}}
}

func (h *host) clock() (uint64, int64, error) { return h.boot, h.wall, nil }
func (h *host) pass(d uint64)                 { h.boot += d; h.wall += int64(d) }

func (h *host) SetDeadline(time.Time) {}
func (h *host) Flush() error          { h.flushed = true; return nil }

// Read ends the run by itself when the steps are used up.
func (h *host) Read([]byte) ([]byte, error) {
	if len(h.steps) == 0 {
		h.cancel()
		return nil, ringbuf.ErrFlushed
	}
	step := h.steps[0]
	h.steps = h.steps[1:]
	return step()
}

func (h *host) Losses() ([]bpf.Loss, error) {
	losses := slices.Clone(h.losses)
	for i, l := range losses {
		losses[i].Count -= h.reported[counter(l)]
	}
	return losses, h.lossErr
}

func (h *host) Told(losses []bpf.Loss, at uint64) error {
	h.toldAt = at
	for _, l := range losses {
		h.reported[counter(l)] += l.Count
	}
	return nil
}

func counter(l bpf.Loss) bpf.Loss {
	l.Count = 0
	return l
}

func (h *host) Last() uint64 { return h.last }

func (h *host) Existing(yield func([]byte) error) error {
	for _, raw := range h.existing {
		if err := yield(slices.Clone(raw)); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) Watch(id uint64, flags bpf.WatchFlags) error {
	h.log = append(h.log, fmt.Sprintf("watch %d %d", id, flags))
	h.watches[id] = flags
	return nil
}

func (h *host) Unwatch(id uint64) error {
	h.log = append(h.log, fmt.Sprintf("unwatch %d", id))
	delete(h.watches, id)
	return nil
}

func (h *host) Within(id, sandbox uint64) error {
	h.within[id] = sandbox
	return nil
}

func (h *host) Forget(l bpf.Loss) error {
	h.losses = slices.DeleteFunc(h.losses, func(has bpf.Loss) bool { return counter(has) == counter(l) })
	return nil
}

func (h *host) Unfollow(tgid uint32) error {
	h.log = append(h.log, fmt.Sprintf("unfollow %d", tgid))
	return nil
}

func (h *host) Follow(tgid uint32, _ uint64) (bool, error) {
	h.log = append(h.log, fmt.Sprintf("follow %d", tgid))
	return true, nil
}

func (h *host) Limits(cg string) (cgroup.Limits, error) { return h.limits[cg], nil }

func (h *host) ID(cg string) (uint64, error) {
	if id, ok := h.dirs[cg]; ok {
		return id, nil
	}
	return 0, fmt.Errorf("%s: %w", cg, os.ErrNotExist)
}

func (h *host) Path(id uint64) (string, error) {
	for cg, has := range h.dirs {
		if has == id {
			return cg, nil
		}
	}
	return "", os.ErrNotExist
}

func (h *host) Of(pid int) (string, error) { return cgroup.Mount{}.Of(pid) }

func (h *host) Children(cg string) ([]string, error) {
	h.log = append(h.log, "list "+cg)
	if h.onList != nil {
		h.onList(cg)
	}
	var names []string
	for p := range h.dirs {
		if p != "/" && path.Dir(p) == cg {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (h *host) quiet(d uint64) {
	h.steps = append(h.steps, func() ([]byte, error) { h.pass(d); return nil, os.ErrDeadlineExceeded })
}

func (h *host) reads(raw []byte) {
	h.steps = append(h.steps, func() ([]byte, error) { return raw, nil })
}

func (h *host) does(f func()) {
	h.steps = append(h.steps, func() ([]byte, error) { f(); return nil, os.ErrDeadlineExceeded })
}

// stream keeps what the collector gets, in words.
type stream struct {
	words []string
	raw   bytes.Buffer
	err   error
}

func (s *stream) Record(raw []byte) error {
	s.raw.Write(raw)
	var e record.Event
	if err := e.Decode(raw); err != nil {
		s.words = append(s.words, "malformed")
		return err
	}
	at := func(t uint64) int64 { return int64(t/ms) - 1000 }
	switch h := e.Header; h.Type {
	case record.TypeClock:
		s.words = append(s.words, fmt.Sprintf("clock at %d", at(h.Time)))
	case record.TypeTick:
		s.words = append(s.words, fmt.Sprintf("tick at %d", at(h.Time)))
	case record.TypeLoss:
		what := e.Loss.Kind.String()
		if h.Tgid != 0 {
			what += fmt.Sprintf(" of %d", h.Tgid)
		}
		s.words = append(s.words, fmt.Sprintf("%d %s lost in %d from %d to %d", e.Loss.Count, what, h.Cgroup, at(e.Loss.From), at(e.Loss.To)))
	case record.TypeCgroup:
		s.words = append(s.words, fmt.Sprintf("cgroup %d below %d is %s", e.Cgroup.ID, e.Cgroup.Parent, e.Cgroup.Path))
	case record.TypeCmdline:
		s.words = append(s.words, fmt.Sprintf("process %d has %d arguments %q", h.Tgid, e.Cmdline.Argc, e.Cmdline.Args))
	default:
		s.words = append(s.words, fmt.Sprintf("%s at %d", h.Type, at(h.Time)))
	}
	return s.err
}

func (h *host) feed(t *testing.T, s Sink, globs ...string) *Feed {
	t.Helper()
	var gs cgroup.Globs
	for _, text := range globs {
		g, err := cgroup.ParseGlob(text)
		if err != nil {
			t.Fatal(err)
		}
		gs = append(gs, g)
	}
	return New(Options{Source: h, Collector: s, Hierarchy: h, Globs: gs, Clock: h.clock, Proc: t.TempDir()})
}

// run starts the feed and lets it read all steps.
func (h *host) run(t *testing.T, f *Feed) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.cancel = cancel
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	return f.Run(ctx)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// raw is a kernel record with a zero body.
func raw(typ record.Type, time uint64, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint16(b, uint16(typ))
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	binary.LittleEndian.PutUint64(b[8:], time)
	return b
}

func exit(time uint64) []byte { return raw(record.TypeExit, time, 88) }

func directory(typ record.Type, time, id uint64, cg string) []byte {
	b := raw(typ, time, 72+len(cg))
	binary.LittleEndian.PutUint64(b[48:], id)
	binary.LittleEndian.PutUint32(b[64:], uint32(len(cg)))
	copy(b[72:], cg)
	return b
}

func TestTheStreamBeginsWithTheClockAndTicksWhileNothingHappens(t *testing.T) {
	h, s := newHost(), &stream{}
	for range 5 {
		h.quiet(50 * ms)
	}
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	// A quiet Read proves the ring empty at the moment it began.
	same(t, "stream", s.words, []string{"clock at 0", "tick at 100", "tick at 200"})
}

func TestInABacklogTimeIsThatOfTheRecords(t *testing.T) {
	h, s := newHost(), &stream{}
	h.steps = append(h.steps, func() ([]byte, error) { h.pass(5000 * ms); return exit(1040 * ms), nil })
	h.reads(exit(1120 * ms))
	h.reads(exit(1130 * ms))
	h.reads(exit(1110 * ms)) // another CPU's, a little older
	h.reads(exit(1260 * ms))
	h.quiet(0)
	h.quiet(0)
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{
		"clock at 0", "exit at 40", "exit at 120", "tick at 120", "exit at 130", "exit at 110",
		"exit at 260", "tick at 260", "tick at 5000",
	})
}

func TestTheClockIsToldAgainWhenItWasSet(t *testing.T) {
	h, s := newHost(), &stream{}
	h.quiet(100 * ms)
	h.quiet(100 * ms)
	h.does(func() { h.pass(100 * ms); h.wall += int64(time.Millisecond / 2) }) // slewed: not told
	h.quiet(100 * ms)
	h.does(func() { h.pass(100 * ms); h.wall -= int64(time.Hour) })
	h.quiet(100 * ms)
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{
		"clock at 0", "tick at 100", "tick at 200", "tick at 300", "clock at 500", "tick at 400", "tick at 500",
	})
}

func TestLossesAreToldAsDifferencesOnceASecondAndAtTheEnd(t *testing.T) {
	h, s := newHost(), &stream{}
	lose := func(ls ...bpf.Loss) func() { return func() { h.pass(1000 * ms); h.losses = ls } }
	a := bpf.Loss{Cgroup: 7, Kind: 2, Cause: 1, Count: 10}
	b := bpf.Loss{Cgroup: 7, Kind: 5, Cause: 1, Count: 1}
	h.does(lose(b, a))
	h.quiet(0)
	a.Count = 15
	h.does(lose(a, b))
	h.quiet(0)
	h.does(lose(a, b))
	b.Count = 4
	h.steps = append(h.steps, func() ([]byte, error) { h.losses = []bpf.Loss{a, b}; return exit(4000 * ms), nil })
	f := h.feed(t, s, "/agents/*")
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{
		"clock at 0",
		"10 exec lost in 7 from 0 to 1000", "1 open lost in 7 from 0 to 1000", "tick at 1000",
		"5 exec lost in 7 from 1000 to 2000", "tick at 2000",
		"exit at 3000", "3 open lost in 7 from 2000 to 3000", "tick at 3000",
	})
	if f.Stats().Lost != 19 {
		t.Errorf("%d lost in the statistics, want 19", f.Stats().Lost)
	}
}

// TestTheCountersOfAnEndedProcessAreToldToTheEndAndThenForgotten: what was counted between the last look and the end is not lost
// with the counter.
func TestTheCountersOfAnEndedProcessAreToldToTheEndAndThenForgotten(t *testing.T) {
	h, s := newHost(), &stream{}
	lose := func(ls ...bpf.Loss) func() { return func() { h.pass(1000 * ms); h.losses = ls } }
	of := func(tgid uint32, n uint64) bpf.Loss {
		return bpf.Loss{Cgroup: 7, Start: 500 * ms, Tgid: tgid, Kind: 5, Cause: 1, Count: n}
	}
	f := h.feed(t, s, "/agents/*")
	dir := filepath.Join(f.o.Proc, "10") // 11 has ended
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte("10 (a) S "+strings.Repeat("0 ", 18)+"50 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.does(lose(of(10, 1), of(11, 2)))
	h.quiet(0)
	h.does(lose(of(10, 1), of(11, 5)))
	h.quiet(0)
	h.does(func() { h.pass(1000 * ms) })
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{
		"clock at 0",
		"1 open of 10 lost in 7 from 0 to 1000", "2 open of 11 lost in 7 from 0 to 1000", "tick at 1000",
		"3 open of 11 lost in 7 from 1000 to 2000", "tick at 2000",
	})
	if want := []bpf.Loss{of(10, 1)}; !slices.Equal(h.losses, want) {
		t.Errorf("counters %v, want %v", h.losses, want)
	}
}

func TestCgroupsOfASandboxShareItsBudget(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs = map[string]uint64{"/": 1, "/agents": 3, "/agents/a": 4, "/agents/a/deep": 5, "/agents/a/deep/er": 6, "/agents/b": 7}
	f := h.feed(t, s, "/agents/*", "/agents/a/deep")
	h.dirs["/agents/b/new"] = 8
	h.dirs["/agents/c"] = 9
	for _, made := range []string{"/agents/b/new", "/agents/c"} {
		raw := record.AppendCgroup(nil, 2000*ms, h.dirs[made], 0, made)
		binary.LittleEndian.PutUint16(raw, uint16(record.TypeCgroupMkdir))
		h.steps = append(h.steps, func() ([]byte, error) { return raw, nil })
	}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if want := (map[uint64]uint64{4: 4, 5: 4, 6: 4, 7: 7, 8: 7, 9: 9}); !maps.Equal(h.within, want) {
		t.Errorf("cgroups and their sandboxes %v, want %v", h.within, want)
	}
}

func TestLossesAfterTheLastTickAreToldAtTheEnd(t *testing.T) {
	h, s := newHost(), &stream{}
	h.does(func() { h.losses = []bpf.Loss{{Cgroup: 7, Kind: 2, Cause: 1, Count: 2}} })
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "2 exec lost in 7 from 0 to 0"})
}

func TestExistingCgroupsAreWatchedBeforeTheirChildrenAreListed(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs = map[string]uint64{"/": 1, "/other": 2, "/agents": 3, "/agents/a": 4, "/agents/a/deep": 5}
	h.onList = func(cg string) {
		if cg == "/agents" { // made between watching and listing
			h.dirs["/agents/b"] = 6
		}
	}
	f := h.feed(t, s, "/agents/*", "/nowhere/x")
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "calls", h.log, []string{
		"watch 1 2", "list /", "watch 3 2", "list /agents",
		"watch 4 3", "list /agents/a", "watch 5 3", "list /agents/a/deep", "watch 6 3", "list /agents/b",
	})
	same(t, "stream", s.words, []string{
		"clock at 0", "cgroup 4 below 3 is /agents/a", "cgroup 5 below 4 is /agents/a/deep", "cgroup 6 below 3 is /agents/b",
	})
	same(t, "globs without a match", f.Unmatched(), []string{"/nowhere/x"})
	if f.Stats().Sandboxes != 2 {
		t.Errorf("%d sandboxes, want 2", f.Stats().Sandboxes)
	}
}

func TestNewCgroupsAreKeptNarrowedOrDropped(t *testing.T) {
	h, s := newHost(), &stream{}
	h.reads(directory(record.TypeCgroupMkdir, 1001*ms, 10, "/kubepods"))
	h.reads(directory(record.TypeCgroupMkdir, 1002*ms, 11, "/kubepods/pod1"))
	h.reads(directory(record.TypeCgroupMkdir, 1003*ms, 12, "/kubepods/pod1/deep"))
	h.reads(directory(record.TypeCgroupMkdir, 1004*ms, 13, "/system.slice"))
	h.reads(directory(record.TypeCgroupRmdir, 1005*ms, 11, "/kubepods/pod1"))
	f := h.feed(t, s, "/kubepods/pod*")
	h.log = nil
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "calls", h.log, []string{"watch 1 2", "list /", "watch 10 2", "watch 11 3", "watch 12 3", "unwatch 13", "unwatch 11"})
}

func TestACgroupRemovedWhileItIsAdoptedLeavesNoWatch(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs = map[string]uint64{"/": 1, "/a": 2}
	f := h.feed(t, s, "/a")
	f.o.Source = &vanishing{h}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.watches[2]; ok {
		t.Error("the watch of the removed cgroup stays")
	}
	same(t, "stream", s.words, []string{"clock at 0"})
}

// vanishing removes a directory at the moment that it is watched.
type vanishing struct{ *host }

func (v *vanishing) Watch(id uint64, flags bpf.WatchFlags) error {
	delete(v.dirs, "/a")
	return v.host.Watch(id, flags)
}

// Whoever may make cgroups could keep the sensor from starting otherwise.
func TestCgroupsThatCannotBeWatchedAreToldAndKeepNobodyOut(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs = map[string]uint64{"/": 1, "/a": 2, "/a/full": 3, "/a/last": 4, "/a/named": 5, "/a/named/below": 6}
	deep := "/a"
	for n := range uint64(maxDepth + 10) {
		deep += "/d"
		h.dirs[deep] = 100 + n
	}
	f := h.feed(t, s, "/a")
	f.o.Source = &full{h, 3}
	f.o.Hierarchy = &tooLong{h, "/a/named"}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.watches[4]; !ok {
		t.Error("one that can be watched is not")
	}
	if !slices.Contains(s.words, "3 cgroup lost in 0 from 0 to 0") {
		t.Errorf("%s", s.words[max(0, len(s.words)-5):])
	}
}

func TestASensorThatCannotWatchAtAllDoesNotStart(t *testing.T) {
	h := newHost()
	f := h.feed(t, &stream{}, "/a")
	f.o.Source = &full{h, 1}
	if err := f.Start(); !errors.Is(err, unix.E2BIG) {
		t.Errorf("%v", err)
	}
}

// A directory may have been made of which the kernel could not tell.
func TestCgroupsAreLookedForWhenTheirMakingWasLost(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs = map[string]uint64{"/": 1, "/a": 2}
	f := h.feed(t, s, "/a", "/a/*")
	h.quiet(uint64(lossEvery))
	h.does(func() {
		h.dirs["/a/new"] = 3
		h.losses = []bpf.Loss{{Cgroup: 2, Kind: uint16(record.TypeCgroupMkdir), Cause: 1, Count: 1}}
	})
	h.quiet(uint64(lossEvery))
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.words, "cgroup 3 below 2 is /a/new") || h.watches[3] == 0 || f.Stats().Sandboxes != 1 {
		t.Errorf("%d sandboxes, watched %v:\n%s", f.Stats().Sandboxes, h.watches, strings.Join(s.words, "\n"))
	}
}

// full has no room for a cgroup.
type full struct {
	*host
	id uint64
}

func (f *full) Watch(id uint64, flags bpf.WatchFlags) error {
	if id == f.id {
		return unix.E2BIG
	}
	return f.host.Watch(id, flags)
}

// tooLong has a cgroup whose path the kernel does not take.
type tooLong struct {
	*host
	cgroup string
}

func (l *tooLong) ID(cg string) (uint64, error) {
	if cg == l.cgroup {
		return 0, unix.ENAMETOOLONG
	}
	return l.host.ID(cg)
}

func process(pid uint32, start uint64) []byte {
	b := raw(record.TypeProcess, 1000*ms, 104)
	binary.LittleEndian.PutUint64(b[24:], start)
	binary.LittleEndian.PutUint32(b[40:], pid)
	return b
}

func TestArgumentsOfExistingProcessesComeFromProcUnlessThePidWasReused(t *testing.T) {
	h, s := newHost(), &stream{}
	h.existing = [][]byte{process(10, 500*ms), process(11, 500*ms), process(12, 500*ms)}
	f := h.feed(t, s, "/a")
	for pid, ticks := range map[string]string{"10": "50", "11": "51"} {
		dir := filepath.Join(f.o.Proc, pid)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		stat := pid + " (a) b) S " + strings.Repeat("0 ", 18) + ticks + " 0 0\n"
		for file, text := range map[string]string{"cmdline": "sh\x00-c\x00true\x00", "stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{
		"clock at 0", "process at 0", "process at 0", "process at 0", `process 10 has 3 arguments "sh\x00-c\x00true\x00"`,
	})
}

func TestArgumentsAreBoundedButCounted(t *testing.T) {
	args, argc, err := scanArgs(strings.NewReader(strings.Repeat("x\x00", 100_000) + "unended"))
	if err != nil || argc != 100_001 || len(args) != record.MaxCmdline {
		t.Errorf("%d arguments, %d bytes, %v", argc, len(args), err)
	}
	if args, argc, err = scanArgs(strings.NewReader("")); err != nil || argc != 0 || len(args) != 0 {
		t.Errorf("of a process without: %d arguments, %d bytes, %v", argc, len(args), err)
	}
}

type tape struct{ bytes.Buffer }

func (t *tape) Record(raw []byte) error { t.Write(raw); return nil }

type fails struct{ after, calls int }

func (f *fails) Record([]byte) error {
	if f.calls++; f.calls > f.after {
		return errors.New("disk full")
	}
	return nil
}

func TestAFailingCaptureEndsAndTheSpansGoOn(t *testing.T) {
	h, s := newHost(), &stream{}
	h.reads(exit(1001 * ms))
	h.reads(exit(1002 * ms))
	f := h.feed(t, s, "/a")
	capture := &fails{after: 1}
	f.o.Capture = capture
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "exit at 1", "exit at 2"})
	if f.Stats().CaptureErr == nil || capture.calls != 2 {
		t.Errorf("error %v after %d calls", f.Stats().CaptureErr, capture.calls)
	}
}

func TestTheCaptureHoldsTheBytesThatTheCollectorSaw(t *testing.T) {
	h, s, c := newHost(), &stream{}, &tape{}
	h.dirs["/a"] = 2
	h.reads(exit(1001 * ms))
	h.reads([]byte("not a record"))
	h.quiet(200 * ms)
	h.quiet(0)
	f := h.feed(t, s, "/a")
	f.o.Capture = c
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.raw.Bytes(), c.Bytes()) || c.Len() == 0 {
		t.Errorf("the collector saw %q, the capture has %d bytes", s.words, c.Len())
	}
	if f.Stats().Refused != 1 {
		t.Errorf("%d refused, want 1", f.Stats().Refused)
	}
}

func TestABrokenRingEndsTheRunWithTheLastLosses(t *testing.T) {
	h, s := newHost(), &stream{}
	h.losses = []bpf.Loss{{Cgroup: 7, Kind: 2, Cause: 1, Count: 2}}
	h.steps = append(h.steps, func() ([]byte, error) { return nil, os.ErrClosed })
	if err := h.run(t, h.feed(t, s, "/a")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "2 exec lost in 7 from 0 to 0"})
}

func TestTheEndOfTheContextEmptiesTheRingFirst(t *testing.T) {
	h, s := newHost(), &stream{}
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = func() {}
	f := h.feed(t, s, "/a")
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	h.steps = append(h.steps, func() ([]byte, error) { cancel(); return exit(1001 * ms), nil })
	h.reads(exit(1002 * ms))
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "exit at 1", "exit at 2"})
}

func TestWhoIsFollowedOnSuspicionAndNoAgentIsLeftAlone(t *testing.T) {
	h, s := newHost(), &stream{}
	raw := func(pid uint32, flags uint16, body any) []byte {
		return recordtest.Record(record.Header{Time: 1001 * ms, Tgid: pid, Start: uint64(pid), Flags: flags}, body)
	}
	h.existing = [][]byte{raw(10, record.ExecFound, record.Process{}), raw(11, record.ExecFound, record.Process{}), raw(12, 0, record.Process{})}
	h.reads(raw(20, record.ExecFound, record.Exec{}))
	h.reads(raw(20, 0, record.Fork{ChildTgid: 21, ChildStart: 21}))
	h.reads(raw(20, 0, record.Exit{}))
	h.reads(raw(30, record.ExecFound, record.Exec{}))
	h.reads(raw(30, 0, record.Fork{ChildTgid: 31, ChildStart: 31}))
	h.reads(raw(31, 0, record.Open{}))
	// Not known because records were lost: perhaps an agent's.
	h.reads(raw(15, 0, record.Open{}))
	h.reads(raw(15, 0, record.Exec{}))
	h.reads(raw(15, 0, record.Fork{ChildTgid: 16, ChildStart: 16}))
	// Not so below a suspect.
	h.reads(raw(17, 0, record.Exec{ParentTgid: 20, ParentStart: 20}))
	h.reads(raw(17, 0, record.Open{}))
	f := h.feed(t, s)
	f.o.Knows = func(tgid uint32, start uint64) bool { return tgid >= 30 || tgid == 10 }
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "log", h.log, []string{"follow 10", "unfollow 11", "unfollow 20", "unfollow 20", "unfollow 21", "follow 30", "unfollow 17", "unfollow 17"})
}

func TestTheSystemClockRuns(t *testing.T) {
	boot, wall, err := SystemClock()
	if err != nil || boot == 0 || wall < int64(1_600_000_000*time.Second) {
		t.Errorf("%d, %d, %v", boot, wall, err)
	}
}
