// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func openScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"open-read":             openRead,
		"open-write":            openWrite,
		"open-repeated":         openRepeated,
		"open-create-exclusive": openCreateExclusive,
		"open-tmpfile":          openTmpfile,
		"open-path-only":        openPathOnly,
		"open-missing":          openMissing,
		"open-denied":           openDenied,
		"open-loop":             openLoop,
		"open-relative":         openRelative,
		"open-dirfd":            openDirfd,
		"open-dotdot":           openDotdot,
		"open-symlink":          openSymlink,
		"open-renamed":          openRenamed,
		"open-unlinked":         openUnlinked,
		"open-chroot":           openChroot,
		"open-long-path":        openLongPath,
		"open-threads":          openThreads,
		"open-openat2":          openOpenat2,
		"open-creat":            openCreat,
		"open-odd-names":        openOddNames,
	}
}

// file makes a file for a scenario to open. The making is no fact, though the sensor sees it, as a creation.
func (w *work) file(name string) (string, error) {
	p := w.path(name)
	return p, os.WriteFile(p, []byte("x"), 0o644)
}

// open does one openat and tells of it. Fields of f that are zero are filled in.
func (w *work) open(dirfd int, name string, flags int, f Fact) (int, error) {
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, 0o644)
		return err
	})
	return fd, w.opened(fd, err, name, f)
}

func (w *work) opened(fd int, openErr error, name string, f Fact) error {
	f.Kind = "open"
	code, err := errno(openErr)
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("open %q: got %q, the scenario expects %q", name, code, f.Errno)
	}
	if f.Path == "" {
		f.Path = name
	}
	if f.Path != name {
		f.Requested = name
	}
	if f.Access == "" {
		f.Access = "read"
	}
	if fd >= 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		f.Inode = st.Ino
	}
	return w.tell(f)
}

// openAndClose is open for when the descriptor is not needed.
func (w *work) openAndClose(dirfd int, name string, flags int, f Fact) error {
	fd, err := w.open(dirfd, name, flags, f)
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return err
}

func openRead(w *work) error {
	p, err := w.file("read")
	if err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, p, unix.O_RDONLY, Fact{})
}

func openWrite(w *work) error {
	p, err := w.file("write")
	if err != nil {
		return err
	}
	// Appending is writing: with the plain write below it makes one fact of two.
	fd, err := unix.Open(p, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	for _, o := range []struct {
		name  string
		flags int
		fact  Fact
	}{
		{p, unix.O_WRONLY, Fact{Access: "write", Count: 2}},
		{p, unix.O_RDWR, Fact{Access: "read_write"}},
		{p, unix.O_WRONLY | unix.O_TRUNC, Fact{Access: "truncate"}},
		{w.path("created"), unix.O_WRONLY | unix.O_CREAT, Fact{Access: "create"}},
	} {
		if err := w.openAndClose(unix.AT_FDCWD, o.name, o.flags, o.fact); err != nil {
			return err
		}
	}
	return nil
}

func openRepeated(w *work) error {
	p, err := w.file("again")
	if err != nil {
		return err
	}
	const times = 7
	for range times - 1 {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
	}
	return w.openAndClose(unix.AT_FDCWD, p, unix.O_RDONLY, Fact{Count: times})
}

func openCreateExclusive(w *work) error {
	p := w.path("exclusive")
	flags := unix.O_RDWR | unix.O_CREAT | unix.O_EXCL
	if err := w.openAndClose(unix.AT_FDCWD, p, flags, Fact{Access: "create"}); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, p, flags, Fact{Access: "read_write", Errno: "EEXIST"})
}

// openTmpfile: the file never has a name; the kernel shows it as "#INODE (deleted)" in its directory.
// A creation is what makes a name, so this is none (and the kernel does not set FMODE_CREATED).
func openTmpfile(w *work) error {
	fd, err := unix.Open(w.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "open", Path: name, Requested: w.dir, Inode: st.Ino, Access: "read_write"})
}

func openPathOnly(w *work) error {
	p, err := w.file("path-only")
	if err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, p, unix.O_PATH, Fact{Access: "path_only"})
}

func openMissing(w *work) error {
	return w.openAndClose(unix.AT_FDCWD, w.path("missing"), unix.O_RDONLY, Fact{Errno: "ENOENT"})
}

func openDenied(w *work) error {
	p, err := w.file("secret")
	if err != nil {
		return err
	}
	if err := os.Chmod(p, 0o600); err != nil {
		return err
	}
	if err := syscall.Setresuid(-1, 65534, -1); err != nil {
		return err
	}
	err = w.openAndClose(unix.AT_FDCWD, p, unix.O_RDONLY, Fact{Errno: "EACCES"})
	if err == nil {
		err = w.openAndClose(unix.AT_FDCWD, p, unix.O_WRONLY, Fact{Errno: "EACCES", Access: "write"})
	}
	if e := syscall.Setresuid(-1, 0, -1); err == nil {
		err = e
	}
	return err
}

func openLoop(w *work) error {
	if err := os.Symlink("b", w.path("a")); err != nil {
		return err
	}
	if err := os.Symlink("a", w.path("b")); err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, w.path("a"), unix.O_RDONLY, Fact{Errno: "ELOOP"}); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, w.path("b"), unix.O_RDONLY|unix.O_NOFOLLOW, Fact{Errno: "ELOOP"})
}

func openRelative(w *work) error {
	p, err := w.file("relative")
	if err != nil {
		return err
	}
	if err := os.Chdir(w.dir); err != nil {
		return err
	}
	defer func() { _ = os.Chdir("/") }()
	if err := w.openAndClose(unix.AT_FDCWD, "relative", unix.O_RDONLY, Fact{Path: p}); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, "not-there", unix.O_RDONLY, Fact{Path: w.path("not-there"), Errno: "ENOENT"})
}

func openDirfd(w *work) error {
	if err := os.Mkdir(w.path("d"), 0o755); err != nil {
		return err
	}
	if _, err := w.file("d/f"); err != nil {
		return err
	}
	dir, err := unix.Open(w.path("d"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := w.openAndClose(dir, "f", unix.O_RDONLY, Fact{Path: w.path("d/f")}); err != nil {
		return err
	}
	return w.openAndClose(dir, "g", unix.O_RDONLY, Fact{Path: w.path("d/g"), Errno: "ENOENT"})
}

func openDotdot(w *work) error {
	if err := os.MkdirAll(w.path("d/e"), 0o755); err != nil {
		return err
	}
	p, err := w.file("above")
	if err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, w.path("d")+"/e/../../above", unix.O_RDONLY, Fact{Path: p})
}

func openSymlink(w *work) error {
	p, err := w.file("target")
	if err != nil {
		return err
	}
	if err := os.Symlink("target", w.path("link")); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, w.path("link"), unix.O_RDONLY, Fact{Path: p})
}

// openRenamed: each open is told under the name that the file had then.
func openRenamed(w *work) error {
	p, err := w.file("before")
	if err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, p, unix.O_RDONLY, Fact{}); err != nil {
		return err
	}
	if err := os.Rename(p, w.path("after")); err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, w.path("after"), unix.O_RDONLY, Fact{}); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, p, unix.O_RDONLY, Fact{Errno: "ENOENT"})
}

// openUnlinked opens a file without a name through its descriptor in /proc.
func openUnlinked(w *work) error {
	p, err := w.file("gone")
	if err != nil {
		return err
	}
	fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := os.Remove(p); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY, Fact{Path: p + " (deleted)"})
}

// openChroot: paths are those of the process's own root. It cannot leave it again, so this comes last.
func openChroot(w *work) error {
	if err := os.Mkdir(w.path("jail"), 0o755); err != nil {
		return err
	}
	if _, err := w.file("jail/inside"); err != nil {
		return err
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.Chroot(w.path("jail")); err != nil {
		return err
	}
	err = unix.Chdir("/")
	if err == nil {
		err = w.openAndClose(unix.AT_FDCWD, "/inside", unix.O_RDONLY, Fact{})
	}
	if err == nil {
		err = w.openAndClose(unix.AT_FDCWD, "/../outside", unix.O_RDONLY, Fact{Path: "/outside", Errno: "ENOENT"})
	}
	// Back out through the descriptor, to remove the directory.
	if e := root.Chdir(); err == nil {
		err = e
	}
	if e := unix.Chroot("."); err == nil {
		err = e
	}
	return err
}

func openLongPath(w *work) error {
	long := w.dir
	for len(long) < 3700 {
		long = filepath.Join(long, strings.Repeat("n", 200))
	}
	if err := os.MkdirAll(long, 0o755); err != nil {
		return err
	}
	long = filepath.Join(long, strings.Repeat("f", 4000-len(long)-1))
	return w.openAndClose(unix.AT_FDCWD, long, unix.O_RDWR|unix.O_CREAT, Fact{Access: "create"})
}

// openThreads: every thread belongs to the process.
func openThreads(w *work) error {
	const threads = 8
	errs := make(chan error, threads)
	var all sync.WaitGroup
	for i := range threads {
		all.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			errs <- w.openAndClose(unix.AT_FDCWD, w.path(fmt.Sprintf("thread-%d", i)), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
		})
	}
	all.Wait()
	for range threads {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func openOpenat2(w *work) error {
	p, err := w.file("two")
	if err != nil {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC}
	var fd int
	err = ignoringEINTR(func() (err error) {
		fd, err = unix.Openat2(unix.AT_FDCWD, p, &how)
		return err
	})
	if err := w.opened(fd, err, p, Fact{}); err != nil {
		return err
	}
	_ = unix.Close(fd)
	how.Resolve = unix.RESOLVE_NO_SYMLINKS
	if err := os.Symlink("two", w.path("link")); err != nil {
		return err
	}
	_, err = unix.Openat2(unix.AT_FDCWD, w.path("link"), &how)
	return w.opened(-1, err, w.path("link"), Fact{Errno: "ELOOP"})
}

func openCreat(w *work) error {
	p := w.path("creat")
	fd, err := unix.Creat(p, 0o644)
	if err := w.opened(fd, err, p, Fact{Access: "create"}); err != nil {
		return err
	}
	return unix.Close(fd)
}

// openOddNames: what a hostile program may call its files. JSON repairs invalid
// UTF-8 with U+FFFD, as the spans do.
func openOddNames(w *work) error {
	for _, name := range []string{"new\nline", "\x1b[31mred", "bad\xffutf8", " ", "quote\"'`$(x)"} {
		if err := w.openAndClose(unix.AT_FDCWD, w.path(name), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"}); err != nil {
			return err
		}
	}
	return nil
}
