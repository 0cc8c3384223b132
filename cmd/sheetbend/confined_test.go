// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// A captive is a thread of another process that makes system calls for us. For the goroutine's own thread only.
type captive struct {
	tid  int
	was  unix.PtraceRegs
	room uintptr // for arguments
}

// seize stops a thread that waits in a system call.
func seize(t *testing.T, pid int) *captive {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil || unix.PtraceAttach(tid) != nil {
			continue
		}
		c := &captive{tid: tid}
		c.wait(t)
		var code [2]byte
		if err := unix.PtraceGetRegs(tid, &c.was); err != nil {
			t.Fatal(err)
		}
		_, err = unix.PtracePeekText(tid, uintptr(c.was.Rip-2), code[:])
		if err == nil && code == [2]byte{0x0f, 0x05} && int64(c.was.Orig_rax) >= 0 { // syscall
			c.room = uintptr(c.was.Rsp-4096) &^ 15
			return c
		}
		if err := unix.PtraceDetach(tid); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no thread of the sensor waits")
	return nil
}

func (c *captive) wait(t *testing.T) {
	t.Helper()
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.tid, &status, unix.WALL, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v, %#x", err, status)
	}
}

// text is where the thread has this name.
func (c *captive) text(t *testing.T, name string) uintptr {
	t.Helper()
	if _, err := unix.PtracePokeData(c.tid, c.room, append([]byte(name), 0)); err != nil {
		t.Fatal(err)
	}
	return c.room
}

// call makes it and gives what the kernel says.
func (c *captive) call(t *testing.T, number uintptr, args ...uintptr) unix.Errno {
	t.Helper()
	var a [6]uint64
	for i, v := range args {
		a[i] = uint64(v)
	}
	regs := c.was
	regs.Rip -= 2
	regs.Rax, regs.Orig_rax = uint64(number), ^uint64(0) // nothing begins anew
	regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if err := unix.PtraceSetRegs(c.tid, &regs); err != nil {
		t.Fatal(err)
	}
	for range 2 { // into it, and out of it
		if err := unix.PtraceSyscall(c.tid, 0); err != nil {
			t.Fatal(err)
		}
		c.wait(t)
	}
	if err := unix.PtraceGetRegs(c.tid, &regs); err != nil {
		t.Fatal(err)
	}
	if r := int64(regs.Rax); r < 0 && r >= -4095 {
		return unix.Errno(-r)
	}
	return 0
}

// release lets it go on with what it waited in.
func (c *captive) release(t *testing.T) {
	t.Helper()
	regs := c.was
	if r := -int64(regs.Rax); r >= 512 && r <= 516 { // ERESTARTSYS and its like
		regs.Rip -= 2
		regs.Rax = regs.Orig_rax
	}
	regs.Orig_rax = ^uint64(0)
	if err := errors.Join(unix.PtraceSetRegs(c.tid, &regs), unix.PtraceDetach(c.tid)); err != nil {
		t.Error(err)
	}
}

// filter reads the filter of that index back. ENOENT: there is none.
func (c *captive) filter(index uintptr) ([]unix.SockFilter, error) {
	code := make([]unix.SockFilter, 4096)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(c.tid), index, uintptr(unsafe.Pointer(&code[0])), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return code[:n], nil
}

func TestTheRunningSensorHasThisFilterAndIsRefusedByTheKernel(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	spans := filepath.Join(t.TempDir(), "spans.jsonl")
	mine := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, config string
		sockets      confine.Sockets
	}{
		{"spans to a file", fmt.Sprintf("containers: {cri: [], docker: []}\nexporters: {file: {path: %s}}\n", spans), confine.Sockets{}},
		{"a backend, the intake and runtimes", fmt.Sprintf("exporters: {otlp: {endpoint: 'http://%s'}}\nspool: {path: none}\nintake: {listen: '127.0.0.1:0'}\n", nobody(t)), confine.Sockets{IP: true, Netlink: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: ''\n%s", cg, c.config)))
			log := sensortest.Start(t, cmd)
			log.Hear("msg=watching")
			refused(t, cmd.Process.Pid, mine, c.sockets)

			// It goes on.
			_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit 7").Run()
			said := log.End(unix.SIGTERM)
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d: %s", code, said)
			}
		})
	}
	if text, _ := os.ReadFile(spans); len(text) == 0 {
		t.Error("no spans: the sensor does not go on")
	}
}

func refused(t *testing.T, pid int, mine string, s confine.Sockets) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := seize(t, pid)
	defer c.release(t)

	want, err := confine.Filter(pid, s)
	if err != nil {
		t.Fatal(err)
	}
	// EACCES: this process has a filter itself, or no CAP_SYS_ADMIN. EIO: the kernel has no CONFIG_CHECKPOINT_RESTORE.
	got, err := c.filter(0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EIO), errors.Is(err, unix.EINVAL):
		t.Logf("the filter cannot be read back: %v", err)
	case err != nil || !slices.Equal(got, want):
		t.Errorf("%v: the sensor has another filter, of %d instructions, than the %d of which the documentation tells", err, len(got), len(want))
	default:
		if _, err := c.filter(1); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a second filter: %v", err)
		}
	}

	at := unix.AT_FDCWD
	cwd := uintptr(at)
	const mode, sysFchmodat2 = 0o4755, 452
	page := uintptr(os.Getpagesize())
	parent := uintptr(os.Getpid())
	for _, r := range []struct {
		name   string
		number uintptr
		path   string // the first argument that is no directory
		args   []uintptr
	}{
		{"chmod", unix.SYS_CHMOD, mine, []uintptr{0, mode}},
		{"fchmodat", unix.SYS_FCHMODAT, mine, []uintptr{cwd, 0, mode}},
		{"fchmodat2", sysFchmodat2, mine, []uintptr{cwd, 0, mode}},
		{"chown", unix.SYS_CHOWN, mine, []uintptr{0, 1, 1}},
		{"fchownat", unix.SYS_FCHOWNAT, mine, []uintptr{cwd, 0, 1, 1}},
		{"setxattr", unix.SYS_SETXATTR, mine, []uintptr{0, c.room, c.room, 1}},
		{"utimensat", unix.SYS_UTIMENSAT, mine, []uintptr{cwd, 0, 0, 0}},
		{"execve", unix.SYS_EXECVE, "/no/such/program", []uintptr{0, 0, 0}},
		{"a packet socket", unix.SYS_SOCKET, "", []uintptr{unix.AF_PACKET, unix.SOCK_RAW}},
		{"ptrace", unix.SYS_PTRACE, "", []uintptr{unix.PTRACE_PEEKDATA, parent}},
		{"kill", unix.SYS_KILL, "", []uintptr{parent, 0}},
		{"prlimit64", unix.SYS_PRLIMIT64, "", []uintptr{parent, unix.RLIMIT_CPU, 0, c.room}},
		{"setpriority", unix.SYS_SETPRIORITY, "", []uintptr{unix.PRIO_PROCESS, parent, 0}},
		{"sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, "", []uintptr{parent, 8, c.room}},
		{"mount", unix.SYS_MOUNT, "/tmp", []uintptr{0, 0, 0, unix.MS_REMOUNT}},
		{"memory with code", unix.SYS_MMAP, "", []uintptr{0, page, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANON, ^uintptr(0)}},
		{"bpf", unix.SYS_BPF, "", []uintptr{unix.BPF_PROG_LOAD, c.room, 64}},
		{"a process by clone", unix.SYS_CLONE, "", []uintptr{unix.CLONE_SIGHAND}}, // which the kernel would not make either
	} {
		args := slices.Clone(r.args)
		if r.path != "" {
			where := 0
			if args[0] == cwd {
				where = 1
			}
			args[where] = c.text(t, r.path)
		}
		if errno := c.call(t, r.number, args...); errno != unix.EPERM {
			t.Errorf("%s: %q, want EPERM", r.name, unix.ErrnoName(errno))
		}
	}
	if errno := c.call(t, unix.SYS_GETPID); errno != 0 {
		t.Errorf("getpid: %s: the tests above show nothing", unix.ErrnoName(errno))
	}
	for family, may := range map[uintptr]bool{unix.AF_INET: s.IP, unix.AF_UNIX: s.Unix, unix.AF_NETLINK: s.Netlink} {
		errno := c.call(t, unix.SYS_SOCKET, family, unix.SOCK_DGRAM)
		if may != (errno == 0) {
			t.Errorf("a socket of family %d: %q", family, unix.ErrnoName(errno))
		}
	}
	// Landlock's.
	if version, err := confine.LandlockVersion(); err == nil && version > 1 {
		for _, path := range []string{"/etc/passwd", "/proc/sys/kernel/core_pattern", mine} {
			if errno := c.call(t, unix.SYS_OPENAT, cwd, c.text(t, path), unix.O_WRONLY); errno != unix.EACCES {
				t.Errorf("%s for writing: %q, want EACCES", path, unix.ErrnoName(errno))
			}
		}
		if version >= 4 && s.IP {
			fd := c.socket(t)
			address := make([]byte, 16)
			binary.NativeEndian.PutUint16(address, unix.AF_INET)
			binary.BigEndian.PutUint16(address[2:], 1)
			copy(address[4:], []byte{127, 0, 0, 1})
			if _, err := unix.PtracePokeData(c.tid, c.room, address); err != nil {
				t.Fatal(err)
			}
			if errno := c.call(t, unix.SYS_CONNECT, fd, c.room, 16); errno != unix.EACCES {
				t.Errorf("connect to a port of nobody: %q, want EACCES", unix.ErrnoName(errno))
			}
		}
	}
}

// socket makes one for TCP.
func (c *captive) socket(t *testing.T) uintptr {
	t.Helper()
	if errno := c.call(t, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM); errno != 0 {
		t.Fatal(errno)
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(c.tid, &regs); err != nil {
		t.Fatal(err)
	}
	return uintptr(regs.Rax)
}
