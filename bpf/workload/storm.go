// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func stormScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{"storm": storm}
}

func stormRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{"role-storm": roleStorm}
}

// stormWidth is how many children a process of the storm has at most, all at once.
const stormWidth = 4

// storm makes args[0] short processes (default 2000) in parallel trees. Each one
// creates a file of its own, connects to a listener and tells its fact of each.
func storm(w *work) error {
	processes := 2000
	if len(w.args) > 0 {
		var err error
		if processes, err = strconv.Atoi(w.args[0]); err != nil {
			return err
		}
	}
	listener, port, err := v4.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 4096); err != nil {
		return err
	}
	go func() {
		for {
			fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
			if err == nil {
				_ = unix.Close(fd)
			} else if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return
			}
		}
	}()
	if err := w.tellSelf(""); err != nil {
		return err
	}
	return children(w.dir, port, processes)
}

// children starts the trees that make up count processes, and waits for them.
func children(dir string, port, count int) error {
	width := min(stormWidth, count)
	var running []*exec.Cmd
	var errs []error
	for i := range width {
		share := count / width
		if i < count%width {
			share++
		}
		cmd := self("role-storm", dir, strconv.Itoa(port), strconv.Itoa(share))
		if err := cmd.Start(); err != nil {
			errs = append(errs, err)
			continue
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		errs = append(errs, cmd.Wait())
	}
	return errors.Join(errs...)
}

func roleStorm(w *work, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("got %d arguments, want directory, port and count", len(args))
	}
	w.dir = args[0]
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if err := w.tellSelf(""); err != nil {
		return err
	}
	name := filepath.Join(w.dir, strconv.Itoa(os.Getpid()))
	if err := w.openAndClose(unix.AT_FDCWD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, Fact{Access: "create"}); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = w.connected(fd, v4.at(port), Fact{Transport: "tcp", Address: "127.0.0.1", Port: port})
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return children(w.dir, port, count-1)
}
