// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
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
	j, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// Compact does all of a compaction.
func (j *Journal) Compact(c Cut) error {
	j.BeginCompaction(c)
	return j.GoOn(math.MaxInt)
}

// each gives the entries of the file.
func (j *Journal) each(yield func(e *Entry)) {
	for e, at, ok := j.entry(headSize, j.at); ok; e, at, ok = j.entry(at, j.at) {
		yield(&e)
	}
}

func replay(t testing.TB, j *Journal) (entries []Entry, ok bool) {
	t.Helper()
	st, err := j.f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	was := st.Size()
	dropped, err := j.Replay(func(e *Entry) {
		c := *e
		c.Data = bytes.Clone(e.Data)
		entries = append(entries, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	if dropped > 0 != (len(entries) == 0 && was > 0) {
		t.Errorf("%d bytes are dropped of %d, %d entries are read", dropped, was, len(entries))
	}
	return entries, len(entries) > 0
}

func numbered(n int) *Entry {
	return &Entry{Kind: Record, Data: bytes.Repeat([]byte{byte(n)}, n%5000)}
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
			if want := numbered(n); e.Kind != want.Kind || !bytes.Equal(e.Data, want.Data) {
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
	if entries, _ := replay(t, j); len(entries) != 7 {
		t.Fatalf("%d entries before the damage", len(entries))
	}
	if err := j.Append(numbered(1)); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j = open(t, Config{Path: path})
	if entries, _ := replay(t, j); len(entries) != 8 {
		t.Fatalf("%d entries after going on", len(entries))
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
	if err := j.Compact(Cut{Before: 50, Now: 90}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j = open(t, Config{Path: path, MaxBytes: 1 << 20})
	if entries, _ := replay(t, j); len(entries) != 5 {
		t.Errorf("%d entries are kept, want 5", len(entries))
	}
	for n := range uint32(8000) {
		fork(200, 1, 10+n)
	}
	if err := j.Compact(Cut{Before: 300, Now: 300}); err != nil {
		t.Fatal(err)
	}
	if n := j.Overflows(); n != 1 {
		t.Errorf("%d overflows", n)
	}
	if n := len(kindsOf(j)); n != 0 {
		t.Errorf("%d entries after an overflow", n)
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
	j.Settle(7)
	if err := j.Compact(Cut{Now: 100}); err != nil {
		t.Fatal(err)
	}
	if kinds := kindsOf(j); !slices.Equal(kinds, []Kind{Record}) || j.Overflows() != 1 || j.Settled() != 7 {
		t.Errorf("%d entries %v, %d overflows, settled %d",
			len(kinds), kinds[:min(5, len(kinds))], j.Overflows(), j.Settled())
	}
}

func kindsOf(j *Journal) (kinds []Kind) {
	j.each(func(e *Entry) { kinds = append(kinds, e.Kind) })
	return kinds
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
			add(&Entry{Kind: Slice, Data: EncodeSlice(collector.Slice{Instance: "s", Number: n})})
			add(&Entry{Kind: Slice, Data: EncodeSlice(collector.Slice{Instance: "s", Call: "c", Number: 100 + n})})
			add(&Entry{Kind: Slice, Data: EncodeSlice(collector.Slice{Instance: "forgotten", Number: n})})
		}
	}
	living(2)
	opens(0, 10)
	living(3)
	opens(10, 20)
	var got []string
	for range 2 {
		cut := Cut{Before: 50, Now: 90, RemembersSlice: func(s collector.Slice) bool { return s.Instance == "s" }}
		if err := j.Compact(cut); err != nil {
			t.Fatal(err)
		}
		got = nil
		j.each(func(e *Entry) {
			s, _ := DecodeSlice(e.Data)
			got = append(got, fmt.Sprint(e.Kind, " ", s.Call, s.Number))
		})
	}
	want := []string{fmt.Sprint(Slice, " 9"), fmt.Sprint(Slice, " c109"), fmt.Sprint(Slice, " 19"), fmt.Sprint(Slice, " c119")}
	if len(got) != 6 || !slices.Equal(slices.Concat(got[1:3], got[4:]), want) {
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
		if err := errors.Join(j.Append(numbered(1)), settle(j, 41), j.Close()); err != nil {
			t.Fatal(err)
		}
		j = open(t, Config{Path: path, Starts: c.reads})
		if _, ok := replay(t, j); ok != c.ok {
			t.Errorf("of %d by %d: %t", c.wrote, c.reads, ok)
		}
		if settled := j.Settled(); (settled == 41) != c.ok {
			t.Errorf("of %d by %d: %d is settled", c.wrote, c.reads, settled)
		}
	}
}

func settle(j *Journal, time uint64) error { j.Settle(time); return nil }

func TestTheLongestArgumentsAreKept(t *testing.T) {
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j")})
	replay(t, j)
	args := record.AppendCmdline(nil, record.Header{Type: record.TypeCmdline}, 1, bytes.Repeat([]byte{'x'}, record.MaxCmdline))
	if err := j.Append(&Entry{Kind: Record, Data: args}); err != nil {
		t.Error(err)
	}
	if err := j.Append(&Entry{Kind: Record, Data: make([]byte, maxEntry)}); err != nil || j.Overflows() != 1 {
		t.Error(err, j.Overflows())
	}
	n := 0
	j.each(func(e *Entry) { n += len(e.Data) })
	if n != len(args) {
		t.Errorf("%d bytes are read", n)
	}
}

func TestFactsAreDecodedAsTheyWereEncoded(t *testing.T) {
	for _, s := range []collector.Slice{
		{Instance: "s", Call: "c \"d\xff\n", Number: 3, Story: true}, {Instance: "0011", Joined: true}, {},
	} {
		if got, ok := DecodeSlice(EncodeSlice(s)); !ok || got != s {
			t.Errorf("%+v", got)
		}
	}
	for _, k := range []collector.Claim{
		{Agent: span.Image{Tgid: 1, Start: 2, ExecID: 3}, UID: 1 << 31, Nested: true, Place: "sb", Dialect: "d", Session: "s\x00t"},
		{Session: "s"},
	} {
		if got, ok := DecodeClaim(EncodeClaim(k)); !ok || got != k {
			t.Errorf("%+v", got)
		}
	}
}

func TestOfReachesThoseIntoWhatLivesAreKept(t *testing.T) {
	const lives, over = 2, 3
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), MaxBytes: 1 << 20})
	replay(t, j)
	add := func(e *Entry) {
		t.Helper()
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	fork := func(at uint64, parent, child uint32) {
		h := record.Header{Type: record.TypeFork, Time: at, Tgid: parent, Start: uint64(parent)}
		add(&Entry{Kind: Record, Data: recordtest.Record(h, record.Fork{ChildTgid: child, ChildStart: uint64(child)})})
	}
	exit := func(at uint64, pid uint32) {
		h := record.Header{Type: record.TypeExit, Time: at, Tgid: pid, Start: uint64(pid)}
		add(&Entry{Kind: Record, Data: recordtest.Record(h, record.Exit{})})
	}
	reach := func(of uint32, agent bool) {
		r := collector.Reach{Of: span.Image{Tgid: of, Start: uint64(of)}, Agent: agent}
		r.By.Tgid, r.By.Call = 9, "c \"1\""
		add(&Entry{Kind: Reached, Data: EncodeReach(r)})
	}
	fork(10, 1, lives)
	fork(11, 1, over)
	fork(12, 1, over+1)
	fork(13, over+1, over+2) // which lives: it has the taint of its parent
	reach(lives, false)
	reach(lives, true)
	reach(over, false)
	reach(over+1, false)
	exit(14, over)
	exit(15, over+1)
	fork(100, 1, 99) // young
	reach(99, false)
	if err := j.Compact(Cut{Before: 50, Now: 90}); err != nil {
		t.Fatal(err)
	}
	var got []string
	j.each(func(e *Entry) {
		if r, ok := DecodeReach(e.Data); e.Kind == Reached && ok {
			got = append(got, fmt.Sprint(r.Of.Tgid, r.Agent, r.By))
		}
	})
	want := []string{`2 false {c "1" 9}`, `2 true {c "1" 9}`, `4 false {c "1" 9}`, `99 false {c "1" 9}`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzReplay(f *testing.F) {
	c := Config{Content: "test"}
	good := c.head()
	for n := range 3 {
		e := numbered(n + 1)
		b := append(make([]byte, 8), byte(e.Kind))
		b = append(b, e.Data...)
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], table))
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		good = append(good, b...)
	}
	f.Add(good)
	f.Add(append(c.head(), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, Config{Path: path})
		if _, err := j.Replay(func(e *Entry) {
			DecodeSlice(e.Data)
			DecodeClaim(e.Data)
			DecodeReach(e.Data)
		}); err != nil {
			t.Fatal(err)
		}
		if err := j.Append(numbered(9)); err != nil {
			t.Fatal(err)
		}
		if err := j.Compact(Cut{Before: 1 << 40, Now: 1 << 40, CallsFor: 1}); err != nil {
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
		add(&Entry{Kind: Claimed, Data: EncodeClaim(collector.Claim{
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
		cut := Cut{Before: 50, Now: 90, Remembers: func(k collector.Claim) bool { return k.Agent.Tgid != forgotten }}
		if err := j.Compact(cut); err != nil {
			t.Fatal(err)
		}
		j.each(func(e *Entry) {
			if k, ok := DecodeClaim(e.Data); e.Kind == Claimed && ok {
				got = append(got, fmt.Sprint(k.Agent.Tgid, k.Session))
			}
		})
		return got
	}
	want := []string{"3z", "2x", "2y", "2x"}
	for range 2 {
		if got := compact(); !slices.Equal(got, want) {
			t.Errorf("claims %q, want %q", got, want)
		}
	}
}
