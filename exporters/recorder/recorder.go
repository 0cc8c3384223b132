// SPDX-License-Identifier: Apache-2.0

// Package recorder is a flight recorder: it keeps on disk, bounded, what the agents of the last days did, a file for
// each agent instance.
package recorder

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sheetbend/sheetbend/collector/span"
)

const (
	// A block is written when it has so many bytes or spans, or is so old: so much a kill takes.
	blockBytes = 256 << 10
	blockSpans = 1024
	blockAge   = time.Second

	// maxBuffered bounds what waits in blocks that are not closed, maxQueued what waits to be written.
	maxBuffered = 4 << 20
	maxQueued   = 8 << 20
	maxJobs     = 1024

	// ageEvery is how often recordings that are too old are looked for.
	ageEvery = time.Minute
)

// Options configure a Recorder. Path, MaxBytes, MaxAge and Encode are needed.
type Options struct {
	Path     string // directory, absolute; it is made with mode 0700
	MaxBytes int64
	MaxAge   time.Duration
	// User is the id of a user who may see all recordings, as root may.
	User uint32
	// Encode appends a TracesData message with encoded spans of one resource: otlp.Encoder.AppendTraces.
	Encode func(b []byte, r *span.Resource, spans []byte) []byte
	Log    *slog.Logger     // discards if nil
	Now    func() time.Time // time.Now if nil
}

// Stats count spans, but where they say otherwise.
type Stats struct {
	Written           uint64
	Slow              uint64 // not written: the disk is slower than they come
	Disk              uint64 // not written: the disk did not take them
	Shutdown          uint64 // not written before the end
	EvictedSize       uint64 // recorded, and removed as somebody had more than a share
	EvictedAge        uint64 // recorded, and removed as they were too old
	Removed           uint64 // recorded, and removed because somebody asked for that
	Recordings, Bytes int64  // that are there
	TornBytes         uint64 // cut off at the start: a block that a kill left half written
	DamagedFiles      uint64 // recordings that cannot be read to their end
	NewerFiles        uint64 // recordings of a newer version, left alone
	Failing           bool   // the disk does not take what is written
}

// A Recorder is an otlp.Tap: Span, Flush and Done are called from one goroutine, the rest from any.
type Recorder struct {
	o     Options
	dir   *os.Root
	lock  *os.File
	clock func() time.Time

	truncate func(*os.File, int64) error // (*os.File).Truncate, but for tests

	// Of the goroutine that calls Span.
	open      map[string]*block // by instance
	age       list.List         // of *block, the oldest first
	buffered  int
	head      []byte // of a part, encoded
	behind    bool   // it is in the log that there is no room
	taken     uint64
	nextAging time.Time

	jobs   chan *block
	free   chan []byte // room of blocks that were written
	done   chan struct{}
	queued atomic.Int64
	stop   atomic.Bool // Close waits no longer

	// mu is what who hands spans over takes: it is never held while there is much to do.
	mu          sync.Mutex
	outstanding list.List         // of *block that are neither written nor dropped, the oldest first
	lost        map[string]uint64 // spans by instance that no Summary tells of yet, at most mostRecordings
	stats       Stats

	// files is held while a file is changed, and what is known of it. It comes before index, and that before mu.
	files sync.Mutex
	// index guards these for who reads without files.
	index   sync.Mutex
	all     map[string]*recording
	current map[string]*recording // by instance: the one that goes on
	evicted map[string]Summary    // by instance: of the one that went on until there was no room, at most maxEvicted
	bytes   int64                 // that the recordings count for

	// Of the writing goroutine.
	zip     *zstd.Encoder
	message []byte
	frame   []byte
	out     []byte
	failing bool
}

// A block is what is recorded next of an instance.
type block struct {
	instance string
	of       *list.Element // in age
	waits    *list.Element // in outstanding
	first    uint64        // number of its first span among those taken
	since    time.Time
	parts    []part
	bytes    int
	sum      Summary
	aging    bool // no block: recordings that are too old are to be removed
}

// A part has spans that follow each other and share a resource.
type part struct {
	resource *span.Resource
	spans    []byte
}

// Open opens the directory and begins to write. What a kill left half written there is cut off. Close has to follow.
func Open(o Options) (_ *Recorder, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Recorder{
		o: o, clock: o.Now, truncate: (*os.File).Truncate, open: make(map[string]*block), jobs: make(chan *block, maxJobs),
		free: make(chan []byte, 2), done: make(chan struct{}),
		all: make(map[string]*recording), current: make(map[string]*recording), evicted: make(map[string]Summary),
		lost: make(map[string]uint64),
	}
	if r.dir, r.lock, err = openDir(o.Path); err != nil {
		return nil, err
	}
	r.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	if err == nil {
		err = r.load()
	}
	if err != nil {
		return nil, errors.Join(err, r.lock.Close(), r.dir.Close())
	}
	go r.write()
	return r, nil
}

// Span implements otlp.Tap.
func (r *Recorder) Span(s *span.Span, encoded []byte) {
	r.taken++
	b := r.open[s.Instance]
	if b == nil {
		b = &block{instance: s.Instance, first: r.taken, since: r.clock()}
		b.sum = Summary{Instance: s.Instance, Start: s.Start}
		r.open[s.Instance], b.of = b, r.age.PushBack(b)
		r.mu.Lock()
		b.waits = r.outstanding.PushBack(b)
		r.mu.Unlock()
	}
	if n := len(b.parts); n == 0 || b.parts[n-1].resource != s.Resource {
		b.parts = append(b.parts, part{resource: s.Resource})
		r.head = r.o.Encode(r.head[:0], s.Resource, nil)
		b.bytes += len(r.head)
		r.buffered += len(r.head)
	}
	p := &b.parts[len(b.parts)-1]
	p.spans = append(r.room(p.spans, len(encoded)), encoded...)
	b.bytes += len(encoded)
	r.buffered += len(encoded)
	b.sum.add(s)
	if b.bytes >= blockBytes || b.sum.Count >= blockSpans {
		r.closeBlock(b)
	}
	for r.buffered > maxBuffered {
		r.closeBlock(r.age.Front().Value.(*block))
	}
}

// room gives spans room for n bytes more. What has grown gets that of a whole block, of one that was written if there is
// one: most of what a busy recorder would leave to the garbage collector.
func (r *Recorder) room(spans []byte, n int) []byte {
	if len(spans) < blockBytes/8 || len(spans)+n <= cap(spans) {
		return spans
	}
	select {
	case again := <-r.free:
		return append(again[:0], spans...)
	default:
		return slices.Grow(spans, max(n, blockBytes+blockBytes/8-len(spans)))
	}
}

// Flush implements otlp.Tap.
func (r *Recorder) Flush() {
	now := r.clock()
	for e := r.age.Front(); e != nil; e = r.age.Front() {
		b := e.Value.(*block)
		if now.Sub(b.since) < blockAge {
			break
		}
		r.closeBlock(b)
	}
	if now.After(r.nextAging) {
		r.nextAging = now.Add(ageEvery)
		select {
		case r.jobs <- &block{aging: true}:
		default: // at the next Flush of another minute
		}
	}
}

// closeBlock hands a block over to be written.
func (r *Recorder) closeBlock(b *block) {
	delete(r.open, b.instance)
	r.age.Remove(b.of)
	r.buffered -= b.bytes
	room := r.queued.Load()+int64(b.bytes) <= maxQueued
	if room {
		r.queued.Add(int64(b.bytes))
		select {
		case r.jobs <- b:
		default:
			r.queued.Add(-int64(b.bytes))
			room = false
		}
	}
	if !room {
		r.drop(b, &r.stats.Slow)
	}
	switch {
	case !room && !r.behind:
		r.behind = true
		r.o.Log.Warn("spans come faster than they can be recorded and are left out: is the disk slow?", "recorder", r.o.Path)
	case room && r.behind && r.queued.Load() < maxQueued/2:
		r.behind = false
		r.mu.Lock()
		slow := r.stats.Slow
		r.mu.Unlock()
		r.o.Log.Warn("spans are recorded again", "recorder", r.o.Path, "left_out", slow)
	}
}

// drop counts a block that is not written. Its recording says so with the next that is.
func (r *Recorder) drop(b *block, counter *uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*counter += b.sum.Count
	r.lose(b.instance, b.sum.Count)
	r.outstanding.Remove(b.waits)
}

// lose has a recording say that spans are not in it. mu is held.
func (r *Recorder) lose(instance string, n uint64) {
	if _, ok := r.lost[instance]; n > 0 && (ok || len(r.lost) < mostRecordings) {
		r.lost[instance] += n
	}
}

// Done says how many of the first n spans a kill of this process takes nothing away of: they are written, or counted.
func (r *Recorder) Done(n uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.outstanding.Front()
	if e == nil {
		return n
	}
	return n - min(n, r.taken-e.Value.(*block).first+1)
}

// Stats is a snapshot.
func (r *Recorder) Stats() Stats {
	r.index.Lock()
	defer r.index.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Recordings, s.Bytes = int64(len(r.all)), r.bytes
	return s
}

// Close writes what waits, until ctx ends: what is left then counts as Shutdown. No other call of Span may follow.
func (r *Recorder) Close(ctx context.Context) error {
	for e := r.age.Front(); e != nil; e = r.age.Front() {
		r.closeBlock(e.Value.(*block))
	}
	close(r.jobs)
	select {
	case <-r.done:
	case <-ctx.Done():
		r.stop.Store(true)
		select {
		case <-r.done:
		case <-time.After(100 * time.Millisecond):
			return fmt.Errorf("recorder %s: the last write does not end", r.o.Path)
		}
	}
	return errors.Join(r.lock.Close(), r.dir.Close())
}

// write is the writing goroutine.
func (r *Recorder) write() {
	defer close(r.done)
	for b := range r.jobs {
		switch {
		case b.aging:
			r.files.Lock()
			r.removeOld()
			r.files.Unlock()
			r.tellLosses()
			continue
		case r.stop.Load():
			r.queued.Add(-int64(b.bytes))
			r.drop(b, &r.stats.Shutdown)
			continue
		}
		r.queued.Add(-int64(b.bytes))
		err := r.record(b)
		if err != nil {
			r.drop(b, &r.stats.Disk)
		} else {
			r.mu.Lock()
			r.stats.Written += b.sum.Count
			r.outstanding.Remove(b.waits)
			r.mu.Unlock()
		}
		r.report(err)
		r.files.Lock()
		r.shrink()
		r.files.Unlock()
	}
	r.tellLosses()
}

// tellLosses writes the summaries of recordings that have lost spans since, in blocks without any.
func (r *Recorder) tellLosses() {
	r.mu.Lock()
	instances := slices.Collect(maps.Keys(r.lost))
	r.mu.Unlock()
	for _, instance := range instances {
		if r.stop.Load() || r.record(&block{instance: instance, sum: Summary{Start: math.MaxUint64}}) != nil {
			return // at the next time
		}
	}
}

// report says once that writing fails, and once that it works again.
func (r *Recorder) report(err error) {
	switch {
	case err != nil && !r.failing:
		r.o.Log.Error("spans cannot be recorded and are left out: make room, or lower recorder.max_bytes",
			"recorder", r.o.Path, "error", err)
	case err == nil && r.failing:
		r.o.Log.Warn("spans are recorded again", "recorder", r.o.Path, "left_out", r.Stats().Disk)
	}
	r.failing = err != nil
	r.mu.Lock()
	r.stats.Failing = r.failing
	r.mu.Unlock()
}

// record appends a block to its recording.
func (r *Recorder) record(b *block) (err error) {
	r.message = r.message[:0]
	for _, p := range b.parts {
		r.message = r.o.Encode(r.message, p.resource, p.spans)
		if cap(p.spans) >= blockBytes && cap(p.spans) <= 2*blockBytes {
			select {
			case r.free <- p.spans:
			default:
			}
		}
	}
	r.frame = r.frame[:0]
	if len(r.message) > 0 {
		r.frame = r.zip.EncodeAll(r.message, r.frame)
	}
	r.files.Lock()
	defer r.files.Unlock()
	r.mu.Lock()
	lost := r.lost[b.instance]
	delete(r.lost, b.instance)
	r.mu.Unlock()
	if err = r.appendTo(b, lost); err != nil {
		r.mu.Lock()
		r.lose(b.instance, lost)
		r.mu.Unlock()
	}
	return err
}

// appendTo appends a block whose frame is made to its recording, and that spans were lost. files is held.
func (r *Recorder) appendTo(b *block, lost uint64) error {
	rec := r.current[b.instance]
	if rec == nil && b.sum.Count == 0 { // none goes on that could say so
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lose(b.instance, lost)
		return nil
	}
	var f *os.File
	var err error
	if rec != nil {
		f, err = r.dir.OpenFile(rec.name, os.O_WRONLY|os.O_APPEND, 0)
		if errors.Is(err, os.ErrNotExist) { // somebody removed it
			if err = r.forget(rec, nil); err == nil {
				return r.appendTo(b, lost)
			}
		}
		if err != nil {
			return err
		}
	}
	var sum Summary
	if was, ok := r.evicted[b.instance]; rec != nil {
		sum = rec.sum.clone()
	} else if ok {
		sum = was.clone()
		sum.Cut = sum.Spans
	} else {
		sum = Summary{Instance: b.instance, Start: b.sum.Start, Owner: r.ownerOf(b.sum.Sandbox)}
	}
	sum.merge(&b.sum)
	sum.Lost += lost
	if r.out, err = appendBlock(r.out[:0], &sum, r.frame); err != nil {
		if f != nil {
			_ = f.Close()
		}
		return err
	}
	if rec == nil {
		rec = &recording{}
		if f, rec.name, err = r.create(b.instance); err != nil {
			return err
		}
	}
	n, err := f.Write(r.out)
	if err != nil {
		err = errors.Join(err, r.takeBack(rec, f, n))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	r.index.Lock()
	defer r.index.Unlock()
	r.all[rec.name], r.current[b.instance] = rec, rec
	delete(r.evicted, b.instance)
	rec.sum = sum
	r.resize(rec, rec.size+int64(len(r.out)))
	return nil
}

// takeBack removes n bytes of a block that could not be written whole. If that fails, too, the recording can be read up
// to there, says that it is damaged, and is not gone on with.
func (r *Recorder) takeBack(rec *recording, f *os.File, n int) error {
	if rec.size == 0 {
		return r.dir.Remove(rec.name)
	}
	if n == 0 {
		return nil
	}
	err := r.truncate(f, rec.size)
	if err != nil {
		r.index.Lock()
		defer r.index.Unlock()
		rec.broken = errTorn
		delete(r.current, rec.sum.Instance)
		r.resize(rec, rec.size+int64(n)) // who reads it is told
		r.mu.Lock()
		r.stats.DamagedFiles++
		r.mu.Unlock()
	}
	return err
}
