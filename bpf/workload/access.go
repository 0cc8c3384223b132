// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The scenarios reach into two processes: a child, which is in the sandbox like its parent, and who
// started the scenario, which is not.

func accessScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"access-ptrace":     onThread(accessPtrace),
		"access-memory":     accessMemory,
		"access-descriptor": accessDescriptor,
		"access-refused":    accessRefused,
		"access-repeated":   accessRepeated,
		"access-nested":     accessNested,
		"access-own":        accessOwn,
		"access-proc":       accessProc,
	}
}

func accessRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-target":         func(*work, []string) error { return targetRole() },
		"role-access-refused": accessAsNobody,
		"role-access-nested": func(w *work, _ []string) error {
			return w.child(func(t target) error {
				if err := transfer(t.pid, false); err != nil {
					return err
				}
				return targetRole()
			})
		},
	}
}

// target is a process that can be reached into.
type target struct {
	pid     int
	exe     string
	outside bool
}

// targetRole says that it is there, and stays until nobody wants it any more.
func targetRole() error {
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// child runs a process for the time of a function.
func (w *work) child(use func(target) error) error {
	return w.childAs(exec.Command("/proc/self/exe", "role-target"), use)
}

func (w *work) childAs(cmd *exec.Cmd, use func(target) error) (err error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// Killed, for a stopped one would not end by itself.
	defer func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		return fmt.Errorf("wait for the child: %w", err)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return use(target{pid: cmd.Process.Pid, exe: exe})
}

// starter is who started the scenario.
func starter() (target, error) {
	pid := os.Getppid()
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return target{pid: pid, exe: exe, outside: true}, err
}

// reached tells of one access, which had to end as the fact says.
func (w *work) reached(t target, op string, err error, f Fact) error {
	code, err := errno(err)
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("%s: got %q, the scenario expects %q", op, code, f.Errno)
	}
	f.Kind, f.Op, f.Target, f.Exe, f.Outside = "access", op, t.pid, t.exe, t.outside
	return w.tell(f)
}

func ptrace(request, pid int) error {
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// accessPtrace attaches in both ways. Who started the scenario is seized only, which does not stop it.
func accessPtrace(w *work) error {
	err := w.child(func(t target) error {
		if err := w.reached(t, "ptrace_attach", ptrace(unix.PTRACE_ATTACH, t.pid), Fact{}); err != nil {
			return err
		}
		var status unix.WaitStatus
		if err := ignoringEINTR(func() error { _, err := unix.Wait4(t.pid, &status, unix.WALL, nil); return err }); err != nil {
			return err
		}
		return ptrace(unix.PTRACE_DETACH, t.pid)
	})
	if err != nil {
		return err
	}
	t, err := starter()
	if err != nil {
		return err
	}
	return w.reached(t, "ptrace_seize", ptrace(unix.PTRACE_SEIZE, t.pid), Fact{}) // ends with the thread
}

// shared lies at the same place in a child, which runs the same program: it is linked to a fixed address.
var shared [64]byte

// transfer moves bytes between shared here and the same address there.
func transfer(pid int, write bool) error {
	buf := make([]byte, len(shared))
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&shared)), Len: len(shared)}}
	var err error
	if write {
		_, err = unix.ProcessVMWritev(pid, local, remote, 0)
	} else {
		_, err = unix.ProcessVMReadv(pid, local, remote, 0)
	}
	return err
}

func accessMemory(w *work) error {
	err := w.child(func(t target) error {
		if err := w.reached(t, "process_vm_readv", transfer(t.pid, false), Fact{}); err != nil {
			return err
		}
		return w.reached(t, "process_vm_writev", transfer(t.pid, true), Fact{})
	})
	if err != nil {
		return err
	}
	t, err := starter()
	if err != nil {
		return err
	}
	address, err := readable(t.pid)
	if err != nil {
		return err
	}
	buf := make([]byte, 16)
	_, err = unix.ProcessVMReadv(t.pid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}, []unix.RemoteIovec{{Base: address, Len: len(buf)}}, 0)
	return w.reached(t, "process_vm_readv", err, Fact{})
}

// readable is the address of the first mapping of a process: its program.
func readable(pid int) (uintptr, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	var from uint64
	if _, err := fmt.Sscanf(string(maps), "%x-", &from); err != nil {
		return 0, fmt.Errorf("read the mappings of %d: %w", pid, err)
	}
	return uintptr(from), nil
}

func accessDescriptor(w *work) error {
	get := func(t target) error {
		pidfd, err := unix.PidfdOpen(t.pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		fd, err := unix.PidfdGetfd(pidfd, 1, 0)
		if err == nil {
			defer unix.Close(fd)
		}
		return w.reached(t, "pidfd_getfd", err, Fact{})
	}
	if err := w.child(get); err != nil {
		return err
	}
	t, err := starter()
	if err != nil {
		return err
	}
	return get(t)
}

// accessRefused reaches into root's process as another user, who may not even see what it runs.
func accessRefused(w *work) error {
	t, err := starter()
	if err != nil {
		return err
	}
	return w.runAsNobody("role-access-refused", strconv.Itoa(t.pid), t.exe)
}

func accessAsNobody(w *work, args []string) error {
	if len(args) != 2 {
		return errors.New("needs a pid and its executable")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	t := target{pid: pid, exe: args[1], outside: true}
	if err := w.reached(t, "ptrace_seize", ptrace(unix.PTRACE_SEIZE, pid), Fact{Errno: "EPERM"}); err != nil {
		return err
	}
	if err := w.reached(t, "process_vm_writev", transfer(pid, true), Fact{Errno: "EPERM"}); err != nil {
		return err
	}
	if n, err := unix.ProcessVMWritev(pid, nil, nil, 0); n != 0 || err != nil {
		return fmt.Errorf("transfer nothing, which needs no permission: %d, %w", n, err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	_, err = unix.PidfdGetfd(pidfd, 1, 0)
	return w.reached(t, "pidfd_getfd", err, Fact{Errno: "EPERM"})
}

func accessRepeated(w *work) error {
	const times = 20
	return w.child(func(t target) error {
		for range times {
			if err := transfer(t.pid, false); err != nil {
				return err
			}
		}
		return w.reached(t, "process_vm_readv", nil, Fact{Count: times})
	})
}

// accessNested: in a pid namespace of its own a process calls its child by a number that is another's outside.
func accessNested(w *work) error {
	cmd := exec.Command("/proc/self/exe", "role-access-nested")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return w.childAs(cmd, func(first target) error {
		second, err := childOf(first.pid)
		if err != nil {
			return err
		}
		return w.reached(target{pid: second, exe: first.exe}, "process_vm_readv", nil, Fact{Pid: first.pid})
	})
}

// childOf finds the one child of a process.
func childOf(parent int) (int, error) {
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		stat, err := os.ReadFile(p)
		if err != nil {
			continue // it is over
		}
		// "pid (name) state parent": the name may have anything in it.
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			return strconv.Atoi(filepath.Base(filepath.Dir(p)))
		}
	}
	return 0, fmt.Errorf("process %d has no child", parent)
}

// accessOwn reads and writes its own memory in the ways that could reach another's.
func accessOwn(w *work) error {
	if err := transfer(os.Getpid(), false); err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 1, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.tellSelf("")
}

// accessProc opens another process's memory as a file.
func accessProc(w *work) error {
	return w.child(func(t target) error {
		return w.openAndClose(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/mem", t.pid), unix.O_RDWR, Fact{Access: "read_write"})
	})
}
