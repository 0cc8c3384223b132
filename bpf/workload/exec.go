// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func execScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"exec-child":         func(w *work) error { return w.run(self("role-report")) },
		"exec-fails":         execFails,
		"exec-exit-code":     func(w *work) error { return w.run(self("role-exit", "3")) },
		"exec-killed":        func(w *work) error { return w.run(self("role-kill", "9")) },
		"exec-chain":         func(w *work) error { return w.run(self("role-exec-again")) },
		"exec-other-thread":  func(w *work) error { return w.run(self("role-exec-thread")) },
		"exec-empty-path":    func(w *work) error { return w.run(self("role-execveat")) },
		"exec-memfd":         execMemfd,
		"exec-deleted":       execDeleted,
		"exec-script":        execScript,
		"exec-working-dir":   execWorkingDir,
		"exec-as-nobody":     execAsNobody,
		"exec-big-arguments": func(w *work) error { return w.run(self("role-report", BigArguments()...)) },
		"exec-big-environment": func(w *work) error {
			cmd := self("role-report")
			cmd.Env = BigEnvironment()
			return w.run(cmd)
		},
		"fork-without-exec": forkWithoutExec,
	}
}

func execRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-report": func(w *work, _ []string) error { return w.tellSelf("") },
		"role-exit": func(w *work, args []string) error {
			code, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			if err := w.tellSelf(""); err != nil {
				return err
			}
			return exitStatus(code)
		},
		"role-kill": func(w *work, args []string) error {
			signal, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			if err := w.tellSelf(""); err != nil {
				return err
			}
			if err := unix.Kill(os.Getpid(), unix.Signal(signal)); err != nil {
				return err
			}
			select {} // the signal ends it
		},
		"role-exec-again": func(w *work, _ []string) error {
			if err := w.tellSelf(""); err != nil {
				return err
			}
			return syscall.Exec("/proc/self/exe", []string{"second", "role-report"}, os.Environ())
		},
		"role-exec-thread": roleExecThread,
		"role-execveat":    roleExecveat,
		"role-script": func(w *work, args []string) error {
			if len(args) == 0 {
				return errors.New("the kernel passes a script its own path")
			}
			return w.tellSelf(args[0])
		},
	}
}

// self is this program in another role, with the account's stdout.
func self(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{role}, args...)...)
	cmd.Stdout = os.Stdout
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// run starts cmd, waits and tells how it ended.
func (w *work) run(cmd *exec.Cmd) error {
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return err
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return errors.New("no wait status")
	}
	f := Fact{Kind: "end", Pid: cmd.Process.Pid}
	if status.Signaled() {
		f.Signal = int(status.Signal())
	} else {
		f.Code = status.ExitStatus()
	}
	return w.tell(f)
}

// BigArguments make an argv of 64 KiB, the program's name and role included, with everything
// in them that may break a reader: newlines, terminal escapes, invalid UTF-8, empty ones.
func BigArguments() []string {
	room := 64<<10 - len("/proc/self/exe") - 1 - len("role-report") - 1
	args := []string{"", "new\nline", "\x1b]0;title\a", "bad\xff\xfeutf8", "tab\tand space", ""}
	for _, a := range args {
		room -= len(a) + 1
	}
	for i := 0; room > 0; i++ {
		a := fmt.Sprintf("%05d:%s", i, strings.Repeat("x", 500))
		a = a[:min(len(a), room-1)]
		args = append(args, a)
		room -= len(a) + 1
	}
	return args
}

// ListedVariable is the last variable of BigEnvironment; its value is "last".
const ListedVariable = "TRACEPARENT"

// BigEnvironment is 128 KiB with ListedVariable at its very end.
func BigEnvironment() []string {
	var env []string
	size := 0
	last := ListedVariable + "=last"
	for i := 0; ; i++ {
		e := fmt.Sprintf("FILLER_%04d=%s", i, strings.Repeat("v", 1000))
		if room := 128<<10 - size - len(last) - 1; len(e)+1 > room {
			return append(env, e[:room-1], last)
		}
		env = append(env, e)
		size += len(e) + 1
	}
}

// execFails: a program that is not there leaves a refused open at most, never an exec.
func execFails(w *work) error {
	err := exec.Command(w.path("no-such-program")).Run()
	if !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("got %w, the scenario expects ENOENT", err)
	}
	return nil
}

// roleExecThread: the kernel gives the calling thread the leader's pid.
func roleExecThread(*work, []string) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			failed <- errors.New("still on the leader thread")
			return
		}
		failed <- syscall.Exec("/proc/self/exe", []string{"from-thread", "role-report"}, os.Environ())
	}()
	return <-failed
}

// roleExecveat runs an open file, with no name in the call at all.
func roleExecveat(*work, []string) error {
	fd, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings([]string{"by-descriptor", "role-report"})
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, code := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execveat: %w", code)
}

// execMemfd runs a copy of the program that was never on a disk.
func execMemfd(w *work) error {
	fd, err := unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "payload")
	defer file.Close()
	body, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if _, err := file.Write(body); err != nil {
		return err
	}
	cmd := self("role-report")
	cmd.Path = "/proc/self/fd/3" // where the child finds ExtraFiles[0]
	cmd.ExtraFiles = []*os.File{file}
	return w.run(cmd)
}

// execDeleted runs a program whose file is already gone.
func execDeleted(w *work) error {
	p, err := w.copyOfSelf()
	if err != nil {
		return err
	}
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), p)
	defer file.Close()
	if err := os.Remove(p); err != nil {
		return err
	}
	cmd := self("role-report")
	cmd.Path = "/proc/self/fd/3"
	cmd.ExtraFiles = []*os.File{file}
	return w.run(cmd)
}

func execScript(w *work) error {
	// The kernel reads at most 256 bytes of a script's first line, so the interpreter gets a short name.
	if err := os.Symlink(exe(), w.path("interpreter")); err != nil {
		return err
	}
	script := w.path("script")
	if err := os.WriteFile(script, []byte("#!"+w.path("interpreter")+" role-script\n"), 0o755); err != nil {
		return err
	}
	cmd := exec.Command(script)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return w.run(cmd)
}

func exe() string {
	p, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "/proc/self/exe"
	}
	return p
}

func execWorkingDir(w *work) error {
	cmd := self("role-report")
	cmd.Dir = w.dir
	return w.run(cmd)
}

func execAsNobody(w *work) error {
	p, err := w.copyOfSelf()
	if err != nil {
		return err
	}
	cmd := self("role-report")
	cmd.Path = p // where this program lies, only root may be able to reach it
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	return w.run(cmd)
}

// copyOfSelf is this program as a file in the scenario's directory.
func (w *work) copyOfSelf() (string, error) {
	body, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	p := w.path("program")
	return p, os.WriteFile(p, body, 0o755)
}

// forkWithoutExec: a shell's subshell writes a file; it names itself in it.
func forkWithoutExec(w *work) error {
	p := w.path("by-subshell")
	cmd := exec.Command("/bin/sh", "-c", `( read -r pid rest </proc/self/stat; echo "$pid" >"$1" ); :`, "sh", p)
	cmd.Stderr = os.Stderr
	if err := w.run(cmd); err != nil {
		return err
	}
	body, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(body)))
	if err != nil {
		return err
	}
	if pid == cmd.Process.Pid {
		return errors.New("the shell did not fork for its subshell")
	}
	return w.tell(Fact{Kind: "open", Pid: pid, Ppid: cmd.Process.Pid, Path: p, Access: "create"})
}
