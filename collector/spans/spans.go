// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/span"
)

// SpansStats counts what package spans did.
type SpansStats struct {
	Spans      uint64 // handed to the sink; also the last sheetbend.seq
	EarlySpans uint64 // sent before their hold ended, because MaxPending waited
	KernelLost uint64 // records lost before they reached the collector, as told by Loss records
}

// Spans makes the spans.
type Spans struct {
	config      *config.Config
	Stats       SpansStats
	clock       *attribution.Clock
	losses      *lineage.Losses
	slicer      *attribution.Slicer
	attribution *attribution.Table
	lineage     *lineage.Tree
	containers  *lineage.Containers

	Sink      span.Sink
	noise     config.Patterns
	sensitive config.Patterns
	resources map[string]*span.Resource
	Waiting   struct{ Spans, Bytes int } // for their containers

	Held     holdQueue
	Opens    map[openKey]*openSpan
	freeOpen []*openSpan
	Counted  map[countedKey]*countedSpan
	Connects map[uint64]*connectSpan // by socket cookie

	builder builder
	path    []byte // scratch
	text    []byte // scratch
}

func NewSpans(l *lineage.Tree, sink span.Sink, noise, sensitive config.Patterns) *Spans {
	return &Spans{
		config: l.Config, clock: l.Clock, losses: l.Losses, slicer: l.Attribution.Slicer,
		attribution: l.Attribution, lineage: l, containers: l.Containers,
		Sink: sink, noise: noise, sensitive: sensitive,
		resources: make(map[string]*span.Resource),
		Opens:     make(map[openKey]*openSpan),
		Counted:   make(map[countedKey]*countedSpan),
		Connects:  make(map[uint64]*connectSpan),
	}
}

func (c *Spans) CallBegan(k *attribution.Call) {
	s := &callSpan{call: k}
	c.hold(&s.held, s, len(k.Id))
	k.Waiting = true
}

func (c *Spans) Connecting(cookie uint64) bool { return c.Connects[cookie] != nil }

func (c *Spans) MayName(agent string) bool {
	return len(c.resources) < maxResources || c.resources[agent] != nil
}

// FlushMarked sends what is counted, so that those of two calls do not become one.
func (c *Spans) FlushMarked(m *attribution.Mark) {
	switch {
	case m.Process != nil:
		c.Flush(c.lineage.Processes[m.Process.Tgid])
	case m.Group != nil:
		for _, p := range c.lineage.Inside(c.lineage.Cgroups[m.Group.Id]) {
			c.Flush(p)
		}
	}
}
