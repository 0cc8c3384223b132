// SPDX-License-Identifier: Apache-2.0

package otlp

import "sync"

// queue holds batches between the collector's goroutine and the senders, bounded in bytes and spans; one
// batch is always held, however small the bounds.
// When it is full the oldest batches go: after an outage the backend gets what happened last, and
// nobody can hide what comes later by flooding the sensor during one.
type queue struct {
	maxBytes, maxSpans int
	ready              chan struct{} // holds a token while something may be waiting

	mu      sync.Mutex
	batches []Batch
	bytes   int
	spans   int
	dropped uint64 // spans
	closed  bool
}

func newQueue(maxBytes, maxSpans int) *queue {
	return &queue{maxBytes: maxBytes, maxSpans: maxSpans, ready: make(chan struct{}, 1)}
}

// offer never blocks. It reports false when the queue is closed and b was not taken.
func (q *queue) offer(b Batch) bool {
	size := b.Size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	for len(q.batches) > 0 && (q.bytes+size > q.maxBytes || q.spans+b.Spans > q.maxSpans) {
		q.dropped += uint64(q.shift().Spans)
	}
	q.batches = append(q.batches, b)
	q.bytes += size
	q.spans += b.Spans
	q.wake()
	return true
}

// take waits for a batch. It reports false when the queue is closed and empty, or stop is closed.
func (q *queue) take(stop <-chan struct{}) (Batch, bool) {
	for {
		select {
		case <-stop:
			return Batch{}, false
		default:
		}
		q.mu.Lock()
		if len(q.batches) > 0 {
			b := q.shift()
			if len(q.batches) > 0 || q.closed {
				q.wake()
			}
			q.mu.Unlock()
			return b, true
		}
		closed := q.closed
		if closed {
			q.wake() // the other senders
		}
		q.mu.Unlock()
		if closed {
			return Batch{}, false
		}
		select {
		case <-q.ready:
		case <-stop:
			return Batch{}, false
		}
	}
}

// close refuses further batches; those in the queue can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

// discard empties the queue and returns how many spans it held.
func (q *queue) discard() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.spans
	q.batches, q.bytes, q.spans = nil, 0, 0
	return n
}

func (q *queue) size() (bytes, spans int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.spans, q.dropped
}

func (q *queue) shift() Batch {
	b := q.batches[0]
	q.batches[0] = Batch{}
	q.batches = q.batches[1:]
	q.bytes -= b.Size()
	q.spans -= b.Spans
	return b
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
