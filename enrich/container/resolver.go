// SPDX-License-Identifier: Apache-2.0

package container

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
)

// ErrUnknown is returned, wrapped or not, when a runtime answered and knows no such container.
var ErrUnknown = errors.New("no such container")

// Source is one container runtime of the host. Its methods are called from several goroutines.
type Source interface {
	// Find asks for one container.
	Find(ctx context.Context, id string) (record.Container, error)
	// Watch reports the containers that there are, and those made from then on, until the connection is lost.
	Watch(ctx context.Context, report func(record.Container)) error
	// String names the runtime's socket for people.
	String() string
}

const (
	// kept is how many containers are remembered, and keptFor how long: what comes by an event is used
	// when the container's cgroup is seen, which may be after its end.
	kept    = 4096
	keptFor = 10 * time.Minute

	// maxWanted bounds the containers that are asked for at a time.
	maxWanted = 4096
	// askFor is how long a runtime that does not know a container, or does not answer, is asked again.
	askFor = time.Minute
	// parallel bounds the questions under way.
	parallel = 8

	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// answerWithin bounds one question.
	answerWithin = 2 * time.Second

	firstReconnect = 100 * time.Millisecond
	lastReconnect  = 10 * time.Second
)

// Options configure a Resolver; Sources and Inject are needed.
type Options struct {
	Sources []Source
	// Inject takes Container records: live.Feed.Inject.
	Inject func(raw []byte) bool
	// Labels and Annotations are the keys of those that go into records.
	Labels, Annotations map[string]bool
	// Pods, if set, is asked for labels and annotations of now; Now is the time of records (ns of boottime), and
	// needed with it.
	Pods Pods
	Now  func() (uint64, error)
	Log  *slog.Logger // discards if nil
}

// Stats count what a Resolver did.
type Stats struct {
	Reported uint64 // records injected
	Unknown  uint64 // containers that no runtime knew in time
	Refused  uint64 // not asked for: too many at once
	NotTaken uint64 // records that Inject refused

	Unfollowed uint64 // containers whose pods are not followed, or not any more: too many
	Unreadable uint64 // pods whose labels and annotations of now could not be read
}

// Resolver finds out what the runtimes know about the containers whose cgroups are seen, and puts it into the
// record stream.
type Resolver struct {
	o     Options
	slots chan struct{}

	mu     sync.Mutex
	wanted map[string]*question // by container id
	known  map[string]*list.Element
	recent list.List // of *answer, oldest first
	stats  Stats
	ctx    context.Context // of Run; nil before
	ended  bool            // nothing is started any more
	group  sync.WaitGroup
	early  []*question // asked before Run

	podsMu sync.Mutex // before mu, where both are held
	pods   map[string]*followed
}

// A question is a container whose cgroup was seen and that no runtime has reported yet.
type question struct {
	id       string
	time     uint64 // of the cgroup's record
	answered chan struct{}
}

type answer struct {
	info record.Container
	at   time.Time
}

// NewResolver makes a Resolver; nobody is asked before Run.
func NewResolver(o Options) *Resolver {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{
		o: o, slots: make(chan struct{}, parallel),
		wanted: map[string]*question{}, known: map[string]*list.Element{}, pods: map[string]*followed{},
	}
}

// Seen is called with a cgroup's path and the time of its record (ns of boottime). It waits for nothing.
func (r *Resolver) Seen(time uint64, cgroup string) {
	ref, ok := FromCgroup(cgroup)
	if !ok || ref.Root != cgroup {
		return // what lies in a container was seen after the container itself
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[ref.ID]; e != nil {
		r.inject(time, e.Value.(*answer).info)
		return
	}
	if r.wanted[ref.ID] != nil {
		return
	}
	if len(r.wanted) >= maxWanted {
		r.stats.Refused++
		return
	}
	q := &question{id: ref.ID, time: time, answered: make(chan struct{})}
	r.wanted[ref.ID] = q
	if r.ctx == nil {
		r.early = append(r.early, q)
		return
	}
	if !r.ended {
		r.group.Go(func() { r.ask(r.ctx, q) })
	}
}

// Stats may be called at any time.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Run asks until ctx ends.
func (r *Resolver) Run(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	for _, q := range r.early {
		r.group.Go(func() { r.ask(ctx, q) })
	}
	r.early = nil
	r.mu.Unlock()
	for _, s := range r.o.Sources {
		r.group.Go(func() { r.watch(ctx, s) })
	}
	if r.o.Pods != nil {
		r.group.Go(func() { r.follow(ctx) })
	}
	<-ctx.Done()
	// Whoever starts something holds the lock, and has looked for the end before.
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.group.Wait()
}

// watch follows what a runtime reports by itself.
func (r *Resolver) watch(ctx context.Context, s Source) {
	pause := firstReconnect
	connected := true
	for ctx.Err() == nil {
		began := time.Now()
		err := s.Watch(ctx, r.learned)
		if time.Since(began) > lastReconnect {
			pause, connected = firstReconnect, true
		}
		if ctx.Err() != nil {
			return
		}
		if connected {
			connected = false
			r.o.Log.Debug("a container runtime reports nothing; it is tried again", "runtime", s.String(), "err", err)
		}
		sleep(ctx, pause)
		pause = min(2*pause, lastReconnect)
	}
}

// ask asks all runtimes again and again until one knows the container.
func (r *Resolver) ask(ctx context.Context, q *question) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	pause := firstPause
	var err error
	for ctx.Err() == nil {
		select {
		case r.slots <- struct{}{}:
		case <-q.answered:
			return
		case <-ctx.Done():
			continue
		}
		var info record.Container
		info, err = r.find(ctx, q.id)
		<-r.slots
		if err == nil {
			r.learned(info)
			return
		}
		select {
		case <-q.answered:
			return
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted[q.id] == q && !r.ended && r.ctx.Err() == nil {
		delete(r.wanted, q.id)
		r.stats.Unknown++
		r.o.Log.Warn("no container runtime knows a container: its spans have the cgroup alone",
			"container", q.id, "err", err)
	}
}

// find asks all runtimes once, at the same time: one may hang.
func (r *Resolver) find(ctx context.Context, id string) (record.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	type reply struct {
		info record.Container
		err  error
	}
	replies := make(chan reply, len(r.o.Sources))
	for _, s := range r.o.Sources {
		r.group.Go(func() {
			info, err := s.Find(ctx, id)
			if err != nil {
				err = fmt.Errorf("%s: %w", s, err)
			}
			replies <- reply{info, err}
		})
	}
	var errs []error
	for range r.o.Sources {
		got := <-replies
		if got.err == nil {
			return got.info, nil
		}
		errs = append(errs, got.err)
	}
	return record.Container{}, errors.Join(errs...)
}

// learned remembers what a runtime reported, and passes it on if the container's cgroup was seen.
func (r *Resolver) learned(info record.Container) {
	info.Labels = only(info.Labels, r.o.Labels)
	info.Annotations = only(info.Annotations, r.o.Annotations)
	info = r.current(info)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if e := r.known[info.ID]; e != nil {
		r.recent.Remove(e)
	}
	r.known[info.ID] = r.recent.PushBack(&answer{info, now})
	for e := r.recent.Front(); r.recent.Len() > kept || now.Sub(e.Value.(*answer).at) > keptFor; e = r.recent.Front() {
		delete(r.known, r.recent.Remove(e).(*answer).info.ID)
	}
	if q := r.wanted[info.ID]; q != nil {
		delete(r.wanted, info.ID)
		close(q.answered)
		r.inject(q.time, info)
	}
}

// inject gives the record the time of the cgroup's record: the collector's hold counts from there.
func (r *Resolver) inject(time uint64, info record.Container) {
	if r.o.Inject(record.AppendContainer(nil, time, info)) {
		r.stats.Reported++
	} else {
		r.stats.NotTaken++
	}
}

// only leaves what is asked for and fits into a record, as copies: a value may be a part of all that was read.
func only(pairs []record.Pair, keys map[string]bool) []record.Pair {
	var out []record.Pair
	for _, p := range pairs {
		if keys[p.Key] && len(p.Value) <= record.MaxText {
			out = append(out, record.Pair{Key: strings.Clone(p.Key), Value: strings.Clone(p.Value)})
		}
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
