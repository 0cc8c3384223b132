// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// The test binary is also the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("RECORDER_TEST_DIR"); dir != "" {
		recordUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// A tape is a Recorder with what comes before it.
type tape struct {
	*Recorder
	e    *otlp.Encoder
	log  strings.Builder
	at   atomic.Int64 // ns since the Unix epoch: the time that it is
	next uint64       // number of the span that comes next
}

func start(t testing.TB, o Options) *tape {
	t.Helper()
	tp := &tape{e: otlp.NewEncoder("v1", otlp.Limits{}), next: 1}
	tp.at.Store(1_800_000_000_000_000_000)
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxAge == 0 {
		o.MaxAge = 24 * time.Hour
	}
	o.User, o.Encode, o.Now = 4711, tp.e.AppendTraces, func() time.Time { return time.Unix(0, tp.at.Load()) }
	o.Log = slog.New(slog.NewTextHandler(&tp.log, nil))
	var err error
	if tp.Recorder, err = Open(o); err != nil {
		t.Fatal(err)
	}
	tp.e.Tap(tp.Recorder)
	return tp
}

func (tp *tape) end(t testing.TB) Stats {
	t.Helper()
	if err := tp.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tp.Stats()
}

// who has spans.
type who struct {
	instance, sandbox, session string
	user                       int64
}

var resource = &span.Resource{Attrs: []span.Attr{text(span.KeyServiceName, "codex")}}

func text(key, v string) span.Attr      { return span.Attr{Key: key, Kind: span.StringAttr, Str: v} }
func num(key string, v int64) span.Attr { return span.Attr{Key: key, Kind: span.IntAttr, Int: v} }

// give records a span of the time that it is, with more attributes.
func (tp *tape) give(w who, kind span.Kind, more ...span.Attr) {
	at := uint64(tp.at.Load())
	s := &span.Span{
		Trace: span.TraceID{1}, ID: span.ID{byte(tp.next >> 16), byte(tp.next >> 8), byte(tp.next), 1}, Kind: kind, Name: kind.String(), Start: at, End: at + 1000,
		Session: w.session, Instance: w.instance, Resource: resource,
		Attrs: append([]span.Attr{
			num(span.KeySeq, int64(tp.next)), text(span.KeyEvent, kind.String()), text(span.KeySandboxID, w.sandbox),
			text(span.KeyInstance, w.instance), text(span.KeySessionID, w.session), num(span.KeyRealUserID, w.user),
		}, more...),
	}
	tp.next++
	tp.e.Span(s)
}

// noise is text that hardly compresses.
func noise(random *rand.Rand, n int) span.Attr {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + random.IntN(64))
	}
	return text("noise", string(b))
}

// flood records n blocks of about 200 KiB.
func (tp *tape) flood(t testing.TB, w who, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for range n {
		tp.give(w, span.Session, noise(random, blockBytes))
		tp.settle(t)
	}
}

// settle waits until all that is in closed blocks is written.
func (tp *tape) settle(t testing.TB) {
	t.Helper()
	tp.at.Add(int64(2 * blockAge))
	tp.Flush()
	for deadline := time.Now().Add(time.Minute); tp.Done(tp.taken) < tp.taken || len(tp.jobs) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the recorder writes nothing")
		}
		runtime.Gosched()
	}
}

// numbers reads sheetbend.seq of the spans of a recording.
func numbers(r io.Reader) (out []int64, err error) {
	var d otlp.Decoder
	err = Read(r, func(_ *Summary, traces []byte) error { return d.Decode(traces, seqs{&out}) })
	return out, err
}

type seqs struct{ out *[]int64 }

func (s seqs) Span(x *span.Span) {
	n, _ := span.Attrs(x.Attrs).Int(span.KeySeq)
	*s.out = append(*s.out, n)
}
func (seqs) Flush() {}

func numbersIn(t testing.TB, name string) []int64 {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := numbers(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// directory is a place for recordings.
func directory(t testing.TB) string { return filepath.Join(t.TempDir(), "recordings") }

var codex = who{"agent-0123456789abcdef", "sb-1", "s-1", 1000}

func TestAnInstanceGoesOnInItsFileAfterARestart(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir})
	tp.give(who{codex.instance, codex.sandbox, codex.sandbox, 1000}, span.Session)
	tp.settle(t)
	tp.give(codex, span.SessionCall, text(span.KeyCallID, "c-1"))
	tp.give(who{"sb-1", "sb-1", "sb-1", 0}, span.Exec)
	tp.end(t)
	for _, name := range []string{codex.instance, "sb-1"} {
		st, err := os.Stat(filepath.Join(dir, name+suffix))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Fatal(st, err)
		}
	}
	again := start(t, Options{Path: dir})
	again.next = 10
	again.give(codex, span.Exit, text(span.KeyAgentName, "codex"))
	again.give(who{codex.instance, codex.sandbox, "sub-1", 1000}, span.Open, text(span.KeyCallID, "c-2"))
	again.settle(t)
	if got := numbersIn(t, filepath.Join(dir, codex.instance+suffix)); fmt.Sprint(got) != "[1 2 10 11]" {
		t.Errorf("spans %d", got)
	}
	for uid, want := range map[uint32]int{0: 2, 4711: 2, 1000: 1, 1001: 0} {
		if got := again.List(uid); len(got) != want {
			t.Errorf("user %d is shown %d recordings, want %d", uid, len(got), want)
		}
	}
	if r, err := again.OpenRecording(1001, codex.instance+suffix); r != nil || err != nil {
		t.Errorf("another user may read: %v", err)
	}
	r := again.List(1000)[0]
	if r.Session != "s-1" || r.Agent != "codex" || *r.User != 1000 || r.Spans != 4 || r.Calls != 1 || !r.Is("sub-1") || r.Is("s-2") {
		t.Errorf("%+v", r)
	}
	f, err := again.OpenRecording(1000, r.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := numbers(f); err != nil || len(got) != 4 {
		t.Errorf("%d, %v", got, err)
	}
	_ = f.Close()
	if found, err := again.Remove(r.Name); !found || err != nil {
		t.Error(found, err)
	}
	again.give(codex, span.Exit)
	again.settle(t)
	if got := numbersIn(t, filepath.Join(dir, codex.instance+suffix)); fmt.Sprint(got) != "[12]" {
		t.Errorf("spans after the removal: %d", got)
	}
	if s := again.end(t); s.Removed != 4 || s.Written != 3 {
		t.Errorf("%+v", s)
	}
}

// recordUntilKilled records spans and says how many are safe.
func recordUntilKilled(dir string) {
	t := &fatal{}
	tp := start(t, Options{Path: dir})
	n, _ := strconv.Atoi(os.Getenv("RECORDER_TEST_NEXT"))
	tp.next = uint64(n)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := 0; ; i++ {
		w := codex
		w.instance = fmt.Sprint("agent-", random.IntN(4))
		tp.give(w, span.Exec, noise(random, random.IntN(2000)))
		if i%10 == 0 {
			tp.at.Add(int64(blockAge / 2))
			tp.Flush()
			fmt.Println(uint64(n)+tp.Done(tp.taken), tp.next)
		}
	}
}

// fatal is the testing.TB of that process.
type fatal struct{ testing.TB }

func (*fatal) Helper() {}
func (*fatal) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// A process is killed in the middle of its work, again and again. What it has called safe is there afterwards.
func TestAKillTakesOnlyWhatWasNotFlushed(t *testing.T) {
	dir := directory(t)
	random := rand.New(rand.NewPCG(5, 6))
	next := int64(1)
	var safe [][2]int64 // from, before
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "RECORDER_TEST_DIR="+dir, "RECORDER_TEST_NEXT="+strconv.FormatInt(next, 10))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first, before := next, next
		lines, most := 0, 1+random.IntN(200)
		for in := bufio.NewScanner(out); in.Scan(); lines++ {
			if _, err := fmt.Sscan(in.Text(), &before, &next); err != nil {
				t.Fatalf("the process says %q", in.Text())
			}
			if lines == most {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		safe = append(safe, [2]int64{first, before})
		next += 1000 // some were recorded after what it said
	}
	tp := start(t, Options{Path: dir})
	got := map[int64]int{}
	for _, r := range tp.List(0) {
		if r.Damaged {
			t.Errorf("%+v", r)
		}
		list := numbersIn(t, filepath.Join(dir, r.Name))
		if uint64(len(list)) != r.Spans {
			t.Errorf("%d spans, said are %d", len(list), r.Spans)
		}
		for _, n := range list {
			got[n]++
		}
	}
	tp.end(t)
	missing := 0
	for _, s := range safe {
		for n := s[0]; n < s[1]; n++ {
			if got[n] != 1 {
				missing++
			}
		}
	}
	if t.Logf("%d spans recorded", len(got)); missing > 0 || len(got) < 100 {
		t.Errorf("%d of those that were safe are not there once", missing)
	}
}

func TestWhatIsHalfWrittenIsCutOffAtTheStart(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir})
	for range 3 {
		tp.give(codex, span.Exec)
		tp.settle(t)
	}
	tp.end(t)
	name := filepath.Join(dir, codex.instance+suffix)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{0}
	for b := newBlocks(strings.NewReader(string(whole))); ; {
		if _, err := b.next(nil); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(b.at))
	}
	for cut := 1; cut <= len(whole); cut += 7 {
		for _, tail := range []string{"", strings.Repeat("\x00", 40)} {
			if err := os.WriteFile(name, []byte(string(whole[:cut])+tail), 0o600); err != nil {
				t.Fatal(err)
			}
			want := 0
			for want+1 < len(ends) && ends[want+1] <= cut {
				want++
			}
			tp := start(t, Options{Path: dir})
			tp.next = 9
			tp.give(codex, span.Exec)
			s := tp.end(t)
			if got := numbersIn(t, name); len(got) != want+1 || got[want] != 9 {
				t.Fatalf("cut at %d of %d: spans %d, want %d before the new one", cut, len(whole), got, want)
			}
			if torn := uint64(cut + len(tail) - ends[want]); s.TornBytes != torn || (torn > 0) != strings.Contains(tp.log.String(), "half written") {
				t.Fatalf("cut at %d: %d bytes are called torn, want %d: %s", cut, s.TornBytes, torn, tp.log.String())
			}
		}
	}
}

func TestADamagedOrNewerRecordingIsToldAndLeftAlone(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir})
	for range 3 {
		tp.give(codex, span.Exec)
		tp.settle(t)
	}
	tp.end(t)
	name := filepath.Join(dir, codex.instance+suffix)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first := newBlocks(strings.NewReader(string(whole)))
	if _, err := first.next(nil); err != nil {
		t.Fatal(err)
	}
	inFrame, inHead := []byte(string(whole)), []byte(string(whole))
	inFrame[first.at-3] ^= 0xff // in the first frame's checksum
	inHead[first.at] ^= 0xff    // where the second block begins
	for _, c := range []struct {
		what, text, says string
		want             string
		files            uint64
	}{
		{"a frame", string(inFrame), "some of the recording cannot be read", "[2 3]", 0},
		{"a head", string(inHead), "damaged at byte " + strconv.FormatInt(first.at, 10), "[1]", 1},
		{"newer", strings.Replace(string(whole), `{"sheetbend_recording":1`, `{"sheetbend_recording":2`, 1), "newer sheetbend", "[]", 1},
		{"something else", "a text of somebody", "not a recording", "[]", 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := numbers(strings.NewReader(c.text))
			if fmt.Sprint(got) != c.want || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%d, %v", got, err)
			}
			dir := directory(t)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, codex.instance+suffix)
			if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			tp := start(t, Options{Path: dir})
			tp.give(codex, span.Exec)
			s := tp.end(t)
			if c.files > 0 {
				if s.DamagedFiles+s.NewerFiles != c.files || !strings.Contains(tp.log.String(), filepath.Base(name)) {
					t.Errorf("%+v: %s", s, tp.log.String())
				}
				if left, err := os.ReadFile(name); err != nil || string(left) != c.text {
					t.Errorf("the file was changed: %v", err)
				}
				name = strings.TrimSuffix(name, suffix) + ".2" + suffix
				if got := numbersIn(t, name); fmt.Sprint(got) != "[1]" {
					t.Errorf("%d", got)
				}
			}
		})
	}
}

func TestNobodysFloodEvictsAnothersSessions(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir, MaxBytes: 8 << 20})
	small := []who{
		{"agent-of-another-user", "sb-user", "s", 1001},
		{"agent-of-roots-other-sandbox", "sb-root", "s", 0},
		{"agent-of-the-same-user-sandbox", "sb-own", "s", 1000},
	}
	for _, w := range small {
		tp.flood(t, w, 3)
	}
	// One sandbox with many agents, whose users its root makes up; one user with many sandboxes; one agent.
	for i := range 30 {
		tp.flood(t, who{fmt.Sprint("agent-made-up-", i), "sb-flood", "s", int64(2000 + i)}, 2)
		tp.flood(t, who{fmt.Sprint("agent-found-", i), fmt.Sprint("sb-found-", i), "s", 3000}, 2)
	}
	tp.flood(t, who{"agent-long", "sb-long", "s", 3001}, 60)
	s := tp.end(t)
	if s.Bytes > 8<<20 || s.EvictedSize == 0 || s.Disk+s.Slow+s.Shutdown != 0 {
		t.Errorf("%+v", s)
	}
	for _, w := range small {
		if got := numbersIn(t, filepath.Join(dir, w.instance+suffix)); len(got) != 3 {
			t.Errorf("of %s are left %d", w.instance, got)
		}
	}
	long := numbersIn(t, filepath.Join(dir, "agent-long"+suffix))
	if len(long) == 0 || long[len(long)-1] != int64(tp.next-1) {
		t.Errorf("of an agent that records much, the newest is to be left: %d", long)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent-found-29"+suffix)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent-found-0"+suffix)); err == nil {
		t.Error("the oldest of who has most is left")
	}
	var sum int64
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	if sum > s.Bytes {
		t.Errorf("%d bytes are there, counted are %d", sum, s.Bytes)
	}
}

func TestWhatIsTooOldGoes(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir, MaxAge: time.Hour})
	old := who{"agent-old", "sb-2", "s", 1000}
	tp.give(old, span.Exec)
	tp.give(codex, span.Exec)
	for range 9 { // one that goes on
		tp.at.Add(int64(10 * time.Minute))
		tp.give(codex, span.Exec)
		tp.settle(t)
	}
	tp.at.Add(int64(time.Minute))
	tp.settle(t)
	if _, err := os.Stat(filepath.Join(dir, "agent-old"+suffix)); err == nil {
		t.Error("it is left")
	}
	list := tp.List(0)
	got := numbersIn(t, filepath.Join(dir, codex.instance+suffix))
	s := tp.end(t)
	if len(got) == 0 || len(got) > 8 || got[len(got)-1] != 11 || s.EvictedAge != uint64(11-len(got)) {
		t.Errorf("%d are left: %+v", got, s)
	}
	if len(list) != 1 || list[0].Cut != uint64(10-len(got)) {
		t.Errorf("%+v", list)
	}
}

func TestAFullDiskIsToldOnceAndCounted(t *testing.T) {
	dir, grow := smallDisk(t)
	tp := start(t, Options{Path: dir})
	tp.flood(t, codex, 8)
	s := tp.Stats()
	if !s.Failing || s.Disk == 0 || s.Written+s.Disk != 8 || strings.Count(tp.log.String(), "cannot be recorded") != 1 {
		t.Errorf("%+v: %s", s, tp.log.String())
	}
	if got := numbersIn(t, filepath.Join(dir, codex.instance+suffix)); uint64(len(got)) != s.Written {
		t.Errorf("%d are there of %d", len(got), s.Written)
	}
	grow()
	tp.flood(t, codex, 1)
	if r := tp.List(0)[0]; r.Lost != s.Disk || r.Spans != s.Written+1 {
		t.Errorf("%+v", r)
	}
	if end := tp.end(t); end.Failing || end.Disk != s.Disk || !strings.Contains(tp.log.String(), "recorded again") {
		t.Errorf("%+v: %s", end, tp.log.String())
	}
}

func TestADirectoryThatOthersMayEnterOrUseIsRefused(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir})
	if _, err := Open(Options{Path: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
	tp.end(t)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: dir}); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	dir := directory(f)
	tp := start(f, Options{Path: dir})
	tp.give(codex, span.Exec)
	tp.end(f)
	whole, err := os.ReadFile(filepath.Join(dir, codex.instance+suffix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(whole[:len(whole):len(whole)], whole...))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = Read(strings.NewReader(string(text)), func(s *Summary, traces []byte) error {
			if s.Version != Version || len(traces) > maxMessage {
				t.Fatalf("%+v", s)
			}
			return nil
		})
	})
}

// Whose a recording is, the agent's own session says; what a child of another user does first opens it to nobody.
func TestARecordingIsNotOfWhoseProgramEndsFirst(t *testing.T) {
	tp := start(t, Options{Path: directory(t)})
	root := who{codex.instance, codex.sandbox, codex.sandbox, 0}
	tp.give(who{codex.instance, codex.sandbox, codex.sandbox, 1000}, span.Exec) // of a child: setuid
	tp.settle(t)
	if list := tp.List(1000); len(list) != 0 {
		t.Errorf("before it is known whose it is, a user is shown %d", len(list))
	}
	tp.give(root, span.Session)
	tp.give(who{codex.instance, codex.sandbox, codex.sandbox, 1000}, span.Exec)
	tp.settle(t)
	if list := tp.List(1000); len(list) != 0 {
		t.Errorf("a user is shown %d recordings of root's", len(list))
	}
	// Of what is no agent's, users that differ see nothing.
	tp.give(who{"sb-9", "sb-9", "sb-9", 1000}, span.Exec)
	tp.settle(t)
	if list := tp.List(1000); len(list) != 1 {
		t.Errorf("the user of a sandbox is shown %d", len(list))
	}
	tp.give(who{"sb-9", "sb-9", "sb-9", 1001}, span.Exec)
	tp.settle(t)
	for _, uid := range []uint32{1000, 1001} {
		if list := tp.List(uid); len(list) != 0 {
			t.Errorf("user %d is shown what another one did", uid)
		}
	}
	tp.end(t)
}
