// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// A box is a container that directories of sandboxes are, or lie in. Its finished spans wait for what the
// runtime says of it, until the hold of its first directory is over.
type box struct {
	id    string
	state boxState
	info  record.Container
	root  string // path of its topmost directory
	dirs  int    // known directories

	candidate *candidate // not nil: it is not known whether it is a sandbox
	chosen    *Selector  // by which it is one; nil: a directory in or above it is selected

	deadline  uint64        // boottime, while waiting
	pending   *list.Element // in boxes.pending, while waiting
	spans     []waitingSpan // finished, and waiting
	resources map[string]*span.Resource
}

// boxState says what is known of a container.
type boxState uint8

const (
	boxWaiting    boxState = iota // nothing yet
	boxKnown                      // the runtime has told
	boxUnresolved                 // nothing, and spans do not wait for it any more
)

// waitingSpan is a finished span and the agent whose resource it will have.
type waitingSpan struct {
	span  span.Span
	agent string
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
		return &box{id: ref.ID, state: boxUnresolved}
	case b == nil || b.dirs == 0 && b.candidate == nil && b.root != ref.Root:
		if b != nil && b.pending != nil {
			c.giveUp(b)
		}
		b = &box{id: ref.ID, root: ref.Root, deadline: c.clock.tick + uint64(c.config.Hold)}
		c.boxes.known[ref.ID] = b
		b.pending = c.boxes.pending.PushBack(b)
	case b.root != ref.Root:
		// A container has one directory. This one was given the name by somebody in a sandbox.
		return &box{id: ref.ID, state: boxUnresolved}
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
	if b.dirs == 0 && b.pending == nil && b.candidate == nil && c.boxes.known[b.id] == b {
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
	b.info, b.state, b.resources = *r, boxKnown, nil
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
	if b.pending == nil {
		return
	}
	c.boxes.pending.Remove(b.pending)
	b.pending = nil
	c.above.release(b)
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

// release sends the spans that waited for a container.
func (c *spans) release(b *box) {
	for n := range b.spans {
		s := &b.spans[n]
		c.waiting.spans--
		c.waiting.bytes -= size(&s.span)
		c.emit(&s.span, s.agent, b)
	}
	b.spans = nil
}

// await keeps a finished span until its container is known. When too much waits, the oldest container's spans go out
// early: with less known, but not lost.
func (c *spans) await(s *span.Span, agent string, b *box) {
	n := size(s)
	for c.waiting.spans >= c.config.MaxPending || c.waiting.bytes+n > maxHeldBytes {
		oldest := c.containers.boxes.pending.Front().Value.(*box)
		c.stats.EarlySpans += uint64(len(oldest.spans))
		c.containers.giveUp(oldest)
		if oldest == b {
			c.emit(s, agent, b)
			return
		}
	}
	kept := *s
	kept.Links = slices.Clone(s.Links)
	kept.Attrs = slices.Clone(s.Attrs)
	for i := range kept.Attrs {
		kept.Attrs[i].List = slices.Clone(kept.Attrs[i].List)
	}
	b.spans = append(b.spans, waitingSpan{kept, agent})
	c.waiting.spans++
	c.waiting.bytes += n
}

// size is about what a span keeps.
func size(s *span.Span) int {
	n := len(s.Name) + len(s.Status)
	for i := range s.Attrs {
		n += len(s.Attrs[i].Str)
		for _, text := range s.Attrs[i].List {
			n += len(text)
		}
	}
	return n
}

// emit hands a finished span to the sink, with the resource of its agent and container.
func (c *spans) emit(s *span.Span, agent string, b *box) {
	s.Resource = c.resource(agent)
	if b != nil {
		if b.state == boxKnown {
			s.Resource = c.boxResource(b, agent)
		} else {
			s.Attrs = append(s.Attrs, span.Attr{Key: span.KeyContainerUnresolved, Kind: span.BoolAttr, Int: 1})
		}
	}
	c.stats.Spans++
	s.Attrs[seqAt].Int = int64(c.stats.Spans)
	c.sink.Span(s)
}

// boxResource is shared by all spans of one agent in one container.
func (c *spans) boxResource(b *box, agent string) *span.Resource {
	if r := b.resources[agent]; r != nil {
		return r
	}
	r := &span.Resource{Attrs: slices.Clone(c.resource(agent).Attrs)}
	i := &b.info
	for _, a := range []struct{ key, value string }{
		{span.KeyContainerID, i.ID},
		{span.KeyContainerName, i.Name},
		{span.KeyContainerImage, i.Image},
		{span.KeyContainerRuntime, i.Runtime},
		{span.KeyPodName, i.Pod},
		{span.KeyPodUID, i.PodUID},
		{span.KeyNamespace, i.Namespace},
		{span.KeyPodContainer, i.PodPart},
	} {
		if a.value != "" {
			r.Attrs = append(r.Attrs, span.Attr{Key: a.key, Kind: span.StringAttr, Str: a.value})
		}
	}
	if i.Tag != "" {
		r.Attrs = append(r.Attrs, span.Attr{Key: span.KeyContainerTags, Kind: span.StringsAttr, List: []string{i.Tag}})
	}
	if b.resources == nil {
		b.resources = make(map[string]*span.Resource)
	}
	b.resources[agent] = r
	return r
}
