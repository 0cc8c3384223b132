// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// What is appended while a journal is compacted pays for it, and is kept, however old it says it is.
func TestAJournalIsCompactedInTurnsWhileItGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path})
	replay(t, j)
	add := func(at uint64, who uint32, body any) {
		t.Helper()
		raw := recordtest.Record(record.Header{Time: at, Tgid: who, Start: uint64(who)}, body)
		if err := j.Append(&Entry{Kind: Record, Seq: at, Data: raw}); err != nil {
			t.Fatal(err)
		}
	}
	const ended = 4000
	add(1, 1, record.Fork{ChildTgid: 2, ChildStart: 2}) // lives
	for n := range uint32(ended) {
		add(10, 1, record.Fork{ChildTgid: 10 + n, ChildStart: uint64(10 + n)})
		add(11, 10+n, record.Exit{})
	}
	counted := 0
	cut := Cut{Before: 50, Whole: 60, Now: 90, More: func(add func(*Entry)) {
		counted++
		add(&Entry{Kind: Count, Data: AppendSlice(nil, collector.Slice{Session: "s"})})
	}}
	size := j.size()
	if err := j.BeginCompaction(cut); err != nil {
		t.Fatal(err)
	}
	late := 0
	for ; j.Compacting(); late++ {
		before, at := j.size(), j.compaction.read.at
		add(12, 5, record.Exit{}) // of none that is known, older than Before
		paid := compactPerByte * (j.size() - before)
		if err := j.GoOn(0); err != nil {
			t.Fatal(err)
		}
		if c := j.compaction; c != nil && c.read.at > at+paid+maxEntry {
			t.Fatalf("%d bytes in one turn, %d were paid for", c.read.at-at, paid)
		}
	}
	if grown := j.size(); late < ended/compactPerByte || grown > size/8 || counted != 1 {
		t.Errorf("%d turns, from %d bytes to %d, counted %d times", late, size, grown, counted)
	}
	_ = j.Close()
	j = open(t, Config{Path: path})
	entries, _ := replay(t, j)
	kinds := slices.Repeat([]Kind{Record}, 1+late)
	kinds = append(kinds, Whole, Count)
	var got []Kind
	for _, e := range entries {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, kinds) {
		t.Errorf("%d entries, want %d: that of who lives, those that were appended, Whole and Count; the last are %v", len(got), len(kinds), got[max(0, len(got)-3):])
	}
}

// A second sensor is refused, and what it finds on the way is not its own.
func TestWhoIsRefusedAJournalLeavesItsCompactionAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path})
	replay(t, j)
	for at := range uint64(2000) {
		if err := j.Append(&Entry{Kind: Record, Data: record.AppendTick(nil, at)}); err != nil {
			t.Fatal(err)
		}
	}
	err := j.BeginCompaction(Cut{Before: 1000, Whole: 1000, Now: 2000})
	for err == nil && j.Compacting() && j.compaction.next == nil {
		err = j.GoOn(1 << 10)
	}
	if err != nil || !j.Compacting() {
		t.Fatal("no compaction under way", err)
	}
	if second, err := Open(j.cfg); err == nil {
		_ = second.Close()
		t.Fatal("there are two")
	}
	for j.Compacting() {
		if err := j.GoOn(1 << 10); err != nil {
			t.Fatal(err)
		}
	}
}
