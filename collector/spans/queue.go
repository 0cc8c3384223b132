// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"math"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
)

// A held span waits for its end or until its time is up.
type held struct {
	next, prev *held
	in         *holdQueue
	deadline   uint64 // boottime
	bytes      int    // what it keeps, for the bound on all
	span       waiting
}

// waiting is the part of a held span that knows what to do when its time is up, at a time (boottime). It is no longer
// in a queue then.
type waiting interface {
	// runOut sends the span with what is known.
	runOut(c *Spans, at uint64)
	// of is the sandbox that it is of.
	of() *attribution.Sandbox
}

// longWaiting may wait for longer than the hold.
type longWaiting interface {
	waiting
	// holdOver sends a notice and goes on waiting; or the span, where nothing is left to wait for.
	holdOver(c *Spans, at uint64)
}

// MaxHeldBytes bounds the strings of all held spans: argv and paths up to 128 KiB each
// would otherwise add up to gigabytes.
const MaxHeldBytes = 32 << 20

// A holdQueue is in the order of deadlines, but for the little by which the times of records are not monotonic across
// CPUs: all its spans wait equally long, or up to the same time.
type holdQueue struct {
	oldest, newest *held
	count          int
}

func (q *holdQueue) push(h *held) {
	h.in, h.prev, h.next = q, q.newest, nil
	if q.newest != nil {
		q.newest.next = h
	} else {
		q.oldest = h
	}
	q.newest = h
	q.count++
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
	h.in, h.next, h.prev = nil, nil, nil
	q.count--
}

// queue has the spans that wait for their end.
type queue struct {
	spans   *Spans
	repeats holdQueue // counts repeats, up to the end of a window
	brief   holdQueue // waits for the hold
	rows    holdQueue // of a story, and waits for the hold
	stories holdQueue // the same, and waits for reportsWithin
	long    holdQueue // has had a notice and waits for MaxLength
	open    holdQueue // has had a notice and waits for as long as it takes
	count   int       // of all
	bytes   int       // of all
}

// all are the queues. Those of stories are the last: what goes out before is counted in the accounts on them.
func (c *queue) all() [6]*holdQueue {
	return [...]*holdQueue{&c.repeats, &c.brief, &c.long, &c.open, &c.rows, &c.stories}
}

// holdRepeats starts the wait of what counts repeats. Windows are the same for all, whatever came before: who reads the
// stream from somewhere in the middle counts in the same ones. Only what may still turn out to be of a call waits for
// the whole hold.
func (c *queue) holdRepeats(h *held, w waiting, p *lineage.Process, bytes int, at uint64) {
	hold := uint64(c.spans.config.Hold)
	if p.Hook != nil {
		c.hold(&c.brief, h, w, bytes, at+hold)
		return
	}
	c.hold(&c.repeats, h, w, bytes, at-at%hold+hold)
}

// hold starts the wait of a span. When too many wait, one of the queue that has the most goes out early, the oldest:
// with less known, but not lost.
func (c *queue) hold(q *holdQueue, h *held, w waiting, bytes int, until uint64) {
	for c.count > 0 && (c.count >= c.spans.config.MaxPending || c.bytes+bytes > MaxHeldBytes) {
		c.early()
	}
	h.span, h.bytes, h.deadline = w, bytes, until
	c.count++
	c.bytes += bytes
	q.push(h)
}

func (c *queue) early() {
	most := &c.repeats
	for _, q := range c.all() {
		if q.count > most.count {
			most = q
		}
	}
	c.spans.stats.EarlySpans++
	c.runOutOf(most.oldest, c.spans.clock.Now)
}

// grow counts bytes that a span in the queue keeps on top of those it came with. What is too much goes out early,
// perhaps that span itself.
func (c *queue) grow(h *held, bytes int) {
	h.bytes += bytes
	c.bytes += bytes
	for c.count > 0 && c.bytes > MaxHeldBytes {
		c.early()
	}
}

// drop takes a span out.
func (c *queue) drop(h *held) {
	c.count--
	c.bytes -= h.bytes
	h.in.remove(h)
}

func (c *queue) runOutOf(h *held, at uint64) {
	c.drop(h)
	h.span.runOut(c.spans, at)
}

func (c *queue) expire() {
	for _, q := range c.all() {
		for q.oldest != nil && q.oldest.deadline <= c.spans.clock.Tick {
			h := q.oldest
			w, long := h.span.(longWaiting)
			if !long || q != &c.brief {
				c.runOutOf(h, h.deadline)
				continue
			}
			c.drop(h)
			w.holdOver(c.spans, h.deadline)
		}
	}
}

// holdOn has a span wait in another queue.
func (c *queue) holdOn(q *holdQueue, h *held, until uint64) {
	if h.in != nil {
		c.drop(h)
	}
	c.hold(q, h, h.span, h.bytes, until)
}

// forever is a deadline that never comes.
const forever = math.MaxUint64

// drain sends all that waits, the oldest first. What goes out may have something counted that waits, too: a lookup.
func (c *queue) drain() {
	for c.count > 0 {
		for _, q := range c.all() {
			if q.oldest != nil {
				c.runOutOf(q.oldest, c.spans.clock.Tick)
				break
			}
		}
	}
}
