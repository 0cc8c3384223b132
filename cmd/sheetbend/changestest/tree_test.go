// SPDX-License-Identifier: Apache-2.0

package changestest

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// An identity tells a file apart, also from a later one with its inode.
type identity struct {
	dev, inode uint64
	born       unix.StatxTimestamp
}

// A slot is a name in a directory: it goes along when that is renamed.
type slot struct {
	dir  identity
	name string
}

// An entry is what a tree has at a name.
type entry struct {
	identity
	path                   string // a directory's ends with a slash
	mode                   uint16
	uid, gid               uint32
	size                   uint64
	modified, changed, set unix.StatxTimestamp // changed: also of mode, owner, names and attributes
	content                [sha256.Size]byte   // of a regular file
	target                 string              // of a symbolic link
}

func (e *entry) isDir() bool { return e.mode&unix.S_IFMT == unix.S_IFDIR }

// A tree is a snapshot.
type tree struct {
	slots map[slot]*entry
	paths map[string]*entry // without the slash of a directory
	names map[identity][]*entry
}

func snapshot(t *testing.T, root string) *tree {
	t.Helper()
	s := &tree{map[slot]*entry{}, map[string]*entry{}, map[identity][]*entry{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := look(path)
		if err != nil {
			return err
		}
		if dir := s.paths[filepath.Dir(path)]; dir != nil {
			s.slots[slot{dir.identity, filepath.Base(path)}] = e
			s.names[e.identity] = append(s.names[e.identity], e)
		}
		s.paths[path] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func look(path string) (*entry, error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return nil, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	e := &entry{
		identity: identity{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino, x.Btime}, path: path,
		mode: x.Mode, uid: x.Uid, gid: x.Gid, size: x.Size, modified: x.Mtime, changed: x.Ctime, set: x.Atime,
	}
	var err error
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.path += "/"
	case unix.S_IFLNK:
		e.target, err = os.Readlink(path)
	case unix.S_IFREG:
		var content []byte
		content, err = os.ReadFile(path)
		e.content = sha256.Sum256(content)
	}
	return e, err
}
