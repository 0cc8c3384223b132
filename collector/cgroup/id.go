// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ID returns the id by which the kernel's records name the cgroup: kernfs's node id, never
// used again within a boot.
func (m Mount) ID(cgroup string) (uint64, error) {
	id, err := handle(unix.AT_FDCWD, m.dir(cgroup))
	if err != nil {
		return 0, fmt.Errorf("look up the id of cgroup %s: %w", cgroup, err)
	}
	return id, nil
}

// fileIDKernfs is the type of kernfs's file handles: FILEID_KERNFS of the kernel's enum fid_type.
const fileIDKernfs = 0xfe

// Path is the cgroup of this id: ID the other way round. It needs CAP_DAC_READ_SEARCH, and the directory still has to
// be there.
func (m Mount) Path(id uint64) (string, error) {
	path, err := m.path(id)
	if err != nil {
		return "", fmt.Errorf("look up the cgroup of id %d: %w", id, err)
	}
	return path, nil
}

func (m Mount) path(id uint64) (string, error) {
	mount, err := unix.Open(m.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(mount)
	dir, err := unix.OpenByHandleAt(mount, unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id)),
		unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir))
	if err != nil {
		return "", err
	}
	cgroup, ok := strings.CutPrefix(name, strings.TrimSuffix(m.Dir, "/"))
	if !ok || cgroup != "" && cgroup[0] != '/' {
		return "", unix.ENOENT
	}
	// Behind the name of a removed directory the kernel writes " (deleted)", as one that is there may be called, too.
	var found, there unix.Stat_t
	if err := unix.Fstat(dir, &found); err != nil {
		return "", err
	}
	if err := unix.Lstat(name, &there); err != nil || there.Ino != found.Ino || there.Dev != found.Dev {
		return "", unix.ENOENT
	}
	return "/" + strings.TrimPrefix(cgroup, "/"), nil
}

// handle asks for the file handle, which on kernfs is the node id in 8 bytes (5.5+). A seccomp
// filter may refuse that call (container runtimes do without CAP_DAC_READ_SEARCH); the
// inode number is the same on 64-bit hosts.
func handle(dirfd int, name string) (uint64, error) {
	h, _, err := unix.NameToHandleAt(dirfd, name, 0)
	if err == nil && h.Size() == 8 {
		return binary.NativeEndian.Uint64(h.Bytes()), nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
