// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// FloodPrefix is that of the scenarios which do one thing args[0] times, as fast as they can, tell of themselves,
// and wait for the end of stdin. How often is all that there is to know of them.
const FloodPrefix = "flood-"

// FloodName begins the names of the files that flood-files makes.
const FloodName = "flooded\n\x1b[2J\xff-"

func floodScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"flood-forks":       func(w *work) error { return w.flood(floodForks) },
		"flood-args":        func(w *work) error { return w.flood(floodArgs) },
		"flood-files":       func(w *work) error { return w.flood(floodFiles) },
		"flood-processes":   func(w *work) error { return w.flood(floodProcesses) },
		"flood-escapes":     func(w *work) error { return w.flood(floodEscapes) },
		"flood-cgroups":     func(w *work) error { return w.flood(floodCgroups) },
		"flood-connections": func(w *work) error { return w.flood(floodConnections) },
		"flood-connects":    func(w *work) error { return w.flood(floodConnects) },
	}
}

// flood runs f with the count, then waits; f's result undoes what it did.
func (w *work) flood(f func(w *work, count int) (func() error, error)) error {
	count := 10
	if len(w.args) > 0 {
		var err error
		if count, err = strconv.Atoi(w.args[0]); err != nil {
			return err
		}
	}
	undo, err := f(w, count)
	if err == nil {
		err = w.tellSelf("")
	}
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if undo != nil {
		err = errors.Join(err, undo())
	}
	return err
}

// kids forks count children: which exit at once, or stay until they are killed.
func kids(count int, stay int64) (pids []int, err error) {
	for range count {
		pid := forkOne(stay)
		if pid < 0 {
			return pids, fmt.Errorf("fork: %w", unix.Errno(-pid))
		}
		pids = append(pids, int(pid))
	}
	return pids, nil
}

func reap(pids []int) error {
	for _, pid := range pids {
		if err := ignoringEINTR(func() error { _, err := unix.Wait4(pid, nil, 0, nil); return err }); err != nil {
			return err
		}
	}
	return nil
}

func floodForks(_ *work, count int) (func() error, error) {
	for count > 0 {
		pids, err := kids(min(count, 32), 0)
		if err = errors.Join(err, reap(pids)); err != nil {
			return nil, err
		}
		count -= len(pids)
	}
	return nil, nil
}

func floodProcesses(_ *work, count int) (func() error, error) {
	pids, err := kids(count, 1)
	return func() error {
		var errs []error
		for _, pid := range pids {
			errs = append(errs, unix.Kill(pid, unix.SIGKILL))
		}
		return errors.Join(append(errs, reap(pids))...)
	}, err
}

// floodEscapes leaves for the cgroup args[1] and forks there.
func floodEscapes(w *work, count int) (func() error, error) {
	if len(w.args) > 1 {
		if err := os.WriteFile(filepath.Join(w.args[1], "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return nil, err
		}
	}
	return floodProcesses(w, count)
}

// floodArgs runs a program with 2 MiB of arguments.
func floodArgs(_ *work, count int) (func() error, error) {
	if err := roomForArguments(); err != nil {
		return nil, err
	}
	args := TwoMiB()
	for range count {
		if err := self("role-quiet", args...).Run(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// floodFiles makes files with names that are no text.
func floodFiles(w *work, count int) (func() error, error) {
	for i := range count {
		name := w.path(FloodName + strconv.Itoa(i))
		fd := -1
		if err := ignoringEINTR(func() (err error) {
			fd, err = unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
			return err
		}); err != nil {
			return nil, err
		}
		if err := errors.Join(unix.Close(fd), unix.Unlink(name)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// floodCgroups makes directories in the cgroup args[1], its own.
func floodCgroups(w *work, count int) (func() error, error) {
	if len(w.args) < 2 {
		return nil, nil
	}
	var made []string
	undo := func() error {
		var errs []error
		for _, dir := range made {
			errs = append(errs, unix.Rmdir(dir))
		}
		return errors.Join(errs...)
	}
	for i := range count {
		dir := filepath.Join(w.args[1], strconv.Itoa(i))
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return undo, err
		}
		made = append(made, dir)
	}
	return undo, nil
}

// floodConnects begins connects that nobody answers.
func floodConnects(w *work, count int) (func() error, error) {
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	fds := []int{listener}
	undo := func() error {
		var errs []error
		for _, fd := range fds {
			errs = append(errs, unix.Close(fd))
		}
		return errors.Join(errs...)
	}
	if err := unix.Listen(listener, 0); err != nil {
		return undo, err
	}
	// The first fills the listener's queue, the others wait.
	for i := range count + 1 {
		flags := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
		if i > 0 {
			flags |= unix.SOCK_NONBLOCK
		}
		fd, err := unix.Socket(unix.AF_INET, flags, 0)
		if err != nil {
			return undo, err
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, v4.at(port)); err != nil && (i == 0 || !errors.Is(err, unix.EINPROGRESS)) {
			return undo, err
		}
		if i == 0 {
			// Until the listener has it, there is room for one more.
			waiting := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
			for {
				n, err := unix.Poll(waiting, 10_000)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if err != nil || n == 0 {
					return undo, errors.Join(errors.New("the listener's queue stays empty"), err)
				}
				break
			}
		}
	}
	return undo, nil
}

// floodConnections keeps connections that nobody accepts.
func floodConnections(_ *work, count int) (func() error, error) {
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	fds := []int{listener}
	undo := func() error {
		var errs []error
		for _, fd := range fds {
			errs = append(errs, unix.Close(fd))
		}
		return errors.Join(errs...)
	}
	if err := unix.Listen(listener, count); err != nil {
		return undo, err
	}
	for range count {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return undo, err
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, v4.at(port)); err != nil {
			return undo, err
		}
	}
	return undo, nil
}
