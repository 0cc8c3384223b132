// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"cmp"
	"slices"
)

// Running is a process that has not been seen to end.
type Running struct {
	Tgid  uint32
	Start uint64 // ns of CLOCK_BOOTTIME; a pid may be used again
}

// Running lists the processes of all sandboxes, wherever they are by now, in the order of their start. To be called
// where Record is: between two records, or by the sink.
func (c *Tree) Running() []Running {
	list := make([]Running, 0, len(c.Processes))
	for _, p := range c.Processes {
		list = append(list, Running{p.Tgid, p.Start})
	}
	slices.SortFunc(list, func(a, b Running) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Tgid, b.Tgid)) })
	return list
}
