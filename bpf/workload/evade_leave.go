// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The scenarios that leave take a cgroup outside of the sandbox as their argument.
func evadeLeaveScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-leave-born-outside": leaveBornOutside,
		"evade-leave-sibling":      leaveSibling,
		"evade-attack-sensor":      attackSensor,
		"leave-thread":             leaveThread,
	}
}

func evadeLeaveRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-move-parent": func(_ *work, args []string) error {
			return os.WriteFile(filepath.Join(args[0], "cgroup.procs"), []byte(strconv.Itoa(os.Getppid())), 0)
		},
		"role-attack": roleAttack,
	}
}

// leaveBornOutside starts a child right in a cgroup that nobody watches.
func leaveBornOutside(w *work) error {
	dir, err := w.directory()
	if err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := self("role-open", w.path("from-outside"))
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(f.Fd())
	return w.run(cmd)
}

// leaveSibling lets a child move it out, and goes on.
func leaveSibling(w *work) error {
	dir, err := w.directory()
	if err != nil {
		return err
	}
	if err := w.run(self("role-move-parent", dir)); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, w.path("moved-out"), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
}

// attackSensor tries as an unprivileged user what would blind the sensor, whose pid is the argument.
func attackSensor(w *work) error {
	if len(w.args) != 1 {
		return errors.New("needs the sensor's pid")
	}
	p, err := w.copyOfSelf()
	if err != nil {
		return err
	}
	cmd := self("role-attack", w.args[0])
	cmd.Path = p
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	return w.run(cmd)
}

func roleAttack(w *work, args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := w.tellSelf(""); err != nil {
		return err
	}
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGTERM} {
		if err := unix.Kill(pid, signal); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("signal %v to the sensor: got %w, not EPERM", signal, err)
		}
	}
	if err := lockedThread(func() error { return unix.PtraceAttach(pid) }); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("trace the sensor: got %w, not EPERM", err)
	}
	word := []byte{0}
	local := []unix.Iovec{{Base: &word[0], Len: 1}}
	if _, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: 4096, Len: 1}}, 0); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("write to the sensor's memory: got %w, not EPERM", err)
	}
	// BPF_MAP_GET_FD_BY_ID, BPF_PROG_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID
	for _, command := range []uintptr{14, 13, 30} {
		attr := [4]uint32{1}
		if _, err := bpf(command, &attr); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("bpf command %d: got %w, not EPERM", command, err)
		}
	}
	return w.openAndClose(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDWR, Fact{Access: "read_write", Errno: "EACCES"})
}

func bpf(command uintptr, attr *[4]uint32) (int, error) {
	fd, _, code := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if code != 0 {
		return -1, code
	}
	return int(fd), nil
}

// leaveThread lets one thread leave and the other one stay: a process is in two cgroups. The arguments are
// a threaded cgroup to enter and its parent, the domain's root, in which the process starts.
func leaveThread(w *work) error {
	if len(w.args) != 2 {
		return w.tellSelf("") // the caller has no such cgroups
	}
	inside, outside := w.args[0], w.args[1]
	move := func(file string, id int) error {
		return os.WriteFile(file, []byte(strconv.Itoa(id)), 0)
	}
	if err := move(filepath.Join(inside, "cgroup.procs"), os.Getpid()); err != nil {
		return err
	}
	left, stayed := make(chan error, 1), make(chan bool)
	done := make(chan error, 1)
	go func() {
		done <- lockedThread(func() error {
			left <- move(filepath.Join(outside, "cgroup.threads"), unix.Gettid())
			<-stayed
			return w.openAndClose(unix.AT_FDCWD, w.path("by-thread-outside"), unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
		})
	}()
	err := <-left
	if err == nil {
		// As if it had come back: this thread has never been away.
		err = move(filepath.Join(inside, "cgroup.threads"), os.Getpid())
	}
	close(stayed)
	return errors.Join(err, <-done)
}
