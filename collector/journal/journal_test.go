// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func open(t testing.TB, c Config) *Journal {
	t.Helper()
	if c.Content == "" {
		c.Content = "test"
	}
	if c.Window == 0 {
		c.Window = 64 << 10
	}
	j, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func replay(t testing.TB, j *Journal) (entries []Entry, ok bool) {
	t.Helper()
	ok, err := j.Replay(func(e *Entry) {
		c := *e
		c.Data = bytes.Clone(e.Data)
		entries = append(entries, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries, ok
}

func numbered(n int) *Entry {
	return &Entry{Kind: Record, Seq: uint64(n), Ring: uint64(3 * n), Data: bytes.Repeat([]byte{byte(n)}, n%5000)}
}

func TestWhatIsWrittenIsReadByTheNextAcrossWindows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	const each, starts = 200, 4
	for start := range starts {
		j := open(t, Config{Path: path})
		entries, ok := replay(t, j)
		if ok != (start > 0) || len(entries) != start*each {
			t.Fatalf("start %d: %d entries, %t", start, len(entries), ok)
		}
		for n, e := range entries {
			if want := numbered(n); e.Kind != want.Kind || e.Seq != want.Seq || e.Ring != want.Ring || !bytes.Equal(e.Data, want.Data) {
				t.Fatalf("entry %d is %+v", n, e)
			}
		}
		for n := range each {
			if err := j.Append(numbered(start*each + n)); err != nil {
				t.Fatal(err)
			}
		}
		// It writes nothing: a kill leaves the same.
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedEntryIsTheEndAndIsWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path})
	replay(t, j)
	for n := range 10 {
		if err := j.Append(numbered(100 + n)); err != nil {
			t.Fatal(err)
		}
	}
	_ = j.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := headSize
	for n := range 7 {
		at += entryHead + len(numbered(100+n).Data)
	}
	text[at+entryHead+3] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, Config{Path: path})
	if entries, _ := replay(t, j); len(entries) != 7 || j.Stats().Torn == 0 {
		t.Fatalf("%d entries before the damage, torn %d", len(entries), j.Stats().Torn)
	}
	if err := j.Append(numbered(1)); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j = open(t, Config{Path: path})
	if entries, _ := replay(t, j); len(entries) != 8 || j.Stats().Torn != 0 {
		t.Fatalf("%d entries after going on, torn %d", len(entries), j.Stats().Torn)
	}
}

func TestAJournalOfOtherContentOrOwnerIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path})
	replay(t, j)
	if err := j.Append(numbered(1)); err != nil {
		t.Fatal(err)
	}
	if second, err := Open(Config{Path: path, Content: "test"}); err == nil {
		t.Error("opened twice")
		_ = second.Close()
	}
	_ = j.Close()
	j = open(t, Config{Path: path, Starts: 2}) // written by the first of all
	if _, ok := replay(t, j); ok {
		t.Error("read one that an earlier process than the one before wrote")
	}
	_ = j.Close()
	j = open(t, Config{Path: path, Content: "another boot"})
	if _, ok := replay(t, j); ok {
		t.Error("read another boot's")
	}
	_ = j.Close()
	for name, spoil := range map[string]func() error{
		"writable by others": func() error { return os.Chmod(path, 0o666) },
		"a link":             func() error { return os.Symlink("/etc/hostname", path) },
		"a second name":      func() error { return os.Link(path, path+"2") },
	} {
		_ = os.Remove(path)
		if name != "a link" {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if j, err := Open(Config{Path: path, Content: "test"}); err == nil {
			t.Errorf("%s: opened", name)
			_ = j.Close()
		}
	}
}

func TestCompactingKeepsWhoLivesAndBeginsAnewWhenThatIsTooMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path, MaxBytes: 1 << 20})
	replay(t, j)
	add := func(raw []byte) {
		t.Helper()
		if err := j.Append(&Entry{Kind: Record, Data: raw}); err != nil {
			t.Fatal(err)
		}
	}
	fork := func(at uint64, parent, child uint32) {
		h := record.Header{Type: record.TypeFork, Time: at, Tgid: parent, Start: uint64(parent)}
		add(recordtest.Record(h, record.Fork{ChildTgid: child, ChildStart: uint64(child)}))
	}
	exit := func(at uint64, who uint32) {
		add(recordtest.Record(record.Header{Type: record.TypeExit, Time: at, Tgid: who, Start: uint64(who)}, record.Exit{}))
	}
	fork(10, 1, 2) // ends, and its child lives
	fork(11, 2, 3)
	exit(12, 2)
	fork(13, 1, 4) // ends
	exit(14, 4)
	fork(100, 1, 5) // young
	exit(101, 5)
	if err := j.Compact(Cut{Before: 50, Whole: 90, Now: 90}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j = open(t, Config{Path: path, MaxBytes: 1 << 20})
	if entries, _ := replay(t, j); len(entries) != 6 { // with that which says from where on all is there
		t.Errorf("%d entries are kept, want 6", len(entries))
	}
	for n := range uint32(8000) {
		fork(200, 1, 10+n)
	}
	if err := j.Compact(Cut{Before: 300, Whole: 300, Now: 300}); err != nil {
		t.Fatal(err)
	}
	if s := j.Stats(); s.Overflows != 1 {
		t.Errorf("%d overflows", s.Overflows)
	}
	_ = j.Close()
	j = open(t, Config{Path: path, MaxBytes: 1 << 20})
	if entries, ok := replay(t, j); ok {
		t.Errorf("%d entries after an overflow", len(entries))
	}
}

func TestWhatIsNotSettledMakesRoomForWhoLives(t *testing.T) {
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), MaxBytes: 1 << 20})
	replay(t, j)
	add := func(h record.Header, body any) {
		t.Helper()
		if err := j.Append(&Entry{Kind: Record, Data: recordtest.Record(h, body)}); err != nil {
			t.Fatal(err)
		}
	}
	fork := func(at uint64, child uint32) {
		add(record.Header{Type: record.TypeFork, Time: at, Tgid: 1, Start: 1}, record.Fork{ChildTgid: child, ChildStart: uint64(child)})
	}
	fork(1, 2) // lives
	for n := range uint32(6000) {
		fork(10, 10+n)
		add(record.Header{Type: record.TypeExit, Time: 11, Tgid: 10 + n, Start: uint64(10 + n)}, record.Exit{})
	}
	if err := j.Settle(7); err != nil {
		t.Fatal(err)
	}
	if err := j.Compact(Cut{Now: 100}); err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	if err := j.each(func(e *Entry, _ int64) error { kinds = append(kinds, e.Kind); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kinds, []Kind{Record, Whole}) || j.Stats().Overflows != 1 {
		t.Errorf("%d entries %v, %d overflows", len(kinds), kinds[:min(5, len(kinds))], j.Stats().Overflows)
	}
	if settled, _, compacted, err := j.Last(); settled != 7 || !compacted || err != nil {
		t.Errorf("settled %d, compacted %t: %v", settled, compacted, err)
	}
}

// TestSlicesOfWhatIsLeftOutDoNotPileUp: else a sandbox that makes spans fills the journal with them.
func TestSlicesOfWhatIsLeftOutDoNotPileUp(t *testing.T) {
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), MaxBytes: 1 << 20})
	replay(t, j)
	add := func(e *Entry) {
		t.Helper()
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	living := func(child uint32) {
		h := record.Header{Type: record.TypeFork, Time: 10, Tgid: 1, Start: 1}
		add(&Entry{Kind: Record, Data: recordtest.Record(h, record.Fork{ChildTgid: child, ChildStart: uint64(child)})})
	}
	opens := func(from, to uint64) {
		for n := from; n < to; n++ {
			add(&Entry{Kind: Record, Data: recordtest.Record(record.Header{Type: record.TypeOpen, Time: 10, Tgid: 2, Start: 2}, record.Open{})})
			add(&Entry{Kind: Slice, Data: AppendSlice(nil, collector.Slice{Session: "s", Number: n})})
			add(&Entry{Kind: Slice, Data: AppendSlice(nil, collector.Slice{Session: "s", Call: "c", Number: 100 + n})})
		}
	}
	living(2)
	opens(0, 10)
	living(3)
	opens(10, 20)
	var got []string
	for range 2 {
		if err := j.Compact(Cut{Before: 50, Whole: 90, Now: 90, More: func(func(*Entry)) {}}); err != nil {
			t.Fatal(err)
		}
		got = nil
		err := j.each(func(e *Entry, _ int64) error {
			s, _ := DecodeSlice(e.Data)
			got = append(got, fmt.Sprint(e.Kind, " ", s.Call, s.Number))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Before the second of the living, where the traces were; behind it, what counts says that.
	if len(got) != 5 || got[1] != fmt.Sprint(Sliced, " 9") || got[2] != fmt.Sprint(Sliced, " c109") {
		t.Errorf("entries %q", got)
	}
}

func TestWhichProcessWroteAJournalThatIsRead(t *testing.T) {
	for _, c := range []struct {
		wrote, reads uint64
		ok           bool
	}{
		{1, 2, true}, {2, 2, true}, // killed before it read the ring
		{1, 3, false}, {2, 1, false}, {1, 1, false},
	} {
		path := filepath.Join(t.TempDir(), "j")
		j := open(t, Config{Path: path, Starts: c.wrote})
		replay(t, j)
		if err := errors.Join(j.Append(numbered(1)), j.Settle(41), j.Close()); err != nil {
			t.Fatal(err)
		}
		j = open(t, Config{Path: path, Starts: c.reads})
		if _, ok := replay(t, j); ok != c.ok {
			t.Errorf("of %d by %d: %t", c.wrote, c.reads, ok)
		}
		if settled, _, _, err := j.Last(); err != nil || (settled == 41) != c.ok {
			t.Errorf("of %d by %d: %d are settled, %v", c.wrote, c.reads, settled, err)
		}
	}
}

func TestTheLongestArgumentsAreKept(t *testing.T) {
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), Window: 256 << 10})
	replay(t, j)
	args := record.AppendCmdline(nil, record.Header{Type: record.TypeCmdline}, 1, bytes.Repeat([]byte{'x'}, record.MaxCmdline))
	if err := j.Append(&Entry{Kind: Record, Data: args}); err != nil {
		t.Error(err)
	}
	if err := j.Append(&Entry{Kind: Record, Data: make([]byte, maxEntry)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	n := 0
	if err := j.each(func(e *Entry, _ int64) error { n += len(e.Data); return nil }); err != nil || n != len(args) {
		t.Errorf("%d bytes are read, %v", n, err)
	}
}

func TestCountsAreDecodedAsTheyWereEncoded(t *testing.T) {
	s := collector.Slice{Session: "s", Call: "c d", Number: 3, Began: 9, Spans: 7, Within: 2, Foreign: true}
	if got, ok := DecodeSlice(AppendSlice(nil, s)); !ok || got != s {
		t.Errorf("%+v", got)
	}
	r := collector.Reads{Tgid: 1, Start: 2, Noise: 3, WindowStart: 4, Files: 5}
	if got, ok := DecodeReads(AppendReads(nil, r)); !ok || got != r {
		t.Errorf("%+v", got)
	}
	for _, k := range []collector.Claim{
		{Agent: span.Image{Tgid: 1, Start: 2, ExecID: 3}, UID: 1 << 31, Nested: true, Place: "sb", Dialect: "d", Session: "s\x00t"},
		{Session: "s"},
	} {
		if got, ok := DecodeClaim(AppendClaim(nil, k)); !ok || got != k {
			t.Errorf("%+v", got)
		}
	}
}

func FuzzReplay(f *testing.F) {
	c := Config{Content: "test"}
	good := c.head(0)
	for n := range 3 {
		e := numbered(n + 1)
		b := make([]byte, entryHead+len(e.Data))
		encode(b, e)
		good = append(good, b...)
	}
	f.Add(good)
	f.Add(append(c.head(0), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, Config{Path: path})
		if _, err := j.Replay(func(e *Entry) {
			DecodeSlice(e.Data)
			DecodeReads(e.Data)
			DecodeClaim(e.Data)
		}); err != nil {
			t.Fatal(err)
		}
		if err := j.Append(numbered(9)); err != nil {
			t.Fatal(err)
		}
		if err := j.Compact(Cut{Before: 1 << 40, Whole: 1 << 40, Now: 1 << 40, CallsFor: 1}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOfClaimsOnlyWhatCountsIsKept: else an agent that begins session after session fills the journal with them.
func TestOfClaimsOnlyWhatCountsIsKept(t *testing.T) {
	const lives, over, forgotten = 2, 3, 4
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), MaxBytes: 1 << 20})
	replay(t, j)
	add := func(e *Entry) {
		t.Helper()
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	fork := func(at uint64, child uint32) {
		h := record.Header{Type: record.TypeFork, Time: at, Tgid: 1, Start: 1}
		add(&Entry{Kind: Record, Data: recordtest.Record(h, record.Fork{ChildTgid: child, ChildStart: uint64(child)})})
	}
	claim := func(agent uint32, session string) {
		add(&Entry{Kind: Claimed, Data: AppendClaim(nil, collector.Claim{
			Agent: span.Image{Tgid: agent, Start: uint64(agent), ExecID: 1}, UID: 7, Place: "sb", Dialect: "codex", Session: session,
		})})
	}
	fork(10, lives)
	for range 1000 {
		claim(lives, "x")
		claim(lives, "y")
		claim(over, "z")
		claim(over+100, "z")
		claim(forgotten, "f")
	}
	fork(100, 5) // young
	claim(lives, "x")
	compact := func() (got []string) {
		t.Helper()
		cut := Cut{Before: 50, Whole: 90, Now: 90, More: func(func(*Entry)) {}, Remembers: func(k collector.Claim) bool { return k.Agent.Tgid != forgotten }}
		if err := j.Compact(cut); err != nil {
			t.Fatal(err)
		}
		if err := j.each(func(e *Entry, _ int64) error {
			if k, ok := DecodeClaim(e.Data); e.Kind == Claimed && ok {
				got = append(got, fmt.Sprint(k.Agent.Tgid, k.Session))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := []string{"3z", "2x", "2y", "2x"}
	for range 2 {
		if got := compact(); !slices.Equal(got, want) {
			t.Errorf("claims %q, want %q", got, want)
		}
	}
	for n := range uint32(8000) {
		fork(10, 10+n)
	}
	if got := compact(); !slices.Equal(got, want) || j.Stats().Overflows == 0 {
		t.Errorf("begun anew, %d overflows, with claims %q, want %q", j.Stats().Overflows, got, want)
	}
}
