// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"slices"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/span"
)

// waitingSpan is a finished span and the agent whose resource it will have.
type waitingSpan struct {
	span  span.Span
	agent string
}

// containerPending is what is kept of a container.
type containerPending struct {
	spans     []waitingSpan // finished, and waiting
	resources map[string]*span.Resource
}

func containerOf(b *attribution.Container) *containerPending {
	if b.Pending == nil {
		b.Pending = &containerPending{}
	}
	return b.Pending.(*containerPending)
}

// ContainerChanged forgets the resources that were made of what the runtime said before.
func (c *Spans) ContainerChanged(b *attribution.Container) { containerOf(b).resources = nil }

// Release sends the spans that waited for a container.
func (c *Spans) Release(b *attribution.Container) {
	pending := containerOf(b)
	for n := range pending.spans {
		s := &pending.spans[n]
		c.out.waiting.spans--
		c.out.waiting.bytes -= size(&s.span)
		c.out.emit(&s.span, s.agent, b)
	}
	pending.spans = nil
}

// await keeps a finished span until its container is known. When too much waits, the oldest container's spans go out
// early: with less known, but not lost.
func (c *out) await(s *span.Span, agent string, b *attribution.Container) {
	n := size(s)
	for c.waiting.spans >= c.spans.config.MaxPending || c.waiting.bytes+n > MaxHeldBytes {
		oldest := c.spans.containers.Containers.Pending.Front().Value.(*lineage.Container)
		c.spans.stats.EarlySpans += uint64(len(containerOf(&oldest.Container).spans))
		c.spans.containers.GiveUp(oldest)
		if &oldest.Container == b {
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
	pending := containerOf(b)
	pending.spans = append(pending.spans, waitingSpan{kept, agent})
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
func (c *out) emit(s *span.Span, agent string, b *attribution.Container) {
	s.Resource = c.resource(agent)
	if b != nil {
		if b.State == attribution.ContainerKnown {
			s.Resource = c.boxResource(b, agent)
		} else {
			s.Attrs = append(s.Attrs, span.Attr{Key: span.KeyContainerUnresolved, Kind: span.BoolAttr, Int: 1})
		}
	}
	c.spans.stats.Spans++
	s.Attrs[seqAt].Int = int64(c.spans.stats.Spans)
	c.sink.Span(s)
}

// boxResource is shared by all spans of one agent in one container.
func (c *out) boxResource(b *attribution.Container, agent string) *span.Resource {
	pending := containerOf(b)
	if r := pending.resources[agent]; r != nil {
		return r
	}
	r := &span.Resource{Attrs: slices.Clone(c.resource(agent).Attrs)}
	i := &b.Info
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
	if pending.resources == nil {
		pending.resources = make(map[string]*span.Resource)
	}
	pending.resources[agent] = r
	return r
}

// maxResources bounds the names of agents that markers bring in.
const maxResources = 1024

// resource is shared by all that is of one agent; agents come from selectors and dialects, which are few,
// and from markers.
func (c *out) resource(agent string) *span.Resource {
	if r := c.resources[agent]; r != nil {
		return r
	}
	r := &span.Resource{}
	named := false
	for _, a := range c.spans.config.Resource {
		named = named || a.Key == span.KeyServiceName
	}
	if !named {
		service := agent
		if service == "" {
			service = "sandbox"
		}
		r.Attrs = append(r.Attrs, span.Attr{Key: span.KeyServiceName, Kind: span.StringAttr, Str: service})
	}
	r.Attrs = append(r.Attrs, c.spans.config.Resource...)
	c.resources[agent] = r
	return r
}
