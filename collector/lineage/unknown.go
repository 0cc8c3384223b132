// SPDX-License-Identifier: Apache-2.0

package lineage

import "github.com/sheetbend/sheetbend/collector/record"

// unknownCgroups are records of cgroups that nobody reported. Most are of none that is selected: the kernel side
// watches a new directory until it is told not to. But where the making of directories was lost, they may be of a
// sandbox, and nobody can tell. So they are counted for some moments, until it is known that no such record was lost.
type unknownCgroups struct {
	now, before unknownWindow
	until       uint64 // boottime: what is older is lost
}

type unknownWindow struct {
	from, last uint64 // boottime
	byType     [unknownTypes]uint64
}

const (
	// unknownFor is longer than the time between two looks at the counters of losses: collector/live's lossEvery.
	unknownFor   = 2e9
	unknownTypes = 32 // of kernel records; 0: others
)

// ignore drops a record of a process and a cgroup that are not known.
func (c *Losses) ignore(h *record.Header) {
	c.stats.Ignored++
	s := &c.unknown
	if h.Time <= s.until {
		c.Lose(h.Type, record.CauseUnassigned, nil)
		return
	}
	if h.Time >= s.now.from+unknownFor {
		s.before, s.now = s.now, unknownWindow{from: h.Time}
	}
	t := h.Type
	if t >= unknownTypes {
		t = 0
	}
	s.now.byType[t]++
	s.now.last = max(s.now.last, h.Time)
}

// DirectoriesLost has all that was and will be ignored, of a time, count as lost.
func (c *Losses) DirectoriesLost(from, to uint64) {
	s := &c.unknown
	for _, t := range []*unknownWindow{&s.before, &s.now} {
		if t.last < from {
			continue
		}
		for kind, n := range t.byType {
			c.loseMany(record.Type(kind), record.CauseUnassigned, nil, n)
		}
		*t = unknownWindow{}
	}
	s.until = max(s.until, to)
}
