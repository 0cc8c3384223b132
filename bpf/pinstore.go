// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrPinsInUse says that another sensor of this host has the pins.
var ErrPinsInUse = errors.New("another sensor has the pins")

// openPins opens the directory of the pins, with one below it for each kernel side, or makes it. A lock is held as long
// as it is open. Nothing in it is trusted that somebody else may have put there.
func openPins(dir string, create bool) (_ *os.File, err error) {
	if create {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the directory of the pins: %w", err)
		}
	}
	f, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the pins: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
		return nil, errors.Join(fmt.Errorf("%s is on no bpf file system", dir), err)
	}
	// Whoever only looks, as doctor does, has it for a moment.
	for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		case time.Now().After(end):
			return nil, fmt.Errorf("%w in %s", ErrPinsInUse, dir)
		}
	}
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
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// list gives the names in a directory, of which more than a few hundred are nobody's pins.
func list(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list the pins in %s: %w", dir.Name(), err)
	}
	slices.Sort(names)
	return names, nil
}

// unlink takes pins away.
func unlink(dir *os.File, prefix string) error {
	names, err := list(dir)
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			err = errors.Join(err, unix.Unlinkat(int(dir.Fd()), name, 0))
		}
	}
	return err
}

// remove takes a kernel side away.
func remove(store, dir *os.File) error {
	if err := errors.Join(unlink(dir, ""), unix.Unlinkat(int(store.Fd()), dir.Name(), unix.AT_REMOVEDIR)); err != nil {
		return fmt.Errorf("remove the pins %s: %w", dir.Name(), err)
	}
	return nil
}

// pinPath names a pin by the directory that was looked at, whatever lies under its name by now.
func pinPath(dir *os.File, name string) string {
	name = strings.ReplaceAll(name, ".", "_") // bpffs takes no dot
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
}

// loadMap opens a pinned map, and checks that it is the one of the manifest, if there is one, and such a one.
func loadMap(dir *os.File, m *manifest, name string, want *ebpf.MapSpec) (*ebpf.Map, error) {
	one, err := ebpf.LoadPinnedMap(pinPath(dir, mapPrefix+name), nil)
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", name, err)
	}
	id, err := mapID(one)
	if err != nil || m != nil && id != m.Maps[name] ||
		one.Type() != want.Type || one.KeySize() != want.KeySize || one.ValueSize() != want.ValueSize {
		return nil, errors.Join(fmt.Errorf("the pinned map %s is another", name), err, one.Close())
	}
	return one, nil
}

func mapID(m *ebpf.Map) (ebpf.MapID, error) {
	info, err := m.Info()
	if err != nil {
		return 0, fmt.Errorf("look at the map %s: %w", m, err)
	}
	id, _ := info.ID()
	return id, nil
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
	defer s.Close()
	names, err := list(s)
	for _, name := range names {
		one, oneErr := openDir(int(s.Fd()), name)
		if oneErr == nil {
			oneErr = errors.Join(remove(s, one), one.Close())
			n++
		}
		err = errors.Join(err, oneErr)
	}
	return n, errors.Join(err, os.Remove(dir))
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
	names, err = list(f)
	return names, held, err
}
