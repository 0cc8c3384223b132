// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Driven names the scenario that does what its stdin says, one "VERB COUNT" a line, and tells a fact of the kind
// DoneFact when it has. It reads files of the directory args[0], which have to be there: read/N, noise/N, again.
const (
	Driven   = "driven"
	DoneFact = "done"
)

func drivenScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{Driven: driven}
}

func driven(w *work) error {
	if err := w.tellSelf(""); err != nil {
		return err
	}
	from := w.dir
	if len(w.args) > 0 {
		from = w.args[0]
	}
	done := map[string]int{}
	opens := func(flags int, name func(n int) string) func(int) error {
		return func(n int) error { return opened(name(n), flags) }
	}
	numbered := func(dir, name string) func(int) string {
		return func(n int) string { return filepath.Join(dir, name+strconv.Itoa(n)) }
	}
	verbs := map[string]func(n int) error{
		"again": opens(unix.O_RDONLY, func(int) string { return filepath.Join(from, "again") }),
		"noise": opens(unix.O_RDONLY, numbered(filepath.Join(from, "noise"), "")),
		"read":  opens(unix.O_RDONLY, numbered(filepath.Join(from, "read"), "")),
		"write": opens(unix.O_WRONLY, func(int) string { return filepath.Join(from, "again") }),
		"create": func(n int) error {
			return opened(w.path("created-"+strconv.Itoa(n)), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		},
		"refuse": func(n int) error {
			err := opened(filepath.Join(from, "missing-"+strconv.Itoa(n)), unix.O_RDONLY)
			if !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("a file that is not there: %w", err)
			}
			return nil
		},
		"rename": func(n int) error {
			from := w.path("renamed-" + strconv.Itoa(n))
			return errors.Join(opened(from, unix.O_WRONLY|unix.O_CREAT), unix.Rename(from, from+"-to"))
		},
		"rename-missing": func(int) error {
			if err := unix.Rename(w.path("missing"), w.path("missing-to")); !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("a file that is not there: %w", err)
			}
			return nil
		},
		"connect": func(int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Connect(fd, v4.at(9)), unix.Close(fd))
		},
		"fork": func(int) error {
			pids, err := kids(1, 0)
			return errors.Join(err, reap(pids))
		},
		// Not by os/exec, which opens /dev/null and at first tries out what the kernel can.
		"exec": func(int) error {
			pid, err := syscall.ForkExec("/proc/self/exe", []string{"role", "role-quiet"}, &syscall.ProcAttr{Env: os.Environ()})
			if err != nil {
				return err
			}
			return reap([]int{pid})
		},
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, text, _ := strings.Cut(lines.Text(), " ")
		do := verbs[verb]
		count, err := strconv.Atoi(text)
		if do == nil || err != nil {
			// Anything else is the name of a file.
			do, verb, count = opens(unix.O_RDONLY, func(int) string { return lines.Text() }), "file", 1
		}
		for range count {
			if err := do(done[verb]); err != nil {
				return fmt.Errorf("%s: %w", lines.Text(), err)
			}
			done[verb]++
		}
		if err := w.tell(Fact{Kind: DoneFact, Op: verb, Count: count}); err != nil {
			return err
		}
	}
	return lines.Err()
}

func opened(name string, flags int) error {
	fd := -1
	if err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		return err
	}); err != nil {
		return err
	}
	return unix.Close(fd)
}
