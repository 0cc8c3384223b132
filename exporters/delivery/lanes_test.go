// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// A scripted backend takes what its script has no error for.
type scripted struct {
	script func(otlp.Batch) error

	mu  sync.Mutex
	got map[kind][]string // the requests, by kind
}

func (s *scripted) Send(ctx context.Context, b otlp.Batch) (otlp.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return otlp.Receipt{}, ctx.Err()
	}
	if s.script != nil {
		if err := s.script(b); err != nil {
			return otlp.Receipt{}, err
		}
	}
	if s.got == nil {
		s.got = map[kind][]string{}
	}
	s.got[kindOf(b)] = append(s.got[kindOf(b)], string(b.AppendRequest(nil)))
	return otlp.Receipt{}, nil
}

func (*scripted) Close() error     { return nil }
func (s *scripted) String() string { return "scripted" }

func (s *scripted) set(script func(otlp.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

func (s *scripted) count(k kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got[k])
}

func refusal(k otlp.RefusalKind) error {
	return &otlp.Refusal{Code: "Test", Message: "refused", Kind: k}
}

func always(k otlp.RefusalKind) func(otlp.Batch) error {
	return func(otlp.Batch) error { return refusal(k) }
}

// request is an export request with one resource of so many bytes.
func request(text string, size int) []byte {
	part := append([]byte(text), make([]byte, max(0, size-len(text)))...)
	return otlp.Batch{Resources: [][]byte{part}}.AppendRequest(nil)
}

func passOn(t *testing.T, q *Queue, s otlp.Signal, body []byte) {
	t.Helper()
	if err := q.PassOn(s, body); err != nil {
		t.Fatal(err)
	}
}

// laneOf gives the counts of one lane; all zero if it never had anything.
func laneOf(q *Queue, endpoint string, k kind) LaneStats {
	for _, l := range q.Stats().Lanes {
		if l.Endpoint == endpoint && l.Signal == k.signal() && l.PassedOn == (k.origin() == passedOn) {
			return l
		}
	}
	return LaneStats{}
}

const (
	agentTraces = kinds / 2
	agentLogs   = kinds/2 + 1
	ownLogs     = spans + 1
)

// everywhere runs a test with a spool and without one.
func everywhere(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("memory", func(t *testing.T) { test(t, "") })
	t.Run("disk", func(t *testing.T) { test(t, spoolDir(t)) })
}

func TestEveryBackendGetsWhatIsPassedOn(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		a, b := &scripted{}, &scripted{}
		q := open(t, Config{Dir: dir, Destinations: []Destination{{Name: "a", Backend: a}, {Name: "b", Backend: b}}})
		for _, s := range []otlp.Signal{otlp.Traces, otlp.Logs, otlp.Metrics} {
			passOn(t, q, s, request(s.String(), 0))
			passOn(t, q, s, nil) // holds nothing
		}
		offer(q, 0, 10, 10)
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		for name, to := range map[string]*scripted{"a": a, "b": b} {
			for k := agentTraces; k < kinds; k++ {
				if want := string(request(k.signal().String(), 0)); to.count(k) != 1 || to.got[k][0] != want {
					t.Errorf("%s has %q of %s, want %q", name, to.got[k], k, want)
				}
			}
			if to.count(spans) != 1 {
				t.Errorf("%s has %d batches of spans", name, to.count(spans))
			}
		}
		if err := q.PassOn(otlp.Logs, []byte{0xff}); err == nil {
			t.Error("what is no request is passed on")
		}
		balanced(t, q)
	})
}

func TestASignalThatABackendDoesNotTakeHoldsUpNothingAndIsToldOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		log := &journal{}
		a, b := &scripted{script: func(b otlp.Batch) error {
			if b.Signal == otlp.Logs {
				return refusal(otlp.Unsupported)
			}
			return nil
		}}, &scripted{}
		q := open(t, Config{Dir: dir, Log: logTo(log), Destinations: []Destination{{Name: "a", Backend: a}, {Name: "b", Backend: b}}})
		for i := range 100 {
			q.Offer(otlp.Batch{Signal: otlp.Logs, Spans: 2, Resources: [][]byte{{byte(i)}}})
			passOn(t, q, otlp.Logs, request("log", 100))
			offer(q, 10*i, 10, 10)
			if i == 50 { // before and after it is known
				until(t, "the signals are off", func() bool {
					return laneOf(q, "a", ownLogs).Unsupported > 0 && laneOf(q, "a", agentLogs).Unsupported > 0
				})
			}
		}
		until(t, "all is settled", func() bool { return queued(q) == 0 })
		own, agents := laneOf(q, "a", ownLogs), laneOf(q, "a", agentLogs)
		if a.count(spans) != 100 || own.Unsupported != 200 || agents.Unsupported != 100 || own.Errors > 50 {
			t.Errorf("%d batches of spans, %+v, %+v", a.count(spans), own, agents)
		}
		if b.count(spans) != 100 || b.count(ownLogs) != 100 || b.count(agentLogs) != 100 {
			t.Errorf("the other backend has %d, %d and %d", b.count(spans), b.count(ownLogs), b.count(agentLogs))
		}
		minutesLater := func() {
			q.mu.Lock()
			q.lanes[agentLogs][0].off = time.Now()
			q.mu.Unlock()
			passOn(t, q, otlp.Logs, request("again", 0))
		}
		minutesLater()
		until(t, "it is asked again", func() bool { return laneOf(q, "a", agentLogs).Unsupported == 101 })
		a.set(nil)
		minutesLater()
		until(t, "it arrives", func() bool { return a.count(agentLogs) == 1 })
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		for _, what := range []string{"log records", "agents' logs"} {
			if n := strings.Count(log.String(), "does not take "+what+": they are dropped for it"); n != 1 {
				t.Errorf("%s: told %d times:\n%s", what, n, log)
			}
		}
		if n := strings.Count(log.String(), "takes agents' logs again"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log)
		}
		balanced(t, q)
	})
}

// A backend is sent its own signals, and what agents sent where traces go. With others configured at the next start, it
// is not sent what waited of those that it had, and holds up nobody by that.
func TestABackendGetsItsSignalsOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		traces, logs := &scripted{}, &scripted{script: func(b otlp.Batch) error {
			if b.Signal == otlp.Logs {
				return refusal(otlp.Temporary)
			}
			return nil
		}}
		to := []Destination{
			{Name: "logs", Backend: logs, Signals: []otlp.Signal{otlp.Logs}},
			{Name: "traces", Backend: traces, Signals: []otlp.Signal{otlp.Traces}},
		}
		q := open(t, Config{Dir: dir, Destinations: to})
		for i := range 20 {
			q.Offer(otlp.Batch{Signal: otlp.Logs, Spans: 2, Resources: [][]byte{{byte(i)}}})
			passOn(t, q, otlp.Logs, request("log", 100))
			offer(q, 10*i, 10, 10)
		}
		until(t, "all but the log records arrived", func() bool { return traces.count(spans) == 20 && traces.count(agentLogs) == 20 })
		if traces.count(ownLogs) != 0 || logs.count(spans) != 0 || logs.count(agentLogs) != 0 {
			t.Errorf("%v, %v", traces.got, logs.got)
		}
		if n := len(q.Stats().Lanes); n != 3 {
			t.Errorf("%d lanes: %+v", n, q.Stats().Lanes)
		}
		if dir == "" {
			logs.set(nil)
			until(t, "the log records arrived", func() bool { return logs.count(ownLogs) == 20 })
			if err := end(t, q, time.Minute); err != nil {
				t.Error(err)
			}
			return
		}
		until(t, "they are on disk", func() bool { return laneOf(q, "logs", ownLogs).Queued == 40 && q.Stats().MemoryBytes == 0 })
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		logs.set(nil)
		to[0].Signals, to[1].Signals = to[1].Signals, to[0].Signals
		q = open(t, Config{Dir: dir, Destinations: to})
		offer(q, 0, 10, 10)
		until(t, "it has spans now", func() bool { return logs.count(spans) == 1 })
		until(t, "nothing waits", func() bool { return q.Stats().StoredBytes == 0 })
		if logs.count(ownLogs) != 0 {
			t.Errorf("%d batches of log records", logs.count(ownLogs))
		}
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
	})
}

// What waits in memory is durable once it is on disk, each signal for itself, and what is dropped or not taken is no reason
// to wait.
func TestWhatWaitsInMemoryIsNotDurable(t *testing.T) {
	a := &scripted{script: always(otlp.Temporary)}
	q := open(t, Config{Dir: spoolDir(t), Destinations: []Destination{{Name: "a", Backend: a}}})
	logs := func(spans, through int) {
		q.Offer(otlp.Batch{Signal: otlp.Logs, Spans: spans, Through: uint64(through), Resources: [][]byte{{1}}})
	}
	logs(1, 40) // one event in 40 spans
	until(t, "it is on disk", func() bool { return q.Durable(otlp.Logs, 50) == 50 })
	hung, err := q.store.db.Begin(true) // a commit that does not end
	if err != nil {
		t.Fatal(err)
	}
	logs(2, 60)
	logs(1, 90)
	if got := q.Durable(otlp.Logs, 95); got != 40 {
		t.Errorf("the events of %d spans are durable", got)
	}
	if got := q.Durable(otlp.Traces, 95); got != 95 {
		t.Errorf("%d spans are durable", got)
	}
	if err := hung.Rollback(); err != nil {
		t.Fatal(err)
	}
	until(t, "all is on disk", func() bool { return q.Durable(otlp.Logs, 95) == 95 })
	a.set(always(otlp.Unsupported))
	until(t, "the backend takes none", func() bool { return laneOf(q, "a", ownLogs).Unsupported == 4 })
	logs(1, 100)
	if got := q.Durable(otlp.Logs, 100); got != 100 {
		t.Errorf("%d after it was switched off", got)
	}
	if err := end(t, q, time.Minute); err != nil {
		t.Error(err)
	}
}

func queued(q *Queue) (n uint64) {
	for _, l := range q.Stats().Lanes {
		n += l.Queued
	}
	return n
}

// An endpoint without traces is the wrong one: what was seen must not be lost by that.
func TestSpansWaitForABackendThatDoesNotTakeTraces(t *testing.T) {
	a := &scripted{script: always(otlp.Unsupported)}
	q := open(t, Config{Destinations: []Destination{{Name: "a", Backend: a}}})
	offer(q, 0, 20, 10)
	until(t, "it was asked", func() bool { return laneOf(q, "a", spans).Errors > 1 })
	a.set(nil)
	if err := end(t, q, time.Minute); err != nil || a.count(spans) != 2 {
		t.Errorf("%d batches: %v", a.count(spans), err)
	}
}

func TestWhatABackendRefusesOfAgentsHoldsUpNoSpans(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		for _, k := range []otlp.RefusalKind{otlp.Temporary, otlp.Misconfigured, otlp.Permanent, otlp.TooMuch} {
			a := &scripted{script: func(b otlp.Batch) error {
				if b.PassedOn {
					return refusal(k)
				}
				return nil
			}}
			q := open(t, Config{Dir: dir, Destinations: []Destination{{Name: fmt.Sprint("a", k), Backend: a}}})
			for i := range 20 {
				passOn(t, q, otlp.Traces, request("x", 100))
				offer(q, 10*i, 10, 10)
			}
			until(t, "the spans are there", func() bool { return a.count(spans) == 20 })
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := q.Close(ctx); err != nil {
				t.Error(err)
			}
			balanced(t, q)
			if dir != "" {
				if l := letters(t, dir); len(l) != 0 {
					t.Errorf("agents' telemetry takes the room of dead letters: %+v", l)
				}
			}
		}
	})
}

func TestAFloodOfWhatIsPassedOnDropsNothingElse(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		a := &scripted{script: always(otlp.Temporary)}
		cfg := Config{Dir: dir, MaxBytes: 32 << 20, MemoryBytes: 4 << 20, Sync: SyncNone, Destinations: []Destination{{Name: "a", Backend: a}}}
		q := open(t, cfg)
		flood := func(size int) {
			for range 4000 {
				passOn(t, q, otlp.Logs, request("flood", size))
			}
			until(t, "it is written", func() bool { return dir == "" || q.Stats().MemoryBytes == 0 })
		}
		offer(q, 0, 5000, 100)
		flood(2000)
		offer(q, 5000, 1000, 100)
		flood(9000)
		passOn(t, q, otlp.Logs, request("too large for the share", 5<<20))
		q.mu.Lock()
		memory, disk, budget := q.memory[passedOn], q.disk[passedOn], q.budget()
		q.mu.Unlock()
		if memory > 1<<20 || disk > budget/passedOnShare || memory == 0 && disk == 0 {
			t.Errorf("%d bytes in memory, %d on disk of %d", memory, disk, budget)
		}
		if l := laneOf(q, "a", spans); l.Dropped.Sum() != 0 || l.Queued != 6000 {
			t.Errorf("%+v", l)
		}
		if l := laneOf(q, "a", agentLogs); l.Dropped.Sum() == 0 || l.Queued == 0 {
			t.Errorf("%+v", l)
		}
		// Where there is no room for all, spans push out what was passed on, never the other way round.
		left := func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.memory[passedOn] > 0 || q.disk[passedOn] > 0
		}
		for i := 0; left(); i++ {
			if l := laneOf(q, "a", spans); l.Dropped.Sum() != 0 || i > 1000 {
				t.Fatalf("what was passed on stays: %+v", l)
			}
			q.Offer(otlp.Batch{Signal: otlp.Traces, Spans: 1, Resources: [][]byte{make([]byte, 200_000)}})
			until(t, "it is written", func() bool { return dir == "" || q.Stats().MemoryBytes == 0 })
		}
		until(t, "what was pushed out while it was sent is counted", func() bool { return nothingDroppedFlies(q) })
		dropped := laneOf(q, "a", spans).Dropped.Sum()
		for range 100 {
			passOn(t, q, otlp.Logs, request("late", 500_000))
		}
		until(t, "it is written", func() bool { return dir == "" || q.Stats().MemoryBytes == 0 })
		if now := laneOf(q, "a", spans).Dropped.Sum(); now != dropped {
			t.Errorf("%d spans dropped for what came later", now-dropped)
		}
		a.set(nil)
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		balanced(t, q)
	})
}

func nothingDroppedFlies(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lanes[spans] {
		for _, dropped := range l.flights {
			if dropped != none {
				return false
			}
		}
	}
	return true
}

func TestWhatCannotBeReadAgainIsRefusedAndCounted(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		a := &scripted{}
		q := open(t, Config{Dir: dir, MemoryBytes: 256 << 20, MaxBytes: 1 << 30, Destinations: []Destination{{Name: "a", Backend: a}}})
		empty, full := []byte{0x0a, 0}, []byte{0x0a, 1, 0}
		passOn(t, q, otlp.Logs, append(bytes.Repeat(empty, 1<<20), request("what counts", 10)...))
		passOn(t, q, otlp.Logs, bytes.Repeat(full, maxParts))
		if err := q.PassOn(otlp.Logs, bytes.Repeat(full, maxParts+1)); err == nil {
			t.Error("too many parts are taken")
		}
		passOn(t, q, otlp.Logs, request("too large", maxEntry))
		q.Offer(otlp.Batch{Signal: otlp.Traces, Spans: 7, Through: 7, Resources: [][]byte{make([]byte, maxEntry-headSize)}})
		largest := maxEntry - 2*maxText - headSize - 5
		q.Offer(otlp.Batch{Signal: otlp.Traces, Spans: 3, Through: 10, Resources: [][]byte{make([]byte, largest)}})
		until(t, "the rest arrives", func() bool { return a.count(agentLogs) == 2 && a.count(spans) == 1 })
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		balanced(t, q)
		if l := laneOf(q, "a", agentLogs); l.Dropped.TooLarge != 2 || l.Sent != 2 {
			t.Errorf("%+v", l)
		}
		if l := laneOf(q, "a", spans); l.Dropped.TooLarge != 7 || l.Sent != 3 || q.Durable(otlp.Traces, 10) != 10 {
			t.Errorf("%+v", l)
		}
		if st := q.Stats(); st.DamagedFiles != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestThePartsOfARequestCountInMemory(t *testing.T) {
	a := &scripted{script: always(otlp.Temporary)}
	q := open(t, Config{Destinations: []Destination{{Name: "a", Backend: a}}})
	passOn(t, q, otlp.Logs, bytes.Repeat([]byte{0x0a, 1, 0}, maxParts))
	if n := q.Stats().MemoryBytes; n < maxParts*(3+24) {
		t.Errorf("%d bytes are counted", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = q.Close(ctx)
	if n := q.Stats().MemoryBytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

func TestWhatIsPassedOnStaysOffTheDiskIfToldSo(t *testing.T) {
	const secret = "what the agent said"
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprint(inMemory), func(t *testing.T) {
			a := &scripted{script: always(otlp.Temporary)}
			dir := spoolDir(t)
			cfg := Config{Dir: dir, PassedOnInMemory: inMemory, Destinations: []Destination{{Name: "a", Backend: a}}}
			q := open(t, cfg)
			passOn(t, q, otlp.Traces, request(secret, 0))
			offer(q, 0, 10, 10)
			until(t, "spans are on disk, and the other was tried", func() bool {
				return q.Stats().StoredBytes > 0 && laneOf(q, "a", agentTraces).Errors > 0 && laneOf(q, "a", spans).Errors > 0
			})
			a.set(always(otlp.Permanent)) // nor is it a dead letter
			if !inMemory {
				a.set(always(otlp.Temporary))
			}
			until(t, "it is settled", func() bool { return !inMemory || laneOf(q, "a", agentTraces).Failed == 1 })
			a.set(always(otlp.Temporary))
			passOn(t, q, otlp.Traces, request(secret, 0))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := q.Close(ctx); err != nil {
				t.Error(err)
			}
			l := balanced(t, q)[1]
			if inMemory != (l.Dropped.Shutdown == 1) {
				t.Errorf("%+v", l)
			}
			found := false
			err := filepath.WalkDir(filepath.Dir(dir), func(name string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				text, err := os.ReadFile(name)
				found = found || bytes.Contains(text, []byte(secret))
				return err
			})
			if err != nil || found == inMemory {
				t.Errorf("on the disk: %t, %v", found, err)
			}
			if inMemory {
				return
			}
			a.set(nil)
			q = open(t, cfg)
			if err := end(t, q, time.Minute); err != nil || a.count(agentTraces) != 2 {
				t.Errorf("%d arrive after the next start: %v", a.count(agentTraces), err)
			}
		})
	}
}

// The layout of the version before this one, byte by byte.
func TestASpoolOfTheVersionBeforeIsSent(t *testing.T) {
	dir := spoolDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "spool.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"batches", "positions", "meta"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for seq := uint64(1); seq <= 3; seq++ {
			rest := append(number(uint64(time.Now().UnixNano())), 0, 0, 0, 7, 0, 0, 0, 0) // made, spans, two texts
			rest = append(rest, request(fmt.Sprint("batch ", seq), 0)...)
			sum := crc32.Checksum(rest, crc32.MakeTable(crc32.Castagnoli))
			entry := append(binary.BigEndian.AppendUint32([]byte("SBq1"), sum), rest...)
			if err := tx.Bucket([]byte("batches")).Put(number(seq), entry); err != nil {
				return err
			}
		}
		if err := tx.Bucket([]byte("positions")).Put([]byte("a"), number(1)); err != nil {
			return err
		}
		return tx.Bucket([]byte("meta")).Put([]byte("id"), number(42))
	})
	if err != nil || db.Close() != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+".tally", make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &scripted{}
	q := open(t, Config{Dir: dir, Destinations: []Destination{{Name: "a", Backend: a}}})
	if err := end(t, q, time.Minute); err != nil {
		t.Error(err)
	}
	if l := balanced(t, q)[0]; l.Resumed != 14 || l.Sent != 14 || a.count(spans) != 2 ||
		!strings.Contains(strings.Join(a.got[spans], ""), "batch 2") || !strings.Contains(strings.Join(a.got[spans], ""), "batch 3") {
		t.Errorf("%q: %+v", a.got[spans], l)
	}
}

// While an older batch is tried again, younger ones go on, but not so far that a kill would repeat many.
func TestABatchThatFailsHoldsUpTheOthersAfterSome(t *testing.T) {
	everywhere(t, func(t *testing.T, dir string) {
		stuck := make(chan struct{})
		a := &stuckOnce{stuck: stuck}
		q := open(t, Config{Dir: dir, Destinations: []Destination{{Name: "a", Backend: a}}})
		offer(q, 0, 100, 1)
		ahead := func() int {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.lanes[spans][0].ahead)
		}
		until(t, "others were sent", func() bool { return ahead() >= maxAhead })
		if n := laneOf(q, "a", spans).Sent; n > maxAhead+window {
			t.Errorf("%d were sent", n)
		}
		close(stuck)
		until(t, "all are sent", func() bool { return queued(q) == 0 })
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		if l := balanced(t, q)[0]; l.Sent != 100 {
			t.Errorf("%+v", l)
		}
	})
}

// stuckOnce refuses the first request when stuck is closed.
type stuckOnce struct {
	nowhere
	stuck chan struct{}
	once  sync.Once
}

func (s *stuckOnce) Send(context.Context, otlp.Batch) (otlp.Receipt, error) {
	first := false
	s.once.Do(func() { first = true })
	if first {
		<-s.stuck
		return otlp.Receipt{}, refusal(otlp.Temporary)
	}
	return otlp.Receipt{}, nil
}
