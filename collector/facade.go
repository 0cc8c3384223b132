// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
)

// SetSlice says how far a trace has come.
func (c *Collector) SetSlice(s attribution.Slice) { c.slicer.SetSlice(s) }

// Knows says whether the collector takes what this process does.
func (c *Collector) Knows(tgid uint32, start uint64) bool { return c.lineage.Knows(tgid, start) }

// Started gives the start (ns of CLOCK_BOOTTIME) of the process of a sandbox that has this pid, wherever it is by now. ok is
// false if there is none. Other than the rest of the collector it may be called from any goroutine.
func (c *Collector) Started(tgid uint32) (start uint64, ok bool) { return c.lineage.Started(tgid) }

// Running lists the processes of all sandboxes, wherever they are by now, in the order of their start. To be called where
// Record is: between two records, or by the sink.
func (c *Collector) Running() []lineage.Running { return c.lineage.Running() }

// Undecided is since when (boottime) records are kept of a container of which it is not known whether it is a sandbox.
func (c *Collector) Undecided() (since uint64, ok bool) { return c.containers.Undecided() }

// Chose says whether a container is a sandbox because of what its runtime said. To be called from where Record is.
func (c *Collector) Chose(id string) bool { return c.containers.Chose(id) }

// LossCounts gives what sensor.loss spans report and will at the next tick: by kind and cause, and by sandbox. It changes
// with Stats.Lost.
func (c *Collector) LossCounts() (byKind, bySandbox []lineage.LossCount) {
	return c.losses.LossCounts()
}

// Hints gives what users can do to get real call ids, a line for each kind of agent whose calls were inferred so far.
func (c *Collector) Hints() []string { return c.attribution.Hints() }
