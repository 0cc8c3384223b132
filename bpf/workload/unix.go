// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func unixScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"unix-path":     func(w *work) error { p := w.path("s"); return w.connectUnix(p, p, unix.SOCK_STREAM) },
		"unix-datagram": func(w *work) error { p := w.path("s"); return w.connectUnix(p, p, unix.SOCK_DGRAM) },
		"unix-abstract": func(w *work) error {
			name := fmt.Sprintf("@workload-%d", os.Getpid())
			return w.connectUnix(name, name, unix.SOCK_STREAM)
		},
		"unix-relative": unixRelative,
		"unix-symlink":  unixSymlink,
		"unix-missing": func(w *work) error {
			p := w.path("missing")
			return w.unixConnected(p, Fact{Address: p, Errno: "ENOENT"}, unix.SOCK_STREAM)
		},
		"unix-refused": unixRefused,
	}
}

// connectUnix listens at one name and connects by another.
func (w *work) connectUnix(listen, connect string, kind int) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: listen}); err != nil {
		return err
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 8); err != nil {
			return err
		}
	}
	return w.unixConnected(connect, Fact{Address: listen}, kind)
}

func (w *work) unixConnected(name string, f Fact, kind int) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f.Transport = "unix"
	return w.connected(fd, &unix.SockaddrUnix{Name: name}, f)
}

func unixRelative(w *work) error {
	if err := os.Chdir(w.dir); err != nil {
		return err
	}
	defer func() { _ = os.Chdir("/") }()
	return w.connectUnix(w.path("s"), "s", unix.SOCK_STREAM)
}

func unixSymlink(w *work) error {
	if err := os.Symlink("s", w.path("link")); err != nil {
		return err
	}
	return w.connectUnix(w.path("s"), w.path("link"), unix.SOCK_STREAM)
}

// unixRefused: the socket's file outlives its listener.
func unixRefused(w *work) error {
	p := w.path("s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p}); err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	return w.unixConnected(p, Fact{Address: p, Errno: "ECONNREFUSED"}, unix.SOCK_STREAM)
}
