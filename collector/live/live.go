// SPDX-License-Identifier: Apache-2.0

// Package live makes one stream of what the kernel says and what only user space knows:
// clock, ticks, losses, and the cgroups and processes that were there before. The stream goes
// to the collector and, byte for byte the same, to a capture, so that a replay of the capture
// gives the same spans.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/names"
	"github.com/sheetbend/sheetbend/collector/record"
)

const (
	// pollEvery is how long a record may lie in the ring: the kernel side wakes the reader only
	// when much has gathered, as a wake-up costs it more than the record.
	pollEvery = 50 * time.Millisecond
	// tickEvery is the resolution of everything that expires in the collector.
	tickEvery = 100 * time.Millisecond
	// lossEvery is how often the kernel's loss counters are read.
	lossEvery = time.Second
	// maxDrift is how far the wall clock may move against CLOCK_BOOTTIME before it is reported.
	maxDrift = time.Millisecond
)

// Source is the kernel side: *bpf.Sensor.
type Source interface {
	// Read returns the next record, in buf if it fits. See bpf.Sensor.
	Read(buf []byte) ([]byte, error)
	SetDeadline(t time.Time)
	Flush() error
	// Losses are those that were not Told yet.
	Losses() ([]bpf.Loss, error)
	// Told says that losses were passed on, at a time of CLOCK_BOOTTIME, so that nobody does so again.
	Told(losses []bpf.Loss, at uint64) error
	// Last is when an earlier process did so last, 0 if none has.
	Last() uint64
	// Forget drops the counter of a process that had ended before Losses read it, after what it read was Told.
	Forget(l bpf.Loss) error
	Existing(yield func(raw []byte) error) error
	Watch(cgroup uint64, flags bpf.WatchFlags) error
	// Within says in which sandbox, by its topmost cgroup, a watched cgroup lies.
	Within(cgroup, sandbox uint64) error
	Unwatch(cgroup uint64) error
	Unfollow(tgid uint32) error
	// Follow takes an Unfollow back, and says whether there was one.
	Follow(tgid uint32, start uint64) (bool, error)
}

// Sink takes the records of the stream in order; the bytes belong to the caller. The collector
// is one, a capture is one. Calls come from one goroutine.
type Sink interface {
	Record(raw []byte) error
}

// Hierarchy is the cgroup file system: cgroup.Mount.
type Hierarchy interface {
	ID(cgroup string) (uint64, error)
	Path(id uint64) (string, error)
	Children(cgroup string) ([]string, error)
	Of(pid int) (string, error)
	// Limits counts how often those of a cgroup were hit.
	Limits(cgroup string) (cgroup.Limits, error)
}

// Options configure a Feed. Source, Collector, Hierarchy and Globs are needed.
type Options struct {
	Source    Source
	Collector Sink
	Capture   Sink // optional. Its first error ends the capture, not the feed
	// Containers says that every container may be a sandbox: all are watched, but for that of Except, until Chosen
	// says, by what their runtime reported, that they are none.
	Containers bool
	Chosen     func(*record.Container) bool
	Except     string // cgroup of the sensor itself; "" if not known
	// Seen, if set, is called after the record of a selected cgroup, with its time: of those that are there
	// at the start, too. It must not wait.
	Seen      func(time uint64, cgroup string)
	Hierarchy Hierarchy
	Globs     cgroup.Globs
	// Knows says whether the collector takes what a process does. nil: the kernel side looks for no agents outside
	// of the cgroups, so there is nobody to leave alone.
	Knows func(tgid uint32, start uint64) bool
	// Journal, if set, takes the stream, too, for a later process.
	Journal *Journal
	Clock   Clock  // SystemClock if nil
	Proc    string // "/proc" if empty
	// Asked says whether a cgroup is one that a user has watched, or lies below one. Who had it watched tells the
	// kernel side and the collector. nil: none is.
	Asked func(cgroup string) bool
	Log   *slog.Logger // discards if nil
}

// Stats count what a Feed did.
type Stats struct {
	Records     uint64 // given to the collector, those of user space included
	Refused     uint64 // the collector returned an error for them
	Lost        uint64 // records that the kernel side could not deliver
	Sandboxes   int    // cgroups that a glob selected at the start
	NotInjected uint64 // records that Inject refused
	Unlimited   uint64 // sandboxes whose limits are not looked at, as there are too many
	Resumed     uint64 // entries of the journal
	Dropped     int64  // bytes of a journal that could not be used
	CaptureErr  error  // the capture ends here
}

// Feed reads one Source. It is used by one goroutine: Start, then Run. Only Inject is for others.
type Feed struct {
	o     Options
	stats Stats
	inbox inbox
	due   []injected // scratch

	event      record.Event
	container  record.Event       // a record of a container that was injected
	buf        []byte             // of Read
	out        []byte             // of the records that are made here
	offset     int64              // wall - boot as last reported
	tick       uint64             // time of the last tick
	lossesRead uint64             // time when the losses were last read
	latest     uint64             // time of the newest record read
	ended      map[processID]bool // of those with losses: had ended when these were read last
	walks      []*walk            // that are to be done, the first one first
	scans      scans
	limits     limits

	dismissed recent[processID, struct{}] // processes that were suspects, or below one, and are no agent's
	unmatched []string
	undecided map[string]undecided   // by the container's id
	declined  recent[string, string] // topmost cgroups of containers that are no sandboxes, by the container's id
}

// A processID is a process: its pid may be another's later.
type processID struct {
	tgid  uint32
	start uint64 // ns of CLOCK_BOOTTIME
}

// New makes a Feed; nothing is read or watched before Start.
func New(o Options) *Feed {
	if o.Clock == nil {
		o.Clock = SystemClock
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Journal != nil {
		o.Journal.log = o.Log
	}
	return &Feed{
		o: o, ended: map[processID]bool{}, undecided: map[string]undecided{},
		dismissed: recent[processID, struct{}]{most: maxDismissed}, declined: recent[string, string]{most: maxDeclined},
	}
}

// Stats may be called when Start or Run have returned.
func (f *Feed) Stats() Stats {
	s := f.stats
	s.NotInjected = f.NotInjected()
	return s
}

// NotInjected is Stats.NotInjected; it may be called at any time.
func (f *Feed) NotInjected() uint64 { return f.inbox.refusals() }

// Unmatched lists the globs that selected nothing at the start.
func (f *Feed) Unmatched() []string { return f.unmatched }

// Start has the kernel side watch the sandboxes, and reports to the collector what is there already. When it
// returns, whatever is started in a selected cgroup is watched; Run has to follow soon, as
// nobody empties the ring before.
func (f *Feed) Start() error {
	resumed := f.resume()
	boot, wall, err := f.o.Clock()
	if err != nil {
		return err
	}
	if !resumed { // else what waits in the ring goes on from there
		f.tick, f.latest = boot, boot
	}
	f.lossesRead = boot
	if last := f.o.Source.Last(); last > 0 && last < boot {
		f.lossesRead = last // what was lost meanwhile was lost since then
	}
	f.clock(boot, wall)
	w := newWalk("/")
	w.matched = make([]bool, len(f.o.Globs))
	if err := w.step(f, math.MaxInt); err != nil {
		return err
	}
	for i, m := range w.matched {
		if !m {
			f.unmatched = append(f.unmatched, f.o.Globs[i].String())
		}
	}
	if resumed {
		f.scans.due = true // who there is is known; whoever is not is looked for when the ring has been read
		return nil
	}
	return f.scan(math.MaxUint64)
}

// Run reads until ctx ends, then reads what is still in the ring, reports the last losses
// and returns nil. Any other end is an error. The collector is not closed.
func (f *Feed) Run(ctx context.Context) error {
	flushed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { flushed <- f.o.Source.Flush() })
	defer stop()
	err := f.read(ctx, flushed)
	f.inbox.close()
	f.injected(math.MaxUint64)
	f.finishWalks()
	if f.scans.adopted && err == nil {
		err = f.scan(math.MaxUint64)
	}
	f.limitsTurn(max(f.latest, f.tick), true)
	if lossErr := f.reportLosses(max(f.latest, f.tick)); err == nil {
		err = lossErr
	}
	f.finishWalks()
	return err
}

// End has everything sent that is held, and notes that in the journal. Without a journal it
// does nothing.
func (f *Feed) End() { f.o.Journal.end(max(f.tick, f.latest) + 1) }

func (f *Feed) read(ctx context.Context, flushed <-chan error) error {
	f.o.Source.SetDeadline(time.Now().Add(pollEvery))
	asked, _, err := f.o.Clock()
	if err != nil {
		return err
	}
	for {
		raw, err := f.o.Source.Read(f.buf)
		switch {
		case err == nil:
			f.buf = raw[:cap(raw)]
			f.handle(raw)
			f.o.Journal.betweenRecords()
			// A backlog: time is that of the records, or what waits in the ring would come
			// after the tick that ends its hold.
			if f.latest >= f.tick+uint64(tickEvery) {
				f.walkTurn()
				if err := f.advance(f.latest, false); err != nil {
					return err
				}
			}
			continue
		case errors.Is(err, ringbuf.ErrFlushed) && ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
		default:
			return fmt.Errorf("read the ring: %w", err)
		}
		// The ring was empty after `asked`: all records before it have been read.
		f.injected(asked)
		f.walkTurn()
		if quiet := max(asked, f.latest); quiet >= f.tick+uint64(tickEvery) {
			if err := f.advance(quiet, true); err != nil {
				return err
			}
		}
		select {
		case err := <-flushed:
			if err != nil {
				return fmt.Errorf("empty the ring: %w", err)
			}
		default:
		}
		wait := pollEvery
		if len(f.walks) > 0 {
			wait = 0
		}
		if asked, _, err = f.o.Clock(); err != nil {
			return err
		}
		f.o.Source.SetDeadline(time.Now().Add(wait))
	}
}

// finishWalks does what the turns have left.
func (f *Feed) finishWalks() {
	for len(f.walks) > 0 {
		f.walkTurn()
	}
}

// handle passes a kernel record on and keeps the watched cgroups to the selected ones.
func (f *Feed) handle(raw []byte) {
	raw = names.Redact(raw) // what is not needed is neither kept nor written
	if f.o.Journal.again(raw) {
		return
	}
	err := f.event.Decode(raw)
	h := f.event.Header
	if err == nil {
		f.injected(h.Time)
		if f.suspect(h) {
			f.locate(h)
		}
		if h.Type == record.TypeCgroupRmdir {
			f.unlimit(h.Time, f.event.Cgroup.ID)
		}
	}
	f.emit(raw)
	if err != nil {
		return // the collector counts it
	}
	f.latest = max(f.latest, h.Time)
	cg := f.event.Cgroup
	if h.Type.OfProcess() {
		f.unfollow(h.Tgid, h.Start, false)
	}
	switch h.Type {
	case record.TypeFork:
		f.unfollow(h.Tgid, h.Start, false)
		f.unfollow(f.event.Fork.ChildTgid, f.event.Fork.ChildStart, f.dismissed.has(processID{h.Tgid, h.Start}))
	case record.TypeExec:
		f.follow(h, f.event.Exec.ParentTgid, f.event.Exec.ParentStart)
	case record.TypeCgroupAttach:
		// Of one that was moved into a sandbox only its name is known.
		f.scans.due = f.scans.due || !f.event.Attach.Watched
	case record.TypeCgroupMkdir:
		f.decide(h.Time, cg.ID, string(cg.Path))
	case record.TypeCgroupRmdir:
		// The kernel side has dropped its entry; this takes away one that `decide` made when the
		// directory was gone already.
		f.unwatch(cg.ID, string(cg.Path))
		f.gone(string(cg.Path))
	}
}

// advance ends the stream's time until t: clock if it moved, losses and a scan when due, and the tick. empty: the
// ring was, just now.
func (f *Feed) advance(t uint64, empty bool) error {
	boot, wall, err := f.o.Clock()
	if err != nil {
		return err
	}
	if drift := wall - int64(boot) - f.offset; drift > int64(maxDrift) || drift < -int64(maxDrift) {
		f.clock(boot, wall)
	}
	if t >= f.lossesRead+uint64(lossEvery) {
		if err := f.reportLosses(t); err != nil {
			return err
		}
	}
	if err := f.scanWhenDue(t, empty); err != nil {
		return err
	}
	f.limitsTurn(t, false)
	f.tick = t
	f.out = record.AppendTick(f.out[:0], t)
	f.emit(f.out)
	f.o.Journal.tick(t)
	return nil
}

func (f *Feed) clock(boot uint64, wall int64) {
	f.offset = wall - int64(boot)
	f.out = record.AppendClock(f.out[:0], boot, wall)
	f.emit(f.out)
}

// emit gives a record to the collector and to the capture, and says whether the collector took it.
func (f *Feed) emit(raw []byte) (accepted bool) {
	f.stats.Records++
	if f.o.Capture != nil && f.stats.CaptureErr == nil {
		if err := f.o.Capture.Record(raw); err != nil {
			f.stats.CaptureErr = err
			f.o.Log.Error("the capture ends here", "err", err)
		}
	}
	f.o.Journal.record(raw)
	if err := f.o.Collector.Record(raw); err != nil {
		f.stats.Refused++
		f.o.Log.Debug("record refused", "err", err)
		return false
	}
	return true
}
