// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrPinsInUse says that another sensor of this host has the pins.
var ErrPinsInUse = errors.New("another sensor has the pins")

// FindBPFFS gives the directory where a bpf file system is mounted; os.ErrNotExist if none is.
func FindBPFFS() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("look for the bpf file system: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 16<<20))
	found := ""
	for lines.Scan() {
		// device directory type options: a path with a space or a newline in it (\040, \012) is nobody's bpffs.
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || fields[2] != "bpf" || strings.Contains(fields[1], `\`) {
			continue
		}
		if found == "" || fields[1] == usualBPFFS {
			found = fields[1]
		}
	}
	if found == "" {
		return "", fmt.Errorf("no bpf file system is mounted (mount -t bpf bpf %s): %w", usualBPFFS, os.ErrNotExist)
	}
	return found, nil
}

// pinStore is the directory with a lock on it, which is held as long as it is open.
type pinStore struct {
	f   *os.File
	dir string
}

// openPins opens the directory, or makes it. Nothing in it is trusted that somebody else may have put there.
func openPins(dir string, create bool) (_ *pinStore, err error) {
	if create {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the directory of the pins: %w", err)
		}
	}
	f, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the pins: %w", err)
	}
	s := &pinStore{f: f, dir: dir}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return nil, fmt.Errorf("%s is on no bpf file system", dir)
	}
	// Whoever only looks, as doctor does, has it for a moment.
	for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		case time.Now().After(end):
			return nil, fmt.Errorf("%w in %s", ErrPinsInUse, dir)
		}
	}
}

// putAside gives pins another name, if there are any of this one.
func (s *pinStore) putAside(name string) error {
	fd := int(s.f.Fd())
	var err error
	for n := range 16 { // a sensor that is killed while it takes over leaves one each time
		to := fmt.Sprintf("%s-old%d", name, n)
		if err = unix.Renameat2(fd, name, fd, to, unix.RENAME_NOREPLACE); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return fmt.Errorf("put old pins aside (sheetbend unpin removes them): %w", err)
}

// openDir opens a directory that belongs to this user, and that nobody else may write to.
func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat2(at, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0) {
		err = fmt.Errorf("owner %d and mode %03o, should be %d and 700", st.Uid, st.Mode&0o777, os.Geteuid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (s *pinStore) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}

// A pinDir is one kernel side in the store.
type pinDir struct {
	f    *os.File
	name string
}

func (s *pinStore) sub(name string) (*pinDir, error) {
	f, err := openDir(int(s.f.Fd()), name)
	if err != nil {
		return nil, err
	}
	return &pinDir{f: f, name: name}, nil
}

// path names a pin by the directory that was looked at, whatever lies under its name by now.
func (d *pinDir) path(name string) string {
	name = strings.ReplaceAll(name, ".", "_") // bpffs takes no dot
	return "/proc/self/fd/" + strconv.Itoa(int(d.f.Fd())) + "/" + name
}

func (d *pinDir) names() ([]string, error) {
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return d.f.Readdirnames(4096)
}

// remove takes pins away, and with no prefix the directory.
func (s *pinStore) remove(d *pinDir, prefix string) error {
	names, err := d.names()
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("list the pins in %s: %w", d.name, err)
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			if err := unix.Unlinkat(int(d.f.Fd()), name, 0); err != nil {
				errs = append(errs, &os.PathError{Op: "unlink", Path: name, Err: err})
			}
		}
	}
	if prefix == "" {
		if err := unix.Unlinkat(int(s.f.Fd()), d.name, unix.AT_REMOVEDIR); err != nil {
			errs = append(errs, &os.PathError{Op: "rmdir", Path: d.name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Unpin takes away what sensors that are over left in the kernel. It says how many kernel sides that were. With
// ErrPinsInUse one still runs.
func Unpin(dir string) (n int, err error) {
	s, err := openPins(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.close() }()
	names, err := s.f.Readdirnames(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("list the pins in %s: %w", dir, err)
	}
	var errs []error
	for _, name := range names {
		d, err := s.sub(name)
		if err == nil {
			err = s.remove(d, "")
			d.f.Close()
		}
		if err == nil {
			n++
		}
		errs = append(errs, err)
	}
	if err := os.Remove(dir); err != nil {
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// PinsAt lists the kernel sides that are pinned, and says whether a sensor holds them.
func PinsAt(dir string) (names []string, held bool, err error) {
	f, err := openDir(unix.AT_FDCWD, dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	held = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
	if names, err = f.Readdirnames(4096); errors.Is(err, io.EOF) {
		err = nil
	}
	return names, held, err
}
