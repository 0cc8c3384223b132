// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// A box is a container that directories of sandboxes are, or lie in. Its finished spans wait for what the
// runtime says of it, until the hold of its first directory is over.
type box struct {
	aBox
	root string // path of its topmost directory
	dirs int    // known directories

	candidate *candidate // not nil: it is not known whether it is a sandbox
	chosen    *Selector  // by which it is one; nil: a directory in or above it is selected

	deadline uint64        // boottime, while waiting
	waits    *list.Element // in boxes.pending, while waiting
}

// view is what attribution knows of the container; nil of none.
func (b *box) view() *aBox {
	if b == nil {
		return nil
	}
	return &b.aBox
}

// boxes are the containers by id.
type boxes struct {
	known   map[string]*box
	pending list.List // of *box, by deadline
}

// enter finds the container that a new directory is or lies in; nil: in none.
func (c *containers) enter(path string) *box {
	if !c.config.Containers {
		return nil
	}
	ref, ok := container.FromCgroup(path)
	if !ok {
		return nil
	}
	b := c.boxes.known[ref.ID]
	switch {
	case b == nil && len(c.boxes.known) >= c.config.MaxCgroups:
		return &box{aBox: aBox{id: ref.ID, state: boxUnresolved}}
	case b == nil || b.dirs == 0 && b.candidate == nil && b.root != ref.Root:
		if b != nil && b.waits != nil {
			c.giveUp(b)
		}
		b = &box{aBox: aBox{id: ref.ID}, root: ref.Root, deadline: c.clock.tick + uint64(c.config.Hold)}
		c.boxes.known[ref.ID] = b
		b.waits = c.boxes.pending.PushBack(b)
	case b.root != ref.Root:
		// A container has one directory. This one was given the name by somebody in a sandbox.
		return &box{aBox: aBox{id: ref.ID, state: boxUnresolved}}
	}
	b.dirs++
	return b
}

// leaveBox forgets a container whose directories are gone, unless spans still wait for the word about it.
func (c *containers) leaveBox(b *box) {
	if b == nil || c.boxes.known[b.id] != b {
		return
	}
	b.dirs--
	c.forgetBox(b)
}

func (c *containers) forgetBox(b *box) {
	if b.dirs == 0 && b.waits == nil && b.candidate == nil && c.boxes.known[b.id] == b {
		delete(c.boxes.known, b.id)
	}
}

// told takes the runtime's word. It may come again: labels change, and a runtime may answer late.
func (c *containers) told(r *record.Container) {
	b := c.boxes.known[r.ID]
	if b == nil {
		return
	}
	for _, t := range []*string{&r.ID, &r.Runtime, &r.Name, &r.Image, &r.Tag, &r.Pod, &r.PodUID, &r.Namespace, &r.PodPart, &r.Handler} {
		*t = strings.ToValidUTF8(*t, "\uFFFD")
	}
	b.info, b.state = *r, boxKnown
	c.above.containerChanged(&b.aBox)
	if b.candidate != nil {
		c.decide(b)
		return
	}
	c.unwait(b)
	if b.chosen != nil {
		c.retold(b)
	}
}

// unwait sends what waited.
func (c *containers) unwait(b *box) {
	if b.waits == nil {
		return
	}
	c.boxes.pending.Remove(b.waits)
	b.waits = nil
	c.above.release(&b.aBox)
	c.forgetBox(b)
}

// giveUp ends the wait for a container without a word.
func (c *containers) giveUp(b *box) {
	b.state = boxUnresolved
	c.stats.UnresolvedContainers++
	c.unwait(b)
}

func (c *containers) expireBoxes() {
	for e := c.boxes.pending.Front(); e != nil && e.Value.(*box).deadline <= c.clock.tick; e = c.boxes.pending.Front() {
		c.giveUp(e.Value.(*box))
	}
}
