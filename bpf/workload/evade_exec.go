// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func evadeExecScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"evade-exec-shm":           execShm,
		"evade-exec-argv0":         func(w *work) error { return w.run(lyingCmd()) },
		"evade-exec-rewrites-argv": func(w *work) error { return w.run(self("role-rewrite-argv", "the-secret-word")) },
		"evade-exec-2-mib":         execTwoMiB,
		"evade-exec-clone-parent":  execCloneParent,
		"evade-exec-namespaces":    execNamespaces,
		"evade-exec-int80":         func(w *work) error { return w.run(self("role-exec-int80")) },
		"evade-leave-double-fork":  leaveDoubleFork,
	}
}

func evadeExecRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-rewrite-argv": rewriteArgv,
		"role-clone-parent": roleCloneParent,
		"role-exec-int80":   roleExecInt80,
		"role-int80":        roleInt80,
		"role-quiet":        func(*work, []string) error { return nil },
		"role-daemonize":    daemonize,
		"role-daemon":       daemon,
	}
}

// execShm runs a program from memory that looks like a file system.
func execShm(w *work) error {
	p := filepath.Join("/dev/shm", filepath.Base(w.dir))
	body, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p, body, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.Remove(p) }()
	cmd := self("role-report")
	cmd.Path = p
	return w.run(cmd)
}

func lyingCmd() *exec.Cmd {
	cmd := self("role-report")
	cmd.Args[0] = "/usr/bin/git"
	return cmd
}

// rewriteArgv does what a program can to look like another one, after it has told what it is.
func rewriteArgv(w *work, _ []string) error {
	if err := w.tellSelf(""); err != nil {
		return err
	}
	for _, arg := range os.Args {
		if len(arg) == 0 {
			continue
		}
		// Go's os.Args lie where the kernel put them.
		for i, b := range unsafe.Slice(unsafe.StringData(arg), len(arg)) {
			*(*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(arg)), i)) = 'z' - b%2
		}
	}
	cmdline, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return err
	}
	if bytes.Contains(cmdline, []byte("secret")) {
		return errors.New("/proc/self/cmdline still tells the truth")
	}
	// Then let /proc take them from elsewhere altogether.
	fake := append(make([]byte, 0, 64), "sleep\x001\x00"...)
	for _, set := range []struct {
		what uintptr
		to   unsafe.Pointer
	}{{unix.PR_SET_MM_ARG_START, unsafe.Pointer(&fake[0])}, {unix.PR_SET_MM_ARG_END, unsafe.Add(unsafe.Pointer(&fake[0]), len(fake))}} {
		// A kernel without CONFIG_CHECKPOINT_RESTORE refuses it, and nothing else does root's.
		if err := unix.Prctl(unix.PR_SET_MM, set.what, uintptr(set.to), 0, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set the memory map's arguments: %w", err)
		}
	}
	name := []byte("kworker/0:1\x00")
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
		return err
	}
	runtime.KeepAlive(fake)
	p := "/tmp/rewritten-" + fmt.Sprint(os.Getpid())
	err = w.openAndClose(unix.AT_FDCWD, p, unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
	return errors.Join(err, os.Remove(p))
}

// TwoMiB are arguments of 2 MiB, each just below the kernel's limit for one.
func TwoMiB() []string {
	var args []string
	for i := range 16 {
		args = append(args, strings.Repeat(string(rune('a'+i)), 128<<10-1))
	}
	return args
}

func execTwoMiB(w *work) error {
	if err := roomForArguments(); err != nil {
		return err
	}
	return w.run(self("role-report", TwoMiB()...))
}

// roomForArguments raises the limit on the stack, of which the kernel allows a quarter for arguments.
func roomForArguments() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &limit); err != nil {
		return err
	}
	limit.Cur = min(64<<20, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_STACK, &limit)
}

// execCloneParent: a child starts a program that becomes its sibling.
func execCloneParent(w *work) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := self("role-clone-parent")
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		return errors.Join(err, in.Close())
	}
	_ = in.Close()
	var child, sibling int
	if _, err := fmt.Fscan(out, &child, &sibling); err != nil {
		return err
	}
	for _, pid := range []int{child, sibling} {
		if err := ignoringEINTR(func() error { _, err := unix.Wait4(pid, nil, 0, nil); return err }); err != nil {
			return err
		}
	}
	f, err := told(sibling, "sibling", "role-quiet")
	if err != nil {
		return err
	}
	f.Forker = child
	return w.tell(f)
}

func roleCloneParent(*work, []string) error {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"sibling", "role-quiet"}, attr)
	if err != nil {
		return err
	}
	fmt.Println(os.Getpid(), pid)
	return nil
}

// told is the exec of a child of this process that cannot tell of itself, running this same program.
func told(pid int, args ...string) (Fact, error) {
	cwd, err := os.Getwd()
	return Fact{Kind: "exec", Pid: pid, Ppid: os.Getpid(), Exe: exe(), Cwd: cwd, Argc: len(args), Arg0: args[0], UID: os.Getuid()}, err
}

// execNamespaces: a child that is process 1, in a cgroup that it takes for the root.
func execNamespaces(w *work) error {
	cmd := self("role-quiet")
	// By its path: what /proc/self/exe leads to lies in the mount namespace that the child has just left.
	cmd.Path = exe()
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	if err := w.run(cmd); err != nil {
		return err
	}
	f, err := told(cmd.Process.Pid, cmd.Args...)
	if err != nil {
		return err
	}
	return w.tell(f)
}

// leaveDoubleFork leaves behind a daemon: an orphan in a session of its own.
func leaveDoubleFork(w *work) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := self("role-daemonize", w.path("by-daemon"))
	cmd.ExtraFiles = []*os.File{in}
	err = w.run(cmd)
	_ = in.Close()
	if err != nil {
		return err
	}
	// The daemon holds the other end until it is over.
	_, err = io.Copy(io.Discard, out)
	return err
}

func daemonize(_ *work, args []string) error {
	cmd := self("role-daemon", args[0], fmt.Sprint(os.Getpid()))
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "pipe")}
	cmd.SysProcAttr.Setsid = true
	return cmd.Start()
}

// daemon waits until its parent is gone, then runs itself again under another name.
func daemon(w *work, args []string) error {
	parent, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if len(args) == 2 {
		for os.Getppid() == parent {
			runtime.Gosched()
		}
		return syscall.Exec("/proc/self/exe", append([]string{"innocent", "role-daemon"}, append(args, "again")...), nil)
	}
	f, err := ownExec("")
	if err != nil {
		return err
	}
	// The parent may have been gone already when the first exec was through.
	f.Forker = parent
	if err := w.tell(f); err != nil {
		return err
	}
	return w.openAndClose(unix.AT_FDCWD, args[0], unix.O_WRONLY|unix.O_CREAT, Fact{Access: "create"})
}

// RefusedByInt80 is what roleExecInt80 may not run.
const RefusedByInt80 = "/dev/null"

// roleExecInt80 runs itself by the 32-bit system call table, when it was refused another program there twice.
func roleExecInt80(*work, []string) error {
	refused, _, err := low(RefusedByInt80)
	if err != nil {
		return err
	}
	var here int32 = unix.AT_FDCWD
	for _, result := range []int32{int80(11 /* execve */, refused, 0, 0, 0), int80(358 /* execveat */, uint32(here), refused, 0, 0)} {
		if result != -int32(unix.EACCES) {
			return fmt.Errorf("exec of %s by int 0x80: %w", RefusedByInt80, unix.Errno(-result))
		}
	}
	var addresses []byte
	for _, arg := range []string{exe(), "by-int80", "role-report"} {
		at, _, err := low(arg)
		if err != nil {
			return err
		}
		addresses = binary.NativeEndian.AppendUint32(addresses, at)
	}
	program := binary.NativeEndian.Uint32(addresses)
	argv, _, err := low(string(addresses[4:]) + "\x00\x00\x00\x00")
	if err != nil {
		return err
	}
	result := int80(11 /* execve */, program, argv, 0, 0)
	return fmt.Errorf("execve by int 0x80: %w", unix.Errno(-result))
}

// roleInt80 finds out whether there are 32-bit system calls: it dies where int 0x80 is a fault.
func roleInt80(*work, []string) error {
	if result := int80(20 /* getpid */, 0, 0, 0, 0); int(result) != os.Getpid() {
		return fmt.Errorf("getpid by int 0x80 gives %d", result)
	}
	return nil
}
