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
	"unsafe"

	"golang.org/x/sys/unix"
)

func evadeOpenScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-open-resolve":        openResolve,
		"evade-open-handle":         openHandle,
		"evade-open-int80":          openInt80,
		"evade-open-proc-fd":        openProcFd,
		"evade-open-proc-root":      openProcRoot,
		"evade-open-hard-link":      openHardLink,
		"evade-open-detached-mount": openDetachedMount,
		"evade-open-deep":           openDeep,
		"evade-open-deleted-dir":    openDeletedDir,
		"evade-open-passed":         openPassed,
	}
}

func evadeOpenRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-mount-detached": detachedMount,
		"role-mount-handle":   handleOnTmpfs,
		"role-pass-file":      passFile,
	}
}

// openResolve: what a restricted lookup opens, and what it refuses.
func openResolve(w *work) error {
	if err := os.Mkdir(w.path("root"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"f", "g", "h"} {
		if _, err := w.file("root/" + name); err != nil {
			return err
		}
	}
	if err := os.Symlink("/f", w.path("root/absolute")); err != nil {
		return err
	}
	dir, err := unix.Open(w.path("root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	magic := fmt.Sprintf("/proc/self/fd/%d", dir)
	for _, o := range []struct {
		dirfd   int
		name    string
		resolve uint64
		fact    Fact
	}{
		{dir, "/absolute", unix.RESOLVE_IN_ROOT, Fact{Path: w.path("root/f")}},
		{dir, "../../g", unix.RESOLVE_IN_ROOT, Fact{Path: w.path("root/g")}},
		{dir, "h", unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV, Fact{Path: w.path("root/h")}},
		{dir, "../outside", unix.RESOLVE_BENEATH, Fact{Path: w.path("outside"), Errno: "EXDEV"}},
		{unix.AT_FDCWD, magic, unix.RESOLVE_NO_MAGICLINKS, Fact{Errno: "ELOOP"}},
	} {
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: o.resolve}
		fd := -1
		err := ignoringEINTR(func() (err error) {
			fd, err = unix.Openat2(o.dirfd, o.name, &how)
			return err
		})
		if err := w.opened(fd, err, o.name, o.fact); err != nil {
			return err
		}
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// openHandle opens without any name in the call.
func openHandle(w *work) error {
	p, err := w.file("by-handle")
	if err != nil {
		return err
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		// Not every file system makes handles.
		return w.inMountNamespace("handle")
	}
	if err != nil {
		return err
	}
	return w.openByHandle(p, handle)
}

// handleOnTmpfs does the same on a file system that makes handles.
func handleOnTmpfs(w *work, args []string) error {
	w.dir = filepath.Join(args[0], "tmpfs")
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	p, err := w.file("by-handle")
	if err != nil {
		return err
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p, 0)
	if err == nil {
		err = w.openByHandle(p, handle)
	}
	return errors.Join(err, unix.Unmount(w.dir, 0))
}

func (w *work) openByHandle(p string, handle unix.FileHandle) error {
	mount, err := unix.Open(w.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	fd := -1
	err = ignoringEINTR(func() (err error) {
		fd, err = unix.OpenByHandleAt(mount, handle, unix.O_RDWR|unix.O_CLOEXEC)
		return err
	})
	if err != nil {
		return fmt.Errorf("open by handle: %w", err)
	}
	defer unix.Close(fd)
	return w.opened(fd, nil, p, Fact{Access: "read_write", AnyRequest: true})
}

// low is a copy of s below 4 GiB, where a 32-bit system call can point to.
func low(s string) (uint32, func(), error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|map32Bit)
	if err != nil {
		return 0, nil, fmt.Errorf("map memory below 4 GiB: %w", err)
	}
	copy(page, s+"\x00")
	return uint32(uintptr(unsafe.Pointer(&page[0]))), func() { _ = unix.Munmap(page) }, nil
}

// openInt80 opens by the 32-bit system call table, from this 64-bit program.
func openInt80(w *work) error {
	p, err := w.file("by-int80")
	if err != nil {
		return err
	}
	for _, o := range []struct {
		name string
		nr   uint32
		fact Fact
	}{
		{p, 5 /* open */, Fact{}},
		{p, 295 /* openat */, Fact{Access: "read_write"}},
		{w.path("missing-by-int80"), 295, Fact{Errno: "ENOENT"}},
	} {
		name, free, err := low(o.name)
		if err != nil {
			return err
		}
		var at int32 = unix.AT_FDCWD
		args := [4]uint32{uint32(at), name, unix.O_RDONLY, 0}
		if o.fact.Access == "read_write" {
			args[2] = unix.O_RDWR
		}
		if o.nr == 5 {
			args = [4]uint32{name, unix.O_RDONLY}
		}
		var openErr error
		fd := int80(o.nr, args[0], args[1], args[2], args[3])
		for fd == -int32(unix.EINTR) {
			fd = int80(o.nr, args[0], args[1], args[2], args[3])
		}
		free()
		if fd < 0 {
			openErr = unix.Errno(-fd)
		}
		if err := w.opened(int(fd), openErr, o.name, o.fact); err != nil {
			return err
		}
		if fd >= 0 {
			_ = unix.Close(int(fd))
		}
	}
	return nil
}

// openProcFd turns a descriptor that can read nothing into one that can.
func openProcFd(w *work) error {
	p, err := w.file("reopened")
	if err != nil {
		return err
	}
	fd, err := w.open(unix.AT_FDCWD, p, unix.O_PATH, Fact{Access: "path_only"})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.openAndClose(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY, Fact{Path: p})
}

// openProcRoot takes the way through the root directory that /proc shows.
func openProcRoot(w *work) error {
	p, err := w.file("through-proc")
	if err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, "/proc/self/root"+p, unix.O_RDONLY, Fact{Path: p})
}

// openHardLink gives a file a second, harmless name: the inode says that it is the same.
func openHardLink(w *work) error {
	p, err := w.file("id_rsa")
	if err != nil {
		return err
	}
	if err := os.Link(p, w.path("harmless")); err != nil {
		return err
	}
	for _, name := range []string{p, w.path("harmless")} {
		if err := w.openAndClose(unix.AT_FDCWD, name, unix.O_RDONLY, Fact{}); err != nil {
			return err
		}
	}
	return nil
}

func openDetachedMount(w *work) error { return w.inMountNamespace("detached") }

// detachedMount opens below a copy of a mount that hangs nowhere.
func detachedMount(w *work, args []string) error {
	w.dir = args[0]
	if err := os.Mkdir(w.path("d"), 0o755); err != nil {
		return err
	}
	if _, err := w.file("d/f"); err != nil {
		return err
	}
	// A mount of its own, so that the path below it is the same wherever the directory lies.
	if err := unix.Mount(w.path("d"), w.path("d"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, w.path("d"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	err = w.openAndClose(tree, "f", unix.O_RDONLY, Fact{Path: "(unreachable)/f"})
	return errors.Join(err, unix.Unmount(w.path("d"), 0))
}

// openDeep opens a file whose path no call could take: longer than 4096 bytes, reached step by step.
func openDeep(w *work) error {
	if err := os.Chdir(w.dir); err != nil {
		return err
	}
	defer func() { _ = os.Chdir("/") }()
	const levels, name = 400, "deep-directory" // 6,000 bytes
	for range levels {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return err
		}
		if err := unix.Chdir(name); err != nil {
			return err
		}
	}
	tail := strings.Repeat(name+"/", 100) + "f"
	fd, err := w.open(unix.AT_FDCWD, "f", unix.O_WRONLY|unix.O_CREAT, Fact{Tail: tail, Path: "f", Access: "create", AnyRequest: true})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// openDeletedDir works in a directory that has no name any more.
func openDeletedDir(w *work) error {
	d := w.path("d")
	if err := os.Mkdir(d, 0o755); err != nil {
		return err
	}
	if err := os.Chdir(d); err != nil {
		return err
	}
	defer func() { _ = os.Chdir("/") }()
	if err := os.Remove(d); err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, ".", unix.O_RDONLY|unix.O_DIRECTORY, Fact{Path: d + " (deleted)"}); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, "f", unix.O_WRONLY|unix.O_CREAT, Fact{Path: filepath.Join(d, "f"), Access: "write", Errno: "ENOENT"})
}

// openPassed gets an open file from another process of the sandbox: the open was that one's.
func openPassed(w *work) error {
	p, err := w.file("passed")
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	defer theirs.Close()
	cmd := self("role-pass-file", p)
	cmd.ExtraFiles = []*os.File{theirs}
	if err := w.run(cmd); err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(sizeofRingIndex))
	var n int
	if err := ignoringEINTR(func() (err error) {
		_, n, _, _, err = unix.Recvmsg(pair[0], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
		return err
	}); err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	body := make([]byte, 1)
	if _, err := unix.Pread(fds[0], body, 0); err != nil || string(body) != "x" {
		return fmt.Errorf("read %q through the descriptor: %w", body, err)
	}
	return nil
}

func passFile(w *work, args []string) error {
	fd, err := w.open(unix.AT_FDCWD, args[0], unix.O_RDONLY, Fact{})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendmsg(3, []byte{0}, unix.UnixRights(fd), nil, 0)
}

// lockedThread runs f on a thread of its own, which ends with it, and returns its error.
func lockedThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// fdPath is where an open file lies now.
func fdPath(fd int) (string, error) { return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)) }
