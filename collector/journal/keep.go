// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
)

type processKey struct {
	tgid  uint32
	start uint64 // ns of CLOCK_BOOTTIME
}

type processState struct {
	parent processKey
	cgroup uint64
	calls  []string // that were marked when it was forked
	over   bool     // ended before the time
	needed bool
}

// survivors decide what of a journal is kept: see all of it, decide, then ask keeps for each entry in the same order.
type survivors struct {
	before     uint64 // see Cut.Before
	callsSince uint64 // from when on what agents reported of calls is kept
	late       bool   // what comes was appended since decide
	event      record.Event
	processes  map[processKey]*processState
	undecided  []*processState // of them
	gone       map[uint64]bool // cgroups removed before the time
	used       map[uint64]bool // cgroups of what is kept
	open       []string        // calls that are marked
	calls      map[string]bool // that are needed
	containers map[string]int  // how often there, before the time
	remembers  func(collector.Claim) bool
	claims     map[string]int  // how often there, before the time
	over       map[string]bool // there already, of an agent that is over
	clocks     int
	ticks      int // since the last that was kept
	first      bool
	young      bool // what is seen now is younger
	tail       bool // what comes is younger
	kept       bool // the last record
}

func newSurvivors(c *Cut) survivors {
	return survivors{
		before: c.Before, callsSince: c.Before - min(c.Before, c.CallsFor), remembers: c.Remembers,
		processes: map[processKey]*processState{}, gone: map[uint64]bool{}, used: map[uint64]bool{},
		calls: map[string]bool{}, containers: map[string]int{}, claims: map[string]int{}, over: map[string]bool{},
	}
}

// see reads an entry before anything is decided.
func (k *survivors) see(e *Entry) {
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

func (k *survivors) born(child, parent processKey, cgroup uint64) {
	if k.processes[child] == nil {
		l := &processState{parent: parent, cgroup: cgroup, calls: k.open}
		k.processes[child], k.undecided = l, append(k.undecided, l)
	}
}

// decide marks who lives, and whom they come from, of a number of the processes that are left to decide. It is done
// when it had fewer.
func (k *survivors) decide(most int) (had int) {
	had = min(most, len(k.undecided))
	for _, l := range k.undecided[:had] {
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
	if k.undecided = k.undecided[had:]; had < most {
		for _, call := range k.open {
			k.calls[call] = true
		}
	}
	return had
}

func (k *survivors) needs(p processKey) bool {
	l := k.processes[p]
	return l != nil && l.needed
}

// sparse is how many entries are kept between two ticks.
const sparse = 256

// keeps says whether an entry is kept.
func (k *survivors) keeps(e *Entry) bool {
	k.tail = k.tail || k.late
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

// claim says whether a claim is kept: of an agent that lives the last of each, of those that are over the first, as it
// is the same place's from then on.
func (k *survivors) claim(b []byte) bool {
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

func (k *survivors) keepsRecord(e *Entry) bool {
	ev := &k.event
	if ev.Decode(e.Data) != nil {
		return false
	}
	if k.late || ev.Header.Time >= k.before {
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

func (k *survivors) record(h *record.Header) bool {
	ev := &k.event
	switch h.Type {
	case record.TypeFork:
		return k.needs(processKey{ev.Fork.ChildTgid, ev.Fork.ChildStart})
	case record.TypeExec, record.TypeExecArgs, record.TypeExit, record.TypeProcess, record.TypeCmdline,
		record.TypeCgroupAttach:
		return k.needs(keyOf(h))
	case record.TypeCgroup, record.TypeCgroupMkdir, record.TypeCgroupRmdir:
		return !k.gone[ev.Cgroup.ID] || k.used[ev.Cgroup.ID]
	case record.TypeMark:
		return h.Time >= k.callsSince || k.calls[callOf(&ev.Mark)]
	case record.TypeSaid:
		return h.Time >= k.callsSince || ev.Said.Kind == record.SaidSession
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
