// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// BenchmarkRecordsToOTLP is the whole road in the process: kernel record bytes in, OTLP bytes
// ready for the wire out.
func BenchmarkRecordsToOTLP(b *testing.B) {
	w := &workload{time: 1_000_000, pid: 2000}
	const processes = 10_000
	for n := range processes {
		w.process(n, true)
	}
	bytes, spans := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		sink := otlp.NewEncoder("bench", otlp.Limits{}, func(batch otlp.Batch) {
			spans += batch.Spans
			for _, rs := range batch.Resources {
				bytes += len(rs)
			}
		})
		c, err := New(config.Config{BootID: "6f1c3a52-95a7-4be5-a1b2-123456789abc", Sandboxes: []config.Selector{{Cgroup: "/agents/*", Agent: "codex"}}}, sink)
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
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(spans), "ns/span")
	b.ReportMetric(float64(spans)/b.Elapsed().Seconds(), "spans/s")
	b.ReportMetric(float64(bytes)/float64(spans), "bytes/span")
}
