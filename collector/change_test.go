// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
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
