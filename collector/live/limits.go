// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"io/fs"
	"time"

	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
)

const (
	// limitsEvery is how often the limits of sandboxes are looked at, and limitsPerRound of how many then: some 30 µs
	// for each. Of more it takes several rounds.
	limitsEvery    = 2 * time.Second
	limitsPerRound = 64
	// limitAgain is how soon a limit that goes on being hit is told of again.
	limitAgain = time.Minute
	// maxLimited bounds the sandboxes whose limits are looked at.
	maxLimited = 4096
)

// limits are the topmost cgroups of sandboxes, whose limits are looked at in turn. Times are ns of CLOCK_BOOTTIME.
type limits struct {
	last  uint64 // time of the last round
	order []*limited
	next  int
}

type limited struct {
	id         uint64
	cgroup     string
	seen, told cgroup.Limits
	toldAt     [len(cgroup.Limits{})]uint64 // 0: never
}

// limit begins to look at the limits of a cgroup, if that is the topmost of a sandbox. What a cgroup that was not made
// just now has counted before is no news.
func (f *Feed) limit(id uint64, cg string, made bool) {
	l := &f.limits
	if f.o.sandbox(cg) != cg {
		return
	}
	for _, s := range l.order {
		if s.id == id {
			return
		}
	}
	if len(l.order) >= maxLimited {
		f.stats.Unlimited++
		return
	}
	s := &limited{id: id, cgroup: cg}
	if !made {
		s.seen, _ = f.o.Hierarchy.Limits(cg)
		s.told = s.seen
	}
	l.order = append(l.order, s)
}

// unlimit looks at them no more, and tells what is left to tell.
func (f *Feed) unlimit(t, id uint64) {
	l := &f.limits
	for i, s := range l.order {
		if s.id == id {
			f.dropLimited(t, i)
			return
		}
	}
}

func (f *Feed) dropLimited(t uint64, i int) {
	l := &f.limits
	f.tellLimits(l.order[i], t, true)
	l.order[i] = l.order[len(l.order)-1]
	l.order = l.order[:len(l.order)-1]
}

// limitsTurn looks at some of them. last: at all, and tells all.
func (f *Feed) limitsTurn(t uint64, last bool) {
	l := &f.limits
	if !last && t < l.last+uint64(limitsEvery) {
		return
	}
	l.last = t
	most := limitsPerRound
	if last {
		most = maxLimited
	}
	for range min(most, len(l.order)) {
		l.next = (l.next + 1) % len(l.order)
		s := l.order[l.next]
		if id, err := f.o.Hierarchy.ID(s.cgroup); errors.Is(err, fs.ErrNotExist) || err == nil && id != s.id {
			f.dropLimited(t, l.next) // it is gone, and the word of that may be lost
			if l.next--; len(l.order) == 0 {
				return
			}
			continue
		}
		now, err := f.o.Hierarchy.Limits(s.cgroup)
		if err != nil {
			f.o.Log.Debug("cannot look at limits", "err", err)
			continue
		}
		for i, n := range now {
			s.seen[i] = max(s.seen[i], n) // 0: it is gone
		}
		f.tellLimits(s, t, last)
	}
}

// tellLimits reports what was hit since it was told; all, or what was not told of lately.
func (f *Feed) tellLimits(s *limited, t uint64, all bool) {
	for i, n := range s.seen {
		if n == s.told[i] || !all && s.toldAt[i] != 0 && t < s.toldAt[i]+uint64(limitAgain) {
			continue
		}
		f.out = record.AppendLimit(f.out[:0], t, s.id, record.Limit{Which: uint16(i) + record.LimitMemoryHigh, Count: n - s.told[i]})
		s.told[i], s.toldAt[i] = n, t
		f.emit(f.out)
	}
}
