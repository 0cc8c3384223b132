// SPDX-License-Identifier: Apache-2.0

// Package spool keeps encoded batches on disk until each backend has them: an outage, a restart or a crash of the
// sensor costs no span that the disk has room for. Each backend gets every batch at least once, in order.
package spool

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// Destination is a backend that gets every batch. Its position in the spool goes by its name.
type Destination struct {
	Name    string
	Backend otlp.Backend
}

// Config says where batches are kept, how many and how long. Zero values mean the defaults.
type Config struct {
	Dir      string        // required; made with mode 0700, for one process at a time
	MaxBytes int64         // 1 GiB, at least 32 MiB: size of the file. When it is full, the oldest batches are dropped
	MaxAge   time.Duration // 72 h: older batches are dropped
	Sync     Sync          // SyncBatch

	// What waits in memory for the disk, and is all that there is while the disk takes nothing: 64 MiB, 262,144 spans.
	// At least one batch is held. When it is full, the oldest are dropped.
	MemoryBytes, MemorySpans int

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

// Spool takes batches and delivers them. Its methods are safe for concurrent use.
type Spool struct {
	cfg  Config
	log  *slog.Logger
	path string // of the store
	lock *os.File

	// Apart, because what is written last is what could not be sent.
	delivering     context.Context
	stopDelivering context.CancelFunc
	deliverers     sync.WaitGroup
	stopWriting    chan struct{}
	written        chan struct{} // closed when the writer is gone
	wake           chan struct{} // the writer
	dead           deadLetters

	// Of the writer: the disk has a spool of an earlier run that cannot be joined to this one; the next commit only
	// removes, because the file has no room.
	blocked, tight bool

	mu           sync.Mutex
	closed       bool
	store        *store // nil while there is none; only the writer changes it
	failing      bool   // the last commit failed
	damaged      int    // files that were set aside
	seq          uint64
	pending      pendingBatches
	stored       storedBatches
	moved        bool // a position changed since the last commit
	destinations []*destination
	crash        *crashCounters // nil without a file for them
}

// Open resumes what an earlier process left in the directory, and begins to deliver. It renames and logs a damaged
// file. A disk that takes nothing just now is no error; a directory that another process has is an *InUseError.
func Open(cfg Config) (*Spool, error) {
	cfg = cfg.withDefaults()
	if n := len(cfg.Destinations); n == 0 || n > maxDestinations {
		return nil, fmt.Errorf("the spool has %d destinations: configure 1 to %d", n, maxDestinations)
	}
	s := &Spool{
		cfg: cfg, log: cfg.Log, path: filepath.Join(cfg.Dir, storeName),
		wake: make(chan struct{}, 1), stopWriting: make(chan struct{}), written: make(chan struct{}),
		dead: deadLetters{dir: cfg.Dir, maxBytes: cfg.DeadBytes, as: cfg.As, log: cfg.Log},
		// Larger than any that an earlier process gave, also when the store cannot be asked.
		seq: uint64(time.Now().UnixNano()),
	}
	s.delivering, s.stopDelivering = context.WithCancel(context.Background())
	unusable := s.acquire()
	if unusable != nil && !passing(unusable) {
		return nil, unusable
	}
	seen := map[string]bool{}
	for _, d := range cfg.Destinations {
		if seen[d.Name] || d.Name == "" || len(d.Name) > maxText {
			return nil, fmt.Errorf("the spool destination %q needs its own name of at most %d bytes", d.Name, maxText)
		}
		seen[d.Name] = true
		s.destinations = append(s.destinations, newDestination(s, d))
	}
	if err := s.resume(unusable); err != nil {
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, err
	}
	go s.write()
	for _, d := range s.destinations {
		s.deliverers.Go(d.run)
	}
	return s, nil
}

// acquire makes the directory and keeps other processes out of it.
func (s *Spool) acquire() error {
	return s.cfg.As(func() (err error) {
		if err = prepareDir(s.cfg.Dir); err == nil {
			s.lock, err = lockDir(s.cfg.Dir)
		}
		return err
	})
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

// resume opens the store, if the directory is not unusable just now, and counts what an earlier process lost.
func (s *Spool) resume(unusable error) error {
	var left snapshot
	found := false
	if s.cfg.CrashCounters != "" {
		var err error
		if s.crash, left, found, err = openCrashCounters(s.cfg.CrashCounters); err != nil {
			s.log.Warn("a kill of the sensor will not be counted as loss", "error", err)
		}
	}
	var in contents
	damaged := false
	err := unusable
	if err == nil {
		s.store, in, damaged, err = s.openStore()
	}
	switch {
	case err != nil && !passing(err):
		return fmt.Errorf("open the spool: %w", err)
	case err != nil:
		s.fails(err)
	}
	known := found && (damaged || s.store != nil && left.store == s.store.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range in.heads {
		if known && !damaged && h.seq < left.first {
			s.stored.garbage = append(s.stored.garbage, h.seq)
			continue
		}
		s.stored.add(h)
		s.seq = max(s.seq, h.seq)
	}
	for _, d := range s.destinations {
		d.position = in.positions[d.name]
		var before destinationCounters
		if known {
			for _, c := range left.destinations[:left.n] {
				if c.name == d.hash {
					before = c
					d.position = max(d.position, c.position)
				}
			}
		}
		s.seq = max(s.seq, d.position)
		for _, it := range s.stored.items {
			if it.seq > d.position {
				d.queue(it.head)
			}
		}
		d.stats.Resumed = d.stats.Queued
		if was := before.resumed + before.offered; was > before.resolved+d.stats.Queued {
			d.stats.Lost = was - before.resolved - d.stats.Queued
			why := "the sensor was killed before they were on disk"
			if damaged {
				why = "the spool was damaged"
			}
			d.log.Warn("spans of an earlier run were lost: "+why, "spans", d.stats.Lost)
		}
		if d.stats.Queued > 0 {
			d.log.Info("resuming what an earlier run left in the spool", "spans", d.stats.Queued)
		}
	}
	s.release()
	s.publish()
	return nil
}

// damagedText is logged with the new name of the file.
const damagedText = "the spool is damaged: it is set aside and a new one begun; what was in it is not sent"

// openStore sets a damaged file aside and begins a new one.
func (s *Spool) openStore() (st *store, in contents, damaged bool, err error) {
	err = s.cfg.As(func() (err error) {
		st, in, damaged, err = s.openOrReplace()
		return err
	})
	return st, in, damaged, err
}

func (s *Spool) openOrReplace() (st *store, in contents, damaged bool, err error) {
	st, in, err = openStore(s.path, s.cfg.MaxBytes, s.cfg.Sync)
	if err == nil || !isDamage(err) {
		return st, in, false, err
	}
	name, renameErr := setDamagedAside(s.path, time.Now())
	if renameErr != nil {
		return nil, in, true, renameErr
	}
	s.mu.Lock()
	s.damaged++
	s.mu.Unlock()
	s.log.Error(damagedText, "file", name, "error", err)
	st, in, err = openStore(s.path, s.cfg.MaxBytes, s.cfg.Sync)
	return st, in, true, err
}

// Offer queues b for delivery and never waits, not for the disk either; it is a consumer for otlp.NewEncoder.
func (s *Spool) Offer(b otlp.Batch) {
	size := b.Size() + headSize
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.publish()
	for _, d := range s.destinations {
		d.stats.Offered += uint64(b.Spans)
		if s.closed {
			d.stats.Dropped.Shutdown += uint64(b.Spans)
		}
	}
	if s.closed {
		return
	}
	full := func() bool {
		return s.pending.bytes+size > s.cfg.MemoryBytes || s.pending.spans+b.Spans > s.cfg.MemorySpans
	}
	for len(s.pending.items) > s.pending.writing && full() {
		why := memoryFull
		if s.failing {
			why = diskFails
		}
		s.dropPending(why)
	}
	s.seq++
	h := head{seq: s.seq, created: time.Now().UnixNano(), spans: b.Spans, size: size}
	s.pending.add(h, b)
	for _, d := range s.destinations {
		d.queue(h)
	}
	if s.diskHangs() {
		s.notifyAll()
	}
	notify(s.wake)
}

// dropPending drops the oldest batch that is not being written.
func (s *Spool) dropPending(why outcome) { s.resolveDropped(s.pending.shiftUnwritten(), why) }

// Durable counts the spans offered to this process that a kill of it does not reach: they are on disk or counted as
// dropped. It counts from the first one, and stops at one in memory even if younger ones were dropped or written.
func (s *Spool) Durable() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.durable()
}

// dropStored drops the oldest batch on disk.
func (s *Spool) dropStored(why outcome) { s.resolveDropped(s.stored.shift(), why) }

// resolveDropped counts a batch for the destinations that do not have it yet. One that is just sending it has a copy,
// and goes on.
func (s *Spool) resolveDropped(it item, why outcome) {
	for _, d := range s.destinations {
		switch {
		case it.seq <= d.position:
		case it.seq == d.flight:
			d.without = why
		default:
			d.resolve(it.head, why)
		}
	}
}

// release forgets the batches that all destinations are done with.
func (s *Spool) release() {
	done := s.seq
	for _, d := range s.destinations {
		done = min(done, d.position)
	}
	for len(s.stored.items) > 0 && s.stored.items[0].seq <= done {
		s.stored.shift()
	}
	for p := &s.pending; p.writing == 0 && len(p.items) > 0 && p.items[0].seq <= done; {
		p.shift()
	}
}

// publish writes the crash counters. It is called at the end of each change under mu.
func (s *Spool) publish() {
	if s.crash == nil {
		return
	}
	now := snapshot{first: s.seq + 1, n: uint64(len(s.destinations))}
	switch {
	case len(s.stored.items) > 0:
		now.first = s.stored.items[0].seq
	case len(s.pending.items) > 0:
		now.first = s.pending.items[0].seq
	}
	if s.store != nil {
		now.store = s.store.id
	}
	for i, d := range s.destinations {
		now.destinations[i] = destinationCounters{
			d.hash, d.position, d.stats.Resumed, d.stats.Offered, d.stats.resolved(),
		}
	}
	s.crash.save(now)
}

// Close delivers what waits until ctx ends, or a backend does not take it; what is left then stays on disk for the next
// start. It returns an error when spans were lost by that, and may be called once. It closes the backends, too.
func (s *Spool) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.notifyAll()
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.stopDelivering)
	s.deliverers.Wait()
	stop()
	s.stopDelivering()
	close(s.stopWriting)
	<-s.written
	var lost uint64
	s.mu.Lock()
	for len(s.pending.items) > 0 { // could not be written
		s.dropPending(atShutdown)
	}
	for _, d := range s.destinations {
		lost = max(lost, d.stats.Dropped.Shutdown)
	}
	s.publish()
	if s.crash != nil {
		s.crash.close()
		s.crash = nil
		if s.queued() == 0 {
			_ = os.Remove(s.cfg.CrashCounters) // nothing waits that could be lost before the next start
		}
	}
	st := s.store
	s.store = nil
	s.mu.Unlock()
	var err error
	if st != nil {
		err = st.close()
	}
	for _, d := range s.destinations {
		if e := d.backend.Close(); err == nil {
			err = e
		}
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
	if lost > 0 {
		return fmt.Errorf("%d spans could neither be delivered nor be written to the spool %s", lost, s.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

// queued is how many spans wait. mu is held.
func (s *Spool) queued() (n uint64) {
	for _, d := range s.destinations {
		n += d.stats.Queued
	}
	return n
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
