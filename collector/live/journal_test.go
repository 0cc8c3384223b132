// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package live

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// sent are spans as text, in order, that the outputs got.
type sent struct {
	silent    bool
	made      int // spans, with those of which the outputs got nothing
	passed    []namedSpan
	lag       int // the last so many that were passed are not where a kill does not reach them
	delivered int // as it was asked for last
	kill      int // panic with errKilled behind so many that were passed; 0: never
}

// A namedSpan is a span by its trace and id.
type namedSpan struct{ name, text string }

// errKilled ends a sensor in the middle of a record.
var errKilled = errors.New("killed")

func (s *sent) Flush() {}
func (s *sent) Span(sp *span.Span) {
	if s.made++; s.silent {
		return
	}
	var attrs []span.Attr
	for _, a := range sp.Attrs {
		switch { // these are of a run
		case slices.Contains([]string{span.KeySeq, span.KeyRun, span.KeyExecsMissing, span.KeyWorkers, span.KeyWorkersFailed}, a.Key):
		case recordtest.Counted(a.Key):
		case (a.Key == span.KeyNotableEvent || a.Key == span.KeyNotableSeverity) && span.Attrs(sp.Attrs).Text(span.KeyNotableEvent) == notable.Destination:
			// it follows from sheetbend.network.new, which is counted
		default:
			attrs = append(attrs, a)
		}
	}
	n := namedSpan{
		fmt.Sprintf("%x %x", sp.Trace, sp.ID),
		fmt.Sprintf("%s %x %d-%d %v %v %t %s", sp.Name, sp.Parent, sp.Start, sp.End, attrs, sp.Links, sp.Failed, sp.Status),
	}
	if s.passed = append(s.passed, n); len(s.passed) == s.kill {
		panic(errKilled)
	}
}

func (s *sent) Silence(on bool) { s.silent = on }
func (s *sent) Passed() uint64  { return uint64(len(s.passed)) }
func (s *sent) Delivered() uint64 {
	s.delivered = max(s.delivered, len(s.passed)-s.lag)
	return uint64(s.delivered)
}

// into adds spans to those that are there by their names. None comes twice and otherwise.
func into(t *testing.T, all map[string]string, spans []namedSpan) {
	t.Helper()
	for _, s := range spans {
		if before, ok := all[s.name]; ok && before != s.text {
			t.Fatal("sent again otherwise: " + s.name + " " + differ(before, s.text))
		}
		all[s.name] = s.text
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
	config.Noise = []string{}     // what is counted as noise is not known after a kill
	return raws, config
}

// journaled is a feed with a journal, which is compacted all the time, over a collector.
func journaled(t *testing.T, path string, config collector.Config, sink *sent) *Feed {
	t.Helper()
	return journaledAs(t, journal.Config{Path: path, Content: "test", First: 1}, config, sink)
}

func journaledAs(t *testing.T, conf journal.Config, config collector.Config, sink *sent) *Feed {
	t.Helper()
	c, err := collector.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	file, err := journal.Open(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	j := &Journal{
		File: file, Collector: c, Outputs: sink, Hold: config.Hold, CallsFor: time.Hour,
		window: uint64(2*config.Hold + 200*time.Millisecond), perTurn: 3 << 10,
	}
	return New(Options{
		Source: newHost(), Collector: c, Journal: j, Hierarchy: newHost(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
}

func (f *Feed) passOn(raws ...[]byte) {
	for _, raw := range raws {
		err := f.event.Decode(raw)
		h := f.event.Header
		f.latest = max(f.latest, h.Time)
		f.emit(raw)
		f.o.Journal.betweenRecords()
		if err == nil && h.Type == record.TypeTick {
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

// A kill is where a sensor ends: behind the record with this number, or within it.
type kill struct {
	record int
	within bool
	lag    int // so many of the spans that were sent last are lost
}

// survives kills a sensor again and again. All spans that then arrived are those of one that only begins another slice
// of each trace where the others are killed.
func survives(t *testing.T, raws [][]byte, config collector.Config, kills []kill) {
	t.Helper()
	_, plain := spansOf(t, raws, config, nil)
	for n := range kills { // a kill cannot fall into what makes none
		at := kills[n].record
		kills[n].within = kills[n].within && plain[at+1] > plain[at]
	}
	want, made := spansOf(t, raws, config, kills)

	path := filepath.Join(t.TempDir(), "journal")
	got := map[string]string{}
	from, twice := 0, 0
	for n := range len(kills) + 1 {
		to, sink := len(raws), &sent{}
		if n < len(kills) {
			to, sink.lag = kills[n].record+1, kills[n].lag
		}
		f := journaled(t, path, config, sink)
		if ok := f.resume(); ok != (n > 0) {
			t.Fatalf("start %d: resumed %t", n, ok)
		}
		twice += len(sink.passed)
		untilKilled(func() {
			for ; from < to; from++ {
				if n < len(kills) && kills[n].within && from == to-1 {
					sink.kill = len(sink.passed) + (made[from+1]-made[from]+1)/2
				}
				f.passOn(raws[from])
			}
		})
		from = to
		delivered := sink.delivered
		if n == len(kills) {
			f.End()
			delivered = len(sink.passed)
		}
		into(t, got, sink.passed[:delivered])
		if err := f.o.Journal.File.Close(); err != nil {
			t.Fatal(err)
		}
	}
	different := 0
	report := func(text string) {
		if different++; different <= 3 {
			t.Error(text)
		}
	}
	for name, text := range want {
		if got[name] == "" {
			report("missing: " + name + " " + text)
		} else if got[name] != text {
			report("a span with kills and without: " + name + " " + differ(got[name], text))
		}
	}
	for name, text := range got {
		if want[name] == "" {
			report("made up: " + name + " " + text)
		}
	}
	if different > 0 {
		t.Errorf("%d of %d spans are others; killed %+v", different, len(want), kills)
	}
	size := 0
	for _, raw := range raws {
		size += len(raw)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records of %d bytes, %d spans, %d came after a kill at once; the journal has %d bytes",
		len(raws), size, len(want), twice, st.Size())
	if st.Size() > 768<<10+int64(size)/2 {
		t.Error("it is not compacted")
	}
}

// spansOf gives the spans of a sensor that is not killed, by their names, and how many there were before each record.
func spansOf(t *testing.T, raws [][]byte, config collector.Config, kills []kill) (spans map[string]string, made []int) {
	t.Helper()
	sink := &sent{}
	c, err := collector.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	for n, raw := range raws {
		made = append(made, sink.made)
		ends := len(kills) > 0 && kills[0].record == n
		if ends && kills[0].within {
			c.Restart().Resuming(true)
		}
		_ = c.Record(raw)
		if ends {
			c.Restart().Resuming(true)
			c.Restart().Resuming(false)
			kills = kills[1:]
		}
	}
	made = append(made, sink.made)
	c.Restart().Drain() // as a sensor that is stopped: open calls go on
	spans = map[string]string{}
	into(t, spans, sink.passed)
	return spans, made
}

func TestAfterAKillTheSameSpansComeAsWithout(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			raws, config := recordsOf(t, filepath.Base(name))
			const kills = 8
			for what, at := range map[string]kill{
				"within a record, all before it on disk":         {within: true},
				"between records, the last 60 spans not on disk": {lag: 60},
			} {
				var all []kill
				for n := 1; n <= kills; n++ {
					at.record = len(raws)*n/(kills+1) - 1
					all = append(all, at)
				}
				t.Run(what, func(t *testing.T) { survives(t, raws, config, all) })
			}
		})
	}
}

// Whatever a sandbox does, and wherever the sensor is killed.
func TestAfterAKillAtAnyRecordTheSameSpansComeAsWithout(t *testing.T) {
	seeds, every := uint64(2), 150
	if n, err := strconv.Atoi(os.Getenv("SHEETBEND_KILLS")); err == nil {
		seeds, every = uint64(n), 1
	}
	for seed := range seeds {
		raws, config := randomRecords(seed)
		random := rand.New(rand.NewPCG(seed, 2))
		for at := 1 + int(seed)*37; at < len(raws)-1; at += every + random.IntN(30) {
			kills := []kill{{record: at, within: random.IntN(2) == 0, lag: random.IntN(40)}}
			if next := at + 1 + random.IntN(200); next < len(raws)-1 { // and once more
				kills = append(kills, kill{record: next, within: random.IntN(2) == 0, lag: random.IntN(40)})
			}
			if !t.Run(fmt.Sprintf("seed %d, record %d", seed, at), func(t *testing.T) { survives(t, raws, config, kills) }) {
				return
			}
		}
	}
}

// What is settled has to be known however long nothing but time has passed, and after a clean end.
func TestASensorThatWasIdleKnowsWhatItHasSent(t *testing.T) {
	raws, config := recordsOf(t, "goose.capture.gz")
	for _, ends := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "journal")
		f := journaled(t, path, config, &sent{})
		f.resume()
		f.passOn(raws...)
		for range 200 {
			f.latest += 100 * ms
			f.passOn(record.AppendTick(nil, f.latest))
		}
		if ends {
			f.End()
		}
		if err := f.o.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		sink := &sent{}
		f = journaled(t, path, config, sink)
		if ok := f.resume(); !ok || len(sink.passed) > 0 || sink.made == 0 || sink.silent {
			t.Errorf("%d of %d spans are sent again; resumed %t, silent %t", len(sink.passed), sink.made, ok, sink.silent)
		}
		_ = f.o.Journal.Close()
	}
}

func TestTheJournalIsBoundedWhenNothingGetsToDisk(t *testing.T) {
	raws, config := recordsOf(t, "qwen-code-traced.capture.gz")
	const most = 1 << 20
	conf := journal.Config{Path: filepath.Join(t.TempDir(), "journal"), Content: "small", MaxBytes: most}
	f := journaledAs(t, conf, config, &sent{lag: 1 << 30})
	f.o.Journal.perTurn = compactPerTurn
	f.resume()
	var largest int64
	for n := range raws {
		f.passOn(raws[n])
		if st, err := os.Stat(conf.Path); err == nil {
			largest = max(largest, st.Size())
		}
	}
	if f.o.Journal.err != nil || f.o.Journal.Overflows() == 0 || largest > 2*most {
		t.Errorf("%v; %d bytes, %d overflows", f.o.Journal.err, largest, f.o.Journal.Overflows())
	}
	if err := f.o.Journal.Close(); err != nil {
		t.Fatal(err)
	}
}

// A backlog that is larger than what the sensor gets through before it is killed comes in pieces, not each time from
// the start: time in it is that of its records.
func TestWhatIsSettledIsNotedInTheMiddleOfABacklog(t *testing.T) {
	h := newHost()
	h.dirs["/a"] = 2
	path := filepath.Join(t.TempDir(), "journal")
	config := collector.Config{BootID: "boot", Sandboxes: []collector.Selector{{Cgroup: "/a"}}, Hold: 200 * time.Millisecond}
	var f *Feed
	start := func(sink *sent) {
		t.Helper()
		f = journaled(t, path, config, sink)
		glob, err := cgroup.ParseGlob("/a")
		if err != nil {
			t.Fatal(err)
		}
		f.o.Source, f.o.Hierarchy, f.o.Clock, f.o.Globs, f.o.Proc = h, h, h.clock, cgroup.Globs{glob}, t.TempDir()
	}
	start(&sent{})
	h.quiet(100 * ms)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	_ = f.o.Journal.Close()
	at := h.boot
	h.boot += 100_000 * ms
	const records = 100
	for n := range uint64(records) {
		h.reads(recordtest.Record(
			record.Header{Time: at + n*100*ms, Cgroup: 2, Tgid: 10, Tid: 10, Start: at, ExecID: 1},
			record.Open{Path: recordtest.Path(fmt.Sprint("/x", n)), Inode: n}))
	}
	sink := &sent{kill: records / 2}
	start(sink)
	untilKilled(func() { _ = h.run(t, f) })
	_ = f.o.Journal.File.Close()
	if settled := f.o.Journal.settled; sink.delivered < records/2-10 || settled.time < at || settled.time > at+records*100*ms {
		t.Errorf("%d of %d spans are delivered, settled %d, began at %d", sink.delivered, len(sink.passed), settled.time, at)
	}
}

// What the kernel side gives once more, as nobody had released it, is known by the journal.
func TestARecordThatWasNotReleasedIsTakenOnce(t *testing.T) {
	raws, config := recordsOf(t, "goose.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	f := journaled(t, path, config, &sent{})
	f.resume()
	f.passOn(raws...)
	f.passOn(record.AppendTick(nil, f.latest)) // is none of the ring's
	_ = f.o.Journal.Close()
	var last []byte
	for _, raw := range raws {
		if fromRing(raw) {
			last = raw
		}
	}
	f = journaled(t, path, config, &sent{})
	f.resume()
	before := f.stats.Records
	for range 3 {
		f.handle(last)
	}
	if n := f.stats.Records - before; n != 2 {
		t.Errorf("%d of 3 are taken, want those after the first", n)
	}
	_ = f.o.Journal.Close()
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

func TestAJournalOfAnotherBootHoldsNothingBackAndIsCounted(t *testing.T) {
	raws, config := recordsOf(t, "goose.capture.gz")
	path := filepath.Join(t.TempDir(), "journal")
	for n, content := range []string{"one boot", "another"} {
		sink := &sent{}
		f := journaledAs(t, journal.Config{Path: path, Content: content}, config, sink)
		if ok := f.resume(); ok || f.stats.Dropped > 0 != (n == 1) {
			t.Fatalf("%s: resumed %t, %+v", content, ok, f.stats)
		}
		f.passOn(raws...)
		f.End()
		if len(sink.passed) == 0 || len(sink.passed) != sink.made {
			t.Errorf("%s: %d of %d spans", content, len(sink.passed), sink.made)
		}
		if err := f.o.Journal.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
