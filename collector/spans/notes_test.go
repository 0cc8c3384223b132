// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector/notable"
)

// Whatever comes in whatever order: each kind that came has its gravest sentence, none is in the list that is less grave
// than one that was left out of a kind with others, and every one is counted.
func TestTheGravestNotesAreKept(t *testing.T) {
	t.Parallel()
	severities := []notable.Severity{notable.Info, notable.Warn, notable.Error}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		kinds := 1 + r.IntN(notable.Kinds)
		var n notes
		counts, gravest := map[int]int64{}, map[int]int{}
		for i := range 300 {
			e := notable.Event{Name: notable.Names()[r.IntN(kinds)], Severity: severities[r.IntN(3)], Sentence: fmt.Sprint(i)}
			n.add(e)
			counts[e.Kind()]++
			gravest[e.Kind()] = max(gravest[e.Kind()], e.Gravity())
		}
		if len(n.lines) != maxLines || !slices.IsSortedFunc(n.lines, func(a, b note) int { return b.gravity - a.gravity }) {
			t.Fatalf("seed %d: %v", seed, n.lines)
		}
		for kind, want := range gravest {
			if !slices.ContainsFunc(n.lines, func(l note) bool { return l.kind == kind && l.gravity == want }) {
				t.Errorf("seed %d: the gravest %s is not in %v", seed, notable.Names()[kind], n.lines)
			}
		}
		all, sums := n.sums()
		if all != 300 || len(sums) != len(counts) {
			t.Errorf("seed %d: %d, %q", seed, all, sums)
		}
		for kind, count := range counts {
			if want := fmt.Sprint(notable.Names()[kind], " ", count); !slices.Contains(sums, want) {
				t.Errorf("seed %d: no %q in %q", seed, want, sums)
			}
		}
	}
}
