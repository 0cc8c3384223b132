// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// ContainerSelector chooses containers by what their runtime says. All that is given has to hold; of a list one.
type ContainerSelector struct {
	Kubernetes bool              `json:"kubernetes"` // containers of pods; otherwise those of none
	Namespaces []string          `json:"namespaces,omitempty"`
	Handlers   []string          `json:"handlers,omitempty"`   // runtime handlers of pods
	Containers []string          `json:"containers,omitempty"` // names; patterns of path.Match
	Labels     map[string]string `json:"labels,omitempty"`     // "*": the label is there

	Annotations map[string]string `json:"annotations,omitempty"` // of pods, as Labels
}

// Chooses says whether the selector matches. A pod's own container, which only waits, is never chosen.
func (s *ContainerSelector) Chooses(c *record.Container) bool {
	pod := c.Pod != "" || c.PodUID != ""
	name := c.Name
	if s.Kubernetes {
		name = c.PodPart
	}
	if pod != s.Kubernetes || pod && c.PodPart == "" {
		return false
	}
	if len(s.Namespaces) > 0 && !slices.Contains(s.Namespaces, c.Namespace) || len(s.Handlers) > 0 && !slices.Contains(s.Handlers, c.Handler) {
		return false
	}
	if len(s.Containers) > 0 && !slices.ContainsFunc(s.Containers, func(glob string) bool { ok, err := path.Match(glob, name); return ok && err == nil }) {
		return false
	}
	return have(c.Labels, s.Labels) && have(c.Annotations, s.Annotations)
}

// have says whether all that is wanted is among the pairs.
func have(pairs []record.Pair, wanted map[string]string) bool {
	for key, want := range wanted {
		i := slices.IndexFunc(pairs, func(p record.Pair) bool { return p.Key == key })
		if i < 0 || want != "*" && pairs[i].Value != want {
			return false
		}
	}
	return true
}

// ChooseContainer gives the first selector that chooses a container.
func ChooseContainer(selectors []Selector, c *record.Container) (Selector, bool) {
	for _, s := range selectors {
		if s.Container == nil || !s.Container.Chooses(c) {
			continue
		}
		s.Session = strings.NewReplacer("{namespace}", c.Namespace, "{pod}", c.Pod, "{container}", cmp.Or(c.PodPart, c.Name)).Replace(s.Session)
		if session := annotation(c, SessionAnnotation); session != "" {
			s.Session = session
		}
		return s, true
	}
	return Selector{}, false
}

func (s *ContainerSelector) validate() error {
	if len(s.Namespaces) > maxSelectors || len(s.Handlers) > maxSelectors || len(s.Containers) > maxSelectors || len(s.Labels) > record.MaxPairs || len(s.Annotations) > record.MaxPairs-2 { // less those that name session and call
		return errors.New("a list is too long")
	}
	for _, glob := range s.Containers {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("container %q: %w", glob, err)
		}
	}
	return nil
}

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
