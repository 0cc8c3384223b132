// SPDX-License-Identifier: Apache-2.0

package collector

import "github.com/sheetbend/sheetbend/collector/span"

// spansStats counts what package spans did.
type spansStats struct {
	Spans      uint64 // handed to the sink; also the last sheetbend.seq
	EarlySpans uint64 // sent before their hold ended, because MaxPending waited
	KernelLost uint64 // records lost before they reached the collector, as told by Loss records
}

// spans makes the spans.
type spans struct {
	config      *Config
	stats       spansStats
	clock       *clock
	losses      *losses
	slicer      *slicer
	attribution *attribution
	lineage     *lineage
	containers  *containers

	sink      span.Sink
	noise     patterns
	sensitive patterns
	resources map[string]*span.Resource
	waiting   struct{ spans, bytes int } // for their containers

	held     holdQueue
	opens    map[openKey]*openSpan
	freeOpen []*openSpan
	acts     map[actKey]*actSpan
	connects map[uint64]*connectSpan // by socket cookie

	draft draft
	path  []byte // scratch
	text  []byte // scratch
}

func newSpans(l *lineage, sink span.Sink, noise, sensitive patterns) *spans {
	return &spans{
		config: l.config, clock: l.clock, losses: l.losses, slicer: l.attribution.slicer,
		attribution: l.attribution, lineage: l, containers: l.containers,
		sink: sink, noise: noise, sensitive: sensitive,
		resources: make(map[string]*span.Resource),
		opens:     make(map[openKey]*openSpan),
		acts:      make(map[actKey]*actSpan),
		connects:  make(map[uint64]*connectSpan),
	}
}

func (c *spans) callBegan(k *call) {
	s := &callSpan{call: k}
	c.hold(&s.held, s, len(k.id))
	k.waiting = true
}

func (c *spans) connecting(cookie uint64) bool { return c.connects[cookie] != nil }

func (c *spans) mayName(agent string) bool {
	return len(c.resources) < maxResources || c.resources[agent] != nil
}

// flushMarked sends what is counted, so that those of two calls do not become one.
func (c *spans) flushMarked(m *mark) {
	switch {
	case m.process != nil:
		c.flush(c.lineage.processes[m.process.tgid])
	case m.group != nil:
		for _, p := range c.lineage.inside(c.lineage.groups[m.group.id]) {
			c.flush(p)
		}
	}
}
