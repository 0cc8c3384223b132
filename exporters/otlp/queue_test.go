// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func batchOf(seq uint64, spans, bytes int) Batch {
	return Batch{Seq: seq, Spans: spans, ResourceSpans: [][]byte{make([]byte, bytes)}}
}

func TestQueueBounds(t *testing.T) {
	tests := []struct {
		name    string
		offers  []Batch
		want    []uint64 // sequence numbers left
		dropped uint64   // spans
	}{
		{"takes what fits", []Batch{batchOf(1, 5, 50), batchOf(2, 5, 50)}, []uint64{1, 2}, 0},
		{"drops the oldest when bytes run out", []Batch{batchOf(1, 1, 60), batchOf(2, 1, 30), batchOf(3, 1, 20)}, []uint64{2, 3}, 1},
		{"drops the oldest when spans run out", []Batch{batchOf(1, 4, 1), batchOf(2, 4, 1), batchOf(3, 8, 1)}, []uint64{3}, 8},
		{"drops as many as the new one needs", []Batch{batchOf(1, 3, 1), batchOf(2, 3, 1), batchOf(3, 3, 1), batchOf(4, 6, 1)}, []uint64{3, 4}, 6},
		{"holds one batch however large", []Batch{batchOf(1, 1, 1), batchOf(2, 7, 101), batchOf(3, 11, 1)}, []uint64{3}, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(100, 10)
			for _, b := range tt.offers {
				if !q.offer(b) {
					t.Fatalf("batch %d was refused", b.Seq)
				}
			}
			bytes, spans, dropped := q.size()
			if len(tt.want) > 1 && (bytes > 100 || spans > 10) || dropped != tt.dropped {
				t.Errorf("holds %d bytes and %d spans, dropped %d, want at most 100 and 10, dropped %d", bytes, spans, dropped, tt.dropped)
			}
			q.close()
			for _, want := range tt.want {
				if b, ok := q.take(nil); !ok || b.Seq != want {
					t.Errorf("took %d, %t, want %d", b.Seq, ok, want)
				}
			}
			if b, ok := q.take(nil); ok {
				t.Errorf("took %d from a closed and empty queue", b.Seq)
			}
		})
	}
}

// TestWhatIsDroppedIsAHoleInTheNumbers: whoever has the spans knows how many are missing, but for the last ones.
func TestWhatIsDroppedIsAHoleInTheNumbers(t *testing.T) {
	const made, tooLarge = 4000, 3999
	q := newQueue(1<<20, 1000)
	e := NewEncoder("1.0.0", Limits{Bytes: 64 << 10}, func(b Batch) { q.offer(b) })
	resources := []*span.Resource{{Attrs: []span.Attr{str("service.name", "a")}}, {Attrs: []span.Attr{str("service.name", "b")}}}
	for n := 1; n <= made; n++ {
		s := typicalSpan(n, resources[n%2])
		if n == tooLarge {
			for range 5000 {
				s.Links = append(s.Links, span.Ref{Link: span.Link{Trace: s.Trace, Span: s.ID}, Rel: span.ToAgent})
			}
		}
		e.Span(s)
	}
	e.Flush()
	q.close()
	arrived := map[int64]bool{}
	first := int64(made)
	for b, ok := q.take(nil); ok; b, ok = q.take(nil) {
		for _, rs := range decodeBatch(t, b).ResourceSpans {
			for _, s := range rs.ScopeSpans[0].Spans {
				for _, a := range s.Attributes {
					if a.Key == span.KeySeq {
						seq := a.Value.GetIntValue()
						arrived[seq] = true
						first = min(first, seq)
					}
				}
			}
		}
	}
	_, _, dropped := q.size()
	if dropped == 0 || e.TooLarge() != 1 || !arrived[made] || arrived[tooLarge] {
		t.Fatalf("%d dropped by the queue, %d too large, %d arrived: the test means nothing", dropped, e.TooLarge(), len(arrived))
	}
	if holes := uint64(made - len(arrived)); holes != dropped+e.TooLarge() || first != int64(dropped)+1 {
		t.Errorf("%d numbers are missing, the first is %d; %d spans were dropped", holes, first, dropped+e.TooLarge())
	}
}

func TestClosedQueueRefusesBatches(t *testing.T) {
	q := newQueue(100, 10)
	q.close()
	if q.offer(batchOf(1, 1, 1)) {
		t.Error("a closed queue took a batch")
	}
}

func TestStopEndsAWaitingTake(t *testing.T) {
	q := newQueue(100, 10)
	stop := make(chan struct{})
	done := make(chan bool)
	go func() {
		_, ok := q.take(stop)
		done <- ok
	}()
	close(stop)
	if <-done {
		t.Error("take gave a batch out of nothing")
	}
}

func TestQueueLosesNothingBetweenManySenders(t *testing.T) {
	const batches = 20_000
	q := newQueue(1<<30, 1<<30)
	var taken atomic.Uint64
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for {
				b, ok := q.take(nil)
				if !ok {
					return
				}
				taken.Add(uint64(b.Spans))
			}
		})
	}
	for i := range uint64(batches) {
		q.offer(batchOf(i, 3, 1))
	}
	q.close()
	senders.Wait()
	if got := taken.Load(); got != 3*batches {
		t.Errorf("took %d spans, want %d", got, 3*batches)
	}
}
