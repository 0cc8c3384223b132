// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

func mark(time uint64) []byte {
	return record.AppendMark(nil, time, 1, 1, record.Mark{Op: record.MarkBegin})
}

func TestAnInjectedRecordComesBehindOlderAndBeforeYoungerKernelRecords(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	h.reads(exit(1001 * ms))
	// The ring's next record is younger than the marker, although the reader sees it first.
	h.steps = append(h.steps, func() ([]byte, error) {
		if !f.Inject(mark(1003*ms)) || !f.Inject(mark(1002*ms)) {
			t.Error("refused")
		}
		return exit(1005 * ms), nil
	})
	h.reads(exit(1006 * ms))
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "exit at 1", "mark at 2", "mark at 3", "exit at 5", "exit at 6"})
}

func TestAnInjectedRecordWaitsForOlderRecordsOfTheRing(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	// An empty ring proves nothing about what was recorded since the look at it began.
	h.does(func() { h.pass(50 * ms); f.Inject(mark(1040 * ms)) })
	h.reads(exit(1039 * ms))
	h.quiet(60 * ms)
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "exit at 39", "mark at 40", "tick at 110"})
}

func TestWhoeverAsksIsToldWhetherARecordWasTaken(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	var told []bool
	tell := func(taken bool) { told = append(told, taken) }
	h.does(func() { f.InjectAnd(mark(1002*ms), tell) })
	h.reads(exit(1003 * ms))
	h.does(func() { s.err = errors.New("refused"); f.InjectAnd(mark(1004*ms), tell) })
	h.reads(exit(1005 * ms))
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []bool{true, false}) {
		t.Errorf("told %v", told)
	}
	if f.InjectAnd(mark(1), tell); len(told) != 2 {
		t.Error("told of a record that was not taken in")
	}
}

func TestInjectedRecordsOfTheFutureComeAtTheEnd(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	h.steps = append(h.steps, func() ([]byte, error) { f.Inject(mark(9000 * ms)); return exit(1001 * ms), nil })
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"clock at 0", "exit at 1", "mark at 8000"})
	if f.Inject(mark(1)) {
		t.Error("a record was taken after the end, when nobody reads")
	}
}

func TestInjectedRecordsAreBoundedAndTheRefusedCounted(t *testing.T) {
	h, s := newHost(), &stream{}
	f := h.feed(t, s, "/a")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range maxInjected/4 + 1 {
				f.Inject(mark(1000 * ms))
			}
		})
	}
	all.Wait()
	h.steps = append(h.steps, func() ([]byte, error) { return nil, os.ErrDeadlineExceeded })
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if len(s.words) != 1+maxInjected || f.Stats().NotInjected != 4 {
		t.Errorf("%d in the stream, %d refused; want %d and 4", len(s.words)-1, f.Stats().NotInjected, maxInjected)
	}
	if f.Inject(nil) || f.Inject(make([]byte, 15)) {
		t.Error("a record without a header was taken")
	}
}
