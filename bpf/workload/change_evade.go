// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// evadeChangeScenarios change files where no system call of their own names them.
func evadeChangeScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-change-uring":       func(w *work) error { return w.uringChanges(0, 0) },
		"evade-change-uring-work":  func(w *work) error { return w.uringChanges(0, sqeAsync) },
		"evade-change-int80":       changeInt80,
		"evade-change-closed":      changeClosed,
		"evade-change-proc-fd":     changeProcFd,
		"evade-change-empty-names": changeEmptyNames,
		"evade-change-no-file":     changeNoFile,
	}
}

// uringChanges asks io_uring for each change that it knows. What this kernel's does not know is not told.
func (w *work) uringChanges(setup uint32, flags uint8) error {
	ring, err := newUring(setup)
	if err != nil {
		return err
	}
	defer func() { _ = ring.close() }()
	if err := errors.Join(w.files("a", "b", "c", "d"), w.directories("gone")); err != nil {
		return err
	}
	dir, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	const at = unix.AT_FDCWD
	for _, s := range []struct {
		submission    // without addresses
		first, second string
		third         string // a path that comes after a value
		fact          Fact
	}{
		{submission{opcode: opUnlinkat, fd: at}, w.path("a"), "", "", Fact{Op: "unlink", Path: w.path("a")}},
		{submission{opcode: opUnlinkat, fd: int32(dir), opFlags: unix.AT_REMOVEDIR}, "gone", "", "", Fact{Op: "rmdir", Path: w.path("gone")}},
		{submission{opcode: opUnlinkat, fd: at}, w.path("missing"), "", "", Fact{Op: "unlink", Path: w.path("missing"), Errno: "ENOENT"}},
		{submission{opcode: opRenameat, fd: int32(dir), len: uint32(dir)}, "b", "renamed", "", Fact{Op: "rename", Old: w.path("b"), Path: w.path("renamed")}},
		{submission{opcode: opMkdirat, fd: at, len: 0o700}, w.path("made"), "", "", Fact{Op: "mkdir", Path: w.path("made"), Mode: unix.S_IFDIR | 0o700}},
		{submission{opcode: opSymlinkat, fd: int32(dir)}, "../target", "link", "", Fact{Op: "symlink", Old: "../target", Path: w.path("link")}},
		{submission{opcode: opLinkat, fd: int32(dir), len: uint32(dir)}, "c", "hard", "", Fact{Op: "link", Old: w.path("c"), Path: w.path("hard")}},
		{submission{opcode: opSetxattr, len: 5}, "trusted.x", "value", w.path("d"), Fact{Op: "setxattr", Path: w.path("d"), Text: "trusted.x", After: 5, ByCall: true}},
	} {
		var names [3]*byte
		for i, name := range []string{s.first, s.second, s.third} {
			if names[i], err = unix.BytePtrFromString(name); err != nil {
				return err
			}
		}
		s.flags = flags
		s.addr, s.off = uint64(uintptr(unsafe.Pointer(names[0]))), uint64(uintptr(unsafe.Pointer(names[1])))
		if s.second == "" {
			s.off = 0 // not of every operation, and then it has to be
		}
		if s.third != "" {
			s.addr3 = uint64(uintptr(unsafe.Pointer(names[2])))
		}
		inode := inodeOf(s.fact.Path)
		result, err := ring.do(s.submission)
		runtime.KeepAlive(names)
		if err != nil {
			return err
		}
		if result == -int32(unix.EINVAL) {
			continue
		}
		var changeErr error
		if result < 0 {
			changeErr = unix.Errno(-result)
		}
		f := s.fact
		f.Submitted = true
		if f.Errno == "" {
			if f.Inode = inode; inode == 0 {
				f.Inode = inodeOf(f.Path)
			}
		}
		if err := w.changed(fmt.Sprintf("io_uring operation %d", s.opcode), changeErr, f); err != nil {
			return err
		}
	}
	return nil
}

// changeInt80 changes files by the 32-bit system call table, from this 64-bit program.
func changeInt80(w *work) error {
	if err := w.files("a", "b", "c", "d"); err != nil {
		return err
	}
	d, err := os.OpenFile(w.path("d"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	const same = ^uint32(0)
	at := same - 99 // AT_FDCWD
	for _, s := range []struct {
		nr   uint32
		args []any
		fact Fact
	}{
		{39, []any{w.path("dir"), uint32(0o700)}, Fact{Op: "mkdir", Path: w.path("dir"), Mode: unix.S_IFDIR | 0o700}},
		{40, []any{w.path("dir")}, Fact{Op: "rmdir", Path: w.path("dir")}},
		{38, []any{w.path("a"), w.path("a2")}, Fact{Op: "rename", Old: w.path("a"), Path: w.path("a2")}},
		{9, []any{w.path("a2"), w.path("a3")}, Fact{Op: "link", Old: w.path("a2"), Path: w.path("a3")}},
		{83, []any{"target", w.path("link")}, Fact{Op: "symlink", Old: "target", Path: w.path("link")}},
		{15, []any{w.path("b"), uint32(0o600)}, Fact{Op: "chmod", Path: w.path("b"), After: 0o600}},
		{182, []any{w.path("b"), uint32(7), uint32(0xffff)}, Fact{Op: "chown", Path: w.path("b"), After: 7 | uint64(same)<<32}},
		{212, []any{w.path("b"), same, uint32(70000)}, Fact{Op: "chown", Path: w.path("b"), After: uint64(same) | 70000<<32}},
		{92, []any{w.path("c"), uint32(7)}, Fact{Op: "truncate", Path: w.path("c"), After: 7}},
		{194, []any{uint32(d.Fd()), uint32(3), uint32(1)}, Fact{Op: "truncate", Path: w.path("d"), After: 1<<32 | 3}},
		{226, []any{w.path("c"), "trusted.x", "v", uint32(1)}, Fact{Op: "setxattr", Path: w.path("c"), Text: "trusted.x", After: 1, ByCall: true}},
		{10, []any{w.path("c")}, Fact{Op: "unlink", Path: w.path("c")}},
		{301, []any{at, w.path("missing"), uint32(0)}, Fact{Op: "unlink", Path: w.path("missing"), Errno: "ENOENT"}},
	} {
		var args [4]uint32
		for i, a := range s.args {
			switch a := a.(type) {
			case uint32:
				args[i] = a
			case string:
				pointer, free, err := low(a)
				if err != nil {
					return err
				}
				defer free()
				args[i] = pointer
			}
		}
		inode := inodeOf(s.fact.Path)
		result := int80(s.nr, args[0], args[1], args[2], args[3])
		var changeErr error
		if result < 0 {
			changeErr = unix.Errno(-result)
		}
		f := s.fact
		if f.Errno == "" {
			if f.Inode = inode; inode == 0 {
				f.Inode = inodeOf(f.Path)
			}
		}
		if err := w.changed(fmt.Sprintf("32-bit call %d", s.nr), changeErr, f); err != nil {
			return err
		}
	}
	return nil
}

// changeClosed changes a file that has no name any more, by its descriptor.
func changeClosed(w *work) error {
	p, err := w.file("gone")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	inode := inodeOf(p)
	fd := int(f.Fd())
	return w.make(
		step{"unlinkat", []any{cwd, p, 0}, Fact{Op: "unlink", Path: p}},
		step{"fchmod", []any{fd, 0o755}, Fact{Op: "chmod", Path: p, After: 0o755, Inode: inode}},
		step{"ftruncate", []any{fd, 3}, Fact{Op: "truncate", Path: p, After: 3, Inode: inode}},
	)
}

// changeProcFd changes a file by the name of its descriptor in /proc.
func changeProcFd(w *work) error {
	p, err := w.file("file")
	if err != nil {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	link := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	return w.make(
		step{"fchmodat", []any{cwd, link, 0o755}, Fact{Op: "chmod", Path: p, Requested: link, After: 0o755, Inode: inodeOf(p)}},
		step{"truncate", []any{link, 3}, Fact{Op: "truncate", Path: p, Requested: link, After: 3, Inode: inodeOf(p)}},
	)
}

// changeEmptyNames names files by their descriptors alone.
func changeEmptyNames(w *work) error {
	p, err := w.file("file")
	if err != nil {
		return err
	}
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.make(
		step{"fchownat", []any{fd, "", 1, 2, unix.AT_EMPTY_PATH}, Fact{Op: "chown", Path: p, After: 1 | 2<<32}},
		step{"linkat", []any{fd, "", cwd, w.path("link"), unix.AT_EMPTY_PATH}, Fact{Op: "link", Old: p, Path: w.path("link")}},
		step{"fchmodat2", []any{fd, "", 0o711, unix.AT_EMPTY_PATH}, Fact{Op: "chmod", Path: p, After: 0o711}},
		step{"utimensat", []any{fd, "", nil, unix.AT_EMPTY_PATH}, Fact{Op: "utimes", Path: p}},
	)
}

// changeNoFile changes attributes of what is behind no descriptor, whose names are the heads of other records, then of the
// working directory without a name.
func changeNoFile(w *work) error {
	if _, err := w.here(); err != nil {
		return err
	}
	for kind := 1; kind < 32; kind++ {
		name := string(rune(kind))
		err := w.make(
			step{"fremovexattr", []any{-1, name}, Fact{Op: "removexattr", Text: name, Errno: "EBADF"}},
			step{"fsetxattr", []any{-1, name, []byte("v"), 1, 0}, Fact{Op: "setxattr", Text: name, After: 1, Errno: "EBADF"}},
		)
		if err != nil {
			return err
		}
	}
	// Some kernels take the working directory for no descriptor.
	none := []byte("trusted.none\x00")
	_, _, code := unix.Syscall6(unix.SYS_REMOVEXATTRAT, ^uintptr(-unix.AT_FDCWD-1), uintptr(unsafe.Pointer(&make([]byte, 1)[0])), unix.AT_EMPTY_PATH, uintptr(unsafe.Pointer(&none[0])), 0, 0)
	if code == unix.ENOSYS {
		return nil
	}
	name, err := errno(code)
	if err != nil {
		return err
	}
	return w.changed("removexattrat", code, Fact{Op: "removexattr", Path: w.dir, Text: "trusted.none", Errno: name})
}
