// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func cgroupScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"cgroup-escape": cgroupEscape,
		"cgroup-nested": cgroupNested,
		"wait":          wait,
	}
}

func cgroupRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-open": func(w *work, args []string) error {
			if len(args) != 1 {
				return errors.New("needs a path")
			}
			if err := w.tellSelf(""); err != nil {
				return err
			}
			return w.openAndClose(unix.AT_FDCWD, args[0], unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
		},
	}
}

// directory is the cgroup directory that the scenario's caller names.
func (w *work) directory() (string, error) {
	if len(w.args) != 1 {
		return "", errors.New("needs the directory of a cgroup")
	}
	return w.args[0], nil
}

// cgroupEscape moves itself to the cgroup args[0], then goes on.
func cgroupEscape(w *work) error {
	dir, err := w.directory()
	if err != nil {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0); err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, w.path("escaped"), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"}); err != nil {
		return err
	}
	return w.run(self("role-report"))
}

// cgroupNested makes a cgroup below args[0], its own, and starts a process right in it:
// there is no moment in which anybody could have been told of the new directory.
func cgroupNested(w *work) (err error) {
	dir, err := w.directory()
	if err != nil {
		return err
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(below)) }()
	f, err := os.Open(below)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := self("role-open", w.path("from-below"))
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(f.Fd())
	return w.run(cmd)
}

// wait tells of itself, waits for the end of stdin, then opens a file and starts a child.
func wait(w *work) error {
	if err := w.tellSelf(""); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if err := w.openAndClose(unix.AT_FDCWD, w.path("after-waiting"), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"}); err != nil {
		return err
	}
	return w.run(self("role-report"))
}
