// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// fullBatch is 512 spans of about the usual size.
func fullBatch() (batch otlp.Batch) {
	e := otlp.NewEncoder("bench", otlp.Limits{}, func(x otlp.Batch) { batch = x })
	for i := range 512 {
		s := numbered(i)
		for j := range 12 {
			s.Attrs = append(s.Attrs, span.Attr{Key: fmt.Sprint("some.attribute.", j), Kind: span.StringAttr, Str: "a value of some length"})
		}
		e.Span(s)
	}
	return batch
}

// rawCodec lets a server take requests without decoding them, so that the sender's cost is measured.
type rawCodec struct{}

func (rawCodec) Marshal(any) ([]byte, error) { return nil, nil }
func (rawCodec) Unmarshal([]byte, any) error { return nil }
func (rawCodec) Name() string                { return "proto" }

// measured is a queue in dir, or in memory, with one backend.
func measured(b *testing.B, dir string, policy Sync, to otlp.Backend) *Queue {
	b.Helper()
	cfg := Config{Dir: dir, Sync: policy, Destinations: []Destination{{Name: "b", Backend: to}}}
	if dir != "" {
		cfg.CrashCounters = dir + ".tally"
	}
	q, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	})
	return q
}

// deliverAll is the time from the first offer of n batches to the last answer.
func deliverAll(q *Queue, batch otlp.Batch, n int) time.Duration {
	began := time.Now()
	for range n {
		q.Offer(batch)
	}
	for q.Stats().Lanes[0].Queued > 0 {
		time.Sleep(50 * time.Microsecond) // leaves the core to what is measured
	}
	return time.Since(began)
}

// BenchmarkSpoolAgainstMemory delivers 64 batches of 512 spans to a backend on loopback, from memory and through the
// disk, one after the other in the same run. It reports how many times as long the disk takes.
func BenchmarkSpoolAgainstMemory(b *testing.B) {
	const batches = 64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}))
	coltracepb.RegisterTraceServiceServer(g, &server{answer: take, bytes: map[string][]byte{}})
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	batch := fullBatch()
	for _, policy := range []Sync{SyncBatch, SyncInterval, SyncNone} {
		b.Run("sync="+string(policy), func(b *testing.B) {
			to := func() otlp.Backend { return destinationOf(b, "b", l.Addr().String(), time.Minute).Backend }
			disk, memory := measured(b, spoolDir(b), policy, to()), measured(b, "", "", to())
			var inMemory, onDisk time.Duration
			for b.Loop() {
				inMemory += deliverAll(memory, batch, batches)
				onDisk += deliverAll(disk, batch, batches)
			}
			b.ReportMetric(float64(onDisk)/float64(inMemory), "spool/memory")
			b.ReportMetric(float64(onDisk.Microseconds())/float64(b.N*batches), "µs/batch")
			b.ReportMetric(float64(batch.Size()), "bytes/batch")
		})
	}
}

// BenchmarkFar delivers 64 batches to a backend whose answers take 20 ms.
func BenchmarkFar(b *testing.B) {
	const batches = 64
	batch := fullBatch()
	for name, dir := range map[string]string{"memory": "", "spool": spoolDir(b)} {
		b.Run(name, func(b *testing.B) {
			q := measured(b, dir, SyncBatch, far{})
			for b.Loop() {
				deliverAll(q, batch, batches)
			}
			b.ReportMetric(float64(b.N*batches*batch.Spans)/b.Elapsed().Seconds(), "spans/s")
		})
	}
}

// BenchmarkOffer is what the collector's goroutine pays for a batch.
func BenchmarkOffer(b *testing.B) {
	batch := fullBatch()
	for name, dir := range map[string]string{"memory": "", "spool": spoolDir(b)} {
		b.Run(name, func(b *testing.B) {
			q := measured(b, dir, SyncNone, nowhere{})
			var took time.Duration
			for b.Loop() {
				began := time.Now()
				q.Offer(batch)
				took += time.Since(began)
				for q.Stats().MemoryBytes > 1<<20 { // not faster than it can be written
					time.Sleep(50 * time.Microsecond)
				}
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/offer")
		})
	}
}

// nowhere takes everything at once.
type nowhere struct{}

func (nowhere) Send(context.Context, otlp.Batch) (otlp.Receipt, error) { return otlp.Receipt{}, nil }
func (nowhere) Close() error                                           { return nil }
func (nowhere) String() string                                         { return "nowhere" }

// far takes everything after 20 ms.
type far struct{ nowhere }

func (far) Send(context.Context, otlp.Batch) (otlp.Receipt, error) {
	<-time.After(20 * time.Millisecond) // the round trip
	return otlp.Receipt{}, nil
}
