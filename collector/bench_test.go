// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// nullSink counts and forgets.
type nullSink struct{ spans, flushes int }

func (s *nullSink) Span(*span.Span) { s.spans++ }
func (s *nullSink) Flush()          { s.flushes++ }

// workload writes the records of short processes: fork, exec, three opens, a connect, exit.
type workload struct {
	time  uint64
	pid   uint32
	raw   []byte
	sizes []int
}

func (w *workload) add(raw []byte) {
	w.sizes = append(w.sizes, len(raw)-len(w.raw))
	w.raw = raw
}

func (w *workload) process(n int, exit bool) {
	w.time += 1_000_000
	parent := record.Header{Time: w.time, Cgroup: 7, Start: 1, ExecID: 1, Tgid: 1000, Tid: 1000}
	w.pid++
	child := record.Header{Time: w.time + 1000, Cgroup: 7, Start: w.time, ExecID: 2, Tgid: w.pid, Tid: w.pid}
	w.add(rt.Append(w.raw, parent, record.Fork{ChildStart: child.Start, ChildCgroup: 7, ChildTgid: w.pid, ChildVpid: w.pid}))
	args := rt.Args("cc", "-O2", "-Wall", "-c", fmt.Sprintf("src/file%d.c", n), "-o", fmt.Sprintf("build/file%d.o", n))
	w.add(rt.Append(w.raw, child, record.Exec{
		ParentStart: 1, ParentTgid: 1000, Argc: 7, ArgsSize: uint32(len(args)),
		Exe: rt.Path("/usr/bin/x86_64-linux-gnu-gcc-12"), Cwd: rt.Path("/home/agent/project"), Filename: []byte("/usr/bin/cc"), Args: args,
	}))
	for i, name := range []string{"/home/agent/project/src/file%d.c", "/home/agent/project/include/file%d.h", "/home/agent/project/build/file%d.o"} {
		open := child
		open.Time += uint64(i+1) * 10_000
		r := record.Open{Inode: uint64(n), Dev: 8 << 20, Path: rt.Path(fmt.Sprintf(name, n)), Name: []byte(fmt.Sprintf(name, n))}
		if i == 2 {
			r.Flags = unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC
			open.Flags = record.OpenCreated
		}
		w.add(rt.Append(w.raw, open, r))
	}
	connect := child
	connect.Time += 50_000
	w.add(rt.Append(w.raw, connect, record.Connect{Cookie: uint64(w.pid), Addr: [16]byte{10, 0, 0, 1}, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Port: 443, Op: record.ConnectCall}))
	connect.Time += 100_000
	w.add(rt.Append(w.raw, connect, record.ConnectEnd{Cookie: uint64(w.pid)}))
	if exit {
		end := child
		end.Time += 500_000
		w.add(rt.Append(w.raw, end, record.Exit{CPU: 400_000, PeakRSS: 3000}))
	}
	if n%100 == 99 {
		w.add(record.AppendTick(w.raw, w.time+900_000))
	}
}

func begin(b testing.TB, c *Collector) {
	b.Helper()
	for _, raw := range [][]byte{
		record.AppendClock(nil, 1000, 1_790_000_000_000_000_000),
		record.AppendCgroup(nil, 1000, 7, 1, "/agents/one"),
		rt.Record(record.Header{Time: 1000, Cgroup: 7, Start: 1, ExecID: 1, Tgid: 1000, Tid: 1000},
			record.Process{ParentTgid: 1, Vpid: 1, Exe: rt.Path("/usr/bin/make"), Cwd: rt.Path("/home/agent/project")}),
	} {
		if err := c.Record(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecordsToSpans(b *testing.B) {
	w := &workload{time: 1_000_000, pid: 2000}
	const processes = 10_000
	for n := range processes {
		w.process(n, true)
	}
	sink := &nullSink{}
	b.ReportAllocs()
	b.ResetTimer()
	spans := 0
	for b.Loop() {
		b.StopTimer()
		c, err := New(config.Config{BootID: "boot", Sandboxes: []config.Selector{{Cgroup: "/agents/*", Agent: "codex"}}}, sink)
		if err != nil {
			b.Fatal(err)
		}
		begin(b, c)
		b.StartTimer()
		at := 0
		for _, n := range w.sizes {
			if err := c.Record(w.raw[at : at+n]); err != nil {
				b.Fatal(err)
			}
			at += n
		}
		spans += int(c.Stats().Spans)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(spans), "ns/span")
	b.ReportMetric(float64(spans)/b.Elapsed().Seconds(), "spans/s")
}

// BenchmarkLiveProcesses reports the heap that 10,000 processes keep after their hold.
func BenchmarkLiveProcesses(b *testing.B) {
	for b.Loop() {
		c, err := New(config.Config{BootID: "boot", Sandboxes: []config.Selector{{Cgroup: "/agents/*"}}}, &nullSink{})
		if err != nil {
			b.Fatal(err)
		}
		begin(b, c)
		w := &workload{time: 1_000_000, pid: 2000}
		for n := range 10_000 {
			w.raw, w.sizes = w.raw[:0], w.sizes[:0]
			w.process(n, false)
			at := 0
			for _, size := range w.sizes {
				if err := c.Record(w.raw[at : at+size]); err != nil {
					b.Fatal(err)
				}
				at += size
			}
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		runtime.KeepAlive(c)
	}
}
