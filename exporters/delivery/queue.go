// SPDX-License-Identifier: Apache-2.0

// Package delivery brings encoded batches to backends: the sensor's spans, and telemetry that agents sent and that is
// passed on. They wait in a queue, in memory or on disk (the spool), until each backend has them. On disk an outage, a
// restart or a crash of the sensor costs nothing that there is room for. Each backend gets every batch at least once,
// about in order. What one backend refuses of one kind holds up no other kind and no other backend.
package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// Destination is a backend that gets every batch of its signals. Its positions in the spool go by its name.
type Destination struct {
	Name    string
	Backend otlp.Backend
	// Signals are those of the sensor that it gets; nil: all. What agents sent goes where the sensor's traces go.
	Signals []otlp.Signal
}

// gets says whether batches of a kind are for d.
func (d *Destination) gets(k kind) bool {
	s := k.signal()
	if k.origin() == passedOn {
		s = otlp.Traces
	}
	return d.Signals == nil || slices.Contains(d.Signals, s)
}

// Config says where batches are kept, how many and how long. Zero values mean the defaults.
type Config struct {
	Dir      string        // made with mode 0700, for one process at a time; "": batches wait in memory only
	MaxBytes int64         // 1 GiB, at least 32 MiB: size of the file. When it is full, the oldest batches are dropped
	MaxAge   time.Duration // 72 h: older batches are dropped
	Sync     Sync          // SyncBatch

	// What waits in memory for the disk, and is all that there is without one, or while it takes nothing: 64 MiB,
	// 262,144 spans. At least one batch is held. When it is full, the oldest are dropped.
	MemoryBytes, MemorySpans int
	// PassedOnInMemory keeps what was passed on off the disk.
	PassedOnInMemory bool

	DeadBytes int64         // 64 MiB: what backends refused for good. When it is full, the oldest are dropped
	RetryWait time.Duration // before the second attempt, 250 ms; doubled up to 5 s
	// CrashCounters is a file on a tmpfs. Without one ("") what a kill of the process, or damage between two runs,
	// costs is not counted.
	CrashCounters string
	Log           *slog.Logger // nil: silent

	// As calls a function with the rights of the owner of Dir; nil: those of this process.
	As func(func() error) error

	Destinations []Destination // at least one
}

// passedOnShare is the part of memory and of the disk that what was passed on may take, and only where the sensor's own
// leaves room.
const passedOnShare = 4

// Queue takes batches and delivers them. Its methods are safe for concurrent use.
type Queue struct {
	cfg  Config
	log  *slog.Logger
	path string // of the store
	lock *os.File

	// Apart, because what is written last is what could not be sent.
	sending     context.Context
	stopSending context.CancelFunc
	senders     sync.WaitGroup
	stopWriting chan struct{}
	written     chan struct{} // closed when the writer is gone
	wake        chan struct{} // the writer
	dead        deadLetters

	// Of the writer: the disk has a spool of an earlier run that cannot be joined to this one; the next commit only
	// removes, because the file has no room.
	blocked, tight bool

	mu      sync.Mutex
	closed  bool
	store   *store // nil while there is none; only the writer changes it
	failing bool   // the last commit failed
	damaged int    // files that were set aside
	seq     uint64
	index
	moved bool           // a position changed since the last commit
	lanes [kinds][]*lane // by destination
	tell  []func()       // writes log lines, when mu is free: the log may hang
	crash *crashCounters // nil without a file for them
}

// Open resumes what an earlier process left in the directory, and begins to deliver. It renames and logs a damaged
// file. A disk that takes nothing just now is no error; a directory that another process has is an *InUseError.
func Open(cfg Config) (*Queue, error) {
	cfg = cfg.withDefaults()
	if n := len(cfg.Destinations); n == 0 || n > maxDestinations {
		return nil, fmt.Errorf("there are %d destinations: configure 1 to %d", n, maxDestinations)
	}
	q := &Queue{
		cfg: cfg, log: cfg.Log, path: filepath.Join(cfg.Dir, storeName),
		wake: make(chan struct{}, 1), stopWriting: make(chan struct{}), written: make(chan struct{}),
		dead: deadLetters{dir: cfg.Dir, maxBytes: cfg.DeadBytes, as: cfg.As, log: cfg.Log},
		// Larger than any that an earlier process gave, also when the store cannot be asked.
		seq: uint64(time.Now().UnixNano()),
	}
	q.sending, q.stopSending = context.WithCancel(context.Background())
	seen := map[string]bool{}
	for _, d := range cfg.Destinations {
		if seen[d.Name] || d.Name == "" || len(d.Name) > maxText {
			return nil, fmt.Errorf("the destination %q needs its own name of at most %d bytes", d.Name, maxText)
		}
		seen[d.Name] = true
		for k := range kinds {
			q.lanes[k] = append(q.lanes[k], newLane(q, k, d))
		}
	}
	if cfg.Dir != "" {
		if err := q.resume(); err != nil {
			q.stopSending()
			if q.crash != nil {
				q.crash.close()
			}
			if q.lock != nil {
				_ = q.lock.Close()
			}
			return nil, err
		}
	}
	context.AfterFunc(q.sending, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.notifyAll()
	})
	go q.write()
	return q, nil
}

func (c Config) withDefaults() Config {
	if c.As == nil {
		c.As = func(do func() error) error { return do() }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.MaxBytes = max(otlp.Or(c.MaxBytes, 1<<30), 32<<20)
	c.MaxAge = otlp.Or(c.MaxAge, 72*time.Hour)
	c.Sync = cmp.Or(c.Sync, SyncBatch)
	c.MemoryBytes = otlp.Or(c.MemoryBytes, 64<<20)
	c.MemorySpans = otlp.Or(c.MemorySpans, 1<<18)
	c.DeadBytes = otlp.Or(c.DeadBytes, 64<<20)
	return c
}

// onDisk says whether batches of a kind go to disk.
func (q *Queue) onDisk(k kind) bool {
	return q.cfg.Dir != "" && !(k.origin() == passedOn && q.cfg.PassedOnInMemory)
}

// PassOn offers an export request that an agent sent: its bytes are kept. It is one batch and counts as one.
func (q *Queue) PassOn(s otlp.Signal, request []byte) error {
	parts, err := resources(request)
	if errors.Is(err, errManyParts) {
		q.refuse(kindOf(otlp.Batch{Signal: s, PassedOn: true}), otlp.Batch{Spans: 1})
	}
	if err != nil {
		return fmt.Errorf("pass on agents' %s: %w", s, err)
	}
	if len(parts) > 0 {
		q.Offer(otlp.Batch{Signal: s, PassedOn: true, Spans: 1, Resources: parts})
	}
	return nil
}

// refuse counts what is not taken: it is too large.
func (q *Queue) refuse(k kind, b otlp.Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.publish()
	for _, l := range q.lanes[k] {
		if l.unused {
			continue
		}
		l.stats.Offered += uint64(b.Spans)
		l.stats.Dropped.TooLarge += uint64(b.Spans)
	}
	q.lines[k].passed(b)
}

// Offer queues b for delivery and never waits, not for the disk either; it is a consumer for otlp.NewEncoder.
func (q *Queue) Offer(b otlp.Batch) {
	now := time.Now()
	h := head{kind: kindOf(b), created: now.UnixNano(), spans: b.Spans, size: entrySize(b)}
	if h.size > maxEntry-2*maxText { // a dead letter has two texts, too
		q.refuse(h.kind, b)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.publish()
	defer q.lines[h.kind].passed(b)
	var takers []*lane
	for _, l := range q.lanes[h.kind] {
		if l.unused {
			continue
		}
		l.stats.Offered += uint64(b.Spans)
		switch {
		case q.closed:
			l.stats.Dropped.Shutdown += uint64(b.Spans)
		case now.Before(l.off):
			l.stats.Unsupported += uint64(b.Spans)
		default:
			takers = append(takers, l)
		}
	}
	if len(takers) == 0 {
		return
	}
	h.seq = q.seq + 1
	if why := q.makeRoom(item{head: h, batch: b}); why != none {
		for _, l := range takers {
			*l.stats.counter(why) += uint64(b.Spans)
		}
		return
	}
	q.seq++
	q.add(h, b)
	for _, l := range q.lanes[h.kind] {
		if l.unused || now.Before(l.off) {
			l.position = h.seq
		}
	}
	for _, l := range takers {
		l.queue(h)
		if !q.onDisk(h.kind) || q.diskHangs() {
			l.changed.Broadcast()
		}
	}
	notify(q.wake)
}

// makeRoom drops what has to go for a batch in memory: what was passed on before the sensor's own. It gives why the
// batch itself is dropped; none if it is not.
func (q *Queue) makeRoom(h item) outcome {
	size := h.inMemory()
	why := memoryFull
	if q.failing {
		why = diskFails
	}
	if h.kind.origin() == passedOn {
		share := q.cfg.MemoryBytes / passedOnShare
		if size > share || q.onDisk(h.kind) && pages(h.size) > q.budget()/passedOnShare {
			return why
		}
		for q.memory[passedOn]+size > share {
			if !q.dropPending(why, passedOn) {
				return why
			}
		}
	}
	for q.memory[own]+q.memory[passedOn]+size > q.cfg.MemoryBytes || q.items+h.spans > q.cfg.MemorySpans {
		switch {
		case q.dropPending(why, passedOn):
		case h.kind.origin() == passedOn:
			return why
		case !q.dropPending(why, own):
			return none
		}
	}
	return none
}

// dropPending drops the oldest batch of an origin that is in memory only, and is not being written, if there is one.
func (q *Queue) dropPending(why outcome, o origin) bool {
	k, ok := q.oldest(o, unwritten)
	if ok {
		q.drop(q.take(k, q.lines[k].writing), why)
	}
	return ok
}

// dropStored drops the oldest batch of an origin on disk, if there is one.
func (q *Queue) dropStored(why outcome, o origin) bool {
	k, ok := q.oldest(o, stored)
	if ok {
		q.drop(q.shiftStored(k), why)
	}
	return ok
}

// drop counts a batch for the lanes that do not have it yet. One that is just sending it has a copy, and may be lucky.
func (q *Queue) drop(it item, why outcome) {
	for _, l := range q.lanes[it.kind] {
		_, done := l.ahead[it.seq]
		dropped, flies := l.flights[it.seq]
		switch {
		case it.seq <= l.position || done:
		case flies && dropped == none:
			l.flights[it.seq] = why
		case !flies:
			l.resolve(it.head, why)
		}
	}
}

// Durable says how many of the first spans that the Encoder of a signal was given a kill of this process does not reach:
// their batches are on disk or counted as dropped. offered is Encoder.Offered. It stops at a batch in memory even if
// younger ones were dropped or written.
func (q *Queue) Durable(s otlp.Signal, offered uint64) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := &q.lines[kindOf(otlp.Batch{Signal: s})]; len(l.pending) > 0 {
		return l.pending[0].after
	}
	return offered
}

// Behind says that half of memory is in use: who can wait should.
func (q *Queue) Behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.memory[own]+q.memory[passedOn] > q.cfg.MemoryBytes/2 || q.items > q.cfg.MemorySpans/2
}

// release forgets the batches that all destinations are done with.
func (q *Queue) release() {
	for k := range kinds {
		done := q.seq
		for _, l := range q.lanes[k] {
			done = min(done, l.position)
		}
		line := &q.lines[k]
		for len(line.stored) > 0 && line.stored[0].seq <= done {
			q.shiftStored(k)
		}
		for line.writing == 0 && len(line.pending) > 0 && line.pending[0].seq <= done {
			q.take(k, 0)
		}
	}
}

// publish writes the crash counters. It is called at the end of each change under mu.
func (q *Queue) publish() {
	if q.crash == nil {
		return
	}
	now := q.crash.next()
	now.store, now.first, now.n = 0, q.seq+1, 0
	for k := range q.lines {
		for _, list := range [][]item{q.lines[k].stored, q.lines[k].pending} {
			if len(list) > 0 {
				now.first = min(now.first, list[0].seq)
			}
		}
	}
	if q.store != nil {
		now.store = q.store.id
	}
	q.eachLane(func(l *lane) {
		resolved := l.stats.resolved()
		for _, n := range l.ahead { // the next start sends them again
			resolved -= n
		}
		now.lanes[now.n] = laneCounters{l.hash, l.position, l.stats.Resumed, l.stats.Offered, resolved}
		now.n++
	})
	q.crash.save()
}

// notifyAll lets all lanes look again. mu is held.
func (q *Queue) notifyAll() { q.eachLane(func(l *lane) { l.changed.Broadcast() }) }

// unlockAndTell unlocks mu and writes the log lines that were made under it.
func (q *Queue) unlockAndTell() {
	tell := q.tell
	q.tell = nil
	q.mu.Unlock()
	for _, write := range tell {
		write()
	}
}

// Close delivers what waits until ctx ends, or a backend does not take it; what is left then stays on disk for the next
// start. It returns an error when spans were lost by that, and may be called once. It closes the backends, too.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.eachLane(func(l *lane) { l.notBefore = time.Time{} }) // no pause before what may be the last attempt
	q.notifyAll()
	q.mu.Unlock()
	stop := context.AfterFunc(ctx, q.stopSending)
	q.senders.Wait()
	stop()
	q.stopSending()
	close(q.stopWriting)
	<-q.written
	var lost, waits uint64
	q.mu.Lock()
	for q.dropPending(atShutdown, passedOn) || q.dropPending(atShutdown, own) { // could not be written
	}
	q.eachLane(func(l *lane) {
		waits += l.stats.Queued
		if l.kind.origin() == own {
			lost = max(lost, l.stats.Dropped.Shutdown)
		}
	})
	q.publish()
	if q.crash != nil {
		q.crash.close()
		q.crash = nil
		if waits == 0 {
			_ = os.Remove(q.cfg.CrashCounters) // nothing waits that could be lost before the next start
		}
	}
	st := q.store
	q.store = nil
	q.mu.Unlock()
	var err error
	if st != nil {
		err = st.close()
	}
	for _, d := range q.cfg.Destinations {
		if e := d.Backend.Close(); err == nil {
			err = e
		}
	}
	if q.lock != nil {
		_ = q.lock.Close()
	}
	if lost > 0 {
		return fmt.Errorf("%d spans could neither be delivered nor be kept for the next start", lost)
	}
	if err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
