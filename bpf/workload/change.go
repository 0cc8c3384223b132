// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func changeScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"rename":           renameOne,
		"rename-over":      renameOver,
		"rename-directory": renameDirectory,
		"rename-refused":   renameRefused,
		"rename-flags":     renameFlags,
		"rename-odd-names": renameOddNames,
		"rename-long-path": renameLongPath,
	}
}

// rename does one renameat2 and tells of it. Fields of f that are zero are filled in.
func (w *work) rename(oldDir int, from string, newDir int, to string, flags uint, f Fact) error {
	var st unix.Stat_t
	if f.Errno == "" {
		if err := unix.Fstatat(oldDir, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return w.renamed(unix.Renameat2(oldDir, from, newDir, to, flags), from, to, st.Ino, f)
}

func (w *work) renamed(renameErr error, from, to string, inode uint64, f Fact) error {
	code, err := errno(renameErr)
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("rename %q to %q: got %q, the scenario expects %q", from, to, code, f.Errno)
	}
	f.Kind, f.Inode = "change", inode
	if f.Op == "" {
		f.Op = "rename"
	}
	if f.Old == "" {
		f.Old = from
	}
	if f.Path == "" {
		f.Path = to
	}
	return w.tell(f)
}

func renameOne(w *work) error {
	from, err := w.file("from")
	if err != nil {
		return err
	}
	to := w.path("to")
	if err := w.rename(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0, Fact{}); err != nil {
		return err
	}
	// By descriptors, and by the other calls.
	dir, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	if err := w.rename(dir, "to", dir, "third", 0, Fact{Old: to, Path: w.path("third")}); err != nil {
		return err
	}
	if err := os.Chdir(w.dir); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat("third", &st); err != nil {
		return err
	}
	if err := w.renamed(unix.Renameat(unix.AT_FDCWD, "third", dir, "fourth"), w.path("third"), w.path("fourth"), st.Ino, Fact{}); err != nil {
		return err
	}
	return w.renamed(unix.Rename("fourth", "fifth"), w.path("fourth"), w.path("fifth"), st.Ino, Fact{})
}

// As editors save: what was at the name is replaced.
func renameOver(w *work) error {
	temporary, err := w.file("file.tmp")
	if err != nil {
		return err
	}
	file, err := w.file("file")
	if err != nil {
		return err
	}
	var old unix.Stat_t
	if err := unix.Stat(file, &old); err != nil {
		return err
	}
	return w.rename(unix.AT_FDCWD, temporary, unix.AT_FDCWD, file, 0, Fact{Replaced: old.Ino})
}

func renameDirectory(w *work) error {
	from, empty, full := w.path("from"), w.path("empty"), w.path("full")
	for _, dir := range []string{from, empty, full} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(w.path("full/file"), nil, 0o644); err != nil {
		return err
	}
	if err := w.rename(unix.AT_FDCWD, from, unix.AT_FDCWD, full, 0, Fact{Errno: "ENOTEMPTY"}); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(empty, &st); err != nil {
		return err
	}
	return w.rename(unix.AT_FDCWD, from, unix.AT_FDCWD, empty, 0, Fact{Replaced: st.Ino})
}

func renameRefused(w *work) error {
	file, err := w.file("file")
	if err != nil {
		return err
	}
	closed := w.path("closed")
	if err := os.Mkdir(closed, 0o755); err != nil {
		return err
	}
	for _, r := range []struct{ from, to, errno string }{
		{w.path("missing"), w.path("to"), "ENOENT"},
		{file, w.path("nowhere/to"), "ENOENT"},
		{file, closed, "EISDIR"},
		{file, "/proc/to", "EXDEV"},
	} {
		if err := w.rename(unix.AT_FDCWD, r.from, unix.AT_FDCWD, r.to, 0, Fact{Errno: r.errno}); err != nil {
			return err
		}
	}
	if err := syscall.Setresuid(-1, 65534, -1); err != nil {
		return err
	}
	err = w.rename(unix.AT_FDCWD, file, unix.AT_FDCWD, closed+"/to", 0, Fact{Errno: "EACCES"})
	if e := syscall.Setresuid(-1, 0, -1); err == nil {
		err = e
	}
	return err
}

func renameFlags(w *work) error {
	one, err := w.file("one")
	if err != nil {
		return err
	}
	two, err := w.file("two")
	if err != nil {
		return err
	}
	var other unix.Stat_t
	if err := unix.Stat(two, &other); err != nil {
		return err
	}
	if err := w.rename(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_NOREPLACE, Fact{Errno: "EEXIST"}); err != nil {
		return err
	}
	if err := w.rename(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_EXCHANGE, Fact{Op: "exchange", Replaced: other.Ino}); err != nil {
		return err
	}
	return w.rename(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE, Fact{Op: "exchange", Errno: "EINVAL"})
}

func renameOddNames(w *work) error {
	from, err := w.file("a")
	if err != nil {
		return err
	}
	for _, name := range []string{"new\nline", "→ arrow", strings.Repeat("n", 255), "\x1b[31mred"} {
		to := w.path(name)
		if err := w.rename(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0, Fact{}); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// Both names are as long as the kernel takes them: 4,095 bytes.
func renameLongPath(w *work) error {
	dir := w.dir
	for len(dir)+1+200 < 4095-60 {
		dir += "/" + strings.Repeat("d", 200)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	fill := func(letter string) string { return dir + "/" + strings.Repeat(letter, 4095-len(dir)-1) }
	from, to := fill("a"), fill("b")
	if err := os.WriteFile(from, nil, 0o644); err != nil {
		return err
	}
	return w.rename(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0, Fact{})
}
