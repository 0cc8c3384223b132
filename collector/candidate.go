// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"slices"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// selectContainer gives the selector of a container that was chosen, for its directories.
func (c *containers) selectContainer(cgroup string) (root string, s Selector, ok bool) {
	if !c.chooses {
		return "", Selector{}, false
	}
	ref, ok := container.FromCgroup(cgroup)
	b := c.boxes.known[ref.ID]
	if !ok || b == nil || b.chosen == nil || b.root != ref.Root {
		return "", Selector{}, false
	}
	return b.root, *b.chosen, true
}

// undecidedFor is how long records of a container wait for the word that decides whether it is a sandbox. It is longer
// than the hold: a span that comes late is better than one that is lost.
const undecidedFor = time.Minute

// candidates are the containers of which it is not known yet whether they are sandboxes.
type candidates struct {
	byCgroup map[uint64]*box
	order    list.List // of *box, oldest first
	bytes    int       // of their records
}

// largest is rarely asked for: each time a good part of the bound comes free.
func (k *candidates) largest() *box {
	most := k.order.Front().Value.(*box)
	for e := k.order.Front().Next(); e != nil; e = e.Next() {
		if b := e.Value.(*box); b.candidate.bytes > most.candidate.bytes {
			most = b
		}
	}
	return most
}

// A candidate keeps the records of a container until it is decided.
type candidate struct {
	since   uint64 // boottime
	element *list.Element
	cgroups []uint64 // the container's topmost first
	used    bool     // a process has done something in it
	raw     [][]byte
	bytes   int
}

// undecided keeps a record back if it is of a container that may be a sandbox.
func (c *containers) undecided(e *record.Event, raw []byte) bool {
	if !c.chooses {
		return false
	}
	h := &e.Header
	switch h.Type {
	case record.TypeCgroup, record.TypeCgroupMkdir:
		b := c.candidates.byCgroup[e.Cgroup.Parent]
		if b == nil {
			b = c.candidateAt(string(e.Cgroup.Path))
		}
		if b == nil || c.lineage.groups[e.Cgroup.Parent] != nil {
			return false
		}
		if len(c.candidates.byCgroup) >= c.config.MaxCgroups {
			c.losses.lose(record.TypeCgroup, record.CauseTableFull, nil)
			return false
		}
		c.candidates.byCgroup[e.Cgroup.ID] = b
		b.candidate.cgroups = append(b.candidate.cgroups, e.Cgroup.ID)
		return c.keep(b, raw)
	case record.TypeCgroupRmdir:
		b := c.candidates.byCgroup[e.Cgroup.ID]
		if b != nil && !b.candidate.used && e.Cgroup.ID == b.candidate.cgroups[0] {
			// Nothing has happened in it: there is nothing to tell, whatever it was.
			c.settleCandidate(b)
			delete(c.boxes.known, b.id)
			return true
		}
		return b != nil && c.keep(b, raw)
	case record.TypeConnectEnd:
		// It may come from outside of the process.
		if c.above.connecting(e.ConnectEnd.Cookie) {
			return false
		}
		for el := c.candidates.order.Front(); el != nil; {
			b := el.Value.(*box)
			el = el.Next()
			c.keep(b, raw)
		}
		return false
	}
	if p := c.lineage.processes[h.Tgid]; p != nil && p.start == h.Start {
		return false
	}
	b := c.candidates.byCgroup[h.Cgroup]
	if b == nil && h.Type == record.TypeFork {
		b = c.candidates.byCgroup[e.Fork.ChildCgroup]
	}
	if b == nil {
		return false
	}
	b.candidate.used = true
	return c.keep(b, raw)
}

// candidateAt gives the container that has this topmost directory, if it may be a sandbox.
func (c *containers) candidateAt(cgroup string) *box {
	ref, ok := container.FromCgroup(cgroup)
	if !ok || ref.Root != cgroup || c.boxes.known[ref.ID] != nil {
		return nil
	}
	if _, _, ok := Select(c.config.Sandboxes, cgroup); ok {
		return nil
	}
	if len(c.boxes.known) >= c.config.MaxCgroups {
		c.losses.lose(record.TypeCgroup, record.CauseTableFull, nil)
		return nil
	}
	b := &box{aBox: aBox{id: ref.ID}, root: ref.Root, candidate: &candidate{since: c.clock.tick}}
	b.candidate.element = c.candidates.order.PushBack(b)
	c.boxes.known[ref.ID] = b
	return b
}

// keep keeps a record. Beyond the bound on all of them the records of the container that has most are lost, and counted: a noisy one
// costs no other its own.
func (c *containers) keep(b *box, raw []byte) bool {
	for c.candidates.bytes+len(raw) > maxHeldBytes {
		most := c.candidates.largest()
		c.loseCandidate(most)
		if most == b {
			c.losses.lose(record.TypeContainer, record.CauseUnassigned, nil)
			return true
		}
	}
	b.candidate.raw = append(b.candidate.raw, slices.Clone(raw))
	b.candidate.bytes += len(raw)
	c.candidates.bytes += len(raw)
	return true
}

// settleCandidate ends the wait and gives the records that were kept.
func (c *containers) settleCandidate(b *box) [][]byte {
	k := b.candidate
	b.candidate = nil
	c.candidates.order.Remove(k.element)
	c.candidates.bytes -= k.bytes
	for _, id := range k.cgroups {
		delete(c.candidates.byCgroup, id)
	}
	return k.raw
}

// decide makes a container a sandbox, from its first record on, or forgets it.
func (c *containers) decide(b *box) {
	kept := c.settleCandidate(b)
	s, ok := ChooseContainer(c.config.Sandboxes, &b.info)
	if !ok {
		delete(c.boxes.known, b.id)
		return
	}
	b.chosen = &s
	for _, raw := range kept {
		c.replay(raw)
	}
	c.attribution.refused = false // who sent those has its answer
	c.forgetBox(b)
}

// Undecided is since when (boottime) records are kept of a container of which it is not known whether it is a sandbox.
func (c *containers) Undecided() (since uint64, ok bool) {
	if e := c.candidates.order.Front(); e != nil {
		return e.Value.(*box).candidate.since, true
	}
	return 0, false
}

// Chose says whether a container is a sandbox because of what its runtime said. To be called from where Record is.
func (c *containers) Chose(id string) bool {
	b := c.boxes.known[id]
	return b != nil && b.chosen != nil
}

func (c *containers) loseCandidate(b *box) {
	c.stats.UnresolvedContainers++
	for range c.settleCandidate(b) {
		c.losses.lose(record.TypeContainer, record.CauseUnassigned, nil)
	}
	delete(c.boxes.known, b.id)
}

func (c *containers) expireCandidates() {
	for e := c.candidates.order.Front(); e != nil && e.Value.(*box).candidate.since+uint64(undecidedFor) <= c.clock.tick; e = c.candidates.order.Front() {
		c.loseCandidate(e.Value.(*box))
	}
}
