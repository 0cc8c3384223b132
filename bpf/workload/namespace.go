// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func namespaceScenarios() map[string]func(*work) error {
	return map[string]func(*work) error{
		"namespace-unshare":         onThread(namespaceUnshare),
		"namespace-unshare-refused": func(w *work) error { return w.runAsNobody("role-unshare-refused") },
		"namespace-unshare-files":   onThread(namespaceUnshareFiles),
		"namespace-repeated":        onThread(namespaceRepeated),
		"namespace-setns":           onThread(namespaceSetns),
		"namespace-setns-pidfd":     onThread(namespaceSetnsPidfd),
		"namespace-clone":           namespaceClone,
	}
}

func namespaceRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{
		"role-nothing": func(*work, []string) error { return nil },
		"role-unshare-refused": func(w *work, _ []string) error {
			return w.unshared(unix.CLONE_NEWNET, Fact{Types: "net", Errno: "EPERM"})
		},
	}
}

// onThread runs the scenario on a thread that ends with it, for namespaces are a thread's.
func onThread(scenario func(*work) error) func(*work) error {
	return func(w *work) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- scenario(w)
		}()
		return <-done
	}
}

func (w *work) unshared(flags int, f Fact) error {
	code, err := errno(unix.Unshare(flags))
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("unshare: got %q, the scenario expects %q", code, f.Errno)
	}
	f.Kind, f.Op = "namespace", "unshare"
	return w.tell(f)
}

func namespaceUnshare(w *work) error {
	if err := w.unshared(unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC, Fact{Types: "ipc,net,uts"}); err != nil {
		return err
	}
	// A process with more than one thread cannot have it.
	return w.unshared(unix.CLONE_NEWUSER|unix.CLONE_NEWNS, Fact{Types: "mnt,user", Errno: "EINVAL"})
}

// namespaceUnshareFiles has nothing to do with namespaces.
func namespaceUnshareFiles(w *work) error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return err
	}
	return w.tellSelf("")
}

func namespaceRepeated(w *work) error {
	const times = 20
	for range times {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
	}
	return w.tell(Fact{Kind: "namespace", Op: "unshare", Types: "uts", Count: times})
}

func (w *work) joined(fd, types int, f Fact) error {
	code, err := errno(unix.Setns(fd, types))
	if err != nil {
		return err
	}
	if code != f.Errno {
		return fmt.Errorf("setns: got %q, the scenario expects %q", code, f.Errno)
	}
	f.Kind, f.Op = "namespace", "setns"
	return w.tell(f)
}

func namespaceSetns(w *work) error {
	for _, s := range []struct {
		file string
		want int
		fact Fact
	}{
		{"/proc/self/ns/uts", 0, Fact{Types: "uts"}},
		{"/proc/self/ns/net", unix.CLONE_NEWNET, Fact{Types: "net"}},
		{"/proc/self/ns/ipc", unix.CLONE_NEWNET, Fact{Types: "net", Errno: "EINVAL"}}, // another one
		{"/proc/self/ns/pid_for_children", 0, Fact{Types: "pid"}},
		{"/dev/null", 0, Fact{Errno: "EINVAL"}},
	} {
		fd, err := unix.Open(s.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = w.joined(fd, s.want, s.fact)
		if e := unix.Close(fd); err == nil {
			err = e
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.file, err)
		}
	}
	return nil
}

// namespaceSetnsPidfd joins several namespaces of a process at once.
func namespaceSetnsPidfd(w *work) error {
	fd, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.joined(fd, unix.CLONE_NEWUTS|unix.CLONE_NEWIPC, Fact{Types: "ipc,uts"})
}

// namespaceClone starts a child that is the first process of its pid namespace.
func namespaceClone(w *work) error {
	cmd := self("role-nothing")
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUSER
	if err := w.run(cmd); err != nil {
		return err
	}
	return w.tell(Fact{Kind: "namespace", Op: "clone", Types: "mnt,pid,user"})
}
