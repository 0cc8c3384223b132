// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// write opens a file for writing.
func (w *world) write(pid uint32, path string, inode uint64, created bool) {
	w.t.Helper()
	r := record.Open{Path: rt.Path(path), Name: []byte(path), Inode: inode, Flags: unix.O_WRONLY}
	flags := uint16(0)
	if created {
		flags, r.Flags = record.OpenCreated, r.Flags|unix.O_CREAT
	}
	w.openWith(pid, flags, r)
}

// change is a change whose names are paths.
func (w *world) change(pid uint32, flags uint16, from, to string, r record.Change) {
	w.t.Helper()
	r.Old, r.New = record.ChangedName{Name: []byte(from)}, record.ChangedName{Name: []byte(to)}
	h := w.header(pid)
	h.Flags = flags
	w.raw(rt.Record(h, r))
}

// busyChanges changes files in every way.
func (w *world) busyChanges(pid uint32) {
	w.write(pid, "/repo/new", 100, true)
	w.write(pid, "/repo/old\xff", 101, false)
	w.openWith(pid, 0, record.Open{Path: rt.Path("/repo/cut"), Inode: 102, Flags: unix.O_WRONLY | unix.O_TRUNC})
	w.change(pid, 0, "/repo/a", "/repo/b", record.Change{Op: record.ChangeRename, Inode: 103, Replaced: 104})
	w.change(pid, 0, "", "/repo/c", record.Change{Op: record.ChangeUnlink})
	w.change(pid, 0, "/repo/d", "/repo/e", record.Change{Op: record.ChangeLink, Inode: 105})
	w.change(pid, 0, "", "/repo/e", record.Change{Op: record.ChangeChmod, Inode: 105, Before: 0o644, After: 0o755})
	w.change(pid, 0, "", "/repo/e", record.Change{Op: record.ChangeChown, Inode: 105, Before: 1, After: 2})
	w.change(pid, 0, "", "/repo/e", record.Change{Op: record.ChangeUtimes, Inode: 105})
	w.change(pid, record.ChangeDirectory, "", "/repo/gone", record.Change{Op: record.ChangeMkdir})
	w.change(pid, record.ChangeDirectory, "", "/repo/gone", record.Change{Op: record.ChangeRmdir})
	w.change(pid, record.ChangeSubmitted, "", "/repo/x", record.Change{Op: record.ChangeUnlink})
	w.write(pid, strings.Repeat("/a", 600), 106, true)
}

// sed is what `sed -i` does to a file that it has read, in either form of the hooks.
func (w *world) sed(pid uint32, file string, tracepoint bool) {
	w.open(pid, file)
	w.write(pid, file+".tmp", 7, true)
	h := w.header(pid)
	r := record.Change{Op: record.ChangeRename, Inode: 7, Replaced: 42}
	if tracepoint {
		h.Flags, r.Inode, r.Replaced = record.ChangeNamesFromUser, 0, 0
	}
	r.Old.Name, r.New.Name = []byte(file+".tmp"), []byte(file)
	w.raw(rt.Record(h, r))
}

// onlyFiles checks all that is told of changes.
func onlyFiles(t *testing.T, s span.Span, want map[string]any) {
	t.Helper()
	wants(t, s, want)
	for _, a := range s.Attrs {
		if _, ok := want[a.Key]; !ok && !accounted[a.Key] && strings.HasPrefix(a.Key, "sheetbend.files.") {
			t.Errorf("%s says %s=%v", s.Name, a.Key, value(a))
		}
	}
}

func TestAnAtomicSaveIsToldAsAModifiedFile(t *testing.T) {
	for _, tracepoint := range []bool{false, true} {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		w.fork(11, 12)
		w.exec(12, "/bin/sed", "sed", "-i", "s/a/b/", "main.c")
		w.sed(12, "/repo/main.c", tracepoint)
		w.exit(12, 0)
		w.exit(11, 0)
		w.exit(10, 0)
		w.tick(3 * time.Second)
		w.c.Close()
		want := map[string]any{span.KeyFilesModified: 1, span.KeyFilesModifiedNames: []string{"/repo/main.c"}}
		if tracepoint {
			want[span.KeyFilesByName] = true
		}
		onlyFiles(t, w.execOf(12), want)
		onlyFiles(t, w.told("call_1"), want)
		onlyFiles(t, w.only(span.Session), want) // which is over by then
		onlyFiles(t, w.execOf(11), nil)
		if len(w.of(span.SandboxEnd)) > 0 {
			t.Error("told twice")
		}
	}
}

func TestEachCallIsToldItsOwnChangesAndAnAgentAll(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.tick(3 * time.Second) // session is out
	w.call(10, 21, "call_2")
	w.write(11, "/repo/both", 5, true)
	w.write(21, "/repo/both", 5, false)
	w.change(21, 0, "", "/repo/new", record.Change{Op: record.ChangeMkdir, Inode: 6})
	w.change(11, 0, "/repo/both", "/repo/new/it", record.Change{Op: record.ChangeRename, Inode: 5})
	w.fork(21, 22) // goes on after the end of the call
	w.fork(21, 23)
	w.exec(23, "/bin/server", "server")
	w.exit(11, 0)
	w.exit(21, 0)
	w.write(23, "/repo/log", 8, true)
	w.tick(3 * time.Second)
	w.write(23, "/repo/late", 9, true)
	w.write(10, "/home/.codex", 10, false)
	onlyFiles(t, w.told("call_1"), map[string]any{span.KeyFilesCreated: 1, span.KeyFilesCreatedNames: []string{"/repo/new/it"}})
	onlyFiles(t, w.told("call_2"), map[string]any{
		span.KeyFilesCreated: 1, span.KeyFilesCreatedNames: []string{"/repo/new/"},
		span.KeyFilesOpened: 1, span.KeyFilesOpenedNames: []string{"/repo/both"},
	})
	onlyFiles(t, w.only(span.Session), nil)
	for _, pid := range []uint32{22, 23, 10} {
		w.exit(pid, 0)
	}
	w.tick(3 * time.Second)
	onlyFiles(t, w.only(span.SessionEnd), map[string]any{
		span.KeyFilesCreated: 4, span.KeyFilesCreatedNames: []string{"/repo/log", "/repo/late", "/repo/new/"},
		span.KeyFilesOpened: 1, span.KeyFilesOpenedNames: []string{"/home/.codex"},
	})
}

func TestAProgramIsToldItsChangesWithItsEnd(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.write(10, "/repo/a", 1, true)
	w.tick(2 * time.Minute)
	w.write(10, "/repo/b", 2, true)
	onlyFiles(t, w.execOf(10), nil)
	w.exit(10, 0)
	want := map[string]any{span.KeyFilesCreated: 2, span.KeyFilesCreatedNames: []string{"/repo/a", "/repo/b"}}
	onlyFiles(t, w.only(span.Exit), want)
	w.c.Close()
	s := w.only(span.SandboxEnd)
	onlyFiles(t, s, want)
	wants(t, s, map[string]any{span.KeyPartial: true}) // something may run there yet
	if s.Parent != w.execOf(10).ID || lasted(s) < 2*time.Minute {
		t.Errorf("%s", show([]span.Span{s}))
	}
}

func TestAfterAStopASandboxIsToldByAnotherSpan(t *testing.T) {
	var told []span.Span
	for _, stopped := range []bool{true, false} {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/server", "server")
		if !stopped { // by the next sensor, from the journal
			w.tick(3 * time.Second)
		}
		w.write(10, "/repo/a", 1, true)
		if !stopped {
			w.exit(10, 0)
			w.raw(rt.Record(record.Header{Time: w.now, Type: record.TypeCgroupRmdir}, record.Cgroup{ID: one, Path: []byte("/agents/one")}))
		}
		w.c.Close()
		told = append(told, w.only(span.SandboxEnd))
	}
	wants(t, told[0], map[string]any{span.KeyPartial: true})
	wants(t, told[1], map[string]any{span.KeyPartial: nil})
	if told[0].ID == told[1].ID {
		t.Error("two have one id")
	}
}

// One sandbox with many programs does not take the room of another one's names.
func TestOneSandboxLeavesTheOthersTheirNames(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/many", "many")
	for pid := range uint32(40) { // an eighth of all are 32 times 512 names
		w.fork(10, 1000+pid)
		w.exec(1000+pid, "/bin/x", "x")
		for n := range 500 {
			w.write(1000+pid, "/"+strconv.Itoa(n), uint64(1000+n), true)
		}
	}
	w.exit(1039, 0)
	onlyFiles(t, w.execOf(1039), map[string]any{span.KeyFilesCreated: 500, span.KeyFilesMore: 500})
	w.begin(20, two)
	w.exec(20, "/bin/y", "y")
	w.write(20, "/root/.ssh/authorized_keys", 7, false)
	w.write(20, "/root/a", 8, true)
	w.exit(20, 0)
	onlyFiles(t, w.execOf(20), map[string]any{
		span.KeyFilesOpened: 1, span.KeyFilesOpenedNames: []string{"/root/.ssh/authorized_keys"},
		span.KeyFilesCreated: 1, span.KeyFilesCreatedNames: []string{"/root/a"},
	})
}

// A look has found a process before its fork is read from the ring: what it has found is neither told nor kept.
func TestWhatALookHasFoundTooEarlyIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.begin(10, two)
	w.exec(10, "/bin/sh", "sh")
	w.existing(12, 10, "/bin/x")
	w.write(12, "/repo/a", 1, true)
	w.fork(10, 12)
	w.exit(12, 0)
	w.exit(10, 0)
	w.c.Close()
	if n := w.c.Stats().ChangedNames; n != 0 {
		t.Errorf("%d names are kept", n)
	}
	wants(t, w.execOf(10), map[string]any{span.KeyWorkers: 1})
}

func TestWhatIsNoChangeOfAFile(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	for _, path := range []string{"/dev/null", "/dev/tty", "/sys/fs/cgroup/x"} {
		w.write(10, path, 1, false)
	}
	open := record.Open{Inode: 3, Flags: unix.O_WRONLY}
	open.Path = rt.Path("/host/proc/7/oom_score_adj")
	w.openWith(10, record.OpenOnProc, open)
	open.Path = rt.Path("memfd:x")
	w.openWith(10, record.OpenPseudo|record.OpenUnlinked, open)
	open.Path = rt.Path("/repo/deleted")
	w.openWith(10, record.OpenUnlinked, open)
	open.Path, open.Name, open.Inode, open.Error = nil, []byte("/etc/shadow"), 0, int32(unix.EACCES)
	w.openWith(10, 0, open)
	w.change(10, 0, "", "/repo/x", record.Change{Op: record.ChangeUnlink, Error: int32(unix.ENOENT)})
	w.change(10, 0, "dev", "/mnt", record.Change{Op: record.ChangeMount})
	w.exit(10, 0)
	w.c.Close()
	onlyFiles(t, w.execOf(10), nil)
	onlyFiles(t, w.only(span.SandboxEnd), nil)
}

func TestAfterARestartThereMayBeMore(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.tick(100 * time.Millisecond)
	w.c.Restart().Resuming(true)
	w.c.Restart().Resuming(false)
	w.call(10, 21, "call_2")
	w.exit(11, 0)
	w.exit(21, 0)
	w.exit(10, 0)
	w.tick(3 * time.Second)
	wants(t, w.told("call_1"), map[string]any{span.KeyCountPartial: true})
	wants(t, w.told("call_2"), map[string]any{span.KeyCountPartial: nil})
	sessions := w.of(span.Session) // the last is no stand-in
	wants(t, sessions[len(sessions)-1], map[string]any{span.KeyStandIn: nil, span.KeyCountPartial: true})
}
