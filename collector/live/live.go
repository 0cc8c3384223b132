// SPDX-License-Identifier: Apache-2.0

// Package live makes one stream of what the kernel says and what only user space knows:
// clock, ticks, losses, and the cgroups and processes that were there before. The stream goes
// to the collector and, byte for byte the same, to a capture, so that a replay of the capture
// gives the same spans.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"slices"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/cgroup"
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
	// lookEvery is how soon one looks again at who is in the sandboxes, at the earliest.
	lookEvery = time.Second
	// maxLookDelay is how long a look is put off while records wait in the ring, which say more of whom it would find. A
	// flood must not put it off for ever.
	maxLookDelay = 30 * time.Second
	// maxDrift is how far the wall clock may move against CLOCK_BOOTTIME untold.
	maxDrift = time.Millisecond
	// maxExisting bounds the processes whose arguments are looked up at the start.
	maxExisting = 65536
	// maxDepth bounds the walk through existing cgroups.
	maxDepth = 128
	// maxWatched bounds the directories that are watched at the start.
	maxWatched = 65536
)

// Source is the kernel side: *bpf.Sensor.
type Source interface {
	// Read returns the next record, in buf if it fits. See bpf.Sensor.
	Read(buf []byte) ([]byte, error)
	SetDeadline(t time.Time)
	Flush() error
	// Losses are counted from what was Told before.
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
}

// Options configure a Feed. Source, Collector, Hierarchy and Globs are needed.
type Options struct {
	Source    Source
	Collector Sink
	Capture   Sink // optional. Its first error ends the capture, not the feed
	// Containers says that every container may be a sandbox: all are watched, but for that of Except, until Chosen
	// says of what their runtime told that they are none.
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
	Clock   Clock        // SystemClock if nil
	Proc    string       // "/proc" if empty
	Log     *slog.Logger // discards if nil
}

// Stats count what a Feed did.
type Stats struct {
	Records     uint64 // given to the collector, those of user space included
	Refused     uint64 // the collector returned an error for them
	Lost        uint64 // records that the kernel side could not deliver
	Sandboxes   int    // cgroups that a glob selected at the start
	NotInjected uint64 // records that Inject refused
	Resumed     uint64 // records of the journal
	CaptureErr  error  // the capture ends here
}

// Feed reads one Source. It is used by one goroutine: Start, then Run. Only Inject is for others.
type Feed struct {
	o     Options
	stats Stats
	inbox inbox
	due   []injected // scratch

	event  record.Event
	word   record.Event // a record that was injected
	buf    []byte       // of Read
	out    []byte       // of the records that are made here
	offset int64        // wall - boot as last told
	tick   uint64       // time of the last tick
	told   uint64       // time of the last look at the losses
	latest uint64       // time of the newest record read
	looked uint64       // time of the last look at who is there
	putOff uint64       // since when a look is due that the ring has put off; 0: none is
	unread uint64       // records that an earlier process had taken from the ring and not kept
	moved  bool         // somebody came from outside since
	taken  bool         // a container became a sandbox since, with all that runs in it
	losses map[lossKey]uint64
	ended  map[victim]bool // of those with losses: had ended when these were read last

	judged    judgements
	unmatched []string
	undecided map[string]undecided // by the container's id
	declined  declined
}

type lossKey struct {
	cgroup      uint64
	process     victim
	kind, cause uint16
}

type victim struct {
	tgid  uint32
	start uint64
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
	return &Feed{o: o, losses: map[lossKey]uint64{}, ended: map[victim]bool{}, undecided: map[string]undecided{}}
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

// Start tells the kernel side what to watch, and the collector what is there already. When it
// returns, whatever is started in a selected cgroup is watched; Run has to follow soon, as
// nobody empties the ring before.
func (f *Feed) Start() error {
	resumed, err := f.resume()
	if err != nil {
		return err
	}
	boot, wall, err := f.o.Clock()
	if err != nil {
		return err
	}
	f.tick, f.told, f.latest = boot, boot, boot
	if last := f.o.Source.Last(); last > 0 && last < boot {
		f.told = last // what was lost meanwhile was lost since then
	}
	f.clock(boot, wall)
	matched := make([]bool, len(f.o.Globs))
	if err := f.adopt("/", matched); err != nil {
		return err
	}
	for i, m := range matched {
		if !m {
			f.unmatched = append(f.unmatched, f.o.Globs[i].String())
		}
	}
	if f.unread > 0 {
		f.out = record.AppendLoss(f.out[:0], record.Header{}, record.Loss{Cause: record.CauseNotRead, Count: f.unread, From: f.told, To: boot})
		f.emit(f.out)
	}
	if resumed {
		f.moved = true // who there is is known; whoever is not is looked for when the ring has been read
		return nil
	}
	return f.existing(math.MaxUint64)
}

// adopt watches an existing cgroup and those below it. Only the topmost has to be watched for this to succeed: what
// is below it was made by others, who could keep a sensor from starting otherwise. What cannot be watched there is told as lost.
func (f *Feed) adopt(cg string, matched []bool) error {
	w := walk{matched: matched}
	if err := f.enter(&w, cg, 0, 0); err != nil {
		return err
	}
	if w.passed > 0 {
		f.o.Log.Warn("some cgroups are not watched: remove them, make the selectors narrower or limits.cgroups higher, and start the sensor again",
			"cgroups", w.passed, "first_err", w.err)
		f.out = record.AppendLoss(f.out[:0], record.Header{}, record.Loss{Kind: record.TypeCgroup, Cause: record.CauseUnwatched, Count: w.passed, From: f.tick, To: f.tick})
		f.emit(f.out)
	}
	return nil
}

// A walk goes through existing cgroups.
type walk struct {
	matched []bool // globs that selected something
	watched int
	passed  uint64 // that could not be watched
	err     error  // of the first of them
}

func (w *walk) pass(err error) {
	if w.passed++; w.err == nil {
		w.err = err
	}
}

// enter takes one cgroup and those below it. A directory is watched before its
// children are listed: one that is made in between is inherited by the kernel side, listed,
// or both, and being told twice does no harm.
func (f *Feed) enter(w *walk, cg string, parent uint64, depth int) error {
	selected, leads := f.selects(cg), f.leads(cg)
	if !selected && !leads {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("cgroup %.100s…: more than %d levels deep", cg, maxDepth)
	}
	if w.watched++; w.watched > maxWatched {
		return fmt.Errorf("the selectors concern more than %d cgroups", maxWatched)
	}
	id, err := f.o.Hierarchy.ID(cg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	flags := bpf.WatchChildren
	if selected {
		flags |= bpf.WatchTasks
		if f.mayBeNone(id, cg) {
			flags |= bpf.WatchProvisional
		}
	}
	if err := f.o.Source.Watch(id, flags); err != nil {
		return fmt.Errorf("watch cgroup %s: %w", cg, err)
	}
	if selected {
		f.within(id, cg)
	}
	// Removed before it was watched: no RMDIR will come that takes the entry away.
	if now, err := f.o.Hierarchy.ID(cg); err != nil || now != id {
		f.unwatch(id, cg)
		return nil
	}
	if selected {
		for i, g := range f.o.Globs {
			w.matched[i] = w.matched[i] || g.Selects(cg)
		}
		if f.o.Globs.Selects(cg) && !f.o.Globs.Selects(path.Dir(cg)) {
			f.stats.Sandboxes++
		}
		f.out = record.AppendCgroup(f.out[:0], f.tick, id, parent, cg)
		f.emit(f.out)
		f.seen(f.tick, cg)
	}
	children, err := f.o.Hierarchy.Children(cg)
	if err != nil {
		w.pass(err)
	}
	for _, c := range children {
		if err := f.enter(w, path.Join(cg, c), id, depth+1); err != nil {
			w.pass(err)
		}
	}
	return nil
}

// existing tells of the processes that run in the watched cgroups. The ring is not read
// meanwhile, so that a process's exit cannot come before the record of its being there. read is up to when the ring
// has been read, in ns of CLOCK_BOOTTIME: of who is younger it has the fork still, and before that perhaps the end of
// another one with this pid.
func (f *Feed) existing(read uint64) error {
	var found []record.Header
	err := f.o.Source.Existing(func(raw []byte) error {
		if err := f.event.Decode(raw); err != nil {
			f.emit(raw)
			return nil
		}
		h := f.event.Header
		if h.Start > read {
			return nil
		}
		if h.Time > read { // else what waits would come after it
			h.Time = read
			record.SetTime(raw, read)
		}
		if f.suspect(h) {
			// They decide what it is: told before it.
			f.place(h)
			f.arguments(h)
		} else if len(found) < maxExisting {
			found = append(found, h)
		}
		f.emit(raw)
		f.judge(h, f.event.Process.ParentTgid, f.event.Process.ParentStart)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the processes in the sandboxes: %w", err)
	}
	for _, h := range found {
		f.arguments(h)
	}
	return nil
}

// arguments tells of the argv of a process that is older than the sensor.
func (f *Feed) arguments(h record.Header) {
	args, argc, err := cmdline(f.o.Proc, h.Tgid, h.Start)
	if err != nil { // most often it has ended
		f.o.Log.Debug("arguments of a process are not known", "pid", h.Tgid, "err", err)
		return
	}
	f.out = record.AppendCmdline(f.out[:0], h, argc, args)
	f.emit(f.out)
}

// Run reads until ctx ends, then takes what is still in the ring, tells of the last losses
// and returns nil. Any other end is an error. The collector is not closed.
func (f *Feed) Run(ctx context.Context) error {
	flushed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { flushed <- f.o.Source.Flush() })
	defer stop()
	err := f.read(ctx, flushed)
	f.inbox.close()
	f.injected(math.MaxUint64)
	if f.taken && err == nil {
		err = f.existing(math.MaxUint64)
	}
	if tellErr := f.tellLosses(max(f.latest, f.tick)); err == nil {
		err = tellErr
	}
	return err
}

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
			f.take(raw)
			f.settleNow()
			// A backlog: time is that of the records, or what waits in the ring would come
			// after the tick that ends its hold.
			if f.latest >= f.tick+uint64(tickEvery) {
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
		if asked, _, err = f.o.Clock(); err != nil {
			return err
		}
		f.o.Source.SetDeadline(time.Now().Add(pollEvery))
	}
}

// take passes a kernel record on and keeps the watched cgroups to the selected ones.
func (f *Feed) take(raw []byte) {
	err := f.event.Decode(raw)
	h := f.event.Header
	if err == nil {
		f.injected(h.Time)
		if f.suspect(h) {
			f.place(h)
		}
	}
	// Not before: the entries so far are of records of user space that stand before this one.
	f.position()
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
		f.unfollow(f.event.Fork.ChildTgid, f.event.Fork.ChildStart, f.judged.has(h.Tgid, h.Start))
	case record.TypeExec:
		f.judge(h, f.event.Exec.ParentTgid, f.event.Exec.ParentStart)
	case record.TypeCgroupAttach:
		// Of one that was moved into a sandbox only its name is known.
		f.moved = f.moved || !f.event.Attach.Watched
	case record.TypeCgroupMkdir:
		f.decide(h.Time, cg.ID, string(cg.Path))
	case record.TypeCgroupRmdir:
		// The kernel side has dropped its entry; this takes away one that `decide` made when the
		// directory was gone already.
		f.unwatch(cg.ID, string(cg.Path))
		f.gone(string(cg.Path))
	}
}

// decide takes or narrows the watch of a new directory. The kernel side watches every one that is made below a
// watched directory, because it knows no globs; the collector ignores what happens in those
// that no glob selects.
func (f *Feed) decide(at, id uint64, cg string) {
	switch {
	case f.selects(cg):
		f.within(id, cg) // the kernel side may have taken the directory above for one
		if !f.mayBeNone(id, cg) {
			f.settle(id, cg)
		}
		f.seen(at, cg)
	case f.leads(cg):
		if err := f.o.Source.Watch(id, bpf.WatchChildren); err != nil {
			f.o.Log.Warn("cannot narrow the watch of a cgroup: its processes cost a little more", "cgroup", cg, "err", err)
		}
	default:
		f.unwatch(id, cg)
	}
}

// within has the kernel side know the sandbox in which a cgroup lies.
func (f *Feed) within(id uint64, cg string) {
	sandbox, root := id, f.sandbox(cg)
	if root != cg {
		var err error
		if sandbox, err = f.o.Hierarchy.ID(root); err != nil {
			return // it is gone, with all that is in it
		}
	}
	if err := f.o.Source.Within(id, sandbox); err != nil {
		f.o.Log.Warn("cannot say in which sandbox a cgroup lies: it has a budget of its own", "cgroup", cg, "err", err)
	}
}

// settle has the kernel side know that the watch of a directory is not taken back.
func (f *Feed) settle(id uint64, cg string) {
	if err := f.o.Source.Watch(id, bpf.WatchTasks|bpf.WatchChildren); err != nil {
		f.o.Log.Warn("cannot settle the watch of a cgroup: its processes cost a little more", "cgroup", cg, "err", err)
	}
}

func (f *Feed) seen(at uint64, cg string) {
	if f.o.Seen != nil {
		f.o.Seen(at, cg)
	}
}

func (f *Feed) unwatch(id uint64, cg string) {
	if err := f.o.Source.Unwatch(id); err != nil {
		f.o.Log.Warn("cannot end the watch of a cgroup: its processes cost a little more", "cgroup", cg, "err", err)
	}
}

// place tells in which cgroup a process is that was found outside of all sandboxes: the kernel side knows only its id.
func (f *Feed) place(h record.Header) {
	path, err := f.o.Hierarchy.Path(h.Cgroup)
	if err != nil {
		// Without the right to ask so: where it is now, if that is the same.
		if path, err = f.o.Hierarchy.Of(int(h.Tgid)); err != nil {
			return // it has ended
		}
		if id, err := f.o.Hierarchy.ID(path); err != nil || id != h.Cgroup {
			return // it was moved meanwhile
		}
	}
	f.out = record.AppendCgroup(f.out[:0], h.Time, h.Cgroup, 0, path)
	f.emit(f.out)
}

// suspect says whether this is of a program that may be an agent, and of a process that is not in a sandbox yet.
func (f *Feed) suspect(h record.Header) bool {
	return (h.Type == record.TypeExec || h.Type == record.TypeProcess) && h.Flags&record.ExecFound != 0 &&
		f.o.Knows != nil && !f.o.Knows(h.Tgid, h.Start)
}

// judge does with a process what the collector made of its program. One that turned out to be an agent may have been left alone
// already, as the child of a suspect that is none; what it started meanwhile is looked for.
func (f *Feed) judge(h record.Header, parent uint32, parentStart uint64) {
	flagged := h.Flags&record.ExecFound != 0
	if !flagged || f.o.Knows == nil || !f.o.Knows(h.Tgid, h.Start) {
		f.unfollow(h.Tgid, h.Start, flagged || f.judged.has(parent, parentStart))
		return
	}
	f.judged.drop(h.Tgid, h.Start)
	again, err := f.o.Source.Follow(h.Tgid, h.Start)
	if err != nil {
		f.o.Log.Warn("cannot follow an agent: what it does in other cgroups is not seen", "pid", h.Tgid, "err", err)
	}
	f.moved = f.moved || again
}

// unfollow has the kernel side leave a process alone that it follows on suspicion, and that is no agent's: judged by its
// program now, or before. Of any other one that the collector does not know a record was lost, or the collector had no room for
// it: it may be an agent's, and what it starts may be told by its parent.
func (f *Feed) unfollow(tgid uint32, start uint64, judged bool) {
	if f.o.Knows == nil || f.o.Knows(tgid, start) {
		return
	}
	if judged {
		f.judged.add(tgid, start)
	} else if !f.judged.has(tgid, start) {
		return
	}
	if err := f.o.Source.Unfollow(tgid); err != nil {
		f.o.Log.Warn("cannot leave a process alone that is no agent: it costs a little more", "pid", tgid, "err", err)
	}
}

// advance ends the stream's time until t: clock if it moved, losses when due, a look at who is there, and the tick. empty: the
// ring was, just now.
func (f *Feed) advance(t uint64, empty bool) error {
	boot, wall, err := f.o.Clock()
	if err != nil {
		return err
	}
	if drift := wall - int64(boot) - f.offset; drift > int64(maxDrift) || drift < -int64(maxDrift) {
		f.clock(boot, wall)
	}
	if t >= f.told+uint64(lossEvery) {
		if err := f.tellLosses(t); err != nil {
			return err
		}
	}
	if f.moved && t >= f.looked+uint64(lookEvery) {
		if f.putOff == 0 {
			f.putOff = t
		}
		read := t
		if empty {
			read = math.MaxUint64
		}
		if empty || t >= f.putOff+uint64(maxLookDelay) {
			// In a backlog there may be some that it does not tell.
			f.moved, f.taken, f.looked, f.putOff = !empty, f.taken && !empty, t, 0
			if err := f.existing(read); err != nil {
				return err
			}
		}
	}
	f.tick = t
	f.out = record.AppendTick(f.out[:0], t)
	f.emit(f.out)
	f.compact(t)
	return nil
}

func (f *Feed) clock(boot uint64, wall int64) {
	f.offset = wall - int64(boot)
	f.out = record.AppendClock(f.out[:0], boot, wall)
	f.emit(f.out)
}

// tellLosses passes on what the kernel's counters grew by since the last time.
func (f *Feed) tellLosses(t uint64) error {
	now, err := f.o.Source.Losses()
	if err != nil {
		return fmt.Errorf("read the loss counters: %w", err)
	}
	// A hash map lists in no order, a capture should not depend on it.
	slices.SortFunc(now, func(a, b bpf.Loss) int {
		return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Cause, b.Cause))
	})
	seen := make(map[lossKey]uint64, len(now)) // replaces the old: keys of removed cgroups go
	ended := map[victim]bool{}
	var over []bpf.Loss
	unknown := false // cgroups may be there that nobody told of
	for _, l := range now {
		p := victim{l.Tgid, l.Start}
		k := lossKey{l.Cgroup, p, l.Kind, l.Cause}
		seen[k] = l.Count
		switch _, asked := ended[p]; {
		case l.Tgid == 0:
		case f.ended[p]:
			// The process had ended before its counters were read: they do not grow any more.
			over = append(over, l)
		case !asked:
			ended[p] = hasEnded(f.o.Proc, l.Tgid, l.Start)
		}
		if l.Count <= f.losses[k] {
			continue
		}
		delta := l.Count - f.losses[k]
		f.stats.Lost += delta
		unknown = unknown || record.Type(l.Kind) == record.TypeCgroupMkdir
		if kind := record.Type(l.Kind); f.o.Knows != nil && (kind == record.TypeFork || kind == record.TypeExec) {
			f.moved = true // who is below an agent, wherever it is, only its parent tells
		}
		f.out = record.AppendLoss(f.out[:0], record.Header{Cgroup: l.Cgroup, Tgid: l.Tgid, Start: l.Start},
			record.Loss{Kind: record.Type(l.Kind), Cause: record.Cause(l.Cause), Count: delta, From: f.told, To: t})
		f.emit(f.out)
	}
	f.losses, f.ended, f.told = seen, ended, t
	if unknown {
		// What is there now is told again; what was made and is gone again nobody can tell of.
		sandboxes := f.stats.Sandboxes
		if err := f.adopt("/", make([]bool, len(f.o.Globs))); err != nil {
			f.o.Log.Warn("cannot look for cgroups of which the kernel could not tell", "err", err)
		}
		f.stats.Sandboxes, f.moved = sandboxes, true
	}
	if err := f.o.Source.Told(now, t); err != nil {
		return err
	}
	for _, l := range over {
		if err := f.o.Source.Forget(l); err != nil {
			f.o.Log.Warn("a loss counter stays: there is less room for others", "err", err)
		}
	}
	return nil
}

// emit gives a record to the collector and to the capture, and says whether the collector took it.
func (f *Feed) emit(raw []byte) (taken bool) {
	f.stats.Records++
	if f.o.Capture != nil && f.stats.CaptureErr == nil {
		if err := f.o.Capture.Record(raw); err != nil {
			f.stats.CaptureErr = err
			f.o.Log.Error("the capture ends here", "err", err)
		}
	}
	f.journal(raw)
	if err := f.o.Collector.Record(raw); err != nil {
		f.stats.Refused++
		f.o.Log.Debug("record refused", "err", err)
		return false
	}
	return true
}
