// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The scenarios are about programs that are not started, processes that end without having called exec, and signals.

func programScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"exec-refused":   onThread(execRefused),
		"worker-ends":    workerEnds,
		"signal-outside": onThread(signalOutside),
		"signal-inside":  signalInside,
	}
}

func programRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-memory": func(w *work, _ []string) error {
			if err := w.tellSelf(""); err != nil {
				return err
			}
			// Whoever wants to limit it does so before it goes on.
			if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
				return err
			}
			return w.run(self("role-eat"))
		},
		"role-eat":  func(w *work, _ []string) error { return w.eat() },
		"role-fork": func(w *work, args []string) error { return w.forkBeyond(args[0]) },
	}
}

// execve calls execve or, where dir is not AT_FDCWD or there are flags, execveat, which fails.
func execve(dir int, name string, flags int) error {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	argv := []*byte{path, nil}
	var e unix.Errno
	if dir == unix.AT_FDCWD && flags == 0 {
		_, _, e = unix.Syscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), 0)
	} else {
		_, _, e = unix.Syscall6(unix.SYS_EXECVEAT, uintptr(dir), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), 0, uintptr(flags), 0)
	}
	return e
}

func execRefused(w *work) error {
	const noProgram = "no program"
	for _, name := range []string{"plain", "odd\nname"} {
		if err := os.WriteFile(w.path(name), []byte(noProgram), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(w.path("format"), []byte(noProgram), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("circle", w.path("circle")); err != nil {
		return err
	}
	mounted := w.path("mounted")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", mounted, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }()
	if err := os.WriteFile(filepath.Join(mounted, "program"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return err
	}
	dir, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	file, err := unix.Open(w.path("plain"), unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	if err := os.Chdir(w.dir); err != nil {
		return err
	}
	for _, c := range []struct {
		dir   int
		name  string
		flags int
		path  string
		errno string
		times int
	}{
		{unix.AT_FDCWD, w.path("odd\nname"), 0, w.path("odd\nname"), "EACCES", 1},
		{unix.AT_FDCWD, w.path("format"), 0, w.path("format"), "ENOEXEC", 3},
		{unix.AT_FDCWD, "./circle", 0, w.path("circle"), "ELOOP", 1},
		{unix.AT_FDCWD, "mounted/../mounted/program", 0, filepath.Join(mounted, "program"), "EACCES", 1},
		{dir, "format", 0, w.path("format"), "ENOEXEC", 0}, // as the others
		{dir, "mounted", 0, mounted, "EACCES", 1},
		{file, "", unix.AT_EMPTY_PATH, w.path("plain"), "EACCES", 1},
		{unix.AT_FDCWD, w.path("none"), 0, "", "ENOENT", 2},
		{dir, "none", 0, "", "ENOENT", 2},
	} {
		for range max(c.times, 1) {
			code, err := errno(execve(c.dir, c.name, c.flags))
			if err != nil {
				return err
			}
			if code != c.errno {
				return fmt.Errorf("exec of %q: got %q, the scenario expects %q", c.name, code, c.errno)
			}
		}
		if c.path == "" || c.times == 0 {
			continue
		}
		if c.errno == "ENOEXEC" {
			c.times++
		}
		if err := w.tell(Fact{Kind: "exec_refused", Path: c.path, Errno: c.errno, Count: c.times}); err != nil {
			return err
		}
	}
	return nil
}

// workerEnds forks processes that never call exec: one ends well, one with a code, and one is killed.
func workerEnds(w *work) error {
	for _, c := range []struct {
		stay   int64
		signal unix.Signal
	}{{0, 0}, {3, 0}, {1, unix.SIGKILL}} {
		pid := int(forkOne(c.stay))
		if pid < 0 {
			return unix.Errno(-pid)
		}
		if c.signal != 0 {
			if err := unix.Kill(pid, c.signal); err != nil {
				return err
			}
		}
		var status unix.WaitStatus
		if err := ignoringEINTR(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err }); err != nil {
			return err
		}
		f := Fact{Kind: "end", Pid: pid, Ppid: os.Getpid(), Signal: int(c.signal)}
		if c.signal == 0 {
			f.Code = status.ExitStatus()
		}
		if f.Code == 0 && f.Signal == 0 {
			continue
		}
		if err := w.tell(f); err != nil {
			return err
		}
	}
	return nil
}

// sendings are the ways to send a signal. What queues one may say what the kernel says of those of its own.
func sendings(pid int, n unix.Signal) []func() error {
	info := [32]int32{0: int32(n), 2: -60} // si_signo, and as si_code SI_ASYNCNL
	call := func(number uintptr, to int, info *[32]int32) error {
		if _, _, e := unix.Syscall6(number, uintptr(to), uintptr(n), uintptr(unsafe.Pointer(info)), 0, 0, 0); e != 0 {
			return e
		}
		return nil
	}
	return []func() error{
		func() error { return unix.Kill(pid, n) },
		func() error { return unix.Tgkill(pid, pid, n) },
		func() error { return call(unix.SYS_TKILL, pid, nil) },
		func() error { return call(unix.SYS_RT_SIGQUEUEINFO, pid, &info) },
		func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return call(unix.SYS_PIDFD_SEND_SIGNAL, fd, &info)
		},
	}
}

// signalOutside sends signals that end nobody to who started the scenario, in each way another one.
func signalOutside(w *work) error {
	t, err := starter()
	if err != nil {
		return err
	}
	for i, n := range []unix.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCONT, unix.SIGCHLD, unix.SIGIO} {
		if err := sendings(t.pid, n)[i](); err != nil {
			return err
		}
		if err := w.reached(t, "signal", nil, Fact{Signal: int(n)}); err != nil {
			return err
		}
	}
	_ = unix.Kill(t.pid, 0) // a probe
	return nil
}

func signalInside(w *work) error {
	err := w.child(func(t target) error {
		for _, send := range sendings(t.pid, unix.SIGURG) {
			if err := send(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.tellSelf("")
}

// eat takes memory until somebody ends that.
func (w *work) eat() error {
	if err := w.tellSelf(""); err != nil {
		return err
	}
	const chunk, most = 1 << 20, 1 << 10
	var all [][]byte
	for range most {
		b := make([]byte, chunk)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	return fmt.Errorf("%d MiB, and nobody objects", len(all))
}

// forkBeyond forks until that is refused, and a number of times more.
func (w *work) forkBeyond(times string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); n > 0; {
		switch pid := forkOne(1); {
		case pid == -int64(unix.EAGAIN):
			n--
		case pid < 0:
			return unix.Errno(-pid)
		default:
			defer func() {
				_ = unix.Kill(int(pid), unix.SIGKILL)
				_, _ = unix.Wait4(int(pid), nil, 0, nil)
			}()
		}
		if time.Now().After(deadline) {
			return errors.New("no fork is refused")
		}
	}
	return w.tellSelf("")
}
