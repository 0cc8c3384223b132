// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/record"
)

// These tests flood the sensor with a known number of events: seen and counted as lost have to make up that number,
// exactly, for each kind of record.

// floodSize is how often: n, fewer in an emulated guest, and more with SHEETBEND_FLOOD_FACTOR: 40 for a million files.
func floodSize(t *testing.T, n int) int {
	t.Helper()
	if os.Getenv("SHEETBEND_GUEST") != "" {
		return max(n/10, 20)
	}
	if text := os.Getenv("SHEETBEND_FLOOD_FACTOR"); text != "" {
		var factor int
		if _, err := fmt.Sscan(text, &factor); err != nil {
			t.Fatalf("SHEETBEND_FLOOD_FACTOR: %v", err)
		}
		return n * factor
	}
	return n
}

// flood is what came of one.
type flood struct {
	rig  *rig
	pid  int
	seen map[record.Type]int
	lost map[record.Type]int
	full map[record.Type]int // of those lost: for want of room in a table

	// watchedCgroups is how many there are before the flood begins.
	watchedCgroups int
}

// flooded runs a scenario. Without reading nothing is read before all is done, but for what the process does at its end.
// What others on the machine do meanwhile is left out, and where it cannot be told apart the run is repeated.
func flooded(t *testing.T, o bpf.Options, reading bool, scenario string, count int, wanted func(*record.Event) bool, args ...string) *flood {
	t.Helper()
	program := workloadtest.Build(t)
	const attempts = 6
	for i := 1; ; i++ {
		f, alone := floodOnce(t, program, o, reading, scenario, count, wanted, args)
		t.Logf("%s %d: seen %v, lost %v, of them for want of a table's room %v", scenario, count, f.seen, f.lost, f.full)
		if alone || i == attempts {
			return f
		}
		t.Log("others made cgroups meanwhile: once more")
	}
}

func floodOnce(t *testing.T, program workloadtest.Program, o bpf.Options, reading bool, scenario string, count int, wanted func(*record.Event) bool, args []string) (f *flood, alone bool) {
	f = &flood{seen: map[record.Type]int{}, lost: map[record.Type]int{}, full: map[record.Type]int{}}
	var ours map[uint64]bool // cgroups
	var foreign int
	r := unskipped(t, o, func(r *rig) {
		clear(f.seen)
		attr := r.sandbox("flood")
		ours = map[uint64]bool{0: true}
		for _, cg := range []string{r.base, r.base + "/flood"} {
			id, err := r.mount.ID(cg)
			if err != nil {
				t.Fatal(err)
			}
			ours[id] = true
		}
		type process struct {
			pid   uint32
			start uint64
		}
		exits := map[process]bool{}
		r.spans.drop = true
		r.raw.keep = func(raw []byte) bool {
			var e record.Event
			if err := e.Decode(raw); err != nil {
				t.Errorf("a record: %v", err)
				return false
			}
			h := &e.Header
			who := process{h.Tgid, h.Start}
			switch {
			case h.Type == record.TypeLoss:
				return true
			case !ours[h.Cgroup] && !(h.Type == record.TypeFork && ours[e.Fork.ChildCgroup]):
			case h.Type == record.TypeExit && exits[who]:
				// Of the threads that end a process more than one can tell of it.
			case wanted(&e):
				f.seen[h.Type]++
				exits[who] = h.Type == record.TypeExit
			}
			return false
		}
		r.start()
		if reading {
			r.read()
		}
		var err error
		if f.watchedCgroups, err = r.sensor.Entries("cgroups"); err != nil {
			t.Fatal(err)
		}
		command := []string{scenario, fmt.Sprint(count)}
		for _, arg := range args {
			command = append(command, strings.ReplaceAll(arg, "BASE", filepath.Join(r.mount.Dir, r.base)))
		}
		running := program.Start(t, attr, command...)
		if !reading {
			r.read()
		}
		// What the process does at its end shall not be lost among the rest.
		r.drained()
		f.pid = running.Finish(t).Pid
		r.stop()
	})
	f.rig = r
	var e record.Event
	for _, raw := range r.raw.records {
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		l := &e.Loss
		if scenario != "flood-cgroups" { // whose new cgroups are ours too
			if !ours[e.Header.Cgroup] || l.Kind == record.TypeCgroupMkdir {
				foreign++
			}
			if !ours[e.Header.Cgroup] {
				continue
			}
		}
		f.lost[l.Kind] += int(l.Count)
		if l.Cause == record.CauseMapFull {
			f.full[l.Kind] += int(l.Count)
		}
	}
	return f, foreign == 0
}

// drained waits until the reader has caught up.
func (r *rig) drained() {
	for deadline := time.Now().Add(time.Minute); ; {
		used, _ := r.sensor.RingFill()
		if used == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the reader left %d bytes in the ring for a minute", used)
		}
	}
}

func (f *flood) demand(t *testing.T, kind record.Type, want int) {
	t.Helper()
	if got := f.seen[kind] + f.lost[kind]; got != want {
		t.Errorf("%v: %d seen and %d lost make %d, but it happened %d times", kind, f.seen[kind], f.lost[kind], got, want)
	}
}

func all(*record.Event) bool { return true }

type road struct {
	name    string
	options bpf.Options
	reading bool
}

// share is how much of a flood is enough: without a reader the ring is full soon, and more only counts.
func (r road) share(n int) int {
	if r.reading {
		return n
	}
	return n / 4
}

// roads are a reader that keeps up, as far as it can, and none. A guest, where to load the sensor takes seconds,
// takes the worst one only.
func roads() []road {
	all := []road{
		{"with a reader", bpf.Options{}, true},
		{"with nobody reading", bpf.Options{RingBytes: 64 << 10}, false},
		{"with nobody reading, and hardly any room to count", bpf.Options{RingBytes: 64 << 10}.WithEntries(map[string]uint32{"losses": 1, "process_losses": 1}), false},
	}
	if os.Getenv("SHEETBEND_GUEST") != "" {
		return all[2:]
	}
	return all
}

func TestAForkStormIsSeenOrCounted(t *testing.T) {
	workloadtest.Root(t)
	for _, road := range roads() {
		t.Run(road.name, func(t *testing.T) {
			n := floodSize(t, road.share(20000))
			f := flooded(t, road.options, road.reading, "flood-forks", n, all)
			// And the process itself.
			f.demand(t, record.TypeFork, n+1)
			f.demand(t, record.TypeExit, n+1)
			f.demand(t, record.TypeExec, 1)
			if !road.reading && f.lost[record.TypeFork] == 0 {
				t.Error("a ring of 64 KiB held everything")
			}
		})
	}
}

func TestArgumentsAtTheLimitAreSeenOrCounted(t *testing.T) {
	workloadtest.Root(t)
	const pieces = 65 // 256 KiB in pages, and the beginning of one
	for _, road := range roads() {
		t.Run(road.name, func(t *testing.T) {
			n := floodSize(t, 50)
			f := flooded(t, road.options, road.reading, "flood-args", n, all)
			f.demand(t, record.TypeExecArgs, n*pieces)
			f.demand(t, record.TypeExec, n+1)
		})
	}
}

func TestManyFilesAreSeenOrCounted(t *testing.T) {
	workloadtest.Root(t)
	for _, road := range roads() {
		t.Run(road.name, func(t *testing.T) {
			n := floodSize(t, road.share(25000))
			f := flooded(t, road.options, road.reading, "flood-files", n, func(e *record.Event) bool {
				return e.Header.Type == record.TypeOpen && bytes.HasPrefix(e.Open.Path, []byte(workload.FloodName))
			})
			f.demand(t, record.TypeOpen, n)
			if road.reading && f.lost[record.TypeOpen] == 0 && f.rig.spans.opens != n {
				t.Errorf("the spans tell of %d files, want %d", f.rig.spans.opens, n)
			}
		})
	}
}

// TestAFullTableIsCounted fills one table after the other: what happens is told all the same, and the lack is counted.
func TestAFullTableIsCounted(t *testing.T) {
	workloadtest.Root(t)
	const room, n = 16, 60
	for table, c := range map[string]struct {
		scenario string
		args     []string
		event    record.Type // told all the same
		events   int
		lack     record.Type // as which the lack is counted
		used     int         // entries of the process itself
	}{
		"watched":     {"flood-processes", nil, record.TypeFork, n + 1, record.TypeCgroupAttach, 1},
		"followed":    {"flood-escapes", []string{"BASE"}, record.TypeFork, n + 1, record.TypeFork, 1},
		"cgroups":     {"flood-cgroups", []string{"BASE/flood"}, record.TypeCgroupMkdir, n, record.TypeCgroupMkdir, 0},
		"connections": {"flood-connections", nil, record.TypeConnect, n, record.TypeClose, 0},
		"pending":     {"flood-connects", nil, record.TypeConnect, n + 1, record.TypeConnectEnd, 0},
	} {
		t.Run(table, func(t *testing.T) {
			f := flooded(t, bpf.Options{}.WithEntries(map[string]uint32{table: room}), false, c.scenario, n, all, c.args...)
			if f.seen[c.event] != c.events {
				t.Errorf("%d of %v are seen, want %d", f.seen[c.event], c.event, c.events)
			}
			if table == "cgroups" {
				c.used = f.watchedCgroups
			}
			room := room
			if table == "connections" || table == "pending" {
				room /= 4 // one sandbox's part
			}
			if want := n - (room - c.used); f.full[c.lack] != want {
				t.Errorf("the lack of room is counted %d times, want %d", f.full[c.lack], want)
			}
		})
	}
}
