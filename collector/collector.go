// SPDX-License-Identifier: Apache-2.0

// Package collector turns the record stream of package record into the spans of the
// span contract (docs/spans.md).
//
// It is deterministic: it has no clock, no randomness and no kernel, and nothing depends on the
// order of a map; the same configuration and records give the same spans. Time passes only by
// Tick records.
package collector

import (
	"errors"
	"fmt"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Collector holds the process trees of all sandboxes. It is not safe for concurrent
// use: all methods are called from one goroutine, and the sink is called on it.
type Collector struct {
	config *Config
	stats  *Stats
	clock  *clock
	event  record.Event // the record at hand
	closed bool

	slicer      *slicer
	attribution *attribution
	telemetry   *telemetry
	losses      *losses
	lineage     *lineage
	containers  *containers
	spans       *spans
}

// Stats counts what the collector did and holds. What it lost is also told by sensor.loss spans.
type Stats struct {
	Records   uint64 // taken, malformed ones included
	Malformed uint64 // records that could not be decoded
	Lost      uint64 // KernelLost, and what the collector lost itself
	attributionStats
	lineageStats
	spansStats

	// Live state.
	EndedCalls   int // kept for what comes late
	WaitingFacts int
	WaitingSpans int // finished, for their container
	Containers   int
	Processes    int
	Held         int
	Cgroups      int
	Sandboxes    int
}

// New makes a collector that sends its spans to sink. The error tells what is wrong with the configuration.
func New(config Config, sink span.Sink) (*Collector, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.WithDefaults()
	noise, err := compilePatterns(config.Noise)
	if err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	sensitive, err := compilePatterns(config.Sensitive)
	if err != nil {
		return nil, fmt.Errorf("sensitive: %w", err)
	}
	c := &Collector{config: &config, stats: &Stats{}, clock: &clock{}}
	c.slicer = &slicer{config: c.config, clock: c.clock}
	c.attribution = newAttribution(c.config, c.clock, c.slicer)
	c.slicer.attribution = c.attribution
	c.telemetry = c.attribution.telemetry
	c.lineage = newLineage(c.config, c.clock, c.attribution)
	c.losses, c.containers = c.lineage.losses, c.lineage.containers
	c.containers.replay = func(raw []byte) {
		if c.event.Decode(raw) == nil {
			c.apply()
		}
	}
	c.spans = newSpans(c.lineage, sink, noise, sensitive)
	c.attribution.tree, c.attribution.above = c.lineage, c.spans
	c.lineage.above, c.containers.above = c.spans, c.spans
	return c, nil
}

// ErrRefused says that a mark, or a sender of telemetry, may not do what it asks for, or names a call that is not known.
var ErrRefused = errors.New("the collector refuses it")

// Record takes the next record of the stream; raw is not kept. An error is ErrRefused, or wraps
// record.ErrMalformed: the record was skipped. Either is counted, and the stream may go on.
func (c *Collector) Record(raw []byte) error {
	c.stats.Records++
	c.slicer.placed, c.slicer.begun, c.attribution.refused = 0, false, false
	e := &c.event
	if err := e.Decode(raw); err != nil {
		c.stats.Malformed++
		c.losses.lose(e.Header.Type, record.CauseMalformed, nil)
		return err
	}
	c.clock.now = max(c.clock.now, e.Header.Time)
	if !c.containers.undecided(e, raw) {
		c.apply()
	}
	if c.attribution.refused {
		return ErrRefused
	}
	return nil
}

// refuse counts what the record at hand asks for in vain.
func (c *attribution) refuse(counter *uint64) {
	c.refused = true
	*counter++
}

// apply does what the record at hand says.
func (c *Collector) apply() {
	e := &c.event
	h := &e.Header
	switch h.Type {
	case record.TypeFork:
		c.lineage.fork(h, &e.Fork)
	case record.TypeExec:
		c.lineage.exec(h, &e.Exec)
	case record.TypeExecArgs:
		c.lineage.arguments.add(h, &e.ExecArgs, c.config.MaxArgsBytes)
	case record.TypeExit:
		c.lineage.exit(h, &e.Exit)
	case record.TypeOpen:
		c.spans.open(h, &e.Open)
	case record.TypeConnect:
		c.spans.connect(h, &e.Connect)
	case record.TypeConnectEnd:
		c.spans.connectEnd(h, &e.ConnectEnd)
	case record.TypeUnix:
		c.spans.unixConnect(h, &e.Unix)
	case record.TypeCgroupMkdir, record.TypeCgroup:
		c.lineage.cgroupMade(h, &e.Cgroup)
	case record.TypeCgroupRmdir:
		c.lineage.cgroupRemoved(h, &e.Cgroup)
	case record.TypeCgroupAttach:
		c.lineage.attach(h, &e.Attach)
	case record.TypeProcess:
		c.lineage.existing(h, &e.Process)
	case record.TypeSocket:
		c.spans.socket(h, &e.Socket)
	case record.TypeNamespace:
		c.spans.namespace(h, &e.Namespace)
	case record.TypeAccess:
		c.spans.access(h, &e.Access)
	case record.TypeCmdline:
		c.lineage.cmdline(h, &e.Cmdline)
	case record.TypeMark:
		c.attribution.mark(h, &e.Mark)
	case record.TypeSaid:
		c.telemetry.said(h, &e.Said)
	case record.TypeContainer:
		c.containers.told(&e.Container)
	case record.TypeClock:
		c.clock.offset = uint64(e.Clock.Wall) - h.Time
		if c.clock.tick == 0 {
			c.clock.tick = h.Time
		}
	case record.TypeTick:
		c.clock.tick = max(c.clock.tick, h.Time)
		c.spans.expire()
		c.containers.expireBoxes()
		c.containers.expireCandidates()
		c.attribution.expireCalls()
		c.telemetry.expireFacts()
		c.lineage.gone.expire(c.clock.tick)
		c.lineage.over.expire(c.clock.tick)
		c.spans.tellOwnLosses()
		c.spans.sink.Flush()
	case record.TypeLoss:
		c.spans.loss(h, &e.Loss)
	}
}

// Close sends everything that is still held, as far as it is known, and flushes the
// sink. Further calls do nothing.
func (c *Collector) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.Drain()
}

// Drain sends everything that is still held, as far as it is known, and flushes the sink.
func (c *Collector) Drain() {
	c.slicer.placed = 0
	c.clock.tick = max(c.clock.tick, c.clock.now)
	for e := c.containers.candidates.order.Front(); e != nil; e = c.containers.candidates.order.Front() {
		c.containers.loseCandidate(e.Value.(*box))
	}
	for c.spans.held.oldest != nil {
		c.spans.runOut(c.spans.held.oldest)
	}
	c.spans.tellOwnLosses()
	for e := c.containers.boxes.pending.Front(); e != nil; e = c.containers.boxes.pending.Front() {
		c.containers.giveUp(e.Value.(*box))
	}
	c.spans.sink.Flush()
}

// Stats gives the counters as they are now.
func (c *Collector) Stats() Stats {
	s := *c.stats
	s.attributionStats, s.lineageStats, s.spansStats = c.attribution.stats, c.lineage.stats, c.spans.stats
	s.Lost = c.losses.counts.total
	s.Processes = len(c.lineage.processes)
	s.Held = c.spans.held.count
	s.Cgroups = len(c.lineage.groups)
	s.Sandboxes = c.lineage.sandboxes.Len()
	s.EndedCalls = c.attribution.endedCalls.Len()
	s.WaitingFacts = c.telemetry.facts.order.Len()
	s.WaitingSpans = c.spans.waiting.spans
	s.Containers = len(c.containers.boxes.known)
	return s
}
