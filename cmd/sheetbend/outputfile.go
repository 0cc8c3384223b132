// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
)

// An outputMode says what happens to a file that exists.
type outputMode int

const (
	// truncate starts the file anew: one run, one file.
	truncate outputMode = iota
	// appendTo continues it: for a daemon that restarts.
	appendTo
	// again continues one that was moved or removed while it was written: whoever may do that could have put a link there.
	again
	// createNew makes it, and is an error (fs.ErrExist) where something has that name.
	createNew
)

// other says whether the command runs as somebody else than sheetbend itself.
func (i identity) other() bool {
	return i.credential != nil && int(i.credential.Uid) != os.Geteuid()
}

// openOutput makes or opens a file to write to, with mode 0600 if it is new, and empties it unless mode is
// appendTo. For another user it is opened with that user's rights, and has to be a regular file of that user
// under one name: root would otherwise write wherever the user's links point. It never waits for the reader of a pipe.
func (i identity) openOutput(name string, mode outputMode) (*os.File, error) {
	f, err := i.openPath(name, mode)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("open %s: nobody reads from this pipe: start its reader first", name)
	}
	if err != nil {
		return nil, err
	}
	if err := i.prepare(f, mode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (i identity) openPath(name string, mode outputMode) (*os.File, error) {
	flags := os.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY // os adds O_CLOEXEC
	if mode == appendTo || mode == again {
		flags |= os.O_APPEND
	}
	if mode == again {
		flags |= unix.O_NOFOLLOW
	}
	if !i.other() {
		if mode == createNew {
			flags |= os.O_EXCL
		}
		return os.OpenFile(name, flags|os.O_CREATE, 0o600)
	}
	f, err := with(i.withRights, func() (*os.File, error) {
		flags |= unix.O_NOFOLLOW
		f, err := os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) && mode != createNew {
			f, err = os.OpenFile(name, flags, 0)
		}
		return f, err
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("open %s for user %s: it is a symbolic link: name the file itself", name, i.name)
	case err != nil:
		return nil, fmt.Errorf("as user %s: %w", i.name, err)
	}
	return f, nil
}

// prepare checks what was opened, and only then changes it.
func (i identity) prepare(f *os.File, mode outputMode) error {
	var st unix.Stat_t
	err := control(f, func(fd int) error {
		// A pipe stays as it is: the runtime waits for it, and Close ends that.
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFIFO {
			return err
		}
		return unix.SetNonblock(fd, false)
	})
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if mode == again && !i.other() && (!regular || st.Nlink != 1 || st.Uid != uint32(os.Geteuid())) {
		return fmt.Errorf("%s is no regular file of its own that belongs to this user", f.Name())
	}
	if i.other() {
		switch {
		case !regular:
			return fmt.Errorf("%s is not a regular file: output for user %s goes to nothing else", f.Name(), i.name)
		case st.Uid != i.credential.Uid:
			return fmt.Errorf("%s does not belong to user %s", f.Name(), i.name)
		case st.Nlink != 1:
			return fmt.Errorf("%s has other names (hard links), or none any more: "+
				"output for user %s goes to a file of its own", f.Name(), i.name)
		}
	}
	if regular && mode == truncate {
		return f.Truncate(0)
	}
	return nil
}

// rights calls a function with somebody's rights to files, and gives its error.
type rights = func(func() error) error

// with is what a function gives that is called with these rights.
func with[T any](as rights, do func() (T, error)) (v T, err error) {
	err = as(func() (err error) {
		v, err = do()
		return err
	})
	return v, err
}

// rights calls do with the user's rights to files, or as it is for sheetbend's own user.
func (i identity) rights(do func() error) error {
	if !i.other() {
		return do()
	}
	return i.withRights(do)
}

// withRights calls do with the user's rights to files: with its user id, group and groups in place of root's, on a
// thread of its own that ends with it.
func (i identity) withRights(do func() error) error {
	return onOwnThread(func() error {
		if err := i.assume(); err != nil {
			return err
		}
		return do()
	})
}

// asRoot says how an administrator who called sudo does what only root may.
const asRoot = " (as root: sudo env -u SUDO_UID sheetbend …)"

// open opens a file to read it with the user's rights.
func (i identity) open(name string) (f *os.File, err error) {
	if !i.other() {
		return os.Open(name)
	}
	f, err = with(i.withRights, func() (*os.File, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		// A thread may look at all of its own process, whatever its rights are.
		var st unix.Statfs_t
		if err = unix.Fstatfs(int(f.Fd()), &st); err == nil && st.Type == unix.PROC_SUPER_MAGIC {
			err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		if err != nil {
			_ = f.Close()
		}
		return f, err
	})
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("as user %s, who called sudo: %w%s", i.name, err, asRoot)
	}
	return f, err
}

// ofRoot says whether only root can have written a file: it is below /etc, and it and all directories above are
// root's, writable by nobody else and no links. Elsewhere services keep what users gave them in files of root.
func ofRoot(name string) bool {
	if !strings.HasPrefix(name, "/etc/") || filepath.Clean(name) != name {
		return false
	}
	for at := name; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if unix.Lstat(at, &st) != nil || st.Uid != 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK || st.Mode&0o022 != 0 {
			return false
		}
		if at == "/" {
			return true
		}
	}
}

// onOwnThread calls do on a thread of its own, which ends with it: what do changes of the thread is nobody else's.
func onOwnThread(do func() error) error {
	done := make(chan error, 1)
	go lastOfThread(done, do)
	return <-done
}

func lastOfThread(done chan<- error, do func() error) {
	// Never unlocked: the runtime ends the thread, and starts no other from it.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end. While it is locked here, another goroutine is on another thread.
		inner := make(chan error, 1)
		go lastOfThread(inner, do)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	done <- do()
}

// assume changes the calling thread only. The effective user id counts, too, and not only that for files: files of
// /proc/sys go by it, and what of /proc is another process's goes by capabilities. The real and the saved ids stay,
// so that the user may send this thread no signals.
func (i identity) assume() error {
	groups := make([]int, len(i.credential.Groups))
	for n, g := range i.credential.Groups {
		groups[n] = int(g)
	}
	// Of x/sys, this one is a call for one thread; those of package syscall, and setresuid of both, change all.
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("take the groups of user %s: %w", i.name, err)
	}
	uid, gid := uintptr(i.credential.Uid), uintptr(i.credential.Gid)
	const unchanged = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, unchanged, gid, unchanged); errno != 0 {
		return fmt.Errorf("take the group of user %s: %w", i.name, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uid, unchanged); errno != 0 {
		return fmt.Errorf("take the rights of user %s: %w", i.name, errno)
	}
	// The kernel has taken the effective capabilities, unless securebits say otherwise.
	if err := confine.DropThread(); err != nil {
		return fmt.Errorf("give up root's capabilities for user %s: %w", i.name, err)
	}
	return nil
}
