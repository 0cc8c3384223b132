// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
)

// In these tests nobody reads the ring but when they say so: what is in it, and so what is left out, does not depend on who is
// faster.

// overload is a sensor and the processes that fill its ring.
type overload struct {
	t       *testing.T
	sensor  *bpf.Sensor
	mount   cgroup.Mount
	base    string // cgroup
	files   string // that they read
	program workloadtest.Program
}

// manyFiles are how many distinct ones there are of a sort.
const manyFiles = 1000

func newOverload(t *testing.T, o bpf.Options) *overload {
	t.Helper()
	workloadtest.Root(t)
	program := workloadtest.Build(t)
	files, err := os.MkdirTemp("", "sb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(files) })
	if files, err = filepath.EvalSymlinks(files); err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(files, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(files, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("again")
	for n := range manyFiles {
		write("read/" + strconv.Itoa(n))
		write("noise/" + strconv.Itoa(n))
	}
	if o.Noise == nil {
		o.Noise = []string{files + "/noise/**"}
	}
	s, dir := load(t, o)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	return &overload{t: t, sensor: s, mount: m, base: strings.TrimPrefix(dir.Name(), m.Dir), files: files, program: program}
}

// A crowd is one sandbox with one process, and what came of it.
type crowd struct {
	*workloadtest.Running
	o      *overload
	cgroup uint64
	done   map[string]int
	seen   map[string]int
}

// sandbox starts a process in a new sandbox. Watched below a directory that is watched, it would be a part of that one.
func (o *overload) sandbox(name string) *crowd {
	o.t.Helper()
	cg := o.base + "/" + name
	if err := o.mount.Create(cg); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = os.Remove(filepath.Join(o.mount.Dir, cg)) })
	id, err := o.mount.ID(cg)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.sensor.Watch(id, bpf.WatchTasks); err != nil {
		o.t.Fatal(err)
	}
	if err := o.sensor.Within(id, id); err != nil {
		o.t.Fatal(err)
	}
	dir, err := o.mount.Open(cg)
	if err != nil {
		o.t.Fatal(err)
	}
	defer dir.Close()
	attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	c := &crowd{o: o, cgroup: id, done: map[string]int{}, seen: map[string]int{}}
	c.Running = o.program.Start(o.t, attr, workload.Driven, o.files)
	return c
}

func (c *crowd) do(verb string, count int) {
	c.o.t.Helper()
	c.Do(c.o.t, verb, count)
	c.done[verb] += count
}

// fill makes files until the ring is as full as it says, in sixteenths.
func (c *crowd) fill(sixteenths int) {
	c.o.t.Helper()
	for {
		used, size := c.o.sensor.RingFill()
		left := size/16*sixteenths - used
		if left <= 0 {
			return
		}
		const most = 512 // bytes that one takes
		c.do("create", max(1, left/most))
	}
}

// read takes what is in the ring.
func (o *overload) read(crowds ...*crowd) {
	o.t.Helper()
	o.sensor.SetDeadline(time.Now())
	var e record.Event
	for {
		raw, err := o.sensor.Read(nil)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			o.t.Fatal(err)
		}
		if err := e.Decode(raw); err != nil {
			o.t.Fatal(err)
		}
		of := e.Header.Cgroup
		if e.Header.Type == record.TypeCgroupMkdir || e.Header.Type == record.TypeCgroupRmdir {
			of = e.Cgroup.Parent // who makes one is outside
		}
		for _, c := range crowds {
			if verb := o.verb(&e); verb != "" && of == c.cgroup {
				c.seen[verb]++
			}
		}
	}
}

// verb says of what a record tells; "" if it is none of the process's own will.
func (o *overload) verb(e *record.Event) string {
	switch e.Header.Type {
	case record.TypeFork:
		return "fork"
	case record.TypeExit:
		return "exit"
	case record.TypeExec:
		return "exec"
	case record.TypeConnect:
		return "connect"
	case record.TypeConnectEnd:
		return "connect_end"
	case record.TypeCgroupMkdir:
		return "mkdir"
	case record.TypeCgroupRmdir:
		return "rmdir"
	case record.TypeChange:
		if strings.HasSuffix(string(e.Change.New.Name), "/missing-to") {
			return "rename-missing"
		}
		return ""
	case record.TypeOpen:
	default:
		return ""
	}
	path := string(e.Open.Path.AppendPath(nil))
	name, ours := strings.CutPrefix(path, o.files+"/")
	switch {
	case e.Open.Error != 0 && strings.HasPrefix(string(e.Open.Name), o.files):
		return "refuse"
	case strings.HasPrefix(filepath.Base(path), "created-"):
		return "create"
	case !ours:
		return ""
	case e.Open.Flags&syscall.O_ACCMODE != syscall.O_RDONLY:
		return "write"
	}
	verb, _, _ := strings.Cut(name, "/")
	return verb
}

// lost are the counters of a sandbox.
type lost struct {
	kind  record.Type
	cause record.Cause
}

func (c *crowd) lost() map[lost]int {
	c.o.t.Helper()
	losses, err := c.o.sensor.Losses()
	if err != nil {
		c.o.t.Fatal(err)
	}
	all := map[lost]int{}
	for _, l := range losses {
		what := lost{record.Type(l.Kind), record.Cause(l.Cause)}
		switch {
		case what.cause == record.CauseMissed:
			c.o.t.Logf("the kernel skipped programs: %+v", l) // whose is not known: if ours, what is seen falls short below
		case l.Cgroup != c.cgroup:
		case what.kind == record.TypeOpen && (l.Tgid == 0 || l.Start == 0):
			c.o.t.Errorf("whose opens were lost is not counted: %+v", l)
		case what.kind != record.TypeOpen || int(l.Tgid) == c.Pid():
			all[what] += int(l.Count)
		}
	}
	return all
}

// demand wants the counters to have grown by just that since before.
func (c *crowd) demand(what string, before map[lost]int, want map[lost]int) {
	c.o.t.Helper()
	grown := map[lost]int{}
	for l, n := range c.lost() {
		if n -= before[l]; n != 0 {
			grown[l] = n
		}
	}
	if !maps.Equal(grown, want) {
		used, size := c.o.sensor.RingFill()
		c.o.t.Errorf("%s, the ring %d/16 full: lost by kind and cause %v, want %v", what, used*16/size, grown, want)
	}
}

// facts does everything that is never left out while reads can be.
func (c *crowd) facts(n int) {
	for _, verb := range []string{"write", "create", "refuse", "connect", "fork", "exec"} {
		c.do(verb, n)
	}
}

// account wants all that was done to be seen or counted.
func (c *crowd) account(name string) {
	c.o.t.Helper()
	opens, seen := 0, 0
	for _, verb := range []string{"again", "noise", "read", "write", "create", "refuse"} {
		opens += c.done[verb]
		seen += c.seen[verb]
	}
	counted := map[record.Type]int{}
	for l, n := range c.lost() {
		counted[l.kind] += n
	}
	children := c.done["fork"] + c.done["exec"]
	for _, k := range []struct {
		kind       record.Type
		seen, done int
		twice      int // may be told once more
	}{
		{record.TypeOpen, seen, opens, 0},
		{record.TypeConnect, c.seen["connect"], c.done["connect"], 0},
		{record.TypeChange, c.seen["rename-missing"], c.done["rename-missing"], 0},
		{record.TypeConnectEnd, c.seen["connect_end"], c.seen["connect"], 0}, // of one that was lost no outcome is awaited
		{record.TypeFork, c.seen["fork"], children, 0},
		{record.TypeExit, c.seen["exit"], children, c.done["exec"]}, // by two threads that end at the same time
		{record.TypeExec, c.seen["exec"], c.done["exec"] + 1, 0},    // and its own
	} {
		if got := k.seen + counted[k.kind]; got < k.done || got > k.done+k.twice {
			c.o.t.Errorf("%s: %d records of kind %s are seen and %d counted, but it happened %d times: did %v, saw %v, lost %v", name, k.seen, k.kind, counted[k.kind], k.done, c.done, c.seen, c.lost())
		}
	}
}

func TestWhatIsLeftOutFirst(t *testing.T) {
	for _, form := range allForms(t) {
		t.Run(string(form), func(t *testing.T) {
			const ring = 128 << 10
			o := newOverload(t, bpf.Options{Form: form, RingBytes: ring, BudgetBytes: ring})
			c := o.sandbox("a")
			c.do("again", 1)
			o.read(c)
			const n = 3
			repeat, noise, read := lost{record.TypeOpen, record.CauseShedRepeat}, lost{record.TypeOpen, record.CauseShedNoise}, lost{record.TypeOpen, record.CauseShedRead}
			for _, step := range []struct {
				sixteenths int
				want       map[lost]int
			}{
				{1, nil},
				{8, map[lost]int{repeat: n}},
				{10, map[lost]int{repeat: n, noise: n}},
				{12, map[lost]int{repeat: n, noise: n, read: n}},
			} {
				c.fill(step.sixteenths)
				before := c.lost()
				for _, verb := range []string{"again", "noise", "read"} {
					c.do(verb, n)
				}
				c.facts(n)
				c.demand("nobody reads", before, step.want)
			}
			// Nearly to the brim: now facts are lost, too; then changes, then programs.
			full := lost{record.TypeOpen, record.CauseRingFull}
			for c.lost()[full] == 0 {
				c.do("refuse", 1) // the smallest of the records
			}
			before := c.lost()
			for _, verb := range []string{"again", "noise", "read", "write", "create", "refuse"} {
				c.do(verb, n)
			}
			c.demand("nobody reads", before, map[lost]int{repeat: n, noise: n, read: n, full: 3 * n})
			before = c.lost()
			c.do("rename-missing", n)
			c.do("fork", n)
			c.demand("facts are lost", before, nil)
			full.kind = record.TypeChange
			for c.lost()[full] == 0 {
				c.do("rename-missing", 1)
			}
			before = c.lost()
			c.do("rename-missing", n)
			c.do("fork", n)
			c.demand("changes are lost", before, map[lost]int{full: n})
			full.kind = record.TypeFork
			for c.lost()[full] == 0 {
				c.do("fork", 1)
			}
			o.read(c)
			// Once there is room again nothing is lost.
			before = c.lost()
			for _, verb := range []string{"again", "noise", "read"} {
				c.do(verb, n)
			}
			c.facts(n)
			c.demand("all is read", before, nil)
			o.read(c)
			c.account("the sandbox")
			c.Finish(t)
		})
	}
}
