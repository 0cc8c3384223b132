// SPDX-License-Identifier: Apache-2.0

// Package spans makes the spans of the span contract (docs/spans.md) out of records whose owner is known: it holds them
// until their end is known, counts repeats, folds, masks and names. It is deterministic and used by one goroutine.
package spans

import (
	"container/list"
	"hash/maphash"
	"net/netip"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/effect"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Stats counts what package spans did.
type Stats struct {
	Spans      uint64 // handed to the sink; also the last sheetbend.seq
	EarlySpans uint64 // sent before their hold ended, because MaxPending waited
	KernelLost uint64 // records lost before they reached the collector, as Loss records report

	BadLookups     uint64 // packets of lookups that could not be read
	UnaskedAnswers uint64 // answers to what was not asked there and then: not believed

	// Live state.
	Held, HeldBytes            int // spans that wait for their end; of their strings
	Running                    int // of these: of what goes on, and has had its notice
	Opens, Connects, Repeats   int // of these: of files, of connections, and others that count repeats
	WaitingSpans, WaitingBytes int // finished, for their container
	ChangedNames               int // kept until it is told what was changed
	Destinations               int // the same, to where was connected
	Connections                int // established ones whose begin is known
	Names                      int // entries for addresses whose names are known
}

// Spans makes spans of records and of what the rooms below know. It is used by one goroutine.
type Spans struct {
	config      *config.Config
	stats       Stats
	clock       *attribution.Clock
	losses      *lineage.Losses
	slicer      *attribution.Slicer
	attribution *attribution.Table
	lineage     *lineage.Tree
	containers  *lineage.Containers

	out       out
	queue     queue
	files     files
	lossSpans lossSpans
	effects   effects
	accounts  accounts

	sensitive config.Patterns
	outside   outsideOf
	counted   map[countedKey]*countedSpan
	changes   int // held changeSpans
	connects  map[connectKey]*connectSpan
	lookups   map[lookupKey]*lookup
	streams   bounded[streamKey, *stream]
	hosts     map[netip.Addr][]string // the host's file
	open      list.List               // of *callStory, of calls that have not ended
	agents    list.List               // of *agentStory, of agents that are not over

	connections bounded[uint64, *connection] // that are established, by cookie
	closed      bounded[uint64, bool]        // incoming ones of which the end came first

	resumed uint64 // boottime: of programs that began before, counts may be too small
	text    []byte // scratch

	names, claimedNames bounded[knownKey, []string]
}

// out makes the span at hand and hands it to the sink.
type out struct {
	spans     *Spans
	sink      span.Sink
	builder   builder
	resources map[string]*span.Resource  // by the agent's name
	waiting   struct{ spans, bytes int } // for their containers
}

// files makes the file.open spans.
type files struct {
	spans *Spans
	noise config.Patterns
	opens map[openKey]*openSpan
	free  []*openSpan // for the next ones
}

// lossSpans makes the sensor.loss spans.
type lossSpans struct{ spans *Spans }

// New makes Spans over a tree and its attribution, which call it from now on. The sink is called by whoever calls
// Spans.
func New(l *lineage.Tree, sink span.Sink, noise, sensitive config.Patterns) *Spans {
	c := &Spans{
		config: l.Config, clock: l.Clock, losses: l.Losses, slicer: l.Attribution.Slicer,
		attribution: l.Attribution, lineage: l, containers: l.Containers,
		sensitive: sensitive, outside: newOutside(l.Config),
		counted:  make(map[countedKey]*countedSpan),
		connects: make(map[connectKey]*connectSpan),
		lookups:  make(map[lookupKey]*lookup),
		streams:  newBounded[streamKey, *stream](maxStreams, maxStreamsTotal),
		hosts:    hostsOf(l.Config.Hosts),

		connections:  newBounded[uint64, *connection](MaxConnections/8, MaxConnections),
		closed:       newBounded[uint64, bool](maxClosed/8, maxClosed),
		names:        newBounded[knownKey, []string](2*maxKnown, 2*maxKnownTotal),
		claimedNames: newBounded[knownKey, []string](2*maxKnown, 2*maxKnownTotal),
	}
	c.out = out{spans: c, sink: sink, resources: make(map[string]*span.Resource)}
	c.queue.spans, c.lossSpans.spans = c, c
	c.effects.spans, c.effects.total = c, effect.Total{Names: maxAllNames, Bytes: maxAllBytes}
	c.accounts.room, c.accounts.seed = room{left: maxAllHosts}, maphash.MakeSeed()
	c.files = files{spans: c, noise: noise, opens: make(map[openKey]*openSpan)}
	l.Above, l.Containers.Above, l.Attribution.Above = c, c, calls{c}
	return c
}

// Open takes an open of a file.
func (c *Spans) Open(h *record.Header, r *record.Open) { c.files.open(h, r) }

// Loss takes the word that records did not reach the collector.
func (c *Spans) Loss(h *record.Header, r *record.Loss) { c.lossSpans.loss(h, r) }

// Expire sends the spans whose hold is over.
func (c *Spans) Expire() { c.queue.expire() }

// SendHeld sends all spans that wait for their end.
func (c *Spans) SendHeld() { c.queue.drain() }

// SendLosses sends what the collector itself has lost since it was called last.
func (c *Spans) SendLosses() { c.lossSpans.own() }

// FlushSink has the sink send what it has.
func (c *Spans) FlushSink() { c.out.sink.Flush() }

// Stats gives the counters as they are now.
func (c *Spans) Stats() Stats {
	s := c.stats
	s.Held, s.HeldBytes, s.Running = c.queue.count, c.queue.bytes, c.queue.long.count+c.queue.open.count
	s.Opens, s.Connects, s.Repeats = len(c.files.opens), len(c.connects), len(c.counted)+c.changes
	s.Connections, s.Names = len(c.connections.by), len(c.names.by)+len(c.claimedNames.by)
	s.WaitingSpans, s.WaitingBytes = c.out.waiting.spans, c.out.waiting.bytes
	s.ChangedNames, s.Destinations = c.effects.total.Kept(), maxAllHosts-c.accounts.room.left
	return s
}

// Connecting says whether the outcome of a connect is awaited.
func (c *Spans) Connecting(cookie uint64) bool { return c.connects[connectKey{cookie: cookie}] != nil }
