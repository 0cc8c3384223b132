// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/collector/spans"
)

func TestARename(t *testing.T) {
	const both = record.ChangeBase | record.ChangeBase<<record.ChangeNewShift
	name := func(dir, name string) record.ChangedName {
		return record.ChangedName{Dir: rt.Path(dir), Name: []byte(name)}
	}
	for _, c := range []struct {
		name   string
		flags  uint16
		record record.Change
		want   map[string]any
		failed bool
	}{
		{"that replaces", both, record.Change{Inode: 7, Replaced: 8, Old: name("/w", "a.tmp"), New: name("/w", "a")}, map[string]any{
			span.KeyFileOperation: "rename", span.KeyFileOldPath: "/w/a.tmp", span.KeyFilePath: "/w/a", span.KeyFileInode: "7", span.KeyFileReplaced: "8",
			span.KeyFileDirectory: nil, span.KeyFilePathUnresolved: nil, span.KeySensitive: nil, span.KeyErrorType: nil}, false},
		{"of a directory, at the root", both | record.ChangeDirectory, record.Change{Old: name("/", "a"), New: name("/", "new\nline")}, map[string]any{
			span.KeyFileOldPath: "/a", span.KeyFilePath: "/new\nline", span.KeyFileDirectory: true, span.KeyFileReplaced: nil}, false},
		{"by the caller's word", record.ChangeBase | record.ChangeNamesFromUser, record.Change{Old: name("/w", "../x/./a"), New: name("", "/y/b")}, map[string]any{
			span.KeyFileOldPath: "/x/a", span.KeyFilePath: "/y/b", span.KeyFilePathUnresolved: true, span.KeyFileNameFromUser: true}, false},
		{"an exchange", both, record.Change{Flags: unix.RENAME_EXCHANGE, Old: name("/w", "a"), New: name("/w", "b")}, map[string]any{
			span.KeyFileOperation: "exchange"}, false},
		{"away from a secret", both, record.Change{Old: name("/home/a", ".ssh"), New: name("/w", "x")}, map[string]any{span.KeySensitive: true}, false},
		{"to a secret", both, record.Change{Old: name("/w", "x"), New: name("/home/a/.ssh", "authorized_keys")}, map[string]any{span.KeySensitive: true}, false},
		{"refused", both, record.Change{Error: int32(unix.EACCES), Old: name("/w", "a"), New: name("/etc", "b")}, map[string]any{
			span.KeyErrorType: "EACCES"}, true},
		{"to another file system, as mv tries it", both, record.Change{Error: int32(unix.EXDEV), Old: name("/w", "a"), New: name("/t", "b")}, map[string]any{
			span.KeyErrorType: "EXDEV"}, false},
		{"without names", record.ChangeNameMissing, record.Change{Error: int32(unix.ENOENT)}, map[string]any{
			span.KeyFilePath: nil, span.KeyFileOldPath: nil, span.KeyFileNameMissing: true}, false},
		{"of another root", both | (record.ChangeOutside|record.ChangeNameTruncated)<<record.ChangeNewShift, record.Change{Old: name("/w", "a"), New: name("/t", "b")}, map[string]any{
			span.KeyFilePath: "(unreachable)/t/b", span.KeyFilePathOutside: true, span.KeyFileNameTruncated: true, span.KeyFilePathTruncated: nil}, false},
		{"too deep", both | record.ChangeTruncated, record.Change{Old: name("/d", "a"), New: name("/t", "b")}, map[string]any{
			span.KeyFileOldPath: "…/d/a", span.KeyFilePathTruncated: true, span.KeyFileNameTruncated: nil}, false},
		{"an operation of a newer kernel side", both, record.Change{Op: 99, Old: name("/w", "a"), New: name("/w", "b")}, map[string]any{span.KeyFileOperation: "unknown"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			h := w.header(10)
			h.Flags = c.flags
			if c.record.Op == 0 {
				c.record.Op = record.ChangeRename
			}
			w.raw(rt.Record(h, c.record))
			s := w.only(span.Change)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.ID != span.ChangeSpan(boot, image1(10, 1), 10, h.Time) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestChangesOfEachOperation(t *testing.T) {
	const base = record.ChangeBase << record.ChangeNewShift
	at := func(dir, name string) record.ChangedName {
		return record.ChangedName{Dir: rt.Path(dir), Name: []byte(name)}
	}
	given := func(name string) record.ChangedName { return record.ChangedName{Name: []byte(name)} }
	const unknown = record.ChangeUnknown
	for _, c := range []struct {
		name   string // for people
		flags  uint16
		record record.Change
		want   map[string]any
		failed bool
	}{
		{"delete /w/a", base, record.Change{Op: record.ChangeUnlink, New: at("/w", "a"), Inode: 7, Nlink: 2, Mode: unix.S_IFSOCK | 0o600}, map[string]any{
			span.KeyFileOperation: "unlink", span.KeyFilePath: "/w/a", span.KeyFileOldPath: nil, span.KeyFileInode: "7", span.KeyFileLinks: 2,
			span.KeyFileType: "socket", span.KeyFileWrite: true, span.KeyFileMode: nil, span.KeyOutcome: "ok", span.KeyFolded: nil, span.KeyCount: nil}, false},
		{"failed rmdir /w/d ENOTEMPTY", base | record.ChangeDirectory, record.Change{Op: record.ChangeRmdir, New: at("/w", "d"), Error: int32(unix.ENOTEMPTY)}, map[string]any{
			span.KeyFileOperation: "rmdir", span.KeyFileDirectory: true, span.KeyOutcome: "failed", span.KeyErrorType: "ENOTEMPTY"}, false},
		{"mkdir /w/d", base, record.Change{Op: record.ChangeMkdir, New: at("/w", "d"), Mode: unix.S_IFDIR | 0o755}, map[string]any{
			span.KeyFileOperation: "mkdir", span.KeyFileMode: "0755", span.KeyFileType: "directory"}, false},
		{"failed mkdir /w/d EEXIST", base, record.Change{Op: record.ChangeMkdir, New: at("/w", "d"), Error: int32(unix.EEXIST)}, map[string]any{
			span.KeyOutcome: "failed", span.KeyErrorType: "EEXIST", span.KeyFileMode: nil}, false},
		{"refused mkdir /w/d EROFS", base, record.Change{Op: record.ChangeMkdir, New: at("/w", "d"), Error: int32(unix.EROFS)}, map[string]any{
			span.KeyOutcome: "refused", span.KeyErrorType: "EROFS"}, true},
		{"failed delete /w/a ENOENT", base, record.Change{Op: record.ChangeUnlink, New: at("/w", "a"), Error: int32(unix.ENOENT)}, map[string]any{
			span.KeyOutcome: "missing"}, false},
		{"mknod /w/m", base, record.Change{Op: record.ChangeMknod, New: at("/w", "m"), Mode: unix.S_IFCHR | 0o666, After: unix.Mkdev(1, 3)}, map[string]any{
			span.KeyFileOperation: "mknod", span.KeyFileType: "char_device", span.KeyFileMode: "0666", span.KeyFileDevice: "1:3"}, false},
		{"link /w/a → /v/b", base | record.ChangeBase, record.Change{Op: record.ChangeLink, Old: at("/w", "a"), New: at("/v", "b"), Nlink: 1}, map[string]any{
			span.KeyFileOperation: "link", span.KeyFileOldPath: "/w/a", span.KeyFilePath: "/v/b", span.KeyFileLinks: 1}, false},
		{"symlink /w/l → ../x", base, record.Change{Op: record.ChangeSymlink, Old: given("../x"), New: at("/w", "l")}, map[string]any{
			span.KeyFileOperation: "symlink", span.KeyFileLinkTarget: "../x", span.KeyFilePath: "/w/l", span.KeyFileOldPath: nil, span.KeySensitive: nil}, false},
		{"[sensitive] symlink ~/l → ../a/.ssh", base, record.Change{Op: record.ChangeSymlink, Old: given("../a/.ssh"), New: at("/home/b", "l")}, map[string]any{
			span.KeySensitive: true}, false},
		{"[sensitive] symlink /w/l → ../etc/shadow", base, record.Change{Op: record.ChangeSymlink, Old: given("../etc/shadow"), New: at("/w", "l")}, map[string]any{
			span.KeySensitive: true}, false},
		{"[sensitive] link ~/.ssh/id_rsa → /w/x", base | record.ChangeBase, record.Change{Op: record.ChangeLink, Old: at("/home/a/.ssh", "id_rsa"), New: at("/w", "x")}, map[string]any{
			span.KeySensitive: true}, false},
		{"truncate /w/f", base | record.ChangeOpenFile, record.Change{Op: record.ChangeTruncate, New: at("/w", "f"), Before: 9, After: 0}, map[string]any{
			span.KeyFileOperation: "truncate", span.KeyFileSize: 0, span.KeyFileSizeBefore: 9, span.KeyFileByDescriptor: true}, false},
		{"chmod 600 /w/f", base, record.Change{Op: record.ChangeChmod, New: at("/w", "f"), Before: unix.S_IFREG | 0o644, After: 0o600}, map[string]any{
			span.KeyFileOperation: "chmod", span.KeyFileMode: "0600", span.KeyFileModeBefore: "0644"}, false},
		{"chown 0: /w/f", base, record.Change{Op: record.ChangeChown, New: at("/w", "f"), Before: unknown, After: 0xffffffff << 32}, map[string]any{
			span.KeyFileOperation: "chown", span.KeyFileOwner: "0", span.KeyFileGroup: nil, span.KeyFileOwnerBefore: nil, span.KeyFileGroupBefore: nil}, false},
		{"chown 0:5 /w/f", base, record.Change{Op: record.ChangeChown, New: at("/w", "f"), Before: 1000 | 1001<<32, After: 5 << 32}, map[string]any{
			span.KeyFileOwner: "0", span.KeyFileGroup: "5", span.KeyFileOwnerBefore: "1000", span.KeyFileGroupBefore: "1001"}, false},
		{"setxattr user.x /w/f", base, record.Change{Op: record.ChangeSetxattr, New: at("/w", "f"), Text: []byte("user.x")}, map[string]any{
			span.KeyFileOperation: "setxattr", span.KeyFileAttribute: "user.x", span.KeyMountType: nil}, false},
		{"removexattr user.x /w/f", base, record.Change{Op: record.ChangeRemovexattr, New: at("/w", "f"), Text: []byte("user.x")}, map[string]any{
			span.KeyFileOperation: "removexattr", span.KeyFileAttribute: "user.x"}, false},
		{"touch /w/f", base | record.ChangeNotSure, record.Change{Op: record.ChangeUtimes, New: at("/w", "f")}, map[string]any{
			span.KeyFileOperation: "utimes", span.KeyFileNotSure: true, span.KeyOutcome: "ok"}, false},
		{"mount tmpfs /m", base, record.Change{Op: record.ChangeMount, Old: given("tmpfs"), New: at("/", "m"), Text: []byte("tmpfs"), Flags: unix.MS_NOSUID | unix.MS_RDONLY}, map[string]any{
			span.KeyFileOperation: "mount", span.KeyMountSource: "tmpfs", span.KeyMountType: "tmpfs", span.KeyFilePath: "/m", span.KeyFileOldPath: nil,
			span.KeyMountFlags: []string{"ro", "nosuid"}, span.KeyFileWrite: nil, span.KeySensitive: nil}, false},
		{"[sensitive] mount /home/a/.ssh /m", base, record.Change{Op: record.ChangeMount, Old: given("/home/a/.ssh"), New: at("/", "m"), Flags: unix.MS_BIND}, map[string]any{
			span.KeySensitive: true, span.KeyMountFlags: []string{"bind"}}, false},
		{"[sensitive] mount .ssh /m", base, record.Change{Op: record.ChangeMount, Old: given(".ssh"), New: at("/", "m"), Flags: unix.MS_BIND}, map[string]any{
			span.KeySensitive: true, span.KeyMountSource: ".ssh"}, false},
		{"failed umount /m EBUSY", base, record.Change{Op: record.ChangeUmount, New: at("/", "m"), Error: int32(unix.EBUSY)}, map[string]any{
			span.KeyFileOperation: "umount", span.KeyOutcome: "failed", span.KeyFileWrite: nil}, false},
		{"move_mount /m → /n", base | record.ChangeBase, record.Change{Op: record.ChangeMoveMount, Old: at("/", "m"), New: at("/", "n")}, map[string]any{
			span.KeyFileOperation: "move_mount", span.KeyFileOldPath: "/m", span.KeyFilePath: "/n", span.KeyFileWrite: nil}, false},
		{"pivot_root /r", base | record.ChangeBase, record.Change{Op: record.ChangePivotRoot, Old: at("/r", "old"), New: at("/", "r")}, map[string]any{
			span.KeyFileOperation: "pivot_root", span.KeyFileOldPath: "/r/old", span.KeyFileWrite: nil}, false},
		{"refused chroot /r EPERM", base, record.Change{Op: record.ChangeChroot, New: at("/", "r"), Error: int32(unix.EPERM)}, map[string]any{
			span.KeyFileOperation: "chroot", span.KeyOutcome: "refused", span.KeyFileWrite: nil}, true},
		{"delete /w/a", record.ChangeNamesFromUser | record.ChangeSubmitted, record.Change{Op: record.ChangeUnlink, New: given("/w/a")}, map[string]any{
			span.KeyFileSubmitted: true, span.KeyOutcome: nil, span.KeyFilePath: "/w/a", span.KeyFilePathUnresolved: true}, false},
		{"chmod 600 /w/f (deleted)", base | record.ChangeOpenFile | record.ChangeUnlinked, record.Change{Op: record.ChangeChmod, New: at("/w", "f (deleted)"), Before: unknown, After: 0o600}, map[string]any{
			span.KeyFileDeleted: true, span.KeyFileModeBefore: nil}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.SpanNames, c.WorkspaceIgnore = config.NamesReadable, []string{"/**"} })
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			h := w.header(10)
			h.Flags = c.flags
			w.raw(rt.Record(h, c.record))
			w.exit(10, 0)
			s := w.only(span.Change)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.Name != c.name || s.ID != span.ChangeSpan(boot, image1(10, 1), 10, h.Time) {
				t.Errorf("span %q %s", s.Name, show([]span.Span{s}))
			}
		})
	}
}

// changes gives a function that changes a file as process 10 of the world does.
func changes(w *world) func(op uint16, file string, more ...func(*record.Header, *record.Change)) {
	w.begin(10, one)
	w.exec(10, "/bin/rm", "rm")
	return func(op uint16, file string, more ...func(*record.Header, *record.Change)) {
		h := w.header(10)
		h.Flags = record.ChangeBase << record.ChangeNewShift
		dir, name := path.Split(file)
		r := record.Change{Op: op, New: record.ChangedName{Dir: rt.Path(dir), Name: []byte(name)}}
		for _, f := range more {
			f(&h, &r)
		}
		w.raw(rt.Record(h, r))
	}
}

func TestManyChangesBelowOneDirectoryAreOneSpan(t *testing.T) {
	readable := func(c *config.Config) { c.SpanNames = config.NamesReadable }
	t.Run("with the exact count and the first names", func(t *testing.T) {
		w := newWorld(t, readable)
		change := changes(w)
		first := w.now + ms
		for n := range 46 {
			change(record.ChangeUnlink, fmt.Sprintf("/w/old/legacy/f%d", n))
		}
		last := w.now
		change(record.ChangeRmdir, "/w/old/legacy")
		if got := w.of(span.Change); len(got) != 0 {
			t.Fatalf("within the window: %s", show(got))
		}
		w.exit(10, 0)
		list := w.of(span.Change)
		if len(list) != 2 {
			t.Fatalf("spans %s", show(list))
		}
		wants(t, list[0], map[string]any{
			span.KeyFilePath: "/w/old/legacy/", span.KeyCount: 46, span.KeyFolded: true, span.KeyFileOperation: "unlink", span.KeyFileWrite: true,
			span.KeyFoldedNames: []string{"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"}, span.KeyOutcome: "ok", span.KeyFileInode: nil,
			span.KeyLast: time.Unix(0, int64(last+wallStart-bootStart)).UTC().Format("2006-01-02T15:04:05.000000000Z"),
		})
		wants(t, list[1], map[string]any{span.KeyFilePath: "/w/old/legacy", span.KeyFolded: nil, span.KeyCount: nil})
		if list[0].Name != "[outside] delete /w/old/legacy/ (46 files)" || list[0].ID != span.ChangeSpan(boot, image1(10, 1), 10, first) {
			t.Errorf("%q", list[0].Name)
		}
	})
	t.Run("but few are each a span, as are those with something to look for", func(t *testing.T) {
		w := newWorld(t)
		change := changes(w)
		for n := range spans.MaxFoldedNames {
			change(record.ChangeUnlink, fmt.Sprintf("/w/f%d", n))
		}
		own := 0
		for n := range 20 {
			change(record.ChangeUnlink, fmt.Sprintf("/home/a/.ssh/f%d", n))
			change(record.ChangeUnlink, fmt.Sprintf("/etc/f%d", n), func(_ *record.Header, r *record.Change) { r.Error = int32(unix.EACCES) })
			change(record.ChangeChmod, fmt.Sprintf("/w/suid%d", n), func(_ *record.Header, r *record.Change) { r.After = 0o4755 })
			change(record.ChangeSetxattr, fmt.Sprintf("/w/cap%d", n), func(_ *record.Header, r *record.Change) { r.Text = []byte("security.capability") })
			change(record.ChangeMount, fmt.Sprintf("/w/m%d", n))
			change(record.ChangeUnlink, fmt.Sprintf("/w/s%d", n), func(h *record.Header, _ *record.Change) { h.Flags |= record.ChangeSubmitted })
			change(record.ChangeRename, fmt.Sprintf("/w/r%d", n), func(h *record.Header, r *record.Change) { h.Flags |= record.ChangeBase; r.Old = r.New })
			own += 7
		}
		if got := len(w.of(span.Change)); got != own {
			t.Errorf("%d spans at once, want %d", got, own)
		}
		w.tick(3 * time.Second)
		list := w.of(span.Change)
		if len(list) != own+spans.MaxFoldedNames {
			t.Errorf("%d spans, want %d", len(list), own+spans.MaxFoldedNames)
		}
		for _, s := range list {
			wants(t, s, map[string]any{span.KeyFolded: nil, span.KeyCount: nil})
		}
	})
	t.Run("apart by operation, mode, owner and the name of an attribute", func(t *testing.T) {
		w := newWorld(t, readable)
		change := changes(w)
		for n := range 20 {
			file := fmt.Sprintf("/w/f%d", n)
			change(record.ChangeChmod, file, func(_ *record.Header, r *record.Change) { r.After, r.Before = 0o600, 0o644 })
			change(record.ChangeChmod, file, func(_ *record.Header, r *record.Change) { r.After = 0o700 })
			change(record.ChangeSetxattr, file, func(_ *record.Header, r *record.Change) { r.Text = []byte("user.a") })
			change(record.ChangeSetxattr, file, func(_ *record.Header, r *record.Change) { r.Text = []byte("user.b") })
			change(record.ChangeTruncate, file, func(_ *record.Header, r *record.Change) { r.After = uint64(n) })
		}
		w.exit(10, 0)
		list := w.of(span.Change)
		if len(list) != 5 {
			t.Fatalf("spans %s", show(list))
		}
		wants(t, list[0], map[string]any{span.KeyFileMode: "0600", span.KeyFileModeBefore: nil, span.KeyCount: 20})
		wants(t, list[1], map[string]any{span.KeyFileMode: "0700", span.KeyCount: 20})
		wants(t, list[2], map[string]any{span.KeyFileAttribute: "user.a", span.KeyCount: 20})
		wants(t, list[4], map[string]any{span.KeyFileSize: nil, span.KeyFileSizeBefore: nil, span.KeyCount: 20})
	})
	t.Run("and a deep tree is a few, whose counts are exact", func(t *testing.T) {
		w := newWorld(t)
		change := changes(w)
		const packages, files = 300, 5
		for n := range packages {
			for m := range files {
				change(record.ChangeUnlink, fmt.Sprintf("/w/node_modules/p%d/lib/f%d", n, m))
			}
			change(record.ChangeRmdir, fmt.Sprintf("/w/node_modules/p%d/lib", n))
			change(record.ChangeRmdir, fmt.Sprintf("/w/node_modules/p%d", n))
			if got := w.c.Stats().Repeats; got > spans.MaxChangeDirectories {
				t.Fatalf("%d directories are held", got)
			}
		}
		w.exit(10, 0)
		counts := map[any]int64{}
		list := w.of(span.Change)
		for _, s := range list {
			count := int64(1)
			if n, ok := get(s, span.KeyCount).(int64); ok {
				count = n
			}
			counts[get(s, span.KeyFileOperation)] += count
			if file, _ := get(s, span.KeyFilePath).(string); !strings.HasPrefix(file, "/w/node_modules/") {
				t.Errorf("path %s", file)
			}
		}
		if len(list) > 40 || counts["unlink"] != packages*files || counts["rmdir"] != 2*packages {
			t.Errorf("%d spans, counts %v", len(list), counts)
		}
	})
	t.Run("never for the root: the oldest goes out", func(t *testing.T) {
		w := newWorld(t)
		change := changes(w)
		for n := range spans.MaxChangeDirectories + 4 {
			change(record.ChangeUnlink, fmt.Sprintf("/d%d/f", n))
		}
		if got := len(w.of(span.Change)); got != 4 {
			t.Errorf("%d spans went out, want 4", got)
		}
		w.exit(10, 0)
		for _, s := range w.of(span.Change) {
			wants(t, s, map[string]any{span.KeyFolded: nil})
		}
	})
}
