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
		{"a read", 0, record.Open{Path: rt.Path("/etc/fstab"), Name: []byte("/etc/fstab"), Inode: 5},
			map[string]any{
				span.KeyFilePath: "/etc/fstab", span.KeyFileAccess: "read", span.KeyFileInode: "5", span.KeyCount: 1, span.KeyFileRequested: nil,
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
		{"a file that is not there is an error but no failure", 0, record.Open{Error: int32(unix.ENOENT), Name: []byte("/repo/none"), Flags: unix.O_WRONLY},
			map[string]any{span.KeyErrorType: "ENOENT", span.KeyFileAccess: "write"}, false},
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
		w.open(pid, "/etc/hosts")
		w.open(pid, "/usr/lib/x86_64-linux-gnu/libc.so.6")
		w.open(pid, fmt.Sprintf("/proc/%d/maps", pid))
		w.openWith(pid, 0, record.Open{Error: int32(unix.ENOENT), Name: []byte("/usr/lib/locale/C.UTF-8/LC_ALL")})
	}
	t.Run("devices without content and the terminal, also when they are written to", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		for _, device := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty"} {
			w.openWith(10, 0, record.Open{Path: rt.Path(device), Flags: unix.O_WRONLY | unix.O_TRUNC | unix.O_CREAT})
		}
		w.openWith(10, 0, record.Open{Name: []byte("/dev/tty"), Error: int32(unix.ENXIO), Flags: unix.O_RDWR})
		w.exit(10, 0)
		wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: 5})
		if list := w.of(span.Open); len(list) != 0 {
			t.Errorf("opens %s", show(list))
		}
	})
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
		{"a write is never noise", 0, record.Open{Path: rt.Path("/etc/hosts"), Flags: unix.O_WRONLY}},
		{"a file that somebody makes where a device was", record.OpenCreated, record.Open{Path: rt.Path("/dev/null"), Flags: unix.O_WRONLY | unix.O_CREAT}},
		{"another's device of that name", 0, record.Open{Path: rt.Path("/dev/null"), Flags: unix.O_WRONLY, UID: 1000}},
		{"a device in a mount namespace of one's own", record.OpenForeign, record.Open{Path: rt.Path("/dev/null"), Flags: unix.O_WRONLY}},
		{"a sensitive file that is not there", 0, record.Open{Name: []byte("/root/.aws/credentials"), Error: int32(unix.ENOENT)}},
		{"a private key of the host among its certificates", 0, record.Open{Path: rt.Path("/etc/ssl/private/key.pem")}},
		{"a file that is not there, in a mount namespace of one's own", record.OpenForeign, record.Open{Name: []byte("/repo/x"), Error: int32(unix.ENOENT)}},
		{"a refusal is never noise", 0, record.Open{Name: []byte("/etc/ld.so.cache"), Error: int32(unix.EACCES)}},
		{"a sensitive path is never noise", 0, record.Open{Path: rt.Path("/proc/10/environ")}},
		{"nor is it by the name of a thread", 0, record.Open{Path: rt.Path("/proc/10/task/10/environ")}},
		{"another's file under a library's name is never noise", 0, record.Open{Path: rt.Path("/usr/share/zoneinfo/id_rsa"), UID: 1000}},
		{"another process's directory of /proc is never noise", 0, record.Open{Path: rt.Path("/proc/100/maps")}},
		{"a climb out of a noise directory is never noise", 0, record.Open{Name: []byte("/usr/lib/locale/../../../etc/shadow"), Error: int32(unix.ENOENT)}},
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
			wants(t, w.only(span.Exec), map[string]any{span.KeyNoiseOpens: nil, span.KeyMissingOpens: nil})
		})
	}
}

func TestLookingForFilesThatAreNotThereIsCounted(t *testing.T) {
	fold := func(c *config.Config) { c.Fold = config.Fold{Missing: 20, Window: time.Minute, Directories: 2} }
	look := func(w *world, flags uint16, format string, n int) {
		for i := range n {
			w.openWith(10, flags, record.Open{Name: fmt.Appendf(nil, format, i), Error: int32(unix.ENOENT)})
		}
	}
	t.Run("on the program, and from the 20th of a directory on in a span for that", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/cc1", "cc1")
		look(w, 0, "/usr/include/a/%d.h", 25)
		look(w, 0, "/usr/include/b/%d.h", 19)
		look(w, 0, "/usr/include/c/%d.h", 30) // a directory too many: only counted
		w.exit(10, 0)
		s := w.only(span.Open)
		wants(t, s, map[string]any{
			span.KeyFilePath: "/usr/include/a/", span.KeyCount: 6, span.KeyFolded: true, span.KeyOutcome: "missing", span.KeyErrorType: "ENOENT",
			span.KeyFileAccess: "read", span.KeyFoldedNames: []string{"19.h", "20.h", "21.h", "22.h", "23.h", "24.h"}, span.KeyFileInode: nil,
		})
		wants(t, w.only(span.Exec), map[string]any{span.KeyMissingOpens: 19 + 19 + 30, span.KeyNoiseOpens: nil})
	})
	t.Run("as is the environment of a thread of the kernel, which has none; not that of a program", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/ps", "ps")
		w.openWith(10, 0, record.Open{Name: []byte("/proc/2/environ"), Error: int32(unix.ESRCH)})
		w.openWith(10, 0, record.Open{Name: []byte("/proc/3/environ"), Error: int32(unix.EACCES)})
		w.exit(10, 0)
		wants(t, w.only(span.Open), map[string]any{span.KeyFilePath: "/proc/3/environ", span.KeySensitive: true})
		wants(t, w.only(span.Exec), map[string]any{span.KeyMissingOpens: 1})
	})
	t.Run("but listed up to there in a mount namespace of its own", func(t *testing.T) {
		w := newWorld(t, fold)
		w.begin(10, one)
		w.exec(10, "/bin/cc1", "cc1")
		look(w, record.OpenForeign, "/usr/include/a/%d.h", 25)
		w.exit(10, 0)
		list := w.of(span.Open)
		if len(list) != 20 {
			t.Fatalf("spans %s", show(list))
		}
		wants(t, list[19], map[string]any{span.KeyFolded: true, span.KeyCount: 6})
		wants(t, w.only(span.Exec), map[string]any{span.KeyMissingOpens: nil})
	})
}

func TestManyFilesThatAreMadeInADirectoryAreOneSpan(t *testing.T) {
	create := func(w *world, name string) {
		w.openWith(10, record.OpenCreated, record.Open{Path: rt.Path(name), Flags: unix.O_WRONLY | unix.O_CREAT, Inode: 7})
	}
	begin := func(t *testing.T, f config.Fold) *world {
		w := newWorld(t, func(c *config.Config) { c.Fold = f })
		w.begin(10, one)
		w.exec(10, "/usr/bin/node", "node")
		return w
	}
	t.Run("with the exact count, those before included", func(t *testing.T) {
		w := begin(t, config.Fold{Creates: 3})
		for _, dir := range []string{"/repo/many/", "/repo/few/"} {
			for i := range map[string]int{"/repo/many/": 30, "/repo/few/": 3}[dir] {
				create(w, fmt.Sprintf("%s%d", dir, i))
			}
		}
		create(w, "/repo/many/.env") // sensitive
		w.openWith(10, 0, record.Open{Path: rt.Path("/repo/many/5"), Flags: unix.O_WRONLY})
		w.exit(10, 0)
		list := w.of(span.Open)
		if len(list) != 6 {
			t.Fatalf("spans %s", show(list))
		}
		wants(t, list[0], map[string]any{
			span.KeyFilePath: "/repo/many/", span.KeyCount: 30, span.KeyFolded: true, span.KeyFileAccess: "create", span.KeyFileWrite: true, span.KeyOutcome: "ok",
			span.KeyFoldedNames: []string{"0", "1", "2", "3", "4", "5", "6", "7"}, span.KeyFileInode: nil,
		})
		wants(t, list[1], map[string]any{span.KeyFilePath: "/repo/few/0", span.KeyFolded: nil})
		wants(t, list[4], map[string]any{span.KeyFilePath: "/repo/many/.env", span.KeySensitive: true, span.KeyFolded: nil})
		wants(t, list[5], map[string]any{span.KeyFilePath: "/repo/many/5", span.KeyFileAccess: "write", span.KeyFolded: nil})
	})
	t.Run("but what lies outside of where it was started is told alone", func(t *testing.T) {
		for _, trees := range []bool{false, true} {
			w := begin(t, config.Fold{Creates: 3, Trees: trees}) // in /repo
			for i := range 10 {
				create(w, fmt.Sprintf("/usr/local/bin/%d", i))
				create(w, fmt.Sprintf("/tmp/build/%d", i))
			}
			w.exit(10, 0)
			alone := slices.DeleteFunc(w.of(span.Open), func(s span.Span) bool { return get(s, span.KeyFolded) != nil })
			if len(alone) != 10 || len(w.of(span.Open)) != 11 {
				t.Errorf("trees: %v: %s", trees, show(w.of(span.Open)))
			}
		}
	})
	t.Run("and a tree is a few for people", func(t *testing.T) {
		w := begin(t, config.Fold{Creates: 3, Directories: 2, Trees: true})
		for i := range 10 {
			for j := range 10 {
				create(w, fmt.Sprintf("/repo/node_modules/p%d/lib/%d.js", i, j))
			}
		}
		create(w, "/var/one")
		w.exit(10, 0)
		list := w.of(span.Open)
		total := int64(0)
		for _, s := range list {
			total += get(s, span.KeyCount).(int64)
		}
		if len(list) > 3 || total != 101 {
			t.Errorf("%d files in %s", total, show(list))
		}
	})
}

func TestReadsOfACallFoldOverItsProcesses(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.Fold = config.Fold{Files: 100, CallFiles: 5, Window: time.Minute, Directories: 3}
	})
	w.codex(10)
	for n := uint32(20); n < 23; n++ { // each stays below the budget of a program
		w.call(10, n, "c")
		w.exec(n, fmt.Sprintf("/usr/bin/cc%d", n), "cc")
		for f := range 4 {
			w.open(n, fmt.Sprintf("/src/a/%d-%d", n, f))
		}
		w.open(n, fmt.Sprintf("/etc/conf.d/%d", n))
		w.open(n, fmt.Sprintf("/src/b/%d", n))
		w.open(n, "/root/.aws/credentials")
		w.exit(n, 0)
	}
	w.tick(3 * time.Second)
	list := w.of(span.Open)
	total, shared := int64(0), 0
	for _, s := range list {
		total += get(s, span.KeyCount).(int64)
		if get(s, span.KeyFolded) == nil {
			continue
		}
		shared++
		wants(t, s, map[string]any{span.KeyCallID: "c", span.KeyPID: nil, span.KeyExecutableName: nil, span.KeyOutcome: "ok", span.KeyFileAccess: "read"})
		if s.Parent != w.of(span.Tool)[0].ID {
			t.Errorf("it does not stand under execute_tool: %s", show([]span.Span{s}))
		}
	}
	if total != 3*7 || len(list) != 5+3+shared || shared != 3 {
		t.Errorf("%d opens in %d spans, %d of them of all processes: %s", total, len(list), shared, show(list))
	}
	wants(t, list[len(list)-1], map[string]any{span.KeyFilePath: "/etc/conf.d/", span.KeyCount: 2, span.KeyFoldedPrograms: []string{"cc21", "cc22"}})
}

func TestWhatMakesAnAgentsSandboxFolds(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.fork(10, 20)
	w.run(20, record.ExecSessionLeader, []string{"/usr/bin/bwrap", "--", "/bin/bash", "-c", "make"}, "CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=c")
	for i := range 5 {
		w.openWith(20, record.OpenForeign, record.Open{Path: rt.Path(fmt.Sprintf("/oldroot/%d", i)), Flags: unix.O_PATH})
		w.openWith(20, record.OpenForeign|record.OpenCreated, record.Open{Path: rt.Path(fmt.Sprintf("/newroot/dev/%d", i)), Flags: unix.O_CREAT | unix.O_WRONLY})
	}
	w.openWith(20, record.OpenForeign, record.Open{Path: rt.Path("/root/.ssh/id")})
	w.exit(20, 0)
	w.tick(3 * time.Second)
	list := w.of(span.Open)
	if len(list) != 3 {
		t.Fatalf("spans %s", show(list))
	}
	for _, want := range []map[string]any{
		{span.KeyFilePath: "/oldroot/", span.KeyFileAccess: "path_only", span.KeyCount: 5, span.KeyFolded: true},
		{span.KeyFilePath: "/newroot/dev/", span.KeyFileAccess: "create", span.KeyCount: 5, span.KeyFolded: true, span.KeyExecutableName: "bwrap"},
		{span.KeyFilePath: "/root/.ssh/id", span.KeySensitive: true, span.KeyFolded: nil},
	} {
		i := slices.IndexFunc(list, func(s span.Span) bool { return get(s, span.KeyFilePath) == want[span.KeyFilePath] })
		wants(t, list[max(i, 0)], want)
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
		w.open(10, "/etc/fstab")
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
		for dir, name := range map[string]string{"/src/d0/": "f", "/src/d9/": "f", "/src/": "customers.db", "/etc/": "fstab"} {
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

// What would not have been counted for its directory is not taken into that later.
func TestWhatIsOfInterestDoesNotFoldAfterwards(t *testing.T) {
	for flag, what := range map[uint16]string{
		record.OpenUnlinked: "it has no name", record.OpenTruncated: "the begin of its path is missing", record.OpenOutside: "outside of its root",
	} {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		odd := record.Open{Path: rt.Path("/repo/odd"), Name: []byte("/repo/odd"), Inode: 1, Flags: unix.O_WRONLY | unix.O_CREAT}
		w.openWith(10, flag|record.OpenCreated, odd)
		w.write(10, "/etc/odd", 2, true)
		for n := range 60 {
			w.write(10, fmt.Sprintf("/repo/%d", n), uint64(n+3), true)
			w.write(10, fmt.Sprintf("/etc/%d", n), uint64(n+300), true)
		}
		w.c.Close()
		alone := 0
		for _, s := range w.of(span.Open) {
			path, _ := get(s, span.KeyFilePath).(string)
			if get(s, span.KeyFolded) == true {
				if path != "/repo/" || get(s, span.KeyCount) != int64(60) {
					t.Errorf("%s: %s %v", what, path, get(s, span.KeyCount))
				}
			} else if strings.Contains(path, "odd") {
				alone++
			}
		}
		if alone != 2 {
			t.Errorf("%s: %d of 2 have spans", what, alone)
		}
	}
}

// Changes outside of the workspace have spans of their own up to a bound, for people, too, and are counted beyond.
func TestFewChangesOutsideOfTheWorkspaceStayAlone(t *testing.T) {
	for _, many := range []int{8, 9, 500} {
		w := newWorld(t, func(c *config.Config) { c.Fold.Trees, c.Fold.Creates = true, 2 })
		w.begin(10, one)
		w.exec(10, "/bin/rm", "rm")
		for n := range many {
			w.change(10, 0, "", fmt.Sprintf("/etc/x/%d", n), record.Change{Op: record.ChangeUnlink, Inode: uint64(n + 1), Nlink: 1})
		}
		w.c.Close()
		list, sum := w.of(span.Change), int64(0)
		for _, s := range list {
			wants(t, s, map[string]any{span.KeyOutside: true})
			n, counts := get(s, span.KeyCount).(int64)
			if !counts {
				n = 1
			}
			sum += n
		}
		if many <= 8 != (len(list) == many) || many > 8 && len(list) != 1 || sum != int64(many) {
			t.Errorf("%d changes: %d spans that count %d", many, len(list), sum)
		}
	}
}
