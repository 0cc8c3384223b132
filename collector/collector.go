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

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/collector/spans"
)

// Collector holds the process trees of all sandboxes. It is not safe for concurrent
// use: all methods are called from one goroutine, and the sink is called on it.
type Collector struct {
	config *config.Config
	clock  *attribution.Clock
	event  record.Event // the record at hand
	closed bool

	records, malformed uint64

	slicer      *attribution.Slicer
	attribution *attribution.Table
	telemetry   *attribution.Telemetry
	losses      *lineage.Losses
	lineage     *lineage.Tree
	containers  *lineage.Containers
	spans       *spans.Spans
}

// Stats counts what the collector did and holds. What it lost is also told by sensor.loss spans.
type Stats struct {
	Records   uint64 // taken, malformed ones included
	Malformed uint64 // records that could not be decoded
	AttributionStats
	LineageStats
	SpansStats
}

// The counters of the rooms.
type (
	// AttributionStats counts calls, marks and telemetry.
	AttributionStats = attribution.Stats
	// LineageStats counts processes, cgroups, containers and losses.
	LineageStats = lineage.Stats
	// SpansStats counts spans.
	SpansStats = spans.Stats
)

// New makes a collector that sends its spans to sink. The error tells what is wrong with the configuration.
func New(conf config.Config, sink span.Sink) (*Collector, error) {
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	conf = conf.WithDefaults()
	noise, err := config.CompilePatterns(conf.Noise)
	if err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	sensitive, err := config.CompilePatterns(conf.Sensitive)
	if err != nil {
		return nil, fmt.Errorf("sensitive: %w", err)
	}
	c := &Collector{config: &conf, clock: &attribution.Clock{}}
	c.slicer = attribution.NewSlicer(c.config)
	c.attribution = attribution.New(c.config, c.clock, c.slicer)
	c.telemetry = c.attribution.Telemetry
	c.lineage = lineage.New(c.config, c.clock, c.attribution)
	c.losses, c.containers = c.lineage.Losses, c.lineage.Containers
	c.containers.Replay = func(raw []byte) {
		if c.event.Decode(raw) == nil {
			c.apply()
		}
	}
	c.spans = spans.New(c.lineage, sink, noise, sensitive)
	return c, nil
}

// ErrRefused says that a mark, or a sender of telemetry, may not do what it asks for, or names a call that is not
// known.
var ErrRefused = errors.New("refused: not allowed, or of no call that is known")

// Record takes the next record of the stream; raw is not kept. An error is ErrRefused, or wraps
// record.ErrMalformed: the record was skipped. Either is counted, and the stream may go on.
func (c *Collector) Record(raw []byte) error {
	c.records++
	c.attribution.Refused = false
	defer c.attribution.Advance()
	e := &c.event
	if err := e.Decode(raw); err != nil {
		c.malformed++
		c.losses.Lose(e.Header.Type, record.CauseMalformed, nil)
		return err
	}
	c.clock.Now = max(c.clock.Now, e.Header.Time)
	if !c.containers.Keeps(e, raw) {
		c.apply()
	}
	if c.attribution.Refused {
		return ErrRefused
	}
	return nil
}

// apply does what the record at hand says.
func (c *Collector) apply() {
	e := &c.event
	h := &e.Header
	c.clock.At = h.Time
	switch h.Type {
	case record.TypeFork:
		c.lineage.Fork(h, &e.Fork)
	case record.TypeExec:
		c.lineage.Exec(h, &e.Exec)
	case record.TypeExecArgs:
		c.lineage.ExecArgs(h, &e.ExecArgs)
	case record.TypeExit:
		c.lineage.Exit(h, &e.Exit)
	case record.TypeOpen:
		c.spans.Open(h, &e.Open)
	case record.TypeConnect:
		c.spans.Connect(h, &e.Connect)
	case record.TypeConnectEnd:
		c.spans.ConnectEnd(h, &e.ConnectEnd)
	case record.TypeUnix:
		c.spans.UnixConnect(h, &e.Unix)
	case record.TypeCgroupMkdir, record.TypeCgroup:
		c.lineage.CgroupMade(h, &e.Cgroup)
	case record.TypeCgroupRmdir:
		c.lineage.CgroupRemoved(h, &e.Cgroup)
	case record.TypeCgroupAttach:
		c.lineage.Attach(h, &e.Attach)
	case record.TypeProcess:
		c.lineage.Existing(h, &e.Process)
	case record.TypeSocket:
		c.spans.Socket(h, &e.Socket)
	case record.TypeNamespace:
		c.spans.Namespace(h, &e.Namespace)
	case record.TypeAccess:
		c.spans.Access(h, &e.Access)
	case record.TypeChange:
		c.spans.Change(h, &e.Change)
	case record.TypeListen:
		c.spans.Listen(h, &e.Listen)
	case record.TypeAccept:
		c.spans.Accept(h, &e.Accept)
	case record.TypeClose:
		c.spans.CloseSocket(h, &e.Close)
	case record.TypePacket:
		c.spans.Packet(h, &e.Packet)
	case record.TypeExecFailed:
		c.spans.ExecFailed(h, &e.ExecFailed)
	case record.TypeOOM:
		c.spans.OutOfMemory(h, &e.OOM)
	case record.TypeLimit:
		c.spans.Limit(h, &e.Limit)
	case record.TypeCmdline:
		c.lineage.Cmdline(h, &e.Cmdline)
	case record.TypeMark:
		c.attribution.Marks.Mark(h, &e.Mark)
	case record.TypeSaid:
		c.telemetry.Event(h, &e.Said)
	case record.TypeContainer:
		c.containers.Reported(&e.Container)
	case record.TypeWatch:
		c.watch(&e.Watch)
	case record.TypeClock:
		c.clock.Offset = uint64(e.Clock.Wall) - h.Time
		if c.clock.Tick == 0 {
			c.clock.Tick = h.Time
		}
	case record.TypeTick:
		c.clock.Tick = max(c.clock.Tick, h.Time)
		c.spans.Expire()
		c.lineage.Expire()
		c.attribution.Expire()
		c.spans.SendLosses()
		c.spans.FlushSink()
	case record.TypeLoss:
		c.spans.Loss(h, &e.Loss)
	default: // has no handler
		c.losses.Lose(h.Type, record.CauseMalformed, nil)
	}
}

// watch begins or ends what a user asked for.
func (c *Collector) watch(r *record.Watch) {
	switch {
	case r.Op == record.WatchBegin:
		c.attribution.Refused = !c.lineage.Watch(r)
	case r.Op == record.WatchEnd:
		c.spans.Settle(span.SandboxID(c.config.BootID, r.Cgroup), c.lineage.Watched(r.Cgroup))
		c.spans.FlushSink()
	}
}

// Close sends everything that is still held, as far as it is known, and flushes the
// sink. Further calls do nothing.
func (c *Collector) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.sendHeld() // it counts for the calls and sandboxes
	c.spans.SendOpenCalls()
	c.spans.SendOpenAgents()
	c.spans.SendSandboxes()
	c.drain()
}

// drain sends everything that is still held, as far as it is known, and flushes the sink.
func (c *Collector) drain() {
	c.sendHeld()
	c.containers.GiveUpAll()
	c.spans.FlushSink()
}

func (c *Collector) sendHeld() {
	c.clock.Tick = max(c.clock.Tick, c.clock.Now)
	c.containers.LoseCandidates()
	c.spans.SendHeld()
	c.spans.SendLosses()
}

// Stats gives the counters as they are now.
func (c *Collector) Stats() Stats {
	return Stats{c.records, c.malformed, c.attribution.Stats(), c.lineage.Stats(), c.spans.Stats()}
}

// Lineage gives the processes, cgroups and containers that are known. It is read where Record is called: between two
// records, or by the sink; only Started is for any goroutine.
func (c *Collector) Lineage() *lineage.Tree { return c.lineage }

// Restart gives what a collector that takes up the work of another process has to be told.
func (c *Collector) Restart() Restart { return Restart{c} }
