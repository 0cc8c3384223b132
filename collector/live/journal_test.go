// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package live

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// told are spans as text, by their number.
type told struct {
	spans map[int64]string
	after int64
	twice []string
	kill  int64 // panic with errKilled behind so many; 0: never
}

// errKilled ends a sensor in the middle of a record.
var errKilled = errors.New("killed")

func (s *told) Flush() {}
func (s *told) Span(sp *span.Span) {
	var seq int64
	var attrs []span.Attr
	for _, a := range sp.Attrs {
		if a.Key == span.KeySeq {
			seq = a.Int
		}
		attrs = append(attrs, a)
	}
	if seq <= s.after {
		return
	}
	text := fmt.Sprintf("%d %s %x %x %x %d-%d %v %v %t %s", seq, sp.Name, sp.Trace, sp.ID, sp.Parent, sp.Start, sp.End, attrs, sp.Links, sp.Failed, sp.Status)
	if s.spans[seq] != "" {
		s.twice = append(s.twice, text)
	}
	s.spans[seq] = text
	if seq == s.kill {
		panic(errKilled)
	}
}

// recordsOf are the records of a recorded session, and its configuration with a hold that is short beside it.
func recordsOf(t *testing.T, name string) (raws [][]byte, config collector.Config) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "testdata", "agents", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, slices.Clone(raw))
	}
	config = in.Header().Config
	config.Hold = 200 * time.Millisecond
	config.MaxSpansPerTrace = 250 // so that there are slices
	config.Fold.Files = 1 << 20   // what is folded begins anew
	return raws, config
}

// journaled is a feed with a journal over a collector.
func journaled(t *testing.T, path string, config collector.Config, sink span.Sink, settled func() uint64, resuming func(uint64)) *Feed {
	t.Helper()
	c, err := collector.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	file, err := journal.Open(journal.Config{Path: path, Content: "test", Window: 128 << 10})
	if err != nil {
		t.Fatal(err)
	}
	j := &Journal{File: file, Collector: c, Settled: settled, Resuming: resuming, Hold: config.Hold, CallsFor: time.Hour, margin: uint64(200 * time.Millisecond), always: true, perTurn: 3 << 10}
	if settled == nil {
		j.Settled = c.Restart().Seq // as if every span were on disk at once
	}
	return New(Options{Source: newHost(), Collector: c, Journal: j, Hierarchy: newHost(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

func (f *Feed) passOn(raws [][]byte) {
	for _, raw := range raws {
		err := f.event.Decode(raw)
		f.emit(raw)
		f.o.Journal.betweenRecords()
		if h := f.event.Header; err == nil && h.Type == record.TypeTick {
			f.o.Journal.tick(h.Time)
		}
	}
}

// untilKilled runs what the sink may end.
func untilKilled(run func()) {
	defer func() {
		switch r := recover(); r {
		case nil, errKilled:
		default:
			panic(r)
		}
	}()
	run()
}

func TestAfterAKillTheSameSpansComeAsWithout(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			raws, config := recordsOf(t, filepath.Base(name))
			whole := &told{spans: map[int64]string{}}
			c, err := collector.New(config, whole)
			if err != nil {
				t.Fatal(err)
			}
			for _, raw := range raws {
				_ = c.Record(raw)
			}
			c.Close()

			const kills = 23
			t.Run("within a record, all before it on disk", func(t *testing.T) { survives(t, raws, config, whole, kills, 0, true) })
			t.Run("between records, the last spans not on disk", func(t *testing.T) { survives(t, raws, config, whole, kills, 60, false) })
		})
	}
}

// survives kills a sensor again and again, of whose spans the last few are not on disk yet, between records or within one.
func survives(t *testing.T, raws [][]byte, config collector.Config, whole *told, kills int, lag int64, within bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	got := &told{spans: map[int64]string{}}
	var compacted uint64
	otherwise, from := 0, 0
	for n := range kills + 1 {
		to := len(raws) * (n + 1) / (kills + 1)
		part := &told{spans: map[int64]string{}}
		if within && n < kills {
			to, part.kill = len(raws), int64(len(whole.spans)*(n+1)/(kills+1))
		}
		settled := func() uint64 { return uint64(part.after + max(0, int64(len(part.spans))-lag)) }
		f := journaled(t, path, config, part, settled, func(seq uint64) { part.after = int64(min(seq, 1<<62)) })
		untilKilled(func() {
			ok, err := f.resume()
			if err != nil || ok != (n > 0) {
				t.Fatalf("start %d: resumed %t: %v", n, ok, err)
			}
			for from < to {
				from++
				f.passOn(raws[from-1 : from])
			}
		})
		compacted += f.o.Journal.File.Stats().Compacted
		on := int64(settled())
		if n == kills {
			f.o.Journal.End()
			on = 1 << 62
		}
		if len(part.twice) > 0 {
			t.Errorf("numbers given twice: %v", part.twice)
		}
		for seq, text := range part.spans {
			if seq > on {
				continue // a kill takes it
			}
			if before := got.spans[seq]; before != "" && before != text {
				if otherwise++; otherwise <= 2 {
					t.Error("told otherwise after the kill: " + differ(before, text))
				}
			}
			got.spans[seq] = text
		}
		if err := f.o.Journal.File.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.spans) != len(whole.spans) {
		t.Errorf("%d spans, without a kill %d", len(got.spans), len(whole.spans))
	}
	different := 0
	for seq, want := range whole.spans {
		if got.spans[seq] != want {
			if different++; different <= 3 {
				t.Error("a span with kills and without: " + differ(got.spans[seq], want))
			}
		}
	}
	if different > 0 {
		t.Errorf("%d of %d spans are others", different, len(whole.spans))
	}
	t.Logf("%d records, %d spans, %d not on disk, compacted %d times", len(raws), len(whole.spans), lag, compacted)
	if compacted == 0 && len(raws) > 5000 {
		t.Error("never compacted")
	}
}

// What is settled has to be known however long nothing but time has passed.
func TestASensorThatWasIdleKnowsWhatItHasSent(t *testing.T) {
	raws, config := recordsOf(t, "goose.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	sink := &told{spans: map[int64]string{}}
	f := journaled(t, path, config, sink, nil, func(uint64) {})
	if _, err := f.resume(); err != nil {
		t.Fatal(err)
	}
	f.passOn(raws)
	var at uint64
	for _, raw := range raws {
		var e record.Event
		if e.Decode(raw) == nil {
			at = max(at, e.Header.Time)
		}
	}
	for range 200 {
		at += 100 * ms
		f.passOn([][]byte{record.AppendTick(nil, at)})
	}
	sent := f.o.Journal.Collector.Restart().Seq()
	if err := f.o.Journal.File.Close(); err != nil {
		t.Fatal(err)
	}
	var upTo uint64
	f = journaled(t, path, config, &told{spans: map[int64]string{}}, nil, func(seq uint64) { upTo = seq })
	if ok, err := f.resume(); !ok || err != nil || upTo != sent || sent == 0 {
		t.Errorf("%d are settled, want %d; resumed %t: %v", upTo, sent, ok, err)
	}
}

func TestTheJournalIsBoundedWhenNothingGetsToDisk(t *testing.T) {
	raws, config := recordsOf(t, "qwen-code-traced.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	const most = 256 << 10
	f := journaled(t, path, config, &told{spans: map[int64]string{}}, func() uint64 { return 0 }, func(uint64) {})
	_ = f.o.Journal.File.Close()
	file, err := journal.Open(journal.Config{Path: path, Content: "small", MaxBytes: most, Window: 128 << 10})
	if err != nil {
		t.Fatal(err)
	}
	f.o.Journal.File, f.o.Journal.always, f.o.Journal.perTurn = file, false, compactPerTurn
	if _, err := f.resume(); err != nil {
		t.Fatal(err)
	}
	var largest int64
	for n := range raws {
		f.passOn(raws[n : n+1])
		largest = max(largest, file.Stats().Bytes)
	}
	if f.o.Journal.err != nil || f.o.Journal.Overflows() == 0 || largest > 2*most {
		t.Errorf("%v; %d bytes, %d overflows", f.o.Journal.err, largest, f.o.Journal.Overflows())
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// A backlog that is larger than what the sensor gets through before it is killed comes in pieces, not each time from the start.
func TestWhatIsSettledIsNotedInTheMiddleOfABacklog(t *testing.T) {
	raws, config := recordsOf(t, "codex.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	var upTo uint64
	var f *Feed
	start := func() {
		t.Helper()
		f = journaled(t, path, config, &told{spans: map[int64]string{}}, nil, func(seq uint64) { upTo = seq })
		if _, err := f.resume(); err != nil {
			t.Fatal(err)
		}
	}
	start()
	for _, raw := range raws { // no tick is taken for one: there is none in a backlog
		f.emit(raw)
		f.o.Journal.betweenRecords()
	}
	sent := f.o.Journal.Collector.Restart().Seq()
	if err := f.o.Journal.File.Close(); err != nil {
		t.Fatal(err)
	}
	start()
	if missing := sent - upTo; upTo == 0 || missing > settleEvery {
		t.Errorf("%d of %d are settled", upTo, sent)
	}
}

// differ shows where two spans do.
func differ(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	from := max(0, n-120)
	return fmt.Sprintf("%.60q…\n  %.240q\n  %.240q", a, a[min(from, len(a)):], b[min(from, len(b)):])
}

func TestWhatAnotherJournalSaidOfSpansHoldsNoneBack(t *testing.T) {
	raws, config := recordsOf(t, "goose.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	for _, content := range []string{"one boot", "another"} {
		sink := &told{spans: map[int64]string{}}
		f := journaled(t, path, config, sink, nil, func(seq uint64) { sink.after = int64(min(seq, 1<<62)) })
		_ = f.o.Journal.File.Close()
		file, err := journal.Open(journal.Config{Path: path, Content: content})
		if err != nil {
			t.Fatal(err)
		}
		f.o.Journal.File = file
		if ok, err := f.resume(); ok || err != nil {
			t.Fatalf("%s: resumed %t: %v", content, ok, err)
		}
		f.passOn(raws)
		f.o.Journal.End()
		if len(sink.spans) == 0 || sink.spans[1] == "" {
			t.Errorf("%s: %d spans, the first is %q", content, len(sink.spans), sink.spans[1])
		}
		if err := f.o.Journal.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
