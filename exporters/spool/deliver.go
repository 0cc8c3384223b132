// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// maxLoadAttempts is how often a batch is tried that the backend refuses as too much without saying when to come
// back: it may as well be too large.
const maxLoadAttempts = 8

// hangs is how long a commit takes before batches are sent from memory.
const hangs = 2 * time.Second

// destination delivers to one backend, in order: one batch at a time. What stands below stats is guarded by Spool.mu.
type destination struct {
	s       *Spool
	name    string
	hash    uint64 // of the name
	log     *slog.Logger
	backend otlp.Backend
	outage  otlp.Outage
	ready   chan struct{}

	stats    DestinationStats
	position uint64   // the last batch that it is done with
	flight   uint64   // the one that is being sent; 0: none
	without  outcome  // why the spool dropped that one meanwhile; none if it has it still
	retries  []string // files of dead letters to send again
	logged   uint64   // losses that are in the log
	loggedAt time.Time
}

func newDestination(s *Spool, d Destination) *destination {
	return &destination{
		s: s, name: d.Name, hash: hashed(d.Name), log: s.log.With("endpoint", d.Name),
		backend: d.Backend, ready: make(chan struct{}, 1),
		outage: otlp.Outage{Log: s.log, Backend: d.Backend.String(), Waiting: "in the spool"},
	}
}

// queue counts a batch that waits for d.
func (d *destination) queue(h head) {
	d.stats.Queued += uint64(h.spans)
	d.stats.QueuedBytes += int64(h.size)
}

// resolve counts what became of a batch that waited for d.
func (d *destination) resolve(h head, o outcome) {
	d.stats.Queued -= uint64(h.spans)
	d.stats.QueuedBytes -= int64(h.size)
	*d.stats.counter(o) += uint64(h.spans)
}

func (d *destination) run() {
	for {
		it, dead, ok := d.next()
		switch {
		case !ok:
			return
		case dead != "":
			d.retry(dead)
		default:
			if !d.deliver(it) {
				return
			}
		}
	}
}

// next waits for a batch or for a dead letter to send again. It reports false at the end.
func (d *destination) next() (it item, dead string, ok bool) {
	for {
		if d.s.delivering.Err() != nil {
			return it, "", false
		}
		d.s.mu.Lock()
		if len(d.retries) > 0 && !d.s.closed {
			dead, d.retries = d.retries[0], d.retries[1:]
			d.s.mu.Unlock()
			return it, dead, true
		}
		it, ok = after(d.s.stored.items, d.position)
		if !ok && d.s.diskHangs() {
			it, ok = after(d.s.pending.items, d.position)
		}
		if ok {
			d.flight, d.without = it.seq, none
		}
		ended := d.s.closed && !ok && d.stats.Queued == 0
		d.s.mu.Unlock()
		if ok || ended {
			return it, "", ok
		}
		select {
		case <-d.ready:
		case <-time.After(tick): // the disk may hang meanwhile
		case <-d.s.delivering.Done():
		}
	}
}

// diskHangs is true when batches have to be sent from memory. Otherwise they are on disk before: a batch that was being
// sent when the sensor is killed is sent again, and not counted as lost though it may have arrived. mu is held.
func (s *Spool) diskHangs() bool {
	return s.failing || s.store == nil || s.pending.writing > 0 && time.Since(s.pending.writingSince) > hangs
}

// notifyAll wakes the destinations. mu is held.
func (s *Spool) notifyAll() {
	for _, d := range s.destinations {
		notify(d.ready)
	}
}

// deliver tries until the batch is resolved. It reports false when the end comes before.
func (d *destination) deliver(it item) bool {
	b := it.batch
	if b.Resources == nil {
		var err error
		if b, err = d.s.load(it.seq); err != nil {
			return d.unreadable(it, err)
		}
	}
	pauses := otlp.NewPauses(d.s.cfg.RetryWait)
	for attempt := 1; ; attempt++ {
		receipt, refusal, ended := d.attempt(b)
		switch {
		case ended:
			return d.leave(it)
		case refusal == nil:
			d.finish(it, sent, receipt.Rejected)
			return true
		case refusal.Kind == otlp.Permanent, refusal.Kind == otlp.TooMuch && attempt >= maxLoadAttempts:
			d.finish(it, d.quarantine(it, b, refusal.Error()), 0)
			return true
		case time.Since(time.Unix(0, it.created)) > d.s.cfg.MaxAge:
			d.finish(it, tooOld, 0)
			return true
		}
		d.s.mu.Lock()
		closed := d.s.closed && !d.s.failing
		d.s.mu.Unlock()
		if closed || !pauses.Wait(d.s.delivering, refusal.After) {
			return d.leave(it)
		}
	}
}

// quarantine makes a dead letter of a batch that the backend refuses for good.
func (d *destination) quarantine(it item, b otlp.Batch, reason string) outcome {
	log := d.log.With("spans", it.spans)
	if err := d.s.dead.add(entry{created: it.created, to: d.name, reason: reason, batch: b}); err != nil {
		log.Error("spans dropped: the OTLP backend refuses them for good, and they cannot be set aside", "error", err)
		return failed
	}
	log.Warn("the OTLP backend refuses spans for good: they are dead letters now (see sheetbend spool list)",
		"reason", reason)
	return quarantined
}

// attempt is one. ended says that the end came before an answer.
func (d *destination) attempt(b otlp.Batch) (receipt otlp.Receipt, refusal *otlp.Refusal, ended bool) {
	began := time.Now()
	receipt, err := d.backend.Send(d.s.delivering, b)
	took := time.Since(began)
	if err != nil && d.s.delivering.Err() != nil {
		return receipt, nil, true
	}
	if err != nil && !errors.As(err, &refusal) {
		refusal = &otlp.Refusal{Message: err.Error(), Kind: otlp.Temporary}
		if errors.Is(err, context.Canceled) {
			refusal.Message = "canceled"
		}
	}
	d.outage.Report(err)
	d.s.mu.Lock()
	d.stats.Attempts++
	if err != nil {
		d.stats.Errors++
		d.stats.LastError = refusal.Error()
	} else {
		d.stats.Took, d.stats.LastError = d.stats.Took+took, ""
	}
	d.s.mu.Unlock()
	if err == nil && (receipt.Rejected > 0 || receipt.Message != "") {
		d.log.Warn("the OTLP backend rejected spans", "spans", receipt.Rejected, "message", receipt.Message)
	}
	return receipt, refusal, false
}

// finish counts what became of the batch that was being sent; if the spool dropped it meanwhile and it did not arrive,
// that is why it is lost.
func (d *destination) finish(it item, o outcome, rejected uint64) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if o >= memoryFull && d.without != none {
		o = d.without
	}
	d.resolve(it.head, o)
	d.stats.Sent -= rejected
	d.stats.Rejected += rejected
	d.position, d.flight, d.without = it.seq, 0, none
	d.s.moved = true
	d.s.release()
	d.s.publish()
}

// leave keeps the batch for the next start, if the spool still has it.
func (d *destination) leave(it item) bool {
	d.s.mu.Lock()
	why := d.without
	d.flight = 0
	d.s.mu.Unlock()
	if why != none {
		d.finish(it, why, 0)
	}
	return false
}

// unreadable skips a batch that the disk does not give back. If the whole file or the disk is at fault, the writer
// finds out; until then the next batch may be read.
func (d *destination) unreadable(it item, err error) bool {
	d.s.mu.Lock()
	why := d.without
	d.s.mu.Unlock()
	if why == none {
		d.log.Error("a batch of the spool cannot be read, and is dropped", "spans", it.spans, "error", err)
	}
	d.finish(it, damaged, 0)
	return true
}

// load reads a batch from the disk.
func (s *Spool) load(seq uint64) (otlp.Batch, error) {
	s.mu.Lock()
	st := s.store
	s.mu.Unlock()
	if st == nil {
		return otlp.Batch{}, errMissing
	}
	data, err := st.read(seq)
	if err != nil {
		return otlp.Batch{}, err
	}
	e, err := decodeEntry(data)
	return e.batch, err
}
