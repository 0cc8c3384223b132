// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"container/list"
	"slices"
	"time"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// selectContainer gives the selector of a container that was chosen, for its directories.
func (c *Containers) selectContainer(cgroup string) (root string, s config.Selector, ok bool) {
	if !c.chooses {
		return "", config.Selector{}, false
	}
	ref, ok := container.FromCgroup(cgroup)
	b := c.Containers.known[ref.ID]
	if !ok || b == nil || b.chosen == nil || b.root != ref.Root {
		return "", config.Selector{}, false
	}
	return b.root, *b.chosen, true
}

// UndecidedFor is how long records of a container wait for the word that decides whether it is a sandbox. It is longer
// than the hold: a span that comes late is better than one that is lost.
const UndecidedFor = time.Minute

// MaxKeptBytes bounds the records that are kept of all these containers.
const MaxKeptBytes = 32 << 20

// candidates are the containers of which it is not known yet whether they are sandboxes.
type candidates struct {
	byCgroup map[uint64]*Container
	order    list.List // of *Container, oldest first
	bytes    int       // of their records
}

// largest is rarely asked for: each time a good part of the bound comes free.
func (k *candidates) largest() *Container {
	most := k.order.Front().Value.(*Container)
	for e := k.order.Front().Next(); e != nil; e = e.Next() {
		if b := e.Value.(*Container); b.candidate.bytes > most.candidate.bytes {
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

// Keeps keeps a record back if it is of a container that may be a sandbox.
func (c *Containers) Keeps(e *record.Event, raw []byte) bool {
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
		if b == nil || c.lineage.Cgroups[e.Cgroup.Parent] != nil {
			return false
		}
		if len(c.candidates.byCgroup) >= c.config.MaxCgroups {
			c.losses.Lose(record.TypeCgroup, record.CauseTableFull, nil)
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
			delete(c.Containers.known, b.ID)
			return true
		}
		return b != nil && c.keep(b, raw)
	case record.TypeConnectEnd:
		// It may come from outside of the process.
		if c.Above.Connecting(e.ConnectEnd.Cookie) {
			return false
		}
		for el := c.candidates.order.Front(); el != nil; {
			b := el.Value.(*Container)
			el = el.Next()
			c.keep(b, raw)
		}
		return false
	}
	if p := c.lineage.Processes[h.Tgid]; p != nil && p.Start == h.Start {
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
func (c *Containers) candidateAt(cgroup string) *Container {
	ref, ok := container.FromCgroup(cgroup)
	if !ok || ref.Root != cgroup || c.Containers.known[ref.ID] != nil {
		return nil
	}
	if _, _, ok := config.Select(c.config.Sandboxes, cgroup); ok {
		return nil
	}
	if len(c.Containers.known) >= c.config.MaxCgroups {
		c.losses.Lose(record.TypeCgroup, record.CauseTableFull, nil)
		return nil
	}
	b := &Container{Container: attribution.Container{ID: ref.ID}, root: ref.Root, candidate: &candidate{since: c.clock.Tick}}
	b.candidate.element = c.candidates.order.PushBack(b)
	c.Containers.known[ref.ID] = b
	return b
}

// keep keeps a record. Beyond the bound on all of them the records of the container that has most are lost, and
// counted: a noisy one costs no other its own.
func (c *Containers) keep(b *Container, raw []byte) bool {
	for c.candidates.bytes+len(raw) > MaxKeptBytes {
		most := c.candidates.largest()
		c.loseCandidate(most)
		if most == b {
			c.losses.Lose(record.TypeContainer, record.CauseUnassigned, nil)
			return true
		}
	}
	b.candidate.raw = append(b.candidate.raw, slices.Clone(raw))
	b.candidate.bytes += len(raw)
	c.candidates.bytes += len(raw)
	return true
}

// settleCandidate ends the wait and gives the records that were kept.
func (c *Containers) settleCandidate(b *Container) [][]byte {
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
func (c *Containers) decide(b *Container) {
	kept := c.settleCandidate(b)
	s, ok := config.ChooseContainer(c.config.Sandboxes, &b.Info)
	if !ok {
		delete(c.Containers.known, b.ID)
		return
	}
	b.chosen = &s
	for _, raw := range kept {
		c.Replay(raw)
	}
	c.attribution.Refused = false // who sent those has its answer
	c.forget(b)
}

// Undecided is since when (boottime) records are kept of a container of which it is not known whether it is a sandbox.
func (c *Containers) Undecided() (since uint64, ok bool) {
	if e := c.candidates.order.Front(); e != nil {
		return e.Value.(*Container).candidate.since, true
	}
	return 0, false
}

// Chose says whether a container is a sandbox because of what its runtime said. To be called from where Record is.
func (c *Containers) Chose(id string) bool {
	b := c.Containers.known[id]
	return b != nil && b.chosen != nil
}

func (c *Containers) loseCandidate(b *Container) {
	c.stats.UnresolvedContainers++
	for range c.settleCandidate(b) {
		c.losses.Lose(record.TypeContainer, record.CauseUnassigned, nil)
	}
	delete(c.Containers.known, b.ID)
}

func (c *Containers) expireCandidates() {
	for e := c.candidates.order.Front(); e != nil && e.Value.(*Container).candidate.since+uint64(UndecidedFor) <= c.clock.Tick; e = c.candidates.order.Front() {
		c.loseCandidate(e.Value.(*Container))
	}
}

// LoseCandidates gives up every container that is not decided.
func (c *Containers) LoseCandidates() {
	for e := c.candidates.order.Front(); e != nil; e = c.candidates.order.Front() {
		c.loseCandidate(e.Value.(*Container))
	}
}
