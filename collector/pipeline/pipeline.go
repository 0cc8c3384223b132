// SPDX-License-Identifier: Apache-2.0

// Package pipeline is the way of a record from the kernel to its spans: a [live.Feed] reads it, the journal and a
// capture get it, the collector makes spans of it, and the sinks get these.
package pipeline

import (
	"context"
	"log/slog"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Options configure a Pipeline. Config, Source, Hierarchy and Log are needed.
type Options struct {
	Config    collector.Config
	Source    live.Source
	Hierarchy live.Hierarchy
	Globs     cgroup.Globs // of the sandboxes
	// Finds says that the kernel side looks for agents outside of the sandboxes' cgroups, too.
	Finds bool

	// Views get every span, Outputs none of before the last moment up to which an earlier process had delivered all.
	// With neither, records are only captured.
	Views, Outputs []span.Sink
	// Journal is what a later process resumes from; nil: there is none. Pipeline.Close closes it.
	Journal *journal.Journal
	// Delivered says how many of the first n spans that Outputs got a kill of this process does not reach. Needed with
	// Journal.
	Delivered func(n uint64) uint64
	Capture   live.Sink // optional

	Seen   func(time uint64, cgroup string) // as in live.Options
	Except string                           // as in live.Options
	Asked  func(cgroup string) bool         // as in live.Options
	Log    *slog.Logger
}

// A Pipeline is used by one goroutine: Start, Run, Finish, Close. What of it others may call says so.
type Pipeline struct {
	Feed      *live.Feed
	Collector *collector.Collector // nil: records are only captured
	Stats     *Stats               // the same

	processes *processList
	journal   *live.Journal // nil: there is none
	started   bool
}

// New makes a Pipeline; nothing is read before Start. The error is one of the configuration.
func New(o Options) (*Pipeline, error) {
	p := &Pipeline{}
	feed := live.Options{
		Source: o.Source, Collector: discard{}, Capture: o.Capture, Hierarchy: o.Hierarchy, Globs: o.Globs,
		Seen: o.Seen, Except: o.Except, Asked: o.Asked, Log: o.Log,
	}
	filter := &resumeFilter{to: o.Outputs, delivered: o.Delivered}
	p.processes = &processList{asked: make(chan chan<- []collector.Running)}
	decides, err := collector.New(o.Config, append(Sinks{filter, p.processes}, o.Views...))
	if err != nil {
		return nil, err
	}
	if len(o.Views)+len(o.Outputs) > 0 {
		p.Collector, p.Stats, p.processes.collector = decides, &Stats{to: decides}, decides
		feed.Collector = p.Stats
	} else if o.Finds {
		feed.Collector = decides // which programs are agents it has to know for a capture, too
	}
	if o.Finds {
		feed.Knows = decides.Lineage().Knows
	}
	for _, s := range o.Config.Sandboxes {
		feed.Containers = feed.Containers || s.Container != nil
	}
	if o.Config.Containers {
		feed.Chosen = p.chooses(o.Config.Sandboxes)
	}
	if o.Journal != nil {
		p.journal = &live.Journal{
			File: o.Journal, Collector: p.Collector, Hold: o.Config.Hold, CallsFor: o.Config.CallRetention,
			Outputs: filter,
		}
	}
	feed.Journal = p.journal
	p.Feed = live.New(feed)
	return p, nil
}

// chooses says whether a container is a sandbox.
func (p *Pipeline) chooses(sandboxes []collector.Selector) func(*record.Container) bool {
	return func(c *record.Container) bool {
		// One that is a sandbox stays one, whatever its labels are now: the collector may know it from before a
		// restart.
		if p.Collector != nil && p.Collector.Lineage().Containers.Chose(c.ID) {
			return true
		}
		_, ok := collector.ChooseContainer(sandboxes, c)
		return ok
	}
}

// Start reads the journal and has the kernel side watch the sandboxes. When it returns, what is started in one of them
// is seen; Run has to follow soon.
func (p *Pipeline) Start() error {
	if err := p.Feed.Start(); err != nil {
		return err
	}
	p.started = true
	return nil
}

// Run reads until ctx ends, see live.Feed.Run.
func (p *Pipeline) Run(ctx context.Context) error { return p.Feed.Run(ctx) }

// Finish makes spans of everything that is held.
func (p *Pipeline) Finish() {
	switch {
	case p.Collector == nil:
	case p.journal != nil:
		p.Feed.End() // the next process goes on
	default:
		p.Collector.Close()
	}
}

// Close leaves the journal to the next process. It comes when the outputs have delivered what they can.
func (p *Pipeline) Close() error {
	if p.journal == nil {
		return nil
	}
	if !p.started { // what a later process needs is in it as it was
		return p.journal.File.Close()
	}
	return p.journal.Close()
}

// Running lists the processes in the sandboxes as of a moment after the call, with everything that had happened; nil
// when ctx ends before the collector's next tick, about 100 ms later, and without a collector. Safe for concurrent use
// while Run reads.
func (p *Pipeline) Running(ctx context.Context) []collector.Running {
	if p.Collector == nil {
		return nil
	}
	return p.processes.list(ctx)
}

// JournalOverflows is how often something was left out of the journal that a later process could need. Safe for
// concurrent use.
func (p *Pipeline) JournalOverflows() uint64 { return p.journal.Overflows() }

// discard stands for the collector where only a capture is made.
type discard struct{}

func (discard) Record([]byte) error { return nil }
