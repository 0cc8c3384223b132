// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxSettings bounds the configuration file of an agent.
	maxSettings = 16 << 20
	maxLinks    = 40 // as the kernel
)

// An agentFile is the configuration file of an agent. It is read and changed with no more rights than those of the
// user whose directory it stands in: root changes a user's file as that user, so a link in it leads nowhere the
// user could not write.
type agentFile struct {
	path     string // without links in it, as far as it exists
	linked   bool   // the last component of the name is a link
	exists   bool
	uid, gid uint32 // of the owner of its directory
}

// findAgentFile follows the links in a name. Links of root lead anywhere; one of a user makes all that comes after
// it that user's business.
func findAgentFile(name string, euid uint32) (*agentFile, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	f := &agentFile{path: "/", exists: true}
	todo := strings.Split(strings.Trim(name, "/"), "/")
	pinned := euid != 0
	f.uid, f.gid = euid, uint32(os.Getegid())
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			f.path = filepath.Dir(f.path)
			continue
		}
		at := filepath.Join(f.path, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			if links > 0 && f.linked {
				return nil, fmt.Errorf("%s is a link to %s, which does not exist: make that, or remove the link",
					name, at)
			}
			f.path, f.exists = filepath.Join(append([]string{at}, todo...)...), false
			return f, nil
		}
		if err != nil {
			return nil, fmt.Errorf("find the agent's configuration: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, fmt.Errorf("find the agent's configuration: %s has no owner", at)
		}
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("%s: too many links", name)
			}
			to, err := os.Readlink(at)
			if err != nil {
				return nil, fmt.Errorf("find the agent's configuration: %w", err)
			}
			switch {
			case st.Uid == 0:
			case st.Uid != f.uid:
				return nil, fmt.Errorf("%s is a link of user %d, where one of user %d should be: it is not followed",
					at, st.Uid, f.uid)
			default:
				pinned = true
			}
			f.linked = len(todo) == 0
			if filepath.IsAbs(to) {
				f.path = "/"
			}
			todo = append(strings.Split(to, "/"), todo...)
		case info.IsDir():
			if f.path = at; !pinned {
				f.uid, f.gid = st.Uid, st.Gid
			}
		case len(todo) > 0:
			return nil, fmt.Errorf("find the agent's configuration: %s is no directory", at)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is no regular file", at)
		case st.Uid != f.uid:
			return nil, fmt.Errorf("%s belongs to user %d, and it is to be changed as user %d, "+
				"who owns its directory: change its owner first", at, st.Uid, f.uid)
		default:
			f.path, f.gid = at, st.Gid
			return f, nil
		}
	}
	return nil, fmt.Errorf("%s is a directory", name)
}

// as runs do with the rights of the file's user on files, and no others. do runs on a thread of its own, which ends
// with it.
func (f *agentFile) as(do func() error) error {
	if os.Geteuid() != 0 || f.uid == 0 {
		return do()
	}
	owner := identity{name: strconv.Itoa(int(f.uid)), credential: &syscall.Credential{Uid: f.uid, Gid: f.gid}}
	return owner.withRights(do)
}

// read gives nil if there is no file.
func (f *agentFile) read() (text []byte, err error) {
	if !f.exists {
		return nil, nil
	}
	err = f.as(func() (err error) {
		text, err = readSettings(f.path, unix.O_NOFOLLOW, func(*syscall.Stat_t) bool { return true })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the agent's configuration: %w", err)
	}
	return text, nil
}

// readSettings reads a regular file that is fit, of at most maxSettings bytes. flags are added to those of its open.
func readSettings(name string, flags int, fit func(*syscall.Stat_t) bool) ([]byte, error) {
	// Without O_NONBLOCK a FIFO that came meanwhile would hold up the open.
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || !fit(st) {
		return nil, fmt.Errorf("%s is no regular file, or of another user", name)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSettings+1))
	if err == nil && len(text) > maxSettings {
		err = fmt.Errorf("%s: larger than 16 MiB, which no configuration is", name)
	}
	return text, err
}

// write replaces the file in one step.
func (f *agentFile) write(text []byte) error {
	err := f.as(func() (err error) {
		dir := filepath.Dir(f.path)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		file, err := os.CreateTemp(dir, "."+filepath.Base(f.path)+".*")
		if err != nil {
			return err
		}
		defer os.Remove(file.Name())
		mode := fs.FileMode(0o600)
		if st, statErr := os.Lstat(f.path); statErr == nil {
			mode = st.Mode().Perm()
			_ = file.Chown(-1, int(f.gid)) // a group that the user is not in any more stays behind
		}
		_, err = file.Write(text)
		if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
			return err
		}
		return os.Rename(file.Name(), f.path)
	})
	if err != nil {
		return fmt.Errorf("write the agent's configuration: %w", err)
	}
	return nil
}

func (f *agentFile) remove() error {
	if err := f.as(func() error { return os.Remove(f.path) }); err != nil {
		return fmt.Errorf("remove the agent's configuration, which would be empty: %w", err)
	}
	return nil
}
