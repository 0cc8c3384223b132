// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func mountScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"open-bind-mount": func(w *work) error { return w.inMountNamespace("bind") },
		"open-overlay":    func(w *work) error { return w.inMountNamespace("overlay") },
	}
}

func mountRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-mount-bind":    mountBind,
		"role-mount-overlay": mountOverlay,
	}
}

// inMountNamespace runs the role in a child: a Go process cannot change the namespace of all its threads.
func (w *work) inMountNamespace(role string) error {
	cmd := self("role-mount-"+role, w.dir)
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	return cmd.Run()
}

func mountBind(w *work, args []string) error {
	w.dir = args[0]
	for _, d := range []string{"from", "to"} {
		if err := os.Mkdir(w.path(d), 0o755); err != nil {
			return err
		}
	}
	if _, err := w.file("from/f"); err != nil {
		return err
	}
	if err := unix.Mount(w.path("from"), w.path("to"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	err := w.openAndClose(unix.AT_FDCWD, w.path("to/f"), unix.O_RDONLY, Fact{})
	return errors.Join(err, unix.Unmount(w.path("to"), 0))
}

// mountOverlay reads a file of the lower layer, then changes it, which copies it up.
func mountOverlay(w *work, args []string) error {
	w.dir = args[0]
	for _, d := range []string{"base", "merged"} {
		if err := os.Mkdir(w.path(d), 0o755); err != nil {
			return err
		}
	}
	// The layers lie on a file system of their own: the directory's may itself be an
	// overlay, on which the kernel refuses another one's upper layer.
	if err := unix.Mount("tmpfs", w.path("base"), "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, d := range []string{"base/lower", "base/upper", "base/work"} {
		if err := os.Mkdir(w.path(d), 0o755); err != nil {
			return err
		}
	}
	if _, err := w.file("base/lower/f"); err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", w.path("base/lower"), w.path("base/upper"), w.path("base/work"))
	if err := unix.Mount("overlay", w.path("merged"), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	err := w.openAndClose(unix.AT_FDCWD, w.path("merged/f"), unix.O_RDONLY, Fact{})
	if err == nil {
		err = w.openAndClose(unix.AT_FDCWD, w.path("merged/f"), unix.O_RDWR, Fact{Access: "read_write"})
	}
	return errors.Join(err, unix.Unmount(w.path("merged"), 0), unix.Unmount(w.path("base"), 0))
}
