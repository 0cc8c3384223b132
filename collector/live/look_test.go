// SPDX-License-Identifier: Apache-2.0

package live

import (
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

func TestABacklogThatNeverEndsPutsNoLookOffForEver(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	h.steps = append(h.steps, func() ([]byte, error) {
		h.existing = [][]byte{process(10, 500*ms)}
		return movedIn(1001 * ms), nil
	})
	const records = 2 * uint64(maxLookDelay) / (100 * ms)
	for n := range records {
		h.reads(exit((1100 + 100*n) * ms))
	}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.words, func(w string) bool { return strings.HasPrefix(w, "process at") }) {
		t.Errorf("nobody looked in %d records", records)
	}
}
