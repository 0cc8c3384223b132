// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"testing"

	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
)

// hits keeps the limits of the stream, in words.
type hits struct{ words []string }

func (s *hits) Record(raw []byte) error {
	var e record.Event
	if err := e.Decode(raw); err != nil {
		return err
	}
	if h := e.Header; h.Type == record.TypeLimit {
		s.words = append(s.words, fmt.Sprintf("%d of %d in %d at %d", e.Limit.Count, e.Limit.Which, h.Cgroup, int64(h.Time/ms)-1000))
	} else if h.Type == record.TypeCgroupRmdir {
		s.words = append(s.words, "rmdir")
	}
	return nil
}

func TestLimitsAreToldWhenTheyAreHit(t *testing.T) {
	h, s := newHost(), &hits{}
	const oomKill, pids = record.LimitOOMKill - 1, record.LimitPids - 1
	h.dirs["/agents"], h.dirs["/agents/old"], h.dirs["/agents/old/inside"] = 2, 3, 4
	h.limits = map[string]cgroup.Limits{"/agents/old": {pids: 100}, "/agents/old/inside": {pids: 5}, "/agents": {pids: 7}}
	after := func(d uint64, cg string, l cgroup.Limits) {
		h.does(func() { h.pass(d); h.limits[cg] = l })
		h.quiet(0)
	}
	after(1000*ms, "/agents/old", cgroup.Limits{pids: 101})
	after(1500*ms, "/agents/old", cgroup.Limits{pids: 103})
	after(3000*ms, "/agents/old", cgroup.Limits{pids: 110, oomKill: 1}) // of pids it was told just now
	h.does(func() { h.dirs["/agents/new"] = 5; h.limits["/agents/new"] = cgroup.Limits{oomKill: 2} })
	h.reads(directory(record.TypeCgroupMkdir, 6000*ms, 5, "/agents/new"))
	after(3000*ms, "/agents/new", cgroup.Limits{oomKill: 2})
	after(3000*ms, "/agents/new", cgroup.Limits{oomKill: 6})
	h.does(func() { delete(h.limits, "/agents/new") }) // as it is removed
	h.reads(directory(record.TypeCgroupRmdir, 12000*ms, 5, "/agents/new"))
	after(60_000*ms, "/agents/old", cgroup.Limits{pids: 120, oomKill: 1})
	after(3000*ms, "/agents/old", cgroup.Limits{pids: 121, oomKill: 1})
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	same(t, "limits", s.words, []string{
		"1 of 5 in 3 at 1000",
		"1 of 4 in 3 at 5500",
		"2 of 4 in 5 at 8500",
		"4 of 4 in 5 at 11000",
		"rmdir",
		"19 of 5 in 3 at 71500",
		"1 of 5 in 3 at 74500",
	})
}

// That a sandbox is gone is seen, too, where the record of it is lost.
func TestLimitsOfWhatIsGoneAreNotLookedAt(t *testing.T) {
	h, s := newHost(), &hits{}
	h.dirs["/agents"], h.dirs["/agents/a"], h.dirs["/agents/b"], h.dirs["/agents/c"] = 2, 3, 4, 5
	h.limits = map[string]cgroup.Limits{}
	f := h.feed(t, s, "/agents/*")
	left := 0
	h.does(func() { h.pass(3000 * ms); h.limits["/agents/c"] = cgroup.Limits{7} })
	h.quiet(0)
	h.does(func() { h.pass(3000 * ms); delete(h.dirs, "/agents/a"); h.dirs["/agents/b"] = 6 })
	h.quiet(0)
	h.does(func() { left = len(f.limits.order) })
	h.does(func() { delete(h.dirs, "/agents/c"); h.pass(3000 * ms) })
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if left != 1 || len(f.limits.order) != 0 || len(s.words) != 1 {
		t.Errorf("%d are looked at, then %d; told %v", left, len(f.limits.order), s.words)
	}
}

func TestOfManySandboxesSomeAreLookedAtInARound(t *testing.T) {
	h, s := newHost(), &hits{}
	h.dirs["/agents"] = 2
	h.limits = map[string]cgroup.Limits{}
	for n := range uint64(2*limitsPerRound + 1) {
		h.dirs[fmt.Sprint("/agents/", n)] = 100 + n
	}
	h.does(func() {
		for cg := range h.dirs {
			h.limits[cg] = cgroup.Limits{1}
		}
	})
	counts := []int{}
	for range 4 {
		h.does(func() { h.pass(3000 * ms) })
		h.quiet(0)
		h.does(func() { counts = append(counts, len(s.words)) })
	}
	if err := h.run(t, h.feed(t, s, "/agents/*")); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(counts) != fmt.Sprint([]int{limitsPerRound, 2 * limitsPerRound, 2*limitsPerRound + 1, 2*limitsPerRound + 1}) {
		t.Errorf("told of %v", counts)
	}
}
