// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"container/list"
	"strings"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// A Container is a container that directories of sandboxes are, or lie in. Its finished spans wait for what the
// runtime says of it, until the hold of its first directory is over.
type Container struct {
	attribution.Container
	root string // path of its topmost directory
	dirs int    // known directories

	candidate *candidate       // not nil: it is not known whether it is a sandbox
	chosen    *config.Selector // by which it is one; nil: a directory in or above it is selected

	deadline uint64        // boottime, while waiting
	waits    *list.Element // in knownContainers.Pending, while waiting
}

// view is what attribution knows of the container; nil of none.
func (b *Container) view() *attribution.Container {
	if b == nil {
		return nil
	}
	return &b.Container
}

// knownContainers are the containers by id.
type knownContainers struct {
	known   map[string]*Container
	Pending list.List // of *Container, by deadline
}

// enter finds the container that a new directory is or lies in; nil: in none.
func (c *Containers) enter(path string) *Container {
	if !c.config.Containers {
		return nil
	}
	ref, ok := container.FromCgroup(path)
	if !ok {
		return nil
	}
	b := c.Containers.known[ref.ID]
	switch {
	case b == nil && len(c.Containers.known) >= c.config.MaxCgroups:
		return &Container{Container: attribution.Container{ID: ref.ID, State: attribution.ContainerUnresolved}}
	case b == nil || b.dirs == 0 && b.candidate == nil && b.root != ref.Root:
		if b != nil && b.waits != nil {
			c.GiveUp(b)
		}
		b = &Container{Container: attribution.Container{ID: ref.ID}, root: ref.Root, deadline: c.clock.Tick + uint64(c.config.Hold)}
		c.Containers.known[ref.ID] = b
		b.waits = c.Containers.Pending.PushBack(b)
	case b.root != ref.Root:
		// A container has one directory. This one was given the name by somebody in a sandbox.
		return &Container{Container: attribution.Container{ID: ref.ID, State: attribution.ContainerUnresolved}}
	}
	b.dirs++
	return b
}

// leave forgets a container whose directories are gone, unless spans still wait for the word about it.
func (c *Containers) leave(b *Container) {
	if b == nil || c.Containers.known[b.ID] != b {
		return
	}
	b.dirs--
	c.forget(b)
}

func (c *Containers) forget(b *Container) {
	if b.dirs == 0 && b.waits == nil && b.candidate == nil && c.Containers.known[b.ID] == b {
		delete(c.Containers.known, b.ID)
	}
}

// Reported takes the runtime's word. It may come again: labels change, and a runtime may answer late.
func (c *Containers) Reported(r *record.Container) {
	b := c.Containers.known[r.ID]
	if b == nil {
		return
	}
	for _, t := range []*string{&r.ID, &r.Runtime, &r.Name, &r.Image, &r.Tag, &r.Pod, &r.PodUID, &r.Namespace, &r.PodPart, &r.Handler} {
		*t = strings.ToValidUTF8(*t, "\uFFFD")
	}
	b.Info, b.State = *r, attribution.ContainerKnown
	c.Above.ContainerChanged(&b.Container)
	if b.candidate != nil {
		c.decide(b)
		return
	}
	c.stopWaiting(b)
	if b.chosen != nil {
		c.changed(b)
	}
}

// stopWaiting sends what waited.
func (c *Containers) stopWaiting(b *Container) {
	if b.waits == nil {
		return
	}
	c.Containers.Pending.Remove(b.waits)
	b.waits = nil
	c.Above.Release(&b.Container)
	c.forget(b)
}

// GiveUp ends the wait for a container without a word.
func (c *Containers) GiveUp(b *Container) {
	b.State = attribution.ContainerUnresolved
	c.stats.UnresolvedContainers++
	c.stopWaiting(b)
}

func (c *Containers) expire() {
	for e := c.Containers.Pending.Front(); e != nil && e.Value.(*Container).deadline <= c.clock.Tick; e = c.Containers.Pending.Front() {
		c.GiveUp(e.Value.(*Container))
	}
}

// GiveUpAll ends every wait for what runtimes report.
func (c *Containers) GiveUpAll() {
	for e := c.Containers.Pending.Front(); e != nil; e = c.Containers.Pending.Front() {
		c.GiveUp(e.Value.(*Container))
	}
}
