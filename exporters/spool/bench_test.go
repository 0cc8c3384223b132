// SPDX-License-Identifier: Apache-2.0

package spool

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

// BenchmarkSpoolAgainstMemory delivers 64 batches of 512 spans to a backend on loopback, through the queue in memory and through
// the spool, one after the other in the same run. It reports how many times as long the spool takes, from the first offer to the last answer.
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
			s, err := Open(Config{Dir: spoolDir(b), Sync: policy, CrashCounters: spoolDir(b) + ".tally", Destinations: []Destination{destinationOf(b, "b", l.Addr().String(), time.Minute)}})
			if err != nil {
				b.Fatal(err)
			}
			c := otlp.New(otlp.Config{Backend: destinationOf(b, "b", l.Addr().String(), time.Minute).Backend, Senders: 1})
			var memory, spool time.Duration
			for b.Loop() {
				began := time.Now()
				for range batches {
					c.Offer(batch)
				}
				for st := c.Stats(); st.Queued+st.InFlight > 0; st = c.Stats() {
					time.Sleep(50 * time.Microsecond) // leaves the core to what is measured
				}
				memory += time.Since(began)
				began = time.Now()
				for range batches {
					s.Offer(batch)
				}
				for s.Stats().Destinations[0].Queued > 0 {
					time.Sleep(50 * time.Microsecond)
				}
				spool += time.Since(began)
			}
			if err := s.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := c.Shutdown(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(spool)/float64(memory), "spool/memory")
			b.ReportMetric(float64(spool.Microseconds())/float64(b.N*batches), "µs/batch")
			b.ReportMetric(float64(batch.Size()), "bytes/batch")
		})
	}
}

// BenchmarkOffer is what the collector's goroutine pays for a batch, against the queue in memory in the same run.
func BenchmarkOffer(b *testing.B) {
	batch := fullBatch()
	c := otlp.New(otlp.Config{Backend: nowhere{}, Senders: 1})
	s, err := Open(Config{Dir: spoolDir(b), Sync: SyncNone, CrashCounters: spoolDir(b) + ".tally", Destinations: []Destination{{"b", nowhere{}}}})
	if err != nil {
		b.Fatal(err)
	}
	var memory, spool time.Duration
	for b.Loop() {
		began := time.Now()
		c.Offer(batch)
		memory += time.Since(began)
		began = time.Now()
		s.Offer(batch)
		spool += time.Since(began)
		for s.Stats().MemoryBytes > 1<<20 { // not faster than it can be written
			time.Sleep(50 * time.Microsecond)
		}
	}
	b.ReportMetric(float64(spool)/float64(memory), "spool/memory")
	b.ReportMetric(float64(spool.Nanoseconds())/float64(b.N), "ns/offer")
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := c.Shutdown(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// nowhere takes everything at once.
type nowhere struct{}

func (nowhere) Send(context.Context, otlp.Batch) (otlp.Receipt, error) { return otlp.Receipt{}, nil }
func (nowhere) Close() error                                           { return nil }
func (nowhere) String() string                                         { return "nowhere" }
