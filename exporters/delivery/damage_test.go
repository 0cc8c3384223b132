// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// filled is a directory with a spool of 1000 spans, and the bytes of its file.
func filled(t *testing.T) (dir string, file []byte) {
	t.Helper()
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	dir = spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 1000, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, storeName))
	if err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestADamagedSpoolIsSetAsideAndANewOneBegun(t *testing.T) {
	dir, good := filled(t)
	tally, err := os.ReadFile(dir + ".tally")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"cut short":            func(b []byte) []byte { return b[:len(b)/2] },
		"cut to one byte":      func([]byte) []byte { return []byte{1} },
		"not a database":       func(b []byte) []byte { clear(b); return b },
		"text":                 func([]byte) []byte { return []byte(strings.Repeat("hello ", 10_000)) },
		"its pages are zeroed": func(b []byte) []byte { clear(b[2*4096:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, storeName), change(append([]byte(nil), good...)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+".tally", tally, 0o600); err != nil {
				t.Fatal(err)
			}
			b, log := serve(t, "127.0.0.1:0", take), &journal{}
			s := open(t, Config{Dir: dir, Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
			offer(s, 5000, 100, 10)
			if err := end(t, s, time.Minute); err != nil {
				t.Error(err)
			}
			if d := balanced(t, s)[0]; d.Lost != 1000 {
				t.Errorf("what was in it is not counted: %+v", d)
			}
			b.hasAll(t, 5000, 100)
			if st := s.Stats(); st.DamagedFiles != 1 || !strings.Contains(log.String(), "set aside") {
				t.Errorf("%+v\n%s", st, log)
			}
		})
	}
	if kept := damagedFiles(filepath.Join(dir, storeName)); len(kept) != maxAside {
		t.Errorf("%d damaged files are kept, want %d", len(kept), maxAside)
	}
}

// Whatever bytes are in the file: no panic, no fault, no endless loop, and every span accounted for.
func TestAnyDamageIsSurvived(t *testing.T) {
	dir, good := filled(t)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		bad := append([]byte(nil), good...)
		for range 1 + random.IntN(20) {
			at := random.IntN(len(bad))
			n := min(1+random.IntN(200), len(bad)-at)
			for j := range n {
				bad[at+j] = byte(random.Uint32())
			}
		}
		if err := os.WriteFile(filepath.Join(dir, storeName), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		b := serve(t, "127.0.0.1:0", take)
		s := open(t, Config{Dir: dir, Sync: SyncNone, Destinations: []Destination{b.to(t, "b")}})
		offer(s, 5000, 10, 10)
		if err := end(t, s, time.Minute); err != nil {
			t.Errorf("damage %d: %v", i, err)
		}
		d := balanced(t, s)[0]
		last := b.got()
		if d.Queued != 0 || uint64(len(last)) != d.Sent || len(last) < 10 || !slices.Contains(last, "span 5009") {
			t.Errorf("damage %d: %d arrived: %+v", i, len(last), d)
		}
		if len(b.differ) > 0 {
			t.Errorf("damage %d: spans that differ arrived: %q", i, b.differ)
		}
	}
}

func TestDamageWhileTheSpoolIsInUseCostsOnlyWhatIsInIt(t *testing.T) {
	b, log := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), &journal{}
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 1000, 10)
	until(t, "all is written", func() bool { return b.asked() > 0 && s.Stats().MemoryBytes == 0 })
	if err := os.Truncate(filepath.Join(dir, storeName), 4096); err != nil { // faults from now on
		t.Fatal(err)
	}
	offer(s, 1000, 100, 10)
	until(t, "a new file is begun, and has the new spans", func() bool {
		st := s.Stats()
		return st.DamagedFiles == 1 && st.MemoryBytes == 0 && !st.Failing
	})
	b.set(take)
	// Before the end: a backend that has just refused is not asked once more then.
	until(t, "the new spans arrive", func() bool { return s.Stats().Lanes[0].Queued == 0 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	d := balanced(t, s)[0]
	got := b.got()
	if d.Dropped.Damage == 0 || d.Sent+d.Dropped.Damage != 1100 || !slices.Contains(got, "span 1099") {
		t.Errorf("%d arrived: %+v\n%s", len(got), d, log)
	}
}

// Without the size of the file nobody knows before bbolt does, with its locks held, that the meta pages are gone.
func TestAFaultWhileATransactionBeginsHangsNothing(t *testing.T) {
	for _, warned := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), storeName)
		st, _, err := openStore(path, 64<<20, SyncBatch)
		if err != nil {
			t.Fatal(err)
		}
		h := head{seq: 1, size: 100}
		if err := st.commit(change{put: []record{{h, make([]byte, 100)}}}); err != nil {
			t.Fatal(err)
		}
		if !warned {
			st.metas = 0
		}
		if err := os.Truncate(path, 4096); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 5)
		for range 3 {
			go func() {
				_, err := st.read(h)
				done <- err
			}()
		}
		for i := range 5 {
			select {
			case err := <-done:
				if !isDamage(err) && (i < 4 || !warned || err != nil) {
					t.Errorf("call %d: %v", i, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("call %d hangs", i)
			}
			switch i {
			case 2:
				go func() { done <- st.commit(change{}) }()
			case 3:
				go func() { done <- st.close() }()
			}
		}
	}
}

// disk is a file system of the test's own.
func disk(t *testing.T, options string) (dir string, remount func(flags uintptr, options string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir = t.TempDir()
	if err := unix.Mount("sheetbend-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func(flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, options); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskIsSurvived(t *testing.T) {
	dir, remount := disk(t, "size=1m,mode=0700")
	b, log := serve(t, "127.0.0.1:0", refuse(codes.Unavailable)), &journal{}
	s := open(t, Config{Dir: filepath.Join(dir, "spool"), CrashCounters: filepath.Join(t.TempDir(), "tally"), MemorySpans: 2000, Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
	for i := 0; i < 20_000; i += 500 {
		offer(s, i, 500, 500)
		until(t, "it is written, or cannot be", func() bool { st := s.Stats(); return st.MemoryBytes == 0 || st.Failing })
	}
	d := balanced(t, s)[0]
	if d.Dropped.Disk == 0 || d.Dropped.Sum() != d.Dropped.Disk || !strings.Contains(log.String(), "no space left") {
		t.Errorf("%+v\n%s", d, log)
	}
	remount(0, "size=64m")
	until(t, "memory is empty again", func() bool { st := s.Stats(); return st.MemoryBytes == 0 && !st.Failing })
	b.set(take)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d = balanced(t, s)[0]; d.Sent+d.Dropped.Disk != 20_000 || len(b.got()) != int(d.Sent) {
		t.Errorf("%d arrived: %+v", len(b.got()), d)
	}
	if n := strings.Count(log.String(), "cannot be written"); n != 1 || !strings.Contains(log.String(), "is written again") {
		t.Errorf("told %d times:\n%s", n, log)
	}
}

func TestSpansAreDeliveredWhileTheDiskIsFull(t *testing.T) {
	dir, _ := disk(t, "size=1m,mode=0700")
	b := serve(t, "127.0.0.1:0", take)
	s := open(t, Config{Dir: filepath.Join(dir, "spool"), CrashCounters: filepath.Join(t.TempDir(), "tally"), Destinations: []Destination{b.to(t, "b")}})
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(fill, zeros{}); err == nil {
		t.Fatal("the disk is not full")
	}
	offer(s, 0, 10_000, 500)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	balanced(t, s)
	b.hasAll(t, 0, 10_000)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestADiskThatIsReadOnlyAtTheStartIsSurvived(t *testing.T) {
	dir, remount := disk(t, "size=64m,mode=0700")
	remount(unix.MS_RDONLY, "")
	b, log := serve(t, "127.0.0.1:0", take), &journal{}
	s := open(t, Config{Dir: filepath.Join(dir, "spool"), CrashCounters: filepath.Join(t.TempDir(), "tally"), Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 100, 10)
	until(t, "spans are delivered from memory", func() bool { return len(b.got()) == 100 })
	remount(0, "")
	b.set(refuse(codes.Unavailable))
	offer(s, 100, 100, 10)
	until(t, "the disk is used again", func() bool { st := s.Stats(); return !st.Failing && st.MemoryBytes == 0 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if d := balanced(t, s)[0]; d.Queued != 100 || !strings.Contains(log.String(), "read-only") {
		t.Errorf("%+v\n%s", d, log)
	}
}
