// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The files of a spool's directory.
const (
	storeName = "spool.db"
	lockName  = "lock"
	deadName  = "dead"  // dead letters, a file each
	retryName = "retry" // those that are to be tried again
)

// prepareDir makes the directory, or checks the one that is there: what agents did is nobody else's to read.
func prepareDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("the spool's directory %q is not an absolute path: set one that begins with /", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the spool's directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("check the spool's directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("the spool's directory %s is not a directory: remove it, or set another one", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("the spool's directory %s belongs to the user with id %d, "+
			"not to the one that runs sheetbend: give it a directory of its own", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("the spool's directory %s is open to other users (mode %04o): chmod 0700 it, "+
			"or give the spool a directory of its own", dir, st.Mode&0o7777)
	}
	return nil
}

// An InUseError says that another process has the spool.
type InUseError struct {
	Dir string
	PID int // 0: not known
}

func (e *InUseError) Error() string {
	who := "another sheetbend"
	if e.PID > 0 {
		who += fmt.Sprintf(" (pid %d)", e.PID)
	}
	return fmt.Sprintf("the spool %s is in use by %s: stop that one, or set another spool.path", e.Dir, who)
}

// lockDir keeps other processes out until the file is closed.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the spool %s: %w", dir, err)
		}
		text := make([]byte, 20)
		n, _ := f.ReadAt(text, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return nil, &InUseError{dir, pid}
	}
	// For the error above only: where there is no room for it, there is no pid in it.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return f, nil
}

// passing is true of errors of a disk that may get better without somebody doing something.
func passing(err error) bool {
	return slices.ContainsFunc([]unix.Errno{
		unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM,
	}, func(errno unix.Errno) bool { return errors.Is(err, errno) })
}

// damagedFiles are those that setDamagedAside left, the oldest first.
func damagedFiles(store string) []string {
	names, _ := filepath.Glob(store + ".damaged-*")
	slices.Sort(names)
	return names
}

// regular lists the regular files of a directory by name, at most limit. A directory that is not there has none.
func regular(dir string, limit int) ([]fs.FileInfo, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(limit)
	if len(entries) == 0 {
		return nil, nil // err is io.EOF
	}
	if err != nil {
		return nil, err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return files, nil
}
