// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
)

// A Cut says what Compact leaves out.
type Cut struct {
	// Before is the time before which only what says who is alive is kept.
	Before uint64
	// Whole is the tick from which on what is left out is not seen in any span, and up to which all spans are settled.
	Whole uint64
	// Now is what becomes of both where that does not leave out enough: spans that are not settled are lost if this process is
	// killed before they are. That is counted.
	Now uint64
	// CallsFor is how long what was said of calls is kept, in ns.
	CallsFor uint64
	// Remembers, if set, says whether it counts still who has had a session.
	Remembers func(collector.Claim) bool
	// More, if set, gives entries that stand behind all others.
	More func(add func(*Entry))
}

// Compact leaves out what is not needed. With nothing left to leave out the journal is begun anew, and that is counted.
func (j *Journal) Compact(c Cut) error {
	next, err := j.without(c)
	stats := j.stats
	if err == nil && next.size() > j.cfg.MaxBytes/2 && c.Before < c.Now {
		stats.Overflows++
		if err = next.Remove(); err == nil {
			c.Before, c.Whole = c.Now, c.Now
			next, err = j.without(c)
		}
	}
	if err != nil {
		return err
	}
	if next.size() > j.cfg.MaxBytes/2 {
		stats.Overflows++
		if err := next.resetTo(Claimed); err != nil {
			return errors.Join(err, next.Remove())
		}
	}
	if err := os.Rename(next.cfg.Path, j.cfg.Path); err != nil {
		return errors.Join(fmt.Errorf("compact the journal: %w", err), next.Remove())
	}
	if err := j.Close(); err != nil {
		return err
	}
	stats.Compacted++
	j.f, j.base, j.window, j.at = next.f, next.base, next.window, next.at
	j.limit = min(j.cfg.MaxBytes, max(firstLimit, 2*j.size()))
	j.stats = stats
	j.stats.Bytes = j.base + int64(len(j.window))
	return nil
}

// resetTo begins anew with the entries of one kind.
func (j *Journal) resetTo(kind Kind) error {
	var kept []Entry
	err := j.each(func(e *Entry, _ int64) error {
		if e.Kind == kind {
			kept = append(kept, Entry{Kind: e.Kind, Seq: e.Seq, Ring: e.Ring, Data: slices.Clone(e.Data)})
		}
		return nil
	})
	if err = errors.Join(err, j.reset()); err != nil {
		return err
	}
	for i := range kept {
		if err := j.Append(&kept[i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) size() int64 { return j.base + int64(j.at) }

// without makes another journal, beside this one.
func (j *Journal) without(c Cut) (_ *Journal, err error) {
	k := keeper{
		before: c.Before, said: c.Before - min(c.Before, c.CallsFor),
		remembers: c.Remembers, claims: map[string]int{}, over: map[string]bool{},
	}
	if err := j.each(func(e *Entry, _ int64) error { k.see(e); return nil }); err != nil {
		return nil, err
	}
	k.decide()
	next := &Journal{cfg: j.cfg, settled: j.settled}
	next.cfg.Path += ".new"
	_ = os.Remove(next.cfg.Path) // in a directory that is open to all it may be anybody's
	if next.f, err = openFile(next.cfg.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("compact the journal: %w", err), next.Remove())
		}
	}()
	if err := unix.Flock(int(next.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	if err := next.reset(); err != nil {
		return nil, err
	}
	told := false
	var last Entry
	var begun sliced
	err = j.each(func(e *Entry, _ int64) error {
		last.Seq, last.Ring = e.Seq, e.Ring
		if !k.keeps(e) {
			return nil
		}
		if e.Kind == Sliced {
			begun.add(e)
			return nil
		}
		if err := begun.flush(next); err != nil {
			return err
		}
		if err := next.Append(e); err != nil || told || e.Kind != Record || k.event.Header.Type != record.TypeTick || k.event.Header.Time < c.Whole {
			return err
		}
		told = true
		return next.Append(&Entry{Kind: Whole, Seq: e.Seq, Ring: e.Ring})
	})
	if err == nil && !told {
		err = next.Append(&Entry{Kind: Whole, Seq: last.Seq, Ring: last.Ring})
	}
	// Behind the last record there is what counts, which More gives.
	if c.More == nil && err == nil {
		err = begun.flush(next)
	}
	if c.More != nil && err == nil {
		c.More(func(e *Entry) {
			e.Seq, e.Ring = last.Seq, last.Ring
			err = errors.Join(err, next.Append(e))
		})
	}
	return next, err
}

// sliced are Sliced entries between two records that are kept: of each trace the newest says it all.
type sliced struct{ entries []Entry }

func (s *sliced) add(e *Entry) {
	e.Data = slices.Clone(e.Data)
	same := func(o Entry) bool { return traceOf(o.Data) == traceOf(e.Data) }
	s.entries = append(slices.DeleteFunc(s.entries, same), *e)
}

func (s *sliced) flush(to *Journal) error {
	for i := range s.entries {
		if err := to.Append(&s.entries[i]); err != nil {
			return err
		}
	}
	s.entries = s.entries[:0]
	return nil
}

type processKey struct {
	tgid  uint32
	start uint64
}

type life struct {
	parent processKey
	cgroup uint64
	calls  []string // that were marked when it was forked
	over   bool     // ended before the time
	needed bool
}

// A keeper decides what of a journal is kept: see all of it, decide, then ask keeps for each in the same order.
type keeper struct {
	before, said uint64
	event        record.Event
	processes    map[processKey]*life
	gone         map[uint64]bool // cgroups removed before the time
	used         map[uint64]bool // cgroups of what is kept
	open         []string        // calls that are marked
	calls        map[string]bool // that are needed
	containers   map[string]int  // how often told, before the time
	remembers    func(collector.Claim) bool
	claims       map[string]int  // how often told, before the time
	over         map[string]bool // told of an agent that is over
	clocks       int
	ticks        int // since the last that was kept
	first        bool
	young        bool // what is seen now is younger
	tail         bool // what comes is younger
	kept         bool // the last record
}

func (k *keeper) see(e *Entry) {
	if k.processes == nil {
		k.processes, k.gone, k.used = map[processKey]*life{}, map[uint64]bool{}, map[uint64]bool{}
		k.containers, k.calls = map[string]int{}, map[string]bool{}
	}
	ev := &k.event
	if e.Kind == Claimed && !k.young {
		k.claims[string(e.Data)]++
	}
	if e.Kind != Record || ev.Decode(e.Data) != nil {
		return
	}
	if ev.Header.Time >= k.before {
		k.young = true
		return
	}
	h := &ev.Header
	switch h.Type {
	case record.TypeFork:
		k.born(processKey{ev.Fork.ChildTgid, ev.Fork.ChildStart}, processKey{h.Tgid, h.Start}, ev.Fork.ChildCgroup)
	case record.TypeExec:
		k.born(keyOf(h), processKey{ev.Exec.ParentTgid, ev.Exec.ParentStart}, h.Cgroup)
	case record.TypeProcess:
		k.born(keyOf(h), processKey{ev.Process.ParentTgid, ev.Process.ParentStart}, h.Cgroup)
	case record.TypeExit:
		if l := k.processes[keyOf(h)]; l != nil {
			l.over = true
		}
	case record.TypeCgroupRmdir:
		k.gone[ev.Cgroup.ID] = true
	case record.TypeMark:
		if i := slices.Index(k.open, callOf(&ev.Mark)); i >= 0 {
			k.open = slices.Delete(slices.Clone(k.open), i, i+1) // what processes have is another
		}
		if ev.Mark.Op == record.MarkBegin {
			if k.open = append(slices.Clip(k.open), callOf(&ev.Mark)); len(k.open) > maxOpen {
				k.open = k.open[1:]
			}
		}
	case record.TypeContainer:
		k.containers[ev.Container.ID]++
	case record.TypeClock:
		k.clocks++
	}
}

func keyOf(h *record.Header) processKey { return processKey{h.Tgid, h.Start} }

// maxOpen bounds the open calls that a process is kept for.
const maxOpen = 64

func callOf(m *record.Mark) string { return m.Session + "\x00" + m.Call }

func (k *keeper) born(child, parent processKey, cgroup uint64) {
	if k.processes[child] == nil {
		k.processes[child] = &life{parent: parent, cgroup: cgroup, calls: k.open}
	}
}

// decide marks who lives, and whom they come from.
func (k *keeper) decide() {
	for _, l := range k.processes {
		if l.over {
			continue
		}
		for l != nil && !l.needed {
			l.needed, k.used[l.cgroup] = true, true
			for _, call := range l.calls {
				k.calls[call] = true
			}
			l = k.processes[l.parent]
		}
	}
	for _, call := range k.open {
		k.calls[call] = true
	}
}

func (k *keeper) needs(p processKey) bool {
	l := k.processes[p]
	return l != nil && l.needed
}

// sparse is how many entries are kept between two ticks.
const sparse = 256

// keeps says whether an entry is kept.
func (k *keeper) keeps(e *Entry) bool {
	switch e.Kind {
	case Began:
		return k.tail
	case Slice:
		if !k.kept {
			e.Kind = Sliced
		}
		return true
	case Sliced, End:
		return true // they are few
	case Claimed:
		return k.tail || k.claim(e.Data)
	case Count:
		return false // there are newer ones
	case Reads:
		return k.tail // of those that end in it; there are newer ones of the others
	case Record:
		k.kept = k.keepsRecord(e)
		return k.kept
	}
	return false
}

// claim says whether a claim is kept: of an agent that lives the last of each, of those that are over the first, as it is
// the same place's from then on.
func (k *keeper) claim(b []byte) bool {
	claim, ok := DecodeClaim(b)
	k.claims[string(b)]--
	if !ok || k.remembers != nil && !k.remembers(claim) {
		return false
	}
	if k.needs(processKey{claim.Agent.Tgid, claim.Agent.Start}) {
		return k.claims[string(b)] == 0
	}
	first := !k.over[string(b[agentSize:])]
	k.over[string(b[agentSize:])] = true
	return first
}

func (k *keeper) keepsRecord(e *Entry) bool {
	ev := &k.event
	if ev.Decode(e.Data) != nil {
		return false
	}
	if ev.Header.Time >= k.before {
		k.tail = true
		return true
	}
	keep := k.record(&ev.Header)
	if ev.Header.Type == record.TypeTick {
		if keep = k.ticks >= sparse; keep {
			k.ticks = 0
		}
	} else if keep {
		k.ticks++
	}
	return keep
}

func (k *keeper) record(h *record.Header) bool {
	ev := &k.event
	switch h.Type {
	case record.TypeFork:
		return k.needs(processKey{ev.Fork.ChildTgid, ev.Fork.ChildStart})
	case record.TypeExec, record.TypeExecArgs, record.TypeExit, record.TypeProcess, record.TypeCmdline, record.TypeCgroupAttach:
		return k.needs(keyOf(h))
	case record.TypeCgroup, record.TypeCgroupMkdir, record.TypeCgroupRmdir:
		return !k.gone[ev.Cgroup.ID] || k.used[ev.Cgroup.ID]
	case record.TypeMark:
		return h.Time >= k.said || k.calls[callOf(&ev.Mark)]
	case record.TypeSaid:
		return h.Time >= k.said || ev.Said.Kind == record.SaidSession
	case record.TypeContainer:
		k.containers[ev.Container.ID]--
		return k.containers[ev.Container.ID] == 0
	case record.TypeClock:
		k.clocks--
		first := !k.first
		k.first = true
		return first || k.clocks == 0
	}
	return false
}

// Last is up to which span all are settled, and the position of the ring in the last entry. compacted says that there is a Whole entry.
// To be called after Open, before Replay.
func (j *Journal) Last() (settled, ring uint64, compacted bool, err error) {
	head := make([]byte, headSize)
	if _, err := j.f.ReadAt(head, 0); err == nil {
		settled = binary.LittleEndian.Uint64(head[atSettled:])
	}
	err = j.each(func(e *Entry, _ int64) error {
		compacted = compacted || e.Kind == Whole
		ring = e.Ring
		return nil
	})
	return settled, ring, compacted, err
}
