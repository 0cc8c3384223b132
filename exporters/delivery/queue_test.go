// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc/codes"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

func TestEachBackendGetsEveryBatch(t *testing.T) {
	for _, policy := range []Sync{SyncBatch, SyncInterval, SyncNone, "memory"} {
		t.Run(string(policy), func(t *testing.T) {
			dir := spoolDir(t)
			if policy == "memory" {
				dir = ""
			}
			a, b := serve(t, "127.0.0.1:0", take), serve(t, "127.0.0.1:0", take)
			s := open(t, Config{Dir: dir, Sync: policy, Destinations: []Destination{a.to(t, "a"), b.to(t, "b")}})
			offer(s, 0, 5000, 100)
			if err := end(t, s, time.Minute); err != nil {
				t.Error(err)
			}
			a.hasAll(t, 0, 5000)
			b.hasAll(t, 0, 5000)
			for _, d := range balanced(t, s) {
				if d.Sent != 5000 {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

func TestABackendThatIsAwayDoesNotHoldUpTheOther(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), serve(t, "127.0.0.1:0", take)
	s := open(t, Config{Dir: spoolDir(t), Destinations: []Destination{a.to(t, "a"), b.to(t, "b")}})
	offer(s, 0, 1000, 10)
	until(t, "the one that works has all", func() bool { return len(b.got()) == 1000 })
	a.set(take)
	until(t, "the other one has all", func() bool { return len(a.got()) == 1000 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	a.hasAll(t, 0, 1000)
	b.hasAll(t, 0, 1000)
}

func TestWhatIsLeftIsSentByTheNextStart(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), serve(t, "127.0.0.1:0", take)
	cfg := Config{Dir: spoolDir(t), Destinations: []Destination{a.to(t, "a"), b.to(t, "b")}}
	s := open(t, cfg)
	offer(s, 0, 1000, 10)
	until(t, "the one that works has all", func() bool { return len(b.got()) == 1000 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d := balanced(t, s); d[0].Queued != 1000 || d[1].Sent != 1000 || d[0].Dropped.Sum() != 0 {
		t.Errorf("%+v", d)
	}
	a.set(take)
	cfg.Destinations = []Destination{a.to(t, "a"), b.to(t, "b")}
	s = open(t, cfg)
	offer(s, 1000, 10, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d := balanced(t, s); d[0].Resumed != 1000 || d[0].Sent != 1010 || d[1].Resumed != 0 || d[1].Sent != 10 || d[0].Lost+d[1].Lost != 0 {
		t.Errorf("%+v", d)
	}
	a.hasAll(t, 0, 1010)
	b.hasAll(t, 0, 1010)
	if b.twice != 0 {
		t.Errorf("%d spans were sent twice after an orderly end", b.twice)
	}
}

func TestANewEndpointGetsWhatWaitsAndOneThatIsGoneHoldsNothing(t *testing.T) {
	away, a := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), serve(t, "127.0.0.1:0", take)
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{away.to(t, "wrong")}})
	offer(s, 0, 100, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	s = open(t, Config{Dir: dir, Destinations: []Destination{a.to(t, "right")}})
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	a.hasAll(t, 0, 100)
	if st := s.Stats(); st.StoredBytes != 0 || st.Lanes[0].Queued != 0 {
		t.Errorf("%+v", st)
	}
}

func TestDeliverySurvivesWhatBackendsDo(t *testing.T) { everywhere(t, survives) }

func survives(t *testing.T, dir string) {
	where, own := "they wait in memory", func(*testing.T) string { return "" }
	if dir != "" {
		where, own = "they wait in the spool", func(t *testing.T) string { return spoolDir(t) }
	}
	for _, c := range []struct {
		name string
		does answer
	}{
		{"refuses", refuse(codes.Unavailable)},
		{"stalls", stall},
		{"resets connections", reset},
		{"takes spans and loses the answer", mute},
		{"does not know the sensor any more", refuse(codes.Unauthenticated)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := serve(t, "127.0.0.1:0", c.does)
			log := &journal{}
			s := open(t, Config{Dir: own(t), Log: logTo(log), Destinations: []Destination{destinationOf(t, "b", b.addr, 200*time.Millisecond)}})
			offer(s, 0, 200, 10)
			until(t, "it was asked again", func() bool { return b.asked() > 2 })
			b.set(take)
			until(t, "everything arrived", func() bool { return s.Stats().Lanes[0].Queued == 0 })
			if err := end(t, s, time.Minute); err != nil {
				t.Error(err)
			}
			b.hasAll(t, 0, 200)
			if d := balanced(t, s)[0]; d.Sent != 200 || d.Errors == 0 {
				t.Errorf("%+v", d)
			}
			if n := strings.Count(log.String(), where); n != 1 || !strings.Contains(log.String(), "takes spans again") {
				t.Errorf("the outage is told %d times:\n%s", n, log)
			}
		})
	}
	t.Run("is restarted", func(t *testing.T) {
		first := serve(t, "127.0.0.1:0", take)
		s := open(t, Config{Dir: own(t), Destinations: []Destination{first.to(t, "b")}})
		offer(s, 0, 100, 10)
		until(t, "some arrived", func() bool { return len(first.got()) > 0 })
		first.grpc.Stop()
		offer(s, 100, 100, 10)
		second := serve(t, first.addr, take)
		until(t, "everything arrived", func() bool { return s.Stats().Lanes[0].Queued == 0 })
		if err := end(t, s, time.Minute); err != nil {
			t.Error(err)
		}
		all := map[string]bool{}
		for _, name := range append(first.got(), second.got()...) {
			all[name] = true
		}
		if len(all) != 200 {
			t.Errorf("the backends have %d spans, want 200", len(all))
		}
	})
}

func TestPartialSuccessIsCounted(t *testing.T) {
	b := serve(t, "127.0.0.1:0", func(context.Context, *server) (*coltracepb.ExportTraceServiceResponse, error) {
		return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 3, ErrorMessage: "too old"}}, nil
	})
	log := &journal{}
	s := open(t, Config{Dir: spoolDir(t), Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 20, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d := balanced(t, s)[0]; d.Sent != 14 || d.Rejected != 6 || b.asked() != 2 || !strings.Contains(log.String(), "too old") {
		t.Errorf("asked %d times: %+v\n%s", b.asked(), d, log)
	}
}

func TestAFullSpoolDropsTheOldestAndCountsThem(t *testing.T) {
	const limit = 32 << 20
	b, log := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), &journal{}
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Log: logTo(log), MaxBytes: limit, Sync: SyncNone, Destinations: []Destination{b.to(t, "b")}})
	const n = 300_000
	for i := 0; i < n; i += 1000 {
		offer(s, i, min(1000, n-i), 500)
		until(t, "it is written", func() bool { return s.Stats().MemoryBytes == 0 })
	}
	d := balanced(t, s)[0]
	until(t, "the log tells of it", func() bool { return strings.Contains(log.String(), "all_spool_full=") })
	if d.Dropped.Size == 0 || d.Dropped.Sum() != d.Dropped.Size {
		t.Errorf("%+v", d)
	}
	if info, err := os.Stat(filepath.Join(dir, storeName)); err != nil || info.Size() > limit {
		t.Errorf("the file has %d bytes, %v, want at most %d", info.Size(), err, limit)
	}
	b.set(take)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	got := b.got()
	if d = balanced(t, s)[0]; d.Sent+d.Dropped.Size != n || int(d.Sent) != len(got) {
		t.Errorf("%d arrived: %+v", len(got), d)
	}
	b.hasAll(t, n-len(got), len(got))
}

func TestAFileFullOfHolesStaysBoundedAndKeepsMostOfWhatItCan(t *testing.T) {
	const limit = 32 << 20
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, MaxBytes: limit, Sync: SyncNone, Destinations: []Destination{{Name: "b", Backend: away{}}}})
	random := rand.New(rand.NewPCG(1, 2))
	n := 0
	for range 400 {
		for range 1 + random.IntN(3) {
			n++
			s.Offer(otlp.Batch{Signal: otlp.Traces, Spans: 1, Resources: [][]byte{make([]byte, 1000+random.IntN(1<<20))}})
		}
		until(t, "it is written", func() bool { return s.Stats().MemoryBytes == 0 })
		st := s.Stats()
		if n > 100 && st.StoredBytes < limit/4 {
			t.Fatalf("only %d bytes are kept of %d: %+v", st.StoredBytes, limit, st)
		}
	}
	d := balanced(t, s)[0]
	if d.Dropped.Size == 0 || d.Dropped.Sum() != d.Dropped.Size || int(d.Dropped.Size+d.Queued) != n {
		t.Errorf("%+v", d)
	}
	if info, err := os.Stat(filepath.Join(dir, storeName)); err != nil || info.Size() > limit {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
}

// away takes nothing.
type away struct{ nowhere }

func (away) Send(context.Context, otlp.Batch) (otlp.Receipt, error) {
	return otlp.Receipt{}, &otlp.Refusal{Message: "away", Kind: otlp.Temporary}
}

func TestAFileThatAnOutageMadeLargeIsSmallAfterTheNextStart(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	cfg := Config{Dir: spoolDir(t), Sync: SyncNone, Destinations: []Destination{b.to(t, "b")}}
	s := open(t, cfg)
	offer(s, 0, 250_000, 500)
	until(t, "it is written", func() bool { return s.Stats().MemoryBytes == 0 })
	size := func() int64 {
		info, err := os.Stat(filepath.Join(cfg.Dir, storeName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if size() <= emptyFile {
		t.Fatalf("the file has %d bytes only", size())
	}
	b.set(take)
	for range 2 {
		if err := end(t, s, time.Minute); err != nil {
			t.Fatal(err)
		}
		cfg.Destinations = []Destination{b.to(t, "b")}
		s = open(t, cfg)
	}
	offer(s, 250_000, 10, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Fatal(err)
	}
	if size() > emptyFile {
		t.Errorf("the file has %d bytes", size())
	}
	b.hasAll(t, 0, 250_010)
	if d := balanced(t, s)[0]; d.Lost != 0 {
		t.Errorf("%+v", d)
	}
}

func TestWhatIsTooOldIsDroppedAndCounted(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	cfg := Config{Dir: spoolDir(t), MaxAge: 50 * time.Millisecond, Destinations: []Destination{b.to(t, "b")}}
	s := open(t, cfg)
	offer(s, 0, 100, 10)
	until(t, "all are dropped", func() bool { return s.Stats().Lanes[0].Dropped.Age == 100 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	balanced(t, s)
	b.set(take)
	cfg.MaxAge, cfg.Destinations = 0, []Destination{b.to(t, "b")}
	s = open(t, cfg)
	offer(s, 100, 10, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	balanced(t, s)
	b.hasAll(t, 100, 10)
}

func TestTheCollectorNeverWaitsForTheDisk(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	s := open(t, Config{Dir: spoolDir(t), MemorySpans: 1000, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 1, 1)
	until(t, "it is under way, and written", func() bool { return b.asked() > 0 && s.Stats().MemoryBytes == 0 })
	hung, err := s.store.db.Begin(true) // a commit that does not end
	if err != nil {
		t.Fatal(err)
	}
	offer(s, 1, 10_000, 100)
	d := balanced(t, s)[0]
	if d.Dropped.Memory != 9_000 || d.Queued != 1001 {
		t.Errorf("%+v", d)
	}
	b.set(take)
	until(t, "batches are sent from memory", func() bool { return s.Stats().Lanes[0].Queued == 0 })
	if err := hung.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d := balanced(t, s)[0]; d.Sent != 1001 || len(b.got()) != 1001 {
		t.Errorf("%d arrived: %+v", len(b.got()), d)
	}
}

func TestOneDirectoryIsForOneProcess(t *testing.T) {
	b := serve(t, "127.0.0.1:0", take)
	cfg := Config{Dir: spoolDir(t), Destinations: []Destination{b.to(t, "b")}}
	s := open(t, cfg)
	defer end(t, s, time.Minute)
	_, err := Open(cfg)
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("error is %v", err)
	}
}

func TestADirectoryThatOthersCanEnterIsRefused(t *testing.T) {
	b := serve(t, "127.0.0.1:0", take)
	for _, c := range []struct {
		name, says string
		prepare    func(dir string) error
	}{
		{"open to others", "chmod 0700", func(dir string) error { return os.Mkdir(dir, 0o755) }},
		{"a link", "not a directory", func(dir string) error { return os.Symlink("/tmp", dir) }},
		{"a file", "not a directory", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"another user's", "belongs to the user with id 12345", func(dir string) error {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chown(dir, 12345, -1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := spoolDir(t)
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			to := b.to(t, "b")
			defer to.Backend.Close()
			if _, err := Open(Config{Dir: dir, Destinations: []Destination{to}}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want one with %q", err, c.says)
			}
		})
	}
	t.Run("one that is made is not open", func(t *testing.T) {
		dir := spoolDir(t)
		s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
		defer end(t, s, time.Minute)
		for _, name := range []string{dir, filepath.Join(dir, storeName), filepath.Join(dir, lockName)} {
			info, err := os.Stat(name)
			if err != nil || info.Mode()&0o077 != 0 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	})
}

func TestASpoolThatIsClosedCountsWhatItIsOffered(t *testing.T) {
	b := serve(t, "127.0.0.1:0", take)
	s := open(t, Config{Dir: spoolDir(t), Destinations: []Destination{b.to(t, "b")}})
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	offer(s, 0, 10, 10)
	if d := balanced(t, s)[0]; d.Dropped.Shutdown != 10 {
		t.Errorf("%+v", d)
	}
}
