// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// NoisePrefix is that of the scenarios whose first process reads what everybody reads, and whose child, for which
// another file lies there, reads that.
const NoisePrefix = EvadePrefix + "noise-"

// everybodys is a file of the default list of noise that is on every system.
const everybodys = "/proc/filesystems"

func elsewhereScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		NoisePrefix + "mounts": func(w *work) error {
			return w.noiseElsewhere(w.path("secret"), everybodys, func(cmd *exec.Cmd) { cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS })
		},
		NoisePrefix + "user": func(w *work) error {
			return w.noiseElsewhere(w.path("secret"), everybodys, func(cmd *exec.Cmd) {
				cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
				cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{Size: 1}}
			})
		},
		NoisePrefix + "root": func(w *work) error {
			return w.noiseElsewhere("", "/etc/ld.so.cache", func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, w.dir) })
		},
		NoisePrefix + "pid": func(w *work) error {
			return w.noiseElsewhere("", "/proc/1/status", func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID })
		},
		"evade-exec-root": execBelowRoot,
	}
}

func elsewhereRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-read-elsewhere": readElsewhere,
		"role-wait-root": func(w *work, args []string) error {
			f, err := ownExec("")
			if err := errors.Join(err, unix.Chroot(args[0]), unix.Chdir("/"), w.tell(f)); err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, os.Stdin)
			return err
		},
		"role-exec-root": func(_ *work, args []string) error {
			if err := errors.Join(unix.Chroot(args[0]), unix.Chdir("/")); err != nil {
				return err
			}
			return syscall.Exec("/program", []string{"program", "role-quiet"}, nil)
		},
	}
}

// noiseElsewhere reads noise, and has a child read path, on which it puts the file from; "" for one that lies there
// already.
func (w *work) noiseElsewhere(from, path string, apart func(*exec.Cmd)) error {
	if err := w.openAndClose(unix.AT_FDCWD, everybodys, unix.O_RDONLY, Fact{}); err != nil {
		return err
	}
	if err := os.Mkdir(w.path("etc"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"secret", "etc/ld.so.cache"} {
		if _, err := w.file(name); err != nil {
			return err
		}
	}
	cmd := self("role-read-elsewhere", path, from)
	// By its path: what /proc/self/exe leads to lies in the mount namespace that the child has just left.
	cmd.Path = exe()
	apart(cmd)
	if err := w.run(cmd); err != nil {
		return err
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the child ended with %d", code)
	}
	return w.tell(Fact{Kind: "open", Pid: cmd.Process.Pid, Path: path, Access: "read"})
}

// readElsewhere is the child: path, file to put there, root directory.
func readElsewhere(_ *work, args []string) error {
	if args[1] != "" {
		if err := unix.Mount(args[1], args[0], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
	}
	if len(args) > 2 {
		if err := errors.Join(unix.Chroot(args[2]), unix.Chdir("/")); err != nil {
			return err
		}
	}
	fd := -1
	if err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		return err
	}
	return unix.Close(fd)
}

// execBelowRoot runs a program below another root, where it lies at any path that one likes.
func execBelowRoot(w *work) error {
	body, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.path("program"), body, 0o755); err != nil {
		return err
	}
	cmd := self("role-exec-root", w.dir)
	if err := w.run(cmd); err != nil {
		return err
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the child ended with %d", code)
	}
	return w.tell(Fact{Kind: "exec", Pid: cmd.Process.Pid, Ppid: os.Getpid(), Exe: "/program", Cwd: "/", Argc: 2, Arg0: "program", UID: os.Getuid()})
}
