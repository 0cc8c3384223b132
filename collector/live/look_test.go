// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// movedIn is a process that was moved into a sandbox: who there is has to be looked for.
func movedIn(at uint64) []byte {
	return recordtest.Record(record.Header{Time: at, Tgid: 10, Tid: 10, Start: 1}, record.Attach{})
}

func TestALookWaitsUntilTheRingIsEmpty(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	h.steps = append(h.steps, func() ([]byte, error) {
		h.existing = [][]byte{process(10, 500*ms)}
		h.pass(3500 * ms) // the reader is late
		return movedIn(1001 * ms), nil
	})
	for n := range uint64(30) {
		h.reads(exit((1100 + 100*n) * ms))
	}
	h.quiet(200 * ms)
	h.quiet(200 * ms)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	look := slices.IndexFunc(s.words, func(w string) bool { return strings.HasPrefix(w, "process at") })
	last := slices.Index(s.words, "exit at 3000")
	if look < 0 || last < 0 || look < last {
		t.Errorf("the look is at %d, the last record of the backlog at %d:\n%s", look, last, strings.Join(s.words, "\n"))
	}
}

func TestALookInABacklogOverridesNothingThatWaits(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	const behind = 200_000 * ms
	young := uint64(maxScanDelay) + 10_000*ms // its fork waits
	h.steps = append(h.steps, func() ([]byte, error) {
		h.existing = [][]byte{process(10, 500*ms), process(11, young), process(12, 500*ms)}
		for _, raw := range h.existing {
			record.SetTime(raw, behind)
		}
		h.pass(behind)
		return movedIn(1001 * ms), nil
	})
	const records = uint64(maxScanDelay)/(100*ms) + 30
	for n := range records {
		h.reads(exit((1100 + 100*n) * ms))
	}
	h.quiet(200 * ms)
	h.quiet(200 * ms)
	h.quiet(200 * ms)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	last := slices.Index(s.words, fmt.Sprintf("exit at %d", 100*records))
	if last < 0 {
		t.Fatal("the backlog was not read")
	}
	var early, late []string
	for n, w := range s.words {
		if !strings.HasPrefix(w, "process at") {
			continue
		}
		if n < last {
			early = append(early, w)
		} else {
			late = append(late, w)
		}
	}
	// Put off for so long and no longer, told as of when the ring had been read up to, and of the young one nothing.
	if len(early) != 2 || early[0] != early[1] || early[0] == "process at 199000" {
		t.Errorf("the look in the backlog: %v", early)
	}
	if len(late) != 3 {
		t.Errorf("the look behind it: %v", late)
	}
}
