// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a Client delivers. Zero values mean the defaults.
type Config struct {
	Backend Backend // required; Shutdown closes it
	// RetryFor bounds all attempts of one batch together: 5 min. A batch is tried again on the
	// status codes that OTLP calls retryable.
	RetryFor   time.Duration
	RetryWait  time.Duration // before the second attempt, 250 ms; doubled up to 5 s
	QueueBytes int           // 64 MiB of encoded spans wait at most (but always one batch); then the oldest are dropped
	QueueSpans int           // 65,536 spans wait at most
	Senders    int           // 4 requests at a time: a backend far away limits each to one batch per round trip
	Log        *slog.Logger  // nil: silent
}

// Stats counts spans. What was offered is the sum of all fields but QueuedBytes.
type Stats struct {
	Sent      uint64 // accepted by the backend
	QueueFull uint64 // dropped: waited longest when there was no more room
	Rejected  uint64 // dropped: the backend took their batch but not them (partial success)
	Failed    uint64 // dropped: refused for good, or RetryFor ran out
	Shutdown  uint64 // dropped: not delivered when Shutdown's context ended, or offered after it
	InFlight  uint64 // being sent or retried
	Queued    uint64

	QueuedBytes uint64
}

// Dropped is the sum of all causes.
func (s Stats) Dropped() uint64 { return s.QueueFull + s.Rejected + s.Failed + s.Shutdown }

// Client delivers batches to one backend from a queue in memory. Its methods are safe for concurrent use.
type Client struct {
	cfg    Config
	log    *slog.Logger
	queue  *queue
	outage Outage

	// Two contexts because a sender that waits for work and one that waits for the backend
	// end at the same moment, but only the second has spans to account for.
	ctx     context.Context
	cancel  context.CancelFunc
	senders sync.WaitGroup

	sent, rejected, failed, shutdown, inFlight atomic.Uint64
}

// New starts the senders. It does not wait for a connection: a backend that cannot be reached is
// reported to the log once, and again when it comes back.
func New(cfg Config) *Client {
	cfg.RetryFor = Or(cfg.RetryFor, 5*time.Minute)
	cfg.RetryWait = Or(cfg.RetryWait, 250*time.Millisecond)
	cfg.QueueBytes = Or(cfg.QueueBytes, 64<<20)
	cfg.QueueSpans = Or(cfg.QueueSpans, 1<<16)
	cfg.Senders = Or(cfg.Senders, 4)
	c := &Client{
		cfg:   cfg,
		log:   cfg.Log,
		queue: newQueue(cfg.QueueBytes, cfg.QueueSpans),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.outage = Outage{Log: c.log, Backend: cfg.Backend.String(), Waiting: "in memory"}
	c.log = c.log.With("endpoint", cfg.Backend.String())
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for range cfg.Senders {
		c.senders.Go(c.send)
	}
	go c.logDrops()
	return c
}

// logEvery is how often drops that go on are logged.
const logEvery = time.Minute

// logDrops logs what the queue drops as it does, and not only at the end: a daemon may run for months.
func (c *Client) logDrops() {
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	var logged uint64
	var at time.Time
	for {
		select {
		case <-ticks.C:
		case <-c.ctx.Done():
			return
		}
		if _, _, dropped := c.queue.size(); dropped > logged && time.Since(at) >= logEvery {
			c.log.Warn("spans dropped: the OTLP backend is too slow, and the queue full", "spans", dropped-logged)
			logged, at = dropped, time.Now()
		}
	}
}

// Offer takes b for delivery and never blocks; it is a consumer for NewEncoder.
func (c *Client) Offer(b Batch) {
	if !c.queue.offer(b) {
		c.shutdown.Add(uint64(b.Spans))
	}
}

// Stats is a snapshot; spans on the move between two fields may be seen in neither.
func (c *Client) Stats() Stats {
	bytes, spans, dropped := c.queue.size()
	return Stats{
		Sent:        c.sent.Load(),
		QueueFull:   dropped,
		Rejected:    c.rejected.Load(),
		Failed:      c.failed.Load(),
		Shutdown:    c.shutdown.Load(),
		InFlight:    c.inFlight.Load(),
		Queued:      uint64(spans),
		QueuedBytes: uint64(bytes),
	}
}

// Shutdown delivers what waits, until ctx ends; the rest is counted as dropped. It returns an error
// when something was left, and may be called once.
func (c *Client) Shutdown(ctx context.Context) error {
	c.queue.close()
	stop := context.AfterFunc(ctx, c.cancel)
	c.senders.Wait()
	stop()
	c.cancel()
	c.shutdown.Add(uint64(c.queue.discard()))
	if err := c.cfg.Backend.Close(); err != nil {
		return err
	}
	if n := c.shutdown.Load(); n > 0 {
		return fmt.Errorf("%d spans could not be delivered to %s before the end", n, c.cfg.Backend)
	}
	return nil
}

func (c *Client) send() {
	for {
		b, ok := c.queue.take(c.ctx.Done())
		if !ok {
			return
		}
		n := uint64(b.Spans)
		c.inFlight.Add(n)
		c.deliver(b, n)
		c.inFlight.Add(-n)
	}
}

func (c *Client) deliver(b Batch, n uint64) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.RetryFor)
	defer cancel()
	pauses := NewPauses(c.cfg.RetryWait)
	for {
		receipt, err := c.cfg.Backend.Send(ctx, b)
		if c.ctx.Err() == nil {
			c.outage.Report(err)
		}
		if err == nil {
			c.sent.Add(n - receipt.Rejected)
			c.rejected.Add(receipt.Rejected)
			if receipt.Rejected > 0 || receipt.Message != "" {
				c.log.Warn("the OTLP backend rejected spans", "spans", receipt.Rejected, "message", receipt.Message)
			}
			return
		}
		var refusal *Refusal
		if errors.As(err, &refusal) && refusal.Retryable() && pauses.Wait(ctx, refusal.After) {
			continue
		}
		if c.ctx.Err() != nil {
			c.shutdown.Add(n)
			return
		}
		c.failed.Add(n)
		c.log.Error("spans dropped: the OTLP backend did not take them", "spans", n, "error", err)
		return
	}
}

// Outage logs once that delivery to a backend fails, and once that it works again.
// Its methods are safe for concurrent use.
type Outage struct {
	Log     *slog.Logger
	Backend string
	Waiting string // where spans are meanwhile

	mu      sync.Mutex
	failing bool
}

// Report is to be called with the error of each attempt, nil for one that succeeded.
func (o *Outage) Report(err error) {
	o.mu.Lock()
	was := o.failing
	o.failing = err != nil
	o.mu.Unlock()
	switch {
	case err != nil && !was:
		o.Log.Warn("the OTLP backend does not take spans; they wait "+o.Waiting, "endpoint", o.Backend, "error", err)
	case err == nil && was:
		o.Log.Info("the OTLP backend takes spans again", "endpoint", o.Backend)
	}
}

// Or is v, or byDefault if v is not above zero.
func Or[T int | int64 | time.Duration](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}
