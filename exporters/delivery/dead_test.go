// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func letters(t *testing.T, dir string) []DeadLetter {
	t.Helper()
	l, err := DeadLetters(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNoSenderBeginsAtTheEnd(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.InvalidArgument))
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 10, 10)
	until(t, "it is set aside", func() bool { return s.Stats().Lanes[0].SetAside == 10 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	if err := Retry(dir, letters(t, dir)[0].ID); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	s.mu.Lock()
	s.closed = true
	s.lanes[spans][0].retries, s.lanes[spans][0].started = nil, false
	s.mu.Unlock()
	s.retryDead()
	s.mu.Lock()
	if s.lanes[spans][0].started {
		t.Error("a sender began")
	}
	s.mu.Unlock()
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAnOpenThatFailsLeavesNothingBehind(t *testing.T) {
	dir, page := spoolDir(t), filepath.Join(t.TempDir(), "tally")
	calls := 0
	as := func(do func() error) error {
		if calls++; calls == 2 {
			return errors.New("refused by the test")
		}
		return do()
	}
	if _, err := Open(Config{Dir: dir, As: as, CrashCounters: page, Destinations: []Destination{{Name: "a", Backend: &scripted{}}}}); err == nil {
		t.Fatal("opened")
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(maps), page) || !exists(page) {
		t.Error("the crash counters stay mapped, or never were")
	}
}

func TestWhatIsRefusedForGoodBecomesADeadLetterAndTheRestGoesOn(t *testing.T) {
	b, log := serve(t, "127.0.0.1:0", refuse(codes.InvalidArgument)), &journal{}
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Log: logTo(log), Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 30, 10)
	until(t, "all are set aside", func() bool { return s.Stats().Lanes[0].SetAside == 30 })
	b.set(take)
	offer(s, 30, 10, 10)
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	b.hasAll(t, 30, 10)
	d := balanced(t, s)[0]
	l := letters(t, dir)
	if len(l) != 3 || d.Sent != 10 || l[0].To != "b" || l[0].Spans != 10 || !strings.Contains(l[0].Reason, "refused by the test") || l[0].Retry {
		t.Errorf("%+v, %+v", d, l)
	}
	if b.asked() != 4 {
		t.Errorf("asked %d times: what is refused for good is not tried again", b.asked())
	}
	if !strings.Contains(log.String(), "sheetbend spool list") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}

	// The three ways out.
	if err := Drop(dir, l[0].ID); err != nil {
		t.Error(err)
	}
	if err := Retry(dir, l[1].ID); err != nil {
		t.Error(err)
	}
	if l = letters(t, dir); len(l) != 2 || l[0].Retry || !l[1].Retry {
		t.Errorf("%+v", l)
	}
	s = open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	until(t, "the one that is tried again arrives", func() bool { return s.Stats().Lanes[0].Recovered == 10 })
	if l = letters(t, dir); len(l) != 1 || len(b.got()) != 20 {
		t.Errorf("%d arrived, %+v", len(b.got()), l)
	}
	b.set(refuse(codes.InvalidArgument))
	if err := Retry(dir, l[0].ID); err != nil {
		t.Error(err)
	}
	asked := b.asked()
	until(t, "it is refused again, and dead again", func() bool { l := letters(t, dir); return b.asked() > asked && len(l) == 1 && !l[0].Retry })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestALetterThatMovesWhileItIsListedIsListed(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.InvalidArgument))
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 10, 10)
	until(t, "it is set aside", func() bool { return len(letters(t, dir)) == 1 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	id := letters(t, dir)[0].ID
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for from, to := deadName, retryName; ; from, to = to, from {
			select {
			case <-stop:
				return
			default:
				if err := moveDead(dir, id, from, to); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	for range 1000 {
		if l := letters(t, dir); len(l) > 1 {
			t.Fatalf("the one letter is listed as %d", len(l))
		}
	}
}

func TestADeadLetterWaitsForABackendThatIsAway(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.InvalidArgument))
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 10, 10)
	until(t, "it is set aside", func() bool { return len(letters(t, dir)) == 1 })
	b.set(refuse(codes.Unavailable))
	if err := Retry(dir, letters(t, dir)[0].ID); err != nil {
		t.Fatal(err)
	}
	asked := b.asked()
	until(t, "it was tried twice", func() bool { return b.asked() >= asked+2 })
	if l := letters(t, dir); len(l) != 1 || !l[0].Retry {
		t.Errorf("%+v", l)
	}
	b.set(take)
	until(t, "it arrives", func() bool { return len(b.got()) == 10 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestWhatIsTooMuchIsTriedSomeTimesFirst(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.ResourceExhausted))
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 10, 10)
	until(t, "it is set aside", func() bool { return s.Stats().Lanes[0].SetAside == 10 })
	if b.asked() != maxLoadAttempts {
		t.Errorf("asked %d times, want %d", b.asked(), maxLoadAttempts)
	}
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.InvalidArgument))
	dir := spoolDir(t)
	s := open(t, Config{Dir: dir, DeadBytes: 10_000, Destinations: []Destination{b.to(t, "b")}})
	offer(s, 0, 1000, 10)
	until(t, "all are settled", func() bool { return s.Stats().Lanes[0].SetAside == 1000 })
	if err := end(t, s, time.Minute); err != nil {
		t.Error(err)
	}
	var size int64
	kept := 0
	for _, l := range letters(t, dir) {
		size += l.Size
		kept += l.Spans
	}
	if st := s.Stats(); size > 10_000 || kept == 0 || uint64(kept)+st.DeadDropped != 1000 {
		t.Errorf("%d spans in %d bytes are kept: %+v", kept, size, st)
	}
}

func TestWhatIsNoDeadLetterIsToldAndLeftAlone(t *testing.T) {
	dir := spoolDir(t)
	if err := os.MkdirAll(filepath.Join(dir, deadName), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, deadName, "x"+deadSuffix)
	if err := os.WriteFile(name, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := DeadLetters(dir); len(l) != 0 || err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("%v, %v", l, err)
	}
	if err := Drop(dir, "../../"+storeName); err == nil {
		t.Error("an id leads out of the directory")
	}
	if err := Drop(dir, "x"); err != nil || exists(name) {
		t.Errorf("it cannot be dropped: %v", err)
	}
}
