// SPDX-License-Identifier: Apache-2.0

package spans

// A held span waits for its end or for the hold to run out. All spans wait equally
// long, so the queue by arrival is the queue by deadline.
type held struct {
	next, prev *held
	deadline   uint64 // boottime
	bytes      int    // what it keeps, for the bound on all
	span       waiting
}

// waiting is the part of a held span that knows what to do when its time is up.
type waiting interface {
	// runOut sends the span with what is known. It is no longer in the queue.
	runOut(c *Spans)
}

// MaxHeldBytes bounds the strings of all held spans: argv and paths up to 128 KiB each
// would otherwise add up to gigabytes.
const MaxHeldBytes = 32 << 20

// holdQueue is ordered by deadline. Deadlines count from ticks, not from record times,
// which are not quite monotonic across CPUs.
type holdQueue struct {
	oldest, newest *held
	count          int
	bytes          int
}

func (q *holdQueue) push(h *held) {
	h.prev, h.next = q.newest, nil
	if q.newest != nil {
		q.newest.next = h
	} else {
		q.oldest = h
	}
	q.newest = h
	q.count++
	q.bytes += h.bytes
}

func (q *holdQueue) remove(h *held) {
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		q.oldest = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		q.newest = h.prev
	}
	h.next, h.prev = nil, nil
	q.count--
	q.bytes -= h.bytes
}

// hold starts the wait of a span. When too many wait, the oldest goes out early: with
// less known, but not lost.
func (c *queue) hold(h *held, w waiting, bytes int) {
	for q := &c.held; q.oldest != nil && (q.count >= c.spans.config.MaxPending || q.bytes+bytes > MaxHeldBytes); {
		c.spans.stats.EarlySpans++
		c.runOutOf(q.oldest)
	}
	c.spans.slicer.Begin()
	h.span, h.bytes = w, bytes
	h.deadline = c.spans.clock.Tick + uint64(c.spans.config.Hold)
	c.held.push(h)
}

// grow counts bytes that a span in the queue keeps on top of those it came with. What is too much goes out early,
// perhaps that span itself.
func (c *queue) grow(h *held, bytes int) {
	h.bytes += bytes
	c.held.bytes += bytes
	for c.held.oldest != nil && c.held.bytes > MaxHeldBytes {
		c.spans.stats.EarlySpans++
		c.runOutOf(c.held.oldest)
	}
}

func (c *queue) runOutOf(h *held) {
	c.held.remove(h)
	h.span.runOut(c.spans)
}

func (c *queue) expire() {
	for c.held.oldest != nil && c.held.oldest.deadline <= c.spans.clock.Tick {
		c.runOutOf(c.held.oldest)
	}
}

func (c *queue) drain() {
	for c.held.oldest != nil {
		c.runOutOf(c.held.oldest)
	}
}
