// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func changeCallScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"change-unlink":      changeUnlink,
		"change-rmdir":       changeRmdir,
		"change-mkdir":       changeMkdir,
		"change-mknod":       changeMknod,
		"change-link":        changeLink,
		"change-link-tmp":    changeLinkTmp,
		"change-symlink":     changeSymlink,
		"change-truncate":    changeTruncate,
		"change-mode":        changeMode,
		"change-owner":       changeOwner,
		"change-xattr":       changeXattr,
		"change-times":       changeTimes,
		"change-odd-names":   changeOddNames,
		"change-long-path":   changeLongPath,
		"change-onto-itself": changeOntoItself,
		"change-mount":       func(w *work) error { return w.inMountNamespace("changes") },
		"change-busy":        func(w *work) error { return w.inMountNamespace("busy") },
		"change-across":      func(w *work) error { return w.inMountNamespace("across") },
		"change-pivot":       func(w *work) error { return w.inMountNamespace("pivot") },
		"change-chroot":      func(w *work) error { return w.inMountNamespace("chroot") },
		"change-overlay":     func(w *work) error { return w.inMountNamespace("changed-overlay") },
	}
}

func changeRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-mount-changes":         changeMounts,
		"role-mount-busy":            changeBusy,
		"role-mount-across":          changeAcross,
		"role-mount-pivot":           changePivot,
		"role-mount-chroot":          changeChroot,
		"role-mount-changed-overlay": changeOverlay,
	}
}

// calls are those of every architecture; oldCalls are those that arm64 has not.
var calls = map[string]uintptr{
	"unlinkat": unix.SYS_UNLINKAT, "mkdirat": unix.SYS_MKDIRAT, "mknodat": unix.SYS_MKNODAT, "linkat": unix.SYS_LINKAT,
	"symlinkat": unix.SYS_SYMLINKAT, "truncate": unix.SYS_TRUNCATE, "ftruncate": unix.SYS_FTRUNCATE, "fchmod": unix.SYS_FCHMOD,
	"fchmodat": unix.SYS_FCHMODAT, "fchmodat2": unix.SYS_FCHMODAT2, "fchown": unix.SYS_FCHOWN, "fchownat": unix.SYS_FCHOWNAT,
	"setxattr": unix.SYS_SETXATTR, "lsetxattr": unix.SYS_LSETXATTR, "fsetxattr": unix.SYS_FSETXATTR,
	"removexattr": unix.SYS_REMOVEXATTR, "lremovexattr": unix.SYS_LREMOVEXATTR, "fremovexattr": unix.SYS_FREMOVEXATTR,
	"utimensat": unix.SYS_UTIMENSAT, "mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "move_mount": unix.SYS_MOVE_MOUNT,
	"pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT, "renameat2": unix.SYS_RENAMEAT2,
}

// step is one call and what it does. Arguments are strings, ints, byte slices of which the address is passed, and nil.
type step struct {
	call string
	args []any
	fact Fact // Op has the operation; an inode that is zero is filled in
}

// make does the steps. Calls that this machine does not have are left out, and so not told.
func (w *work) make(steps ...step) error {
	for _, s := range steps {
		if err := w.step(s); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) step(s step) error {
	number, ok := calls[s.call]
	if !ok {
		if number, ok = oldCalls[s.call]; !ok {
			return nil
		}
	}
	var args [6]uintptr
	var keep []any
	for i, a := range s.args {
		switch a := a.(type) {
		case nil:
		case int:
			args[i] = uintptr(a)
		case string:
			p, err := unix.BytePtrFromString(a)
			if err != nil {
				return err
			}
			args[i], keep = uintptr(unsafe.Pointer(p)), append(keep, p)
		case []byte:
			args[i], keep = uintptr(unsafe.Pointer(&a[0])), append(keep, a)
		default:
			return fmt.Errorf("%s: an argument of type %T", s.call, a)
		}
	}
	inode := inodeOf(s.fact.Path) // of what was there, else of what is there then
	_, _, code := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5])
	runtime.KeepAlive(keep)
	if code == unix.ENOSYS {
		return nil
	}
	var err error
	if code != 0 {
		err = code
	}
	f := s.fact
	if f.Inode == 0 && f.Errno == "" {
		if f.Inode = inode; inode == 0 {
			f.Inode = inodeOf(f.Path)
		}
	}
	return w.changed(s.call, err, f)
}

func (w *work) changed(call string, changeErr error, f Fact) error {
	code, err := errno(changeErr)
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("%s %q: got %q, the scenario expects %q", call, f.Path, code, f.Errno)
	}
	f.Kind = "change"
	// What JSON can hold.
	f.Path, f.Old = strings.ToValidUTF8(f.Path, "\uFFFD"), strings.ToValidUTF8(f.Old, "\uFFFD")
	return w.tell(f)
}

// inodeOf is 0 if there is no such file.
func inodeOf(name string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(name, &st) != nil {
		return 0
	}
	return st.Ino
}

// asNobody does what it is given without the rights of root.
func asNobody(do func() error) error {
	if err := syscall.Setresuid(-1, 65534, -1); err != nil {
		return err
	}
	return errors.Join(do(), syscall.Setresuid(-1, 0, -1))
}

// here opens the scenario's directory and makes it the working directory.
func (w *work) here() (int, error) {
	if err := os.Chdir(w.dir); err != nil {
		return -1, err
	}
	return unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (w *work) files(names ...string) error {
	for _, name := range names {
		if _, err := w.file(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) directories(names ...string) error {
	for _, name := range names {
		if err := os.Mkdir(w.path(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

const cwd = unix.AT_FDCWD

func changeUnlink(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	err = errors.Join(w.files("a", "b", "c", "d", "open", "full"), w.directories("dir", "closed"), w.files("closed/x"))
	if err != nil {
		return err
	}
	open, err := os.Open(w.path("open"))
	if err != nil {
		return err
	}
	defer open.Close()
	unlink := func(name, errno string) Fact { return Fact{Op: "unlink", Path: w.path(name), Errno: errno} }
	err = w.make(
		step{"unlink", []any{w.path("a")}, unlink("a", "")},
		step{"unlinkat", []any{cwd, w.path("b"), 0}, unlink("b", "")},
		step{"unlinkat", []any{dir, "c", 0}, unlink("c", "")},
		step{"unlinkat", []any{cwd, "d", 0}, unlink("d", "")},
		step{"unlinkat", []any{cwd, w.path("open"), 0}, unlink("open", "")},
		step{"unlinkat", []any{cwd, w.path("missing"), 0}, unlink("missing", "ENOENT")},
		step{"unlinkat", []any{cwd, w.path("nowhere/missing"), 0}, unlink("nowhere/missing", "ENOENT")},
		step{"unlinkat", []any{cwd, w.path("full/x"), 0}, unlink("full/x", "ENOTDIR")},
		step{"unlinkat", []any{cwd, w.path("dir"), 0}, unlink("dir", "EISDIR")},
		step{"unlink", []any{w.path("missing-2")}, unlink("missing-2", "ENOENT")},
	)
	if err == nil {
		err = asNobody(func() error {
			return w.step(step{"unlinkat", []any{cwd, w.path("closed/x"), 0}, unlink("closed/x", "EACCES")})
		})
	}
	// Or the end of the scenario would be refused the same once more.
	return errors.Join(err, unix.Rmdir(w.path("dir")))
}

func changeRmdir(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := errors.Join(w.directories("a", "b", "c", "full", "closed", "closed/d"), w.files("full/f", "file")); err != nil {
		return err
	}
	rmdir := func(name, errno string) Fact { return Fact{Op: "rmdir", Path: w.path(name), Errno: errno} }
	err = w.make(
		step{"rmdir", []any{w.path("a")}, rmdir("a", "")},
		step{"unlinkat", []any{cwd, "b", unix.AT_REMOVEDIR}, rmdir("b", "")},
		step{"unlinkat", []any{dir, "c", unix.AT_REMOVEDIR}, rmdir("c", "")},
		step{"unlinkat", []any{cwd, w.path("full"), unix.AT_REMOVEDIR}, rmdir("full", "ENOTEMPTY")},
		step{"unlinkat", []any{cwd, w.path("missing"), unix.AT_REMOVEDIR}, rmdir("missing", "ENOENT")},
		step{"unlinkat", []any{cwd, w.path("file"), unix.AT_REMOVEDIR}, rmdir("file", "ENOTDIR")},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.step(step{"unlinkat", []any{cwd, w.path("closed/d"), unix.AT_REMOVEDIR}, rmdir("closed/d", "EACCES")})
	})
}

func changeMkdir(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := w.directories("there", "closed"); err != nil {
		return err
	}
	mkdir := func(name, errno string) Fact {
		return Fact{Op: "mkdir", Path: w.path(name), Errno: errno, Mode: unix.S_IFDIR | 0o751}
	}
	err = w.make(
		step{"mkdir", []any{w.path("a"), 0o751}, mkdir("a", "")},
		step{"mkdirat", []any{cwd, "b", 0o751}, mkdir("b", "")},
		step{"mkdirat", []any{dir, "c", 0o751}, mkdir("c", "")},
		step{"mkdirat", []any{cwd, w.path("there"), 0o751}, mkdir("there", "EEXIST")},
		step{"mkdirat", []any{cwd, w.path("nowhere/d"), 0o751}, mkdir("nowhere/d", "ENOENT")},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.step(step{"mkdirat", []any{cwd, w.path("closed/d"), 0o751}, mkdir("closed/d", "EACCES")})
	})
}

func changeMknod(w *work) error {
	if err := w.files("there"); err != nil {
		return err
	}
	mknod := func(name string, mode uint32, device uint64, errno string) Fact {
		return Fact{Op: "mknod", Path: w.path(name), Mode: mode, After: device, Errno: errno}
	}
	const null = 1<<8 | 3
	err := w.make(
		step{"mknod", []any{w.path("fifo"), unix.S_IFIFO | 0o600, 0}, mknod("fifo", unix.S_IFIFO|0o600, 0, "")},
		step{"mknodat", []any{cwd, w.path("plain"), 0o640, 0}, mknod("plain", unix.S_IFREG|0o640, 0, "")},
		step{"mknodat", []any{cwd, w.path("null"), unix.S_IFCHR | 0o600, null}, mknod("null", unix.S_IFCHR|0o600, null, "")},
		step{"mknodat", []any{cwd, w.path("there"), unix.S_IFIFO | 0o600, 0}, mknod("there", unix.S_IFIFO|0o600, 0, "EEXIST")},
		step{"mknodat", []any{cwd, w.path("nowhere/x"), unix.S_IFIFO | 0o600, 0}, mknod("nowhere/x", unix.S_IFIFO|0o600, 0, "ENOENT")},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.step(step{"mknodat", []any{cwd, w.path("null-2"), unix.S_IFCHR | 0o600, null}, mknod("null-2", unix.S_IFCHR|0o600, null, "EPERM")})
	})
}

func changeLink(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := errors.Join(w.files("a", "there"), w.directories("dir")); err != nil {
		return err
	}
	link := func(from, to, errno string) Fact {
		return Fact{Op: "link", Old: w.path(from), Path: w.path(to), Errno: errno}
	}
	return w.make(
		step{"link", []any{w.path("a"), w.path("b")}, link("a", "b", "")},
		step{"linkat", []any{cwd, w.path("a"), cwd, w.path("c"), 0}, link("a", "c", "")},
		step{"linkat", []any{dir, "a", cwd, "d", 0}, link("a", "d", "")},
		step{"linkat", []any{cwd, w.path("a"), cwd, w.path("there"), 0}, link("a", "there", "EEXIST")},
		step{"linkat", []any{cwd, w.path("missing"), cwd, w.path("e"), 0}, link("missing", "e", "ENOENT")},
		step{"linkat", []any{cwd, w.path("a"), cwd, w.path("nowhere/e"), 0}, link("a", "nowhere/e", "ENOENT")},
		step{"linkat", []any{cwd, w.path("dir"), cwd, w.path("e"), 0}, link("dir", "e", "EPERM")},
	)
}

// changeLinkTmp gives names to files that had none, by their descriptors.
func changeLinkTmp(w *work) error {
	for i, step := range []func(fd int, to string) step{
		func(fd int, to string) step {
			return step{"linkat", []any{fd, "", cwd, to, unix.AT_EMPTY_PATH}, Fact{}}
		},
		func(fd int, to string) step {
			return step{"linkat", []any{cwd, "/proc/self/fd/" + strconv.Itoa(fd), cwd, to, unix.AT_SYMLINK_FOLLOW}, Fact{}}
		},
	} {
		fd, err := unix.Open(w.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		to := w.path("named-" + strconv.Itoa(i))
		s := step(fd, to)
		s.fact = Fact{Op: "link", Old: fmt.Sprintf("%s/#%d", w.dir, st.Ino), Path: to, Inode: st.Ino}
		if i == 1 {
			s.fact.OldRequested = s.args[1].(string)
		}
		if err := errors.Join(w.step(s), unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}

func changeSymlink(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := w.files("there"); err != nil {
		return err
	}
	symlink := func(target, name, errno string) Fact {
		return Fact{Op: "symlink", Old: target, Path: w.path(name), Errno: errno}
	}
	long := strings.Repeat("t", 4000)
	return w.make(
		step{"symlink", []any{"/etc/../etc/shadow", w.path("a")}, symlink("/etc/../etc/shadow", "a", "")},
		step{"symlinkat", []any{"../b\n", cwd, "b"}, symlink("../b\n", "b", "")},
		step{"symlinkat", []any{long, dir, "c"}, symlink(long, "c", "")},
		step{"symlinkat", []any{"x", cwd, w.path("there")}, symlink("x", "there", "EEXIST")},
		step{"symlinkat", []any{"x", cwd, w.path("nowhere/d")}, symlink("x", "nowhere/d", "ENOENT")},
		step{"symlinkat", []any{"", cwd, w.path("d")}, symlink("", "d", "ENOENT")},
	)
}

func changeTruncate(w *work) error {
	if err := errors.Join(w.files("a", "b"), w.directories("dir")); err != nil {
		return err
	}
	b, err := os.OpenFile(w.path("b"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer b.Close()
	reader, err := os.Open(w.path("b"))
	if err != nil {
		return err
	}
	defer reader.Close()
	truncate := func(name string, size uint64, errno string) Fact {
		return Fact{Op: "truncate", Path: w.path(name), After: size, Errno: errno}
	}
	return w.make(
		step{"truncate", []any{w.path("a"), 7}, truncate("a", 7, "")},
		step{"ftruncate", []any{int(b.Fd()), 9}, truncate("b", 9, "")},
		step{"ftruncate", []any{int(reader.Fd()), 10}, truncate("b", 10, "EINVAL")},
		step{"truncate", []any{w.path("dir"), 0}, truncate("dir", 0, "EISDIR")},
		step{"truncate", []any{w.path("missing"), 0}, truncate("missing", 0, "ENOENT")},
		step{"ftruncate", []any{-1, 11}, Fact{Op: "truncate", After: 11, Errno: "EBADF"}},
	)
}

func changeMode(w *work) error {
	dir, err := w.here()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := w.files("a", "b", "c", "d", "e"); err != nil {
		return err
	}
	b, err := os.Open(w.path("b"))
	if err != nil {
		return err
	}
	defer b.Close()
	chmod := func(name string, mode uint64, errno string) Fact {
		return Fact{Op: "chmod", Path: w.path(name), After: mode, Errno: errno}
	}
	err = w.make(
		step{"chmod", []any{w.path("a"), 0o600}, chmod("a", 0o600, "")},
		step{"fchmod", []any{int(b.Fd()), 0o4711}, chmod("b", 0o4711, "")},
		step{"fchmodat", []any{cwd, w.path("c"), 0o640}, chmod("c", 0o640, "")},
		step{"fchmodat", []any{dir, "d", 0o000}, chmod("d", 0, "")},
		step{"fchmodat2", []any{cwd, "e", 0o751, unix.AT_SYMLINK_NOFOLLOW}, chmod("e", 0o751, "")},
		step{"fchmodat2", []any{int(b.Fd()), "", 0o710, unix.AT_EMPTY_PATH}, chmod("b", 0o710, "")},
		step{"fchmodat", []any{cwd, w.path("missing"), 0o600}, chmod("missing", 0o600, "ENOENT")},
		step{"fchmod", []any{-1, 0o601}, Fact{Op: "chmod", After: 0o601, Errno: "EBADF"}},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.make(
			step{"fchmodat", []any{cwd, w.path("a"), 0o777}, chmod("a", 0o777, "EPERM")},
			step{"fchmod", []any{int(b.Fd()), 0o777}, chmod("b", 0o777, "EPERM")},
		)
	})
}

func changeOwner(w *work) error {
	if err := w.files("a", "b", "c", "d"); err != nil {
		return err
	}
	if err := os.Symlink("a", w.path("link")); err != nil {
		return err
	}
	b, err := os.Open(w.path("b"))
	if err != nil {
		return err
	}
	defer b.Close()
	chown := func(name string, uid, gid uint32, errno string) Fact {
		return Fact{Op: "chown", Path: w.path(name), After: uint64(uid) | uint64(gid)<<32, Errno: errno}
	}
	const same = ^uint32(0)
	err = w.make(
		step{"chown", []any{w.path("a"), 1, 2}, chown("a", 1, 2, "")},
		step{"lchown", []any{w.path("link"), 3, -1}, chown("link", 3, same, "")},
		step{"fchown", []any{int(b.Fd()), -1, 4}, chown("b", same, 4, "")},
		step{"fchownat", []any{cwd, w.path("c"), 5, 6, 0}, chown("c", 5, 6, "")},
		step{"fchownat", []any{int(b.Fd()), "", 7, 8, unix.AT_EMPTY_PATH}, chown("b", 7, 8, "")},
		step{"fchownat", []any{cwd, w.path("missing"), 0, 0, 0}, chown("missing", 0, 0, "ENOENT")},
		step{"fchown", []any{-1, 9, 9}, Fact{Op: "chown", After: 9 | 9<<32, Errno: "EBADF"}},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.step(step{"fchownat", []any{cwd, w.path("d"), 65534, 65534, 0}, chown("d", 65534, 65534, "EPERM")})
	})
}

// changeXattr uses attributes that root may set on every file system that has any: trusted.* are not the user's.
func changeXattr(w *work) error {
	if err := w.files("a", "b"); err != nil {
		return err
	}
	if err := os.Symlink("a", w.path("link")); err != nil {
		return err
	}
	b, err := os.Open(w.path("b"))
	if err != nil {
		return err
	}
	defer b.Close()
	value := []byte("value")
	set := func(path, name string, flags uint32, errno string) Fact {
		return Fact{Op: "setxattr", Path: path, Text: name, After: uint64(len(value)), Flags: flags, Errno: errno}
	}
	removed := func(path, name, errno string) Fact {
		return Fact{Op: "removexattr", Path: path, Text: name, Errno: errno}
	}
	size := len(value)
	long := "trusted." + strings.Repeat("n", 255-len("trusted."))
	return w.make(
		step{"setxattr", []any{w.path("a"), "trusted.x", value, size, 0}, set(w.path("a"), "trusted.x", 0, "")},
		step{"setxattr", []any{w.path("a"), long, value, size, unix.XATTR_CREATE}, set(w.path("a"), long, unix.XATTR_CREATE, "")},
		step{"setxattr", []any{w.path("a"), "trusted.x", value, size, unix.XATTR_CREATE}, set(w.path("a"), "trusted.x", unix.XATTR_CREATE, "EEXIST")},
		step{"lsetxattr", []any{w.path("link"), "trusted.y", value, size, 0}, set(w.path("link"), "trusted.y", 0, "")},
		step{"fsetxattr", []any{int(b.Fd()), "trusted.z", value, size, 0}, set(w.path("b"), "trusted.z", 0, "")},
		step{"setxattr", []any{w.path("missing"), "trusted.x", value, size, 0}, set(w.path("missing"), "trusted.x", 0, "ENOENT")},
		step{"removexattr", []any{w.path("a"), "trusted.x"}, removed(w.path("a"), "trusted.x", "")},
		step{"removexattr", []any{w.path("a"), "trusted.x"}, removed(w.path("a"), "trusted.x", "ENODATA")},
		step{"lremovexattr", []any{w.path("link"), "trusted.y"}, removed(w.path("link"), "trusted.y", "")},
		step{"fremovexattr", []any{int(b.Fd()), "trusted.z"}, removed(w.path("b"), "trusted.z", "")},
	)
}

func changeTimes(w *work) error {
	if err := w.files("a", "b", "c"); err != nil {
		return err
	}
	b, err := os.Open(w.path("b"))
	if err != nil {
		return err
	}
	defer b.Close()
	times := func(name, errno string) Fact { return Fact{Op: "utimes", Path: w.path(name), Errno: errno} }
	err = w.make(
		step{"utime", []any{w.path("a"), nil}, times("a", "")},
		step{"utimes", []any{w.path("c"), nil}, times("c", "")},
		step{"utimensat", []any{int(b.Fd()), nil, nil, 0}, times("b", "")},
		step{"futimesat", []any{cwd, w.path("b"), make([]byte, 32)}, times("b", "")},
		step{"utimensat", []any{cwd, w.path("missing"), nil, 0}, times("missing", "ENOENT")},
	)
	if err != nil {
		return err
	}
	return asNobody(func() error {
		return w.step(step{"utimensat", []any{cwd, w.path("a"), make([]byte, 32), 0}, times("a", "EPERM")})
	})
}

func changeOddNames(w *work) error {
	for i, name := range []string{"new\nline", "→ arrow", strings.Repeat("n", 255), "\x1b[31mred", "bad\xffutf8", " "} {
		p := w.path(name)
		other := w.path(strconv.Itoa(i))
		otherwise := strings.Repeat("o", 255-2) + strconv.Itoa(i)
		err := w.make(
			step{"mkdirat", []any{cwd, p, 0o700}, Fact{Op: "mkdir", Path: p, Mode: unix.S_IFDIR | 0o700}},
			step{"fchmodat", []any{cwd, p, 0o711}, Fact{Op: "chmod", Path: p, After: 0o711}},
			step{"unlinkat", []any{cwd, p, unix.AT_REMOVEDIR}, Fact{Op: "rmdir", Path: p}},
			step{"symlinkat", []any{name, cwd, p}, Fact{Op: "symlink", Old: name, Path: p}},
			step{"linkat", []any{cwd, p, cwd, other, 0}, Fact{Op: "link", Old: p, Path: other}},
			step{"unlinkat", []any{cwd, p, 0}, Fact{Op: "unlink", Path: p}},
			step{"renameat2", []any{cwd, other, cwd, p, 0}, Fact{Op: "rename", Old: other, Path: p}},
			step{"renameat2", []any{cwd, p, cwd, w.path(otherwise), 0}, Fact{Op: "rename", Old: p, Path: w.path(otherwise)}},
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// changeLongPath uses names that are as long as the kernel takes them: 4,095 bytes.
func changeLongPath(w *work) error {
	dir := w.dir
	for len(dir)+1+200 < 4095-60 {
		dir += "/" + strings.Repeat("d", 200)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	fill := func(letter string) string { return dir + "/" + strings.Repeat(letter, 4095-len(dir)-1) }
	a, b := fill("a"), fill("b")
	if err := os.WriteFile(a, nil, 0o644); err != nil {
		return err
	}
	return w.make(
		step{"linkat", []any{cwd, a, cwd, b, 0}, Fact{Op: "link", Old: a, Path: b}},
		step{"truncate", []any{b, 3}, Fact{Op: "truncate", Path: b, After: 3}},
		step{"setxattr", []any{b, "trusted.x", []byte("v"), 1, 0}, Fact{Op: "setxattr", Path: b, Text: "trusted.x", After: 1}},
		step{"unlinkat", []any{cwd, a, 0}, Fact{Op: "unlink", Path: a}},
		step{"unlinkat", []any{cwd, a + "a", 0}, Fact{Op: "unlink", Path: a, Errno: "ENAMETOOLONG"}},
	)
}

// changeOntoItself renames what then still has its name.
func changeOntoItself(w *work) error {
	a, err := w.file("a")
	if err != nil {
		return err
	}
	b := w.path("b")
	inode := inodeOf(a)
	return w.make(
		step{"renameat2", []any{cwd, a, cwd, a, 0}, Fact{Op: "rename", Old: a, Path: a, Inode: inode, Replaced: inode}},
		step{"linkat", []any{cwd, a, cwd, b, 0}, Fact{Op: "link", Old: a, Path: b}},
		step{"renameat2", []any{cwd, a, cwd, b, 0}, Fact{Op: "rename", Old: a, Path: b, Inode: inode, Replaced: inode}},
	)
}

// changeMounts mounts, in a mount namespace of its own.
func changeMounts(w *work, args []string) error {
	w.dir = args[0]
	if err := w.directories("fs", "bound", "moved", "new"); err != nil {
		return err
	}
	if err := w.files("file"); err != nil {
		return err
	}
	mount := func(source, at, kind string, flags uint32, errno string) Fact {
		return Fact{Op: "mount", Old: source, Path: w.path(at), Text: kind, Flags: flags, Errno: errno, AnyInode: true}
	}
	umount := func(at string, flags uint32, errno string) Fact {
		return Fact{Op: "umount", Path: w.path(at), Flags: flags, Errno: errno, AnyInode: true}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, w.path("new"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	if err := w.make(
		step{"mount", []any{"none of it", w.path("fs"), "tmpfs", unix.MS_NOSUID, "size=1m"}, mount("none of it", "fs", "tmpfs", unix.MS_NOSUID, "")},
		step{"mount", []any{nil, w.path("fs"), nil, unix.MS_REMOUNT | unix.MS_RDONLY, nil}, mount("", "fs", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")},
		step{"mount", []any{w.path("fs"), w.path("bound"), nil, unix.MS_BIND, nil}, mount(w.path("fs"), "bound", "", unix.MS_BIND, "")},
		step{"mount", []any{"x", w.path("fs"), "nosuchfs", 0, nil}, mount("x", "fs", "nosuchfs", 0, "ENODEV")},
		step{"mount", []any{"x", w.path("missing"), "tmpfs", 0, nil}, mount("x", "missing", "tmpfs", 0, "ENOENT")},
		step{"move_mount", []any{cwd, w.path("bound"), cwd, w.path("moved"), 0}, Fact{Op: "move_mount", Old: w.path("bound"), Path: w.path("moved"), AnyInode: true}},
		step{"move_mount", []any{tree, "", cwd, w.path("bound"), unix.MOVE_MOUNT_F_EMPTY_PATH}, Fact{Op: "move_mount", Path: w.path("bound"), Flags: unix.MOVE_MOUNT_F_EMPTY_PATH, AnyInode: true}},
		step{"move_mount", []any{cwd, w.path("file"), cwd, w.path("moved"), 0}, Fact{Op: "move_mount", Old: w.path("file"), Path: w.path("moved"), Errno: "EINVAL", AnyInode: true}},
	); err != nil {
		return err
	}
	busy, err := unix.Open(w.path("fs"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		w.step(step{"umount2", []any{w.path("fs"), 0}, umount("fs", 0, "EBUSY")}),
		unix.Close(busy), unix.Close(tree),
		w.make(
			step{"umount2", []any{w.path("fs"), 0}, umount("fs", 0, "")},
			step{"umount2", []any{w.path("fs"), 0}, umount("fs", 0, "EINVAL")},
			step{"umount2", []any{w.path("moved"), unix.MNT_DETACH}, umount("moved", unix.MNT_DETACH, "")},
			step{"umount2", []any{w.path("bound"), 0}, umount("bound", 0, "")},
		),
	)
}

// changeBusy takes away what is a mount point.
func changeBusy(w *work, args []string) error {
	w.dir = args[0]
	if err := errors.Join(w.files("file", "over", "other"), w.directories("dir")); err != nil {
		return err
	}
	if err := errors.Join(
		unix.Mount(w.path("over"), w.path("file"), "", unix.MS_BIND, ""), unix.Mount("tmpfs", w.path("dir"), "tmpfs", 0, ""),
	); err != nil {
		return err
	}
	return errors.Join(
		w.make(
			step{"unlinkat", []any{cwd, w.path("file"), 0}, Fact{Op: "unlink", Path: w.path("file"), Errno: "EBUSY"}},
			step{"unlinkat", []any{cwd, w.path("dir"), unix.AT_REMOVEDIR}, Fact{Op: "rmdir", Path: w.path("dir"), Errno: "EBUSY"}},
			step{"renameat2", []any{cwd, w.path("other"), cwd, w.path("file"), 0}, Fact{Op: "rename", Old: w.path("other"), Path: w.path("file"), Errno: "EBUSY"}},
		),
		unix.Unmount(w.path("file"), 0), unix.Unmount(w.path("dir"), 0),
	)
}

// changeAcross moves and links from one file system to another, and changes what lies on a tmpfs.
func changeAcross(w *work, args []string) error {
	w.dir = args[0]
	if err := errors.Join(w.files("file"), w.directories("fs")); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", w.path("fs"), "tmpfs", 0, ""); err != nil {
		return err
	}
	return errors.Join(
		w.files("fs/there"),
		w.make(
			step{"renameat2", []any{cwd, w.path("file"), cwd, w.path("fs/file"), 0}, Fact{Op: "rename", Old: w.path("file"), Path: w.path("fs/file"), Errno: "EXDEV"}},
			step{"linkat", []any{cwd, w.path("file"), cwd, w.path("fs/file"), 0}, Fact{Op: "link", Old: w.path("file"), Path: w.path("fs/file"), Errno: "EXDEV"}},
			step{"mkdirat", []any{cwd, w.path("fs/dir"), 0o700}, Fact{Op: "mkdir", Path: w.path("fs/dir"), Mode: unix.S_IFDIR | 0o700}},
			step{"linkat", []any{cwd, w.path("fs/there"), cwd, w.path("fs/dir/link"), 0}, Fact{Op: "link", Old: w.path("fs/there"), Path: w.path("fs/dir/link")}},
			step{"fchmodat", []any{cwd, w.path("fs/there"), 0o600}, Fact{Op: "chmod", Path: w.path("fs/there"), After: 0o600}},
			step{"unlinkat", []any{cwd, w.path("fs/there"), 0}, Fact{Op: "unlink", Path: w.path("fs/there")}},
		),
		unix.Unmount(w.path("fs"), 0),
	)
}

func changePivot(w *work, args []string) error {
	w.dir = args[0]
	root := w.path("root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", root, "tmpfs", 0, ""), os.Mkdir(root+"/old", 0o755),
	); err != nil {
		return err
	}
	pivot := func(errno string) Fact {
		return Fact{Op: "pivot_root", Old: root + "/old", Path: root, Errno: errno, AnyInode: true}
	}
	return w.make(
		step{"pivot_root", []any{w.path("missing"), root + "/old"}, Fact{Op: "pivot_root", Old: root + "/old", Path: w.path("missing"), Errno: "ENOENT", AnyInode: true}},
		step{"pivot_root", []any{root, root + "/old"}, pivot("")},
		// The old root's mounts are there yet; they go with the namespace.
		step{"unlinkat", []any{cwd, "/old" + w.path("missing"), 0}, Fact{Op: "unlink", Path: "/old" + w.path("missing"), Errno: "ENOENT"}},
	)
}

func changeChroot(w *work, args []string) error {
	w.dir = args[0]
	if err := errors.Join(w.directories("root", "root/dir"), w.files("file", "root/file")); err != nil {
		return err
	}
	chroot := func(path, errno string) Fact {
		return Fact{Op: "chroot", Path: path, Errno: errno, AnyInode: true}
	}
	return w.make(
		step{"chroot", []any{w.path("missing")}, chroot(w.path("missing"), "ENOENT")},
		step{"chroot", []any{w.path("file")}, chroot(w.path("file"), "ENOTDIR")},
		step{"chroot", []any{w.path("root")}, chroot(w.path("root"), "")},
		// Paths are those of the process.
		step{"unlinkat", []any{cwd, "/file", 0}, Fact{Op: "unlink", Path: "/file"}},
		step{"unlinkat", []any{cwd, "/dir", unix.AT_REMOVEDIR}, Fact{Op: "rmdir", Path: "/dir"}},
	)
}

// changeOverlay changes files of a lower layer, which copies them up or hides them: told is what was asked, once.
func changeOverlay(w *work, args []string) error {
	w.dir = args[0]
	if err := w.directories("base", "merged"); err != nil {
		return err
	}
	// As for mountOverlay.
	if err := unix.Mount("tmpfs", w.path("base"), "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := w.directories("base/lower", "base/upper", "base/work", "base/lower/dir"); err != nil {
		return err
	}
	var lower []string
	for _, name := range []string{"unlinked", "renamed", "linked", "mode", "owner", "cut", "times"} {
		lower = append(lower, "base/lower/"+name)
	}
	if err := w.files(lower...); err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", w.path("base/lower"), w.path("base/upper"), w.path("base/work"))
	if err := unix.Mount("overlay", w.path("merged"), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	at := func(name string) string { return w.path(filepath.Join("merged", name)) }
	// The inode of a lower file need not be that of its copy.
	on := func(f Fact) Fact { f.AnyInode = true; return f }
	return errors.Join(
		w.make(
			step{"unlinkat", []any{cwd, at("unlinked"), 0}, on(Fact{Op: "unlink", Path: at("unlinked")})},
			step{"renameat2", []any{cwd, at("renamed"), cwd, at("new"), 0}, on(Fact{Op: "rename", Old: at("renamed"), Path: at("new")})},
			step{"linkat", []any{cwd, at("linked"), cwd, at("link"), 0}, on(Fact{Op: "link", Old: at("linked"), Path: at("link")})},
			step{"fchmodat", []any{cwd, at("mode"), 0o600}, on(Fact{Op: "chmod", Path: at("mode"), After: 0o600})},
			step{"fchownat", []any{cwd, at("owner"), 1, 2, 0}, on(Fact{Op: "chown", Path: at("owner"), After: 1 | 2<<32})},
			step{"truncate", []any{at("cut"), 0}, on(Fact{Op: "truncate", Path: at("cut")})},
			step{"utimensat", []any{cwd, at("times"), nil, 0}, on(Fact{Op: "utimes", Path: at("times")})},
			step{"setxattr", []any{at("times"), "trusted.x", []byte("v"), 1, 0}, on(Fact{Op: "setxattr", Path: at("times"), Text: "trusted.x", After: 1})},
			step{"mkdirat", []any{cwd, at("made"), 0o700}, on(Fact{Op: "mkdir", Path: at("made"), Mode: unix.S_IFDIR | 0o700})},
			step{"unlinkat", []any{cwd, at("dir"), unix.AT_REMOVEDIR}, on(Fact{Op: "rmdir", Path: at("dir")})},
		),
		unix.Unmount(w.path("merged"), 0), unix.Unmount(w.path("base"), 0),
	)
}
