// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"os"
	"path/filepath"
	"testing"

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
		if err := j.Append(&Entry{Kind: Record, Data: raw}); err != nil {
			t.Fatal(err)
		}
	}
	const ended = 4000
	add(1, 1, record.Fork{ChildTgid: 2, ChildStart: 2}) // lives
	for n := range uint32(ended) {
		add(10, 1, record.Fork{ChildTgid: 10 + n, ChildStart: uint64(10 + n)})
		add(11, 10+n, record.Exit{})
	}
	size := j.at
	at := 0
	j.BeginCompaction(Cut{Before: 50, Now: 90, Sandbox: func(uint32, uint64, uint64) string { return "" }})
	pull := j.compaction.turn
	j.compaction.turn = func() (n int, ok bool) {
		n, ok = pull()
		at += n
		return n, ok
	}
	late := 0
	for ; j.Compacting(); late++ {
		before, done := j.at, at
		add(12, 5, record.Exit{}) // of none that is known, older than Before
		paid := compactPerByte * (j.at - before)
		if err := j.GoOn(0); err != nil {
			t.Fatal(err)
		}
		if at > done+paid+maxEntry {
			t.Fatalf("%d bytes in one turn, %d were paid for", at-done, paid)
		}
	}
	if grown := j.at; late < ended/compactPerByte || grown > size/8 {
		t.Errorf("%d turns, from %d bytes to %d", late, size, grown)
	}
	_ = j.Close()
	j = open(t, Config{Path: path})
	entries, _ := replay(t, j)
	if len(entries) != 1+late {
		t.Errorf("%d entries, want %d: that of who lives, and those that were appended", len(entries), 1+late)
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
	j.BeginCompaction(Cut{Before: 1000, Now: 2000})
	for _, err := os.Stat(path + ".new"); err != nil && j.Compacting(); _, err = os.Stat(path + ".new") {
		if err := j.GoOn(1 << 10); err != nil {
			t.Fatal(err)
		}
	}
	if !j.Compacting() {
		t.Fatal("no compaction under way")
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
