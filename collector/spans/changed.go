// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// change adds what a change is told by, but for the names of its program.
func (d *builder) change(g *change) {
	r := &g.record
	d.trusted(span.KeyFileOperation, g.operation.name)
	d.flagIf(!g.operation.place, span.KeyFileWrite)
	d.flagIf(g.outside, span.KeyOutside)
	d.declared(g.declared)
	d.textIf(span.KeyFilePath, g.to)
	switch r.Op {
	case record.ChangeSymlink:
		d.textIf(span.KeyFileLinkTarget, g.from)
	case record.ChangeMount:
		d.textIf(span.KeyMountSource, g.from)
		d.textIf(span.KeyMountType, g.text)
		d.strings(span.KeyMountFlags, mountFlags(r.Flags))
	case record.ChangeSetxattr, record.ChangeRemovexattr:
		d.textIf(span.KeyFileAttribute, g.text)
		d.textIf(span.KeyFileOldPath, g.from)
	default:
		d.textIf(span.KeyFileOldPath, g.from)
	}
	d.changedTo(r)
	if kind := fileTypes[r.Mode&unix.S_IFMT]; kind != "" {
		d.trusted(span.KeyFileType, kind)
	}
	if r.Inode != 0 {
		d.trusted(span.KeyFileInode, strconv.FormatUint(r.Inode, 10))
	}
	if r.Nlink != 0 {
		d.int(span.KeyFileLinks, int64(r.Nlink))
	}
	if r.Replaced != 0 {
		d.trusted(span.KeyFileReplaced, strconv.FormatUint(r.Replaced, 10))
	}
	either := g.flags | g.flags>>record.ChangeNewShift
	fromUser := g.flags&record.ChangeNamesFromUser != 0
	d.flagIf(g.flags&record.ChangeDirectory != 0, span.KeyFileDirectory)
	d.flagIf(fromUser, span.KeyFileNameFromUser)
	d.flagIf(fromUser, span.KeyFilePathUnresolved)
	d.flagIf(either&record.ChangeNameMissing != 0, span.KeyFileNameMissing)
	d.flagIf(either&record.ChangeNameTruncated != 0, span.KeyFileNameTruncated)
	d.flagIf(either&record.ChangeTruncated != 0, span.KeyFilePathTruncated)
	d.flagIf(either&record.ChangeOutside != 0, span.KeyFilePathOutside)
	d.flagIf(g.flags&record.ChangeSubmitted != 0, span.KeyFileSubmitted)
	d.flagIf(g.flags&record.ChangeOpenFile != 0, span.KeyFileByDescriptor)
	d.flagIf(g.flags&record.ChangeUnlinked != 0, span.KeyFileDeleted)
	d.flagIf(g.flags&record.ChangeNotSure != 0, span.KeyFileNotSure)
	d.flagIf(g.sensitive, span.KeySensitive)
	if g.flags&record.ChangeSubmitted == 0 {
		d.returned(r.Error)
	}
}

// changedTo adds mode, owner or size, before and after.
func (d *builder) changedTo(r *record.Change) {
	switch r.Op {
	case record.ChangeMkdir, record.ChangeMknod:
		if r.Mode != 0 {
			d.trusted(span.KeyFileMode, octal(uint64(r.Mode)))
		}
		if kind := r.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			d.trusted(span.KeyFileDevice, fmt.Sprintf("%d:%d", unix.Major(r.After), unix.Minor(r.After)))
		}
	case record.ChangeChmod:
		d.trusted(span.KeyFileMode, octal(r.After))
		if r.Before != record.ChangeUnknown {
			d.trusted(span.KeyFileModeBefore, octal(r.Before))
		}
	case record.ChangeChown:
		for _, id := range []struct {
			key   string
			value uint32
		}{
			{span.KeyFileOwner, uint32(r.After)},
			{span.KeyFileGroup, uint32(r.After >> 32)},
			{span.KeyFileOwnerBefore, uint32(r.Before)},
			{span.KeyFileGroupBefore, uint32(r.Before >> 32)},
		} {
			if id.value != ^uint32(0) {
				d.trusted(id.key, strconv.FormatUint(uint64(id.value), 10))
			}
		}
	case record.ChangeTruncate:
		if r.After != record.ChangeUnknown {
			d.int(span.KeyFileSize, int64(r.After))
		}
		if r.Before != record.ChangeUnknown {
			d.int(span.KeyFileSizeBefore, int64(r.Before))
		}
	}
}

func octal(mode uint64) string { return fmt.Sprintf("%04o", mode&0o7777) }

// fileTypes are the values of sheetbend.file.type.
var fileTypes = map[uint16]string{
	unix.S_IFREG: "regular", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "char_device", unix.S_IFBLK: "block_device",
}

// mountFlags gives the flags of a mount by the names of mount(8); others are left out.
func mountFlags(flags uint32) (names []string) {
	for _, f := range []struct {
		flag uint32
		name string
	}{
		{unix.MS_RDONLY, "ro"},
		{unix.MS_NOSUID, "nosuid"},
		{unix.MS_NODEV, "nodev"},
		{unix.MS_NOEXEC, "noexec"},
		{unix.MS_REMOUNT, "remount"},
		{unix.MS_BIND, "bind"},
		{unix.MS_MOVE, "move"},
		{unix.MS_REC, "rec"},
		{unix.MS_UNBINDABLE, "unbindable"},
		{unix.MS_PRIVATE, "private"},
		{unix.MS_SLAVE, "slave"},
		{unix.MS_SHARED, "shared"},
	} {
		if flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return names
}

// appendChanged writes one side of a change; flags are those of that side.
func appendChanged(dst []byte, n *record.ChangedName, flags uint16) []byte {
	start := len(dst)
	if flags&record.ChangeBase != 0 {
		marks := paths.Marks{
			Truncated: flags&record.ChangeTruncated != 0,
			Outside:   flags&record.ChangeOutside != 0,
		}
		dst = append(paths.AppendResolved(dst, n.Dir, marks), '/')
	}
	dst = append(dst, n.Name...)
	return dst[:start+len(paths.Clean(dst[start:]))]
}
