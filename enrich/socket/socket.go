// SPDX-License-Identifier: Apache-2.0

// Package socket makes the unix sockets that every user of a host may connect to.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Listener removes its socket when it is closed.
type Listener struct {
	*net.UnixListener
	path string
}

// Listen makes a socket for everyone. One that nobody serves any more is replaced; it is an error if somebody does,
// and if somebody else could put another file in its place.
func Listen(path string) (*Listener, error) {
	const maxPath = 107 - len(".tmp-4194304") // sun_path, and the name it has at first
	if len(path) > maxPath {
		return nil, fmt.Errorf("socket %s: the path is longer than %d bytes", path, maxPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := trusted(dir); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	switch served, err := Served(path); {
	case err != nil:
		return nil, err
	case served:
		return nil, fmt.Errorf("socket %s: another sensor or another process serves it: end that, "+
			"or give this one another socket", path)
	}
	// Under another name until it is complete: a client should meet no socket that it may not open.
	name := path + ".tmp-" + strconv.Itoa(os.Getpid())
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = open(name); err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		_ = os.Remove(name)
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close())
	}
	return &Listener{l, path}, nil
}

// Close removes the socket while it still is its own: after that, another sensor could have taken the name.
func (l *Listener) Close() error {
	err := os.Remove(l.path)
	return errors.Join(err, l.UnixListener.Close())
}

// open lets everyone connect, which needs the right to write. The mode is that of the very file: a name could lead
// to another one meanwhile, whose mode a chmod would change. (fchmod of a socket changes nothing that stands in a
// directory.)
func open(name string) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look at the new socket: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at the new socket: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Uid != uint32(os.Geteuid()) {
		return errors.New("somebody has put another file in the place of the new socket")
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o666)
}

// trusted refuses a directory, or one above it, in which somebody else than root and this user could rename what is
// in it.
func trusted(dir string) error {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok || !info.IsDir():
			return fmt.Errorf("%s is no directory", dir)
		case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
			return fmt.Errorf("directory %s belongs to user %d, who could put another file "+
				"in the place of the socket: choose one of root or of this user", dir, st.Uid)
		case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
			return fmt.Errorf("directory %s can be written by others, who could put another file in the place of the "+
				"socket: choose another one", dir)
		}
		if dir == "/" {
			return nil
		}
	}
}

// Served reports whether somebody listens at a socket. A path that is no socket is an error.
func Served(path string) (bool, error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("socket %s: %w", path, err)
	case st.Mode()&fs.ModeSocket == 0:
		return false, fmt.Errorf("socket %s: there is a file that is no socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		// Any other error (a full backlog) comes from somebody who listens.
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT), nil
	}
	return true, conn.Close()
}
