// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Making room, recording and removing go on at the same time: each span is in a file that is known, or counted as gone.
func TestWhatIsRemovedWhileRoomIsMadeStaysAway(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir, MaxBytes: 1 << 20})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, r := range tp.List(0) {
				if _, err := tp.Remove(r.Name); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for range 8 {
		tp.flood(t, codex, 6)
	}
	close(stop)
	<-stopped
	tp.flood(t, codex, 10) // room is made of what there is
	s := tp.end(t)
	there := uint64(0)
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		there += uint64(len(numbersIn(t, name)))
		if tp.all[filepath.Base(name)] == nil {
			t.Errorf("%s is there and not known", name)
		}
	}
	if len(files) != len(tp.all) || s.Removed == 0 || s.EvictedSize == 0 || there+s.Removed+s.EvictedSize != s.Written || s.Written != tp.taken {
		t.Errorf("%d spans in %d files: %+v", there, len(files), s)
	}
}

// Who hands spans over waits for nothing that looks at all recordings or at the disk, also when there is no room.
func TestSpansWaitForNoList(t *testing.T) {
	tp := start(t, Options{Path: directory(t)})
	tp.files.Lock()
	tp.index.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range maxQueued/blockBytes + 8 {
			tp.give(codex, span.Session, text("long", strings.Repeat("x", blockBytes)))
			tp.Flush()
			tp.Done(tp.taken)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
	tp.index.Unlock()
	tp.files.Unlock()
	<-done
	if s := tp.end(t); s.Slow == 0 || s.Slow+s.Written != tp.taken {
		t.Errorf("%+v", s)
	}
}

// smallDisk is a directory on a disk of its own, and what makes that larger.
func smallDisk(t *testing.T) (dir string, grow func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	at := t.TempDir()
	if err := unix.Mount("sheetbend-test", at, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return filepath.Join(at, "recordings"), func() {
		if err := unix.Mount("", at, "", unix.MS_REMOUNT, "size=8m"); err != nil {
			t.Fatal(err)
		}
	}
}

// Where a block could be written in part only, and that cannot be taken back, the recording is read up to there and
// told to be damaged, and its instance goes on in another one that says what was lost.
func TestWhatCannotBeTakenBackEndsARecording(t *testing.T) {
	dir, grow := smallDisk(t)
	tp := start(t, Options{Path: dir})
	tp.truncate = func(*os.File, int64) error { return errors.New("the disk does not do that") }
	tp.flood(t, codex, 8)
	grow()
	before := tp.Stats()
	tp.flood(t, codex, 2)
	first, second := filepath.Join(dir, codex.instance+suffix), filepath.Join(dir, codex.instance+".2"+suffix)
	shown := tp.List(0)
	if before.DamagedFiles != 1 || len(shown) != 2 || !shown[0].Damaged || shown[1].Damaged || shown[1].Lost != before.Disk {
		t.Errorf("%+v: %+v", before, shown)
	}
	r, err := tp.OpenRecording(0, filepath.Base(first))
	if err != nil {
		t.Fatal(err)
	}
	got, err := numbers(r)
	if uint64(len(got)) != before.Written || !errors.Is(err, errTorn) {
		t.Errorf("%d of %d spans are read: %v", len(got), before.Written, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := numbersIn(t, second); fmt.Sprint(got) != "[9 10]" {
		t.Errorf("%d", got)
	}
	tp.end(t)
	again := start(t, Options{Path: dir})
	if s := again.Stats(); s.TornBytes == 0 || s.DamagedFiles != 0 {
		t.Errorf("%+v", s)
	}
	again.end(t)
	if got := numbersIn(t, first); uint64(len(got)) != before.Written {
		t.Errorf("%d", got)
	}
}

// What a recording has lost it says after an eviction and a restart, too, and when nothing else is recorded of it.
func TestWhatARecordingLacksIsKept(t *testing.T) {
	dir := directory(t)
	other := who{"agent-other", "sb-2", "s-2", 1001}
	tp := start(t, Options{Path: dir, MaxBytes: 16 << 20})
	tp.drop(&block{instance: codex.instance, sum: Summary{Count: 7}, waits: tp.outstanding.PushBack(nil)}, &tp.stats.Slow)
	tp.flood(t, codex, 2) // the first that is recorded of it
	lacks := func(lost, cut uint64) {
		t.Helper()
		for _, r := range tp.List(0) {
			if r.Instance == codex.instance {
				if r.Lost != lost || r.Cut != cut {
					t.Errorf("%+v, want %d lost, %d cut", r, lost, cut)
				}
				return
			}
		}
		t.Error("no recording")
	}
	lacks(7, 0)
	tp.flood(t, other, 1)
	tp.drop(&block{instance: codex.instance, sum: Summary{Count: 5}, waits: tp.outstanding.PushBack(nil)}, &tp.stats.Disk)
	tp.end(t) // nothing more is recorded of it
	tp = start(t, Options{Path: dir, MaxBytes: 16 << 20})
	lacks(12, 0)
	tp.files.Lock()
	err := tp.cut(tp.current[codex.instance], &tp.stats.EvictedSize, func(at int64, _ *Summary) bool { return at == 0 })
	tp.files.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	lacks(12, 1)
	tp.end(t)
	tp = start(t, Options{Path: dir, MaxBytes: 16 << 20})
	lacks(12, 1)
	tp.files.Lock()
	err = tp.forget(tp.current[codex.instance], &tp.stats.EvictedSize)
	tp.files.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	tp.flood(t, codex, 1)
	lacks(12, 2)
	tp.end(t)
	tp = start(t, Options{Path: dir, MaxBytes: 16 << 20})
	lacks(12, 2)
	// What was removed because somebody asked for that is nothing that it lacks.
	if ok, err := tp.Remove(codex.instance + suffix); !ok || err != nil {
		t.Fatal(ok, err)
	}
	tp.flood(t, codex, 1)
	lacks(0, 0)
	tp.end(t)
}

// What is written can be read, at the bounds of what spans, resources and names may be.
func TestTheLargestBlockCanBeRead(t *testing.T) {
	dir := directory(t)
	tp := start(t, Options{Path: dir})
	long := strings.Repeat("\x01", 2*maxName) // six bytes in JSON
	for i := range 2 * maxSessions {
		tp.give(who{long, long, fmt.Sprint(i) + long, 1000}, span.Session, text(span.KeyAgentName, long), text("long", strings.Repeat("x", 900<<10)))
		tp.settle(t)
	}
	// Each with a resource of its own, as agents in containers with long labels.
	tp.at.Add(int64(2 * blockAge))
	small := resource
	defer func() { resource = small }()
	for i := range blockSpans {
		resource = &span.Resource{Attrs: []span.Attr{num("n", int64(i)), text("label", strings.Repeat("y", 20<<10))}}
		tp.give(codex, span.Exec)
		for tp.queued.Load() > maxQueued/2 { // the disk may be slow
			runtime.Gosched()
		}
	}
	if s := tp.end(t); s.Written != tp.taken || s.Slow+s.Disk != 0 {
		t.Errorf("%+v of %d: %s", s, tp.taken, tp.log.String())
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	if n := len(numbersIn(t, files[0])) + len(numbersIn(t, files[1])); uint64(n) != tp.taken {
		t.Errorf("%d of %d are read", n, tp.taken)
	}
}

// What a block took is used again: a busy recorder leaves little to the garbage collector, whose room is the sensor's
// memory.
func TestBlocksUseTheirMemoryAgain(t *testing.T) {
	tp := start(t, Options{Path: directory(t)})
	encoded := make([]byte, 1024)
	block := func() {
		for range blockBytes / len(encoded) {
			tp.Recorder.Span(&span.Span{Instance: codex.instance, Start: 1, End: 2}, encoded)
		}
		tp.settle(t)
	}
	for range 4 {
		block()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const blocks = 64
	for range blocks {
		block()
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / blocks; took > blockBytes {
		t.Errorf("a block of %d bytes takes %d", blockBytes, took)
	}
	tp.end(t)
}
