// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/spans"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func TestOpens(t *testing.T) {
	etc := rt.Path("/etc")
	for _, c := range []struct {
		name   string
		flags  uint16
		open   record.Open
		want   map[string]any
		failed bool
	}{
		{"a read", 0, record.Open{Path: rt.Path("/etc/hosts"), Name: []byte("/etc/hosts"), Inode: 5},
			map[string]any{
				span.KeyFilePath: "/etc/hosts", span.KeyFileAccess: "read", span.KeyFileInode: "5", span.KeyCount: 1, span.KeyFileRequested: nil,
				span.KeyFilePathUnresolved: nil, span.KeyErrorType: nil, span.KeySensitive: nil, span.KeyFolded: nil,
			}, false},
		{"a relative path by its resolved one", 0, record.Open{Path: rt.Path("/repo/a/b"), Name: []byte("../repo/./a/b")},
			map[string]any{span.KeyFilePath: "/repo/a/b", span.KeyFileRequested: "../repo/./a/b"}, false},
		{"a symbolic link by its target", 0, record.Open{Path: rt.Path("/etc/shadow"), Name: []byte("/tmp/innocent")},
			map[string]any{span.KeyFilePath: "/etc/shadow", span.KeyFileRequested: "/tmp/innocent", span.KeySensitive: true}, false},
		{"a write", 0, record.Open{Path: rt.Path("/repo/x"), Flags: unix.O_WRONLY | unix.O_APPEND}, map[string]any{span.KeyFileAccess: "write"}, false},
		{"read and write", 0, record.Open{Path: rt.Path("/repo/x"), Flags: unix.O_RDWR}, map[string]any{span.KeyFileAccess: "read_write"}, false},
		{"a truncation", 0, record.Open{Path: rt.Path("/repo/x"), Flags: unix.O_WRONLY | unix.O_TRUNC | unix.O_CREAT}, map[string]any{span.KeyFileAccess: "truncate"}, false},
		{"a creation", record.OpenCreated, record.Open{Path: rt.Path("/repo/x"), Flags: unix.O_WRONLY | unix.O_TRUNC | unix.O_CREAT}, map[string]any{span.KeyFileAccess: "create"}, false},
		{"path only", 0, record.Open{Path: rt.Path("/repo"), Flags: unix.O_PATH | unix.O_DIRECTORY}, map[string]any{span.KeyFileAccess: "path_only"}, false},
		{"a refusal by permission", 0, record.Open{Error: int32(unix.EACCES), Name: []byte("/etc/shadow")},
			map[string]any{
				span.KeyFilePath: "/etc/shadow", span.KeyErrorType: "EACCES", span.KeyFilePathUnresolved: true, span.KeySensitive: true,
				span.KeyFileInode: nil, span.KeyFileRequested: nil,
			}, true},
		{"a relative refusal from its directory", record.OpenBase, record.Open{Error: int32(unix.EACCES), Path: etc, Name: []byte("../etc//./shadow")},
			map[string]any{span.KeyFilePath: "/etc/shadow", span.KeyFileRequested: "../etc//./shadow", span.KeyErrorType: "EACCES"}, true},
		{"a file that is not there is an error but no failure", 0, record.Open{Error: int32(unix.ENOENT), Name: []byte("/repo/none")},
			map[string]any{span.KeyErrorType: "ENOENT", span.KeyFileAccess: "read"}, false},
		{"a loop of links", 0, record.Open{Error: int32(unix.ELOOP), Name: []byte("/repo/loop")}, map[string]any{span.KeyErrorType: "ELOOP"}, true},
		{"O_EXCL on what exists was no creation", 0, record.Open{Error: int32(unix.EEXIST), Name: []byte("/repo/x"), Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL},
			map[string]any{span.KeyErrorType: "EEXIST", span.KeyFileAccess: "write"}, false},
		{"an errno without a name", 0, record.Open{Error: 4000, Name: []byte("/repo/x")}, map[string]any{span.KeyErrorType: "E4000"}, false},
		{"a name from user memory is the caller's word", record.OpenNameFromUser, record.Open{Error: int32(unix.EACCES), Name: []byte("/x")},
			map[string]any{span.KeyFileNameFromUser: true}, true},
		{"a name that was not read", record.OpenNameMissing, record.Open{Error: int32(unix.EACCES)},
			map[string]any{span.KeyFileNameMissing: true, span.KeyFilePath: nil}, true},
		{"an open by io_uring of which only the request is known, by what was asked", record.OpenSubmitted, record.Open{Name: []byte("/etc/shadow")},
			map[string]any{span.KeyFilePath: "/etc/shadow", span.KeyFileSubmitted: true, span.KeyFilePathUnresolved: true, span.KeySensitive: true, span.KeyFileInode: nil}, false},
		{"one of a library is no noise: nobody knows whose file it is", record.OpenSubmitted, record.Open{Name: []byte("/etc/ld.so.cache")},
			map[string]any{span.KeyFilePath: "/etc/ld.so.cache", span.KeyFileSubmitted: true}, false},
		{"a deleted file", record.OpenUnlinked, record.Open{Path: rt.Path("/tmp/x")},
			map[string]any{span.KeyFilePath: "/tmp/x (deleted)", span.KeyFileDeleted: true}, false},
		{"a deleted credential is one all the same", record.OpenUnlinked, record.Open{Path: rt.Path("/root/.ssh/id")},
			map[string]any{span.KeySensitive: true}, false},
		{"one whose own name ends as the kernel marks those without one is another", 0, record.Open{Path: rt.Path("/etc/shadow (deleted)")},
			map[string]any{span.KeyFilePath: "/etc/shadow (deleted)", span.KeySensitive: nil, span.KeyFileDeleted: nil}, false},
		{"a deleted file is a credential by its own name", record.OpenUnlinked, record.Open{Path: rt.Path("/etc/shadow")},
			map[string]any{span.KeyFilePath: "/etc/shadow (deleted)", span.KeySensitive: true}, false},
		{"a memfd by way of /proc", record.OpenPseudo | record.OpenUnlinked, record.Open{Path: rt.Path("memfd:x"), Name: []byte("/proc/self/fd/3")},
			map[string]any{span.KeyFilePath: "/memfd:x (deleted)"}, false},
		{"a path without its beginning", record.OpenTruncated, record.Open{Path: rt.Path("/y/z")},
			map[string]any{span.KeyFilePath: "…/y/z", span.KeyFilePathTruncated: true}, false},
		{"a path outside the root", record.OpenOutside, record.Open{Path: rt.Path("/y/z")},
			map[string]any{span.KeyFilePath: "(unreachable)/y/z", span.KeyFilePathOutside: true}, false},
		{"the root", 0, record.Open{Flags: unix.O_DIRECTORY}, map[string]any{span.KeyFilePath: "/"}, false},
		{"invalid UTF-8", 0, record.Open{Path: rt.Path("/repo/\xff\xfe")}, map[string]any{span.KeyFilePath: "/repo/\uFFFD", span.KeyUTF8Repaired: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			w.openWith(10, c.flags, c.open)
			at := w.now
			w.exit(10, 0)
			s := w.only(span.Open)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.Failed != (s.Status != "") {
				t.Errorf("failed %v, status %q", s.Failed, s.Status)
			}
			if s.ID != span.OpenSpan(boot, image1(10, 1), 10, at) || s.Start != wallStart+at-bootStart || s.End != s.Start+1000 {
				t.Errorf("span %s", show([]span.Span{s}))
			}
			if s.Parent != span.ExecSpan(boot, image1(10, 1)) {
				t.Errorf("parent %x", s.Parent)
			}
		})
	}
}

func TestOpenWhoseDescriptorWasClosedBeforeTheLook(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	h := w.header(10)
	w.raw(rt.Record(h, record.Open{Name: []byte("/dev/null")}))
	w.exit(10, 0)
	wants(t, w.only(span.Open), map[string]any{span.KeyFilePath: "/dev/null", span.KeyFilePathUnresolved: true, span.KeyErrorType: nil, span.KeyFileInode: nil})
}

func TestRepeatsOfAnOpenAreCounted(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.open(10, "/repo/a")
	first := w.now
	w.open(10, "/repo/a")
	w.open(10, "/repo/a")
	last := w.now
	w.openWith(10, 0, record.Open{Path: rt.Path("/repo/a"), Flags: unix.O_WRONLY})
	w.openWith(10, 0, record.Open{Path: rt.Path("/repo/a"), Inode: 43})
	w.openWith(10, 0, record.Open{Name: []byte("/repo/a"), Error: int32(unix.EACCES)})
	w.exit(10, 0)
	list := w.of(span.Open)
	if len(list) != 4 {
		t.Fatalf("spans %s", show(list))
	}
	wants(t, list[0], map[string]any{span.KeyCount: 3, span.KeyLast: wallText(last), span.KeyFileAccess: "read"})
	if list[0].Start != wallStart+first-bootStart || list[0].End != list[0].Start+1000 {
		t.Errorf("span %s", show(list[:1]))
	}
	wants(t, list[1], map[string]any{span.KeyCount: 1, span.KeyLast: nil, span.KeyFileAccess: "write"})
	wants(t, list[2], map[string]any{span.KeyCount: 1, span.KeyFileInode: "43"})
	wants(t, list[3], map[string]any{span.KeyCount: 1, span.KeyErrorType: "EACCES"})
}

func TestOpensGoOutWhenTheirHoldEnds(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.open(10, "/repo/a")
	w.tick(time.Second)
	w.open(10, "/repo/a")
	w.tick(1900 * time.Millisecond)
	wants(t, w.only(span.Open), map[string]any{span.KeyCount: 2})
	w.open(10, "/repo/a")
	w.exit(10, 0)
	if list := w.of(span.Open); len(list) != 2 || list[0].ID == list[1].ID {
		t.Errorf("spans %s", show(list))
	}
}

func TestNoiseIsCountedOnItsProcess(t *testing.T) {
	noise := func(w *world, pid uint32) {
		w.open(pid, "/etc/ld.so.cache")
		w.open(pid, "/usr/lib/x86_64-linux-gnu/libc.so.6")
		w.open(pid, fmt.Sprintf("/proc/%d/maps", pid))
		w.openWith(pid, 0, record.Open{Error: int32(unix.ENOENT), Name: []byte("/usr/lib/locale/C.UTF-8/LC_ALL")})
	}
	t.Run("on its exec span when that is still held", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		noise(w, 10)
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: 4})
		if n := len(w.of(span.Open)); n != 0 {
			t.Errorf("opens %s", show(w.of(span.Open)))
		}
	})
	t.Run("the rest on its exit span", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		w.open(10, "/dev/null")
		w.tick(61 * time.Second)
		noise(w, 10)
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: 1})
		wants(t, w.only(span.Exit), map[string]any{span.KeyNoiseOpens: 4})
	})
	t.Run("that of a child without exec on the program it runs", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		w.fork(10, 11)
		noise(w, 11)
		w.exit(11, 0)
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: 4})
	})
	t.Run("but listed when no span is left to tell the count", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		w.fork(10, 11)
		w.exit(10, 0)
		noise(w, 11)
		w.exit(11, 0)
		if n := len(w.of(span.Open)); n != 4 {
			t.Errorf("opens %s", show(w.of(span.Open)))
		}
	})
	for _, c := range []struct {
		name  string
		flags uint16
		open  record.Open
	}{
		{"a write is never noise", 0, record.Open{Path: rt.Path("/dev/null"), Flags: unix.O_WRONLY}},
		{"a refusal is never noise", 0, record.Open{Name: []byte("/etc/ld.so.cache"), Error: int32(unix.EACCES)}},
		{"a sensitive path is never noise", 0, record.Open{Path: rt.Path("/proc/10/environ")}},
		{"nor is it by the name of a thread", 0, record.Open{Path: rt.Path("/proc/10/task/10/environ")}},
		{"another's file under a library's name is never noise", 0, record.Open{Path: rt.Path("/usr/share/zoneinfo/id_rsa"), UID: 1000}},
		{"another process's directory of /proc is never noise", 0, record.Open{Path: rt.Path("/proc/100/maps")}},
		{"a climb out of a noise directory is never noise", 0, record.Open{Name: []byte("/usr/lib/locale/../../../etc/x"), Error: int32(unix.ENOENT)}},
		{"what lies at a library's path in another mount namespace or below another root is never noise", record.OpenForeign, record.Open{Path: rt.Path("/usr/lib/x86_64-linux-gnu/libc.so.6")}},
		{"a library that is not there, there", record.OpenForeign, record.Open{Name: []byte("/usr/lib/libx.so"), Error: int32(unix.ENOENT)}},
		{"the own directory of /proc, there", record.OpenForeign | record.OpenOnProc, record.Open{Path: rt.Path("/proc/10/maps")}},
		{"process 1 is not the one that has this pid in a namespace of its own", record.OpenOnProc, record.Open{Path: rt.Path("/proc/1/cmdline")}},
		{"a file whose own name ends as the kernel marks those without one", 0, record.Open{Path: rt.Path("/etc/ld.so.cache (deleted)")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.execIDs[10]++
			h := w.header(10)
			w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/bin/x"), Filename: []byte("/bin/x"), Args: rt.Args("x"), Argc: 1, Vpid: 1}))
			w.openWith(10, c.flags, c.open)
			w.exit(10, 0)
			w.only(span.Open)
			wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: nil})
		})
	}
}

func TestReadsBeyondTheBudgetFold(t *testing.T) {
	fold := func(c *config.Config) { c.Fold = config.Fold{Files: 3, Window: time.Minute, Directories: 2} }
	t.Run("into one span a directory with exact counts", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/grep", "grep")
		for n := range 10 {
			w.open(10, fmt.Sprintf("/src/a/f%d", n))
		}
		w.open(10, "/src/a/f0") // a repeat of one that is listed
		w.open(10, "/src/b/g")
		w.exit(10, 0)
		list := w.of(span.Open)
		if len(list) != 5 {
			t.Fatalf("spans %s", show(list))
		}
		wants(t, list[0], map[string]any{span.KeyFilePath: "/src/a/f0", span.KeyCount: 2, span.KeyFolded: nil})
		wants(t, list[3], map[string]any{span.KeyFilePath: "/src/a/", span.KeyCount: 7, span.KeyFolded: true, span.KeyFileAccess: "read", span.KeyFileInode: nil})
		wants(t, list[4], map[string]any{span.KeyFilePath: "/src/b/", span.KeyCount: 1})
	})
	t.Run("that have the names of the first, each once", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/grep", "grep")
		for n := range 3 {
			w.open(10, fmt.Sprintf("/listed/%d", n))
		}
		w.openWith(10, record.OpenUnlinked, record.Open{Path: rt.Path("/src/f0")})
		for n := range spans.MaxFoldedNames + 3 {
			w.open(10, fmt.Sprintf("/src/f%d", n))
			w.open(10, fmt.Sprintf("/src/f%d", n))
		}
		w.open(10, "/odd/\xff")
		w.exit(10, 0)
		list := w.of(span.Open)[3:]
		wants(t, list[0], map[string]any{
			span.KeyFilePath: "/src/", span.KeyCount: 2*(spans.MaxFoldedNames+3) + 1, span.KeyFoldedNames: []string{"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"},
		})
		wants(t, list[1], map[string]any{span.KeyFoldedNames: []string{"\uFFFD"}, span.KeyUTF8Repaired: true})
	})
	t.Run("and beyond the budget of directories the oldest goes out: none folds into one above", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/grep", "grep")
		for n := range 3 {
			w.open(10, fmt.Sprintf("/listed/%d", n))
		}
		for n := range 10 {
			w.open(10, fmt.Sprintf("/src/d%d/f", n))
		}
		w.open(10, "/src/customers.db")
		w.open(10, "/etc/passwd")
		if n := w.c.Stats().Opens - 3; n != 2 { // of those, three are of files
			t.Errorf("%d directories held", n)
		}
		w.exit(10, 0)
		list := slices.DeleteFunc(w.of(span.Open), func(s span.Span) bool { return strings.HasPrefix(get(s, span.KeyFilePath).(string), "/listed/") })
		if len(list) != 12 {
			t.Fatalf("spans %s", show(list))
		}
		told := map[string]any{}
		for _, s := range list {
			wants(t, s, map[string]any{span.KeyFolded: true, span.KeyCount: 1})
			told[get(s, span.KeyFilePath).(string)] = get(s, span.KeyFoldedNames)
		}
		for dir, name := range map[string]string{"/src/d0/": "f", "/src/d9/": "f", "/src/": "customers.db", "/etc/": "passwd"} {
			if names, _ := told[dir].([]string); !slices.Equal(names, []string{name}) {
				t.Errorf("%s has the names %v", dir, told[dir])
			}
		}
	})
	t.Run("whose names count as what is held", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/grep", "grep")
		for n := range 5 {
			w.open(10, fmt.Sprintf("/src/%d", n))
		}
		held := w.c.Stats().HeldBytes
		w.open(10, "/src/"+strings.Repeat("n", 200))
		if n := w.c.Stats().HeldBytes - held; n != 200 {
			t.Errorf("a name of 200 bytes counts as %d", n)
		}
		w.exit(10, 0)
		if w.c.Stats().HeldBytes != 0 {
			t.Errorf("%d bytes held by nobody", w.c.Stats().HeldBytes)
		}
	})
	for _, c := range []struct {
		name  string
		flags uint16
		open  record.Open
	}{
		{"never a write", 0, record.Open{Path: rt.Path("/src/w"), Flags: unix.O_WRONLY}},
		{"never a creation", record.OpenCreated, record.Open{Path: rt.Path("/src/w"), Flags: unix.O_CREAT}},
		{"never a refusal", 0, record.Open{Name: []byte("/src/w"), Error: int32(unix.EACCES)}},
		{"never a sensitive path", 0, record.Open{Path: rt.Path("/home/a/.ssh/id_ed25519")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, fold)
			w.begin(10, one)
			w.exec(10, "/bin/grep", "grep")
			for n := range 5 {
				w.open(10, fmt.Sprintf("/src/%d", n))
			}
			w.openWith(10, c.flags, c.open)
			w.exit(10, 0)
			list := w.of(span.Open)
			wants(t, list[len(list)-1], map[string]any{span.KeyFolded: nil})
		})
	}
	t.Run("and not for a process that reads slowly", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/agent", "agent")
		for n := range 10 {
			w.open(10, fmt.Sprintf("/src/%d", n))
			w.tick(30 * time.Second)
		}
		for _, s := range w.of(span.Open) {
			wants(t, s, map[string]any{span.KeyFolded: nil})
		}
		if n := len(w.of(span.Open)); n != 10 {
			t.Errorf("%d opens", n)
		}
	})
}
