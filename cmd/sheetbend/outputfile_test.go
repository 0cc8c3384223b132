// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// another is a user without a name, and a directory of that user.
func another(t *testing.T) (identity, string) {
	t.Helper()
	needRoot(t)
	const uid, gid, group = 61001, 61002, 61003
	dir, err := os.MkdirTemp("/tmp", "sheetbend-output-") // t.TempDir is below a private directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return identity{name: "another", credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{group}}}, dir
}

func TestOutputForAnotherUserIsOpenedWithThatUsersRights(t *testing.T) {
	t.Parallel()
	who, dir := another(t)
	uid, gid, group := int(who.credential.Uid), int(who.credential.Gid), int(who.credential.Groups[0])
	private := t.TempDir()
	secret := filepath.Join(private, "secret")
	fill := func(t *testing.T, name string, owner, mode int) {
		t.Helper()
		err := errors.Join(os.WriteFile(name, []byte("kept"), 0o600), os.Chown(name, owner, gid), os.Chmod(name, os.FileMode(mode)))
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(t, secret, 0, 0o600)
	for _, c := range []struct {
		name string
		make func(t *testing.T, name string) error
		says string // "": it is opened
	}{
		{"a new file becomes the user's", func(*testing.T, string) error { return nil }, ""},
		{"a file of the user is emptied", func(t *testing.T, name string) error { fill(t, name, uid, 0o600); return nil }, ""},
		{"a link to a file of root is not followed", func(_ *testing.T, name string) error { return os.Symlink(secret, name) }, "symbolic link"},
		{"a link to a file that does not exist is not followed", func(_ *testing.T, name string) error { return os.Symlink(filepath.Join(private, "new"), name) }, "symbolic link"},
		{"a hard link is refused", func(t *testing.T, name string) error {
			fill(t, name+".other", uid, 0o600)
			return os.Link(name+".other", name)
		}, "hard link"},
		{"a file of another user that all may write is refused", func(t *testing.T, name string) error { fill(t, name, 0, 0o666); return nil }, "does not belong"},
		{"a file that the user may not write is refused", func(t *testing.T, name string) error { fill(t, name, uid, 0o400); return nil }, "permission denied"},
		{"a directory of root is closed", func(t *testing.T, name string) error { return os.Symlink(private, name+".dir") }, ""},
		{"a pipe is refused, without waiting", func(_ *testing.T, name string) error {
			return errors.Join(unix.Mkfifo(name, 0o600), os.Chown(name, uid, gid))
		}, "pipe"},
		{"a directory that only a group of the user may write in is open", func(t *testing.T, name string) error {
			return errors.Join(os.Mkdir(name+".group", 0o770), os.Chown(name+".group", 0, group), os.Chmod(name+".group", 0o770))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := c.make(t, name); err != nil {
				t.Fatal(err)
			}
			says := c.says
			switch {
			case present(name + ".dir"):
				name, says = name+".dir/file", "permission denied"
			case present(name + ".group"):
				name += ".group/file"
			}
			f, err := who.openOutput(name, truncate)
			if says != "" {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v, want %q", err, says)
				}
			} else if err != nil {
				t.Error(err)
			} else {
				defer f.Close()
				var st unix.Stat_t
				if err := unix.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != uid || st.Size != 0 || st.Mode&0o777 != 0o600 {
					t.Errorf("%v, owner %d, %d bytes, mode %o", err, st.Uid, st.Size, st.Mode)
				}
			}
			if text, err := os.ReadFile(secret); err != nil || string(text) != "kept" {
				t.Errorf("the file of root holds %q, %v", text, err)
			}
			if present(filepath.Join(private, "new")) {
				t.Error("a file was made where only root may")
			}
		})
	}
	// The rights were those of one thread.
	if f, err := os.OpenFile(secret, os.O_RDWR, 0); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
}

func present(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func TestOutputsOfRunDoNotFollowTheUsersLinks(t *testing.T) {
	t.Parallel()
	_, dir := another(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("kept"), 0o600), os.Symlink(secret, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"run", "--output", dir + "/link"}, {"run", "--record", dir + "/link"}, {"record", "--output", dir + "/link"},
	} {
		cmd := sheetbend(t, append(args, "--", "true")...)
		cmd.Env = append(cmd.Env, "SUDO_UID=61001", "SUDO_GID=61002", "SUDO_USER=another")
		if r := finish(t, cmd); r.code != exitSheetbend || !strings.Contains(r.stderr, "symbolic link") {
			t.Error(args, describeResult(r))
		}
		if text, err := os.ReadFile(secret); err != nil || string(text) != "kept" {
			t.Errorf("%v: the file of root holds %q, %v", args, text, err)
		}
	}
}

func TestOutputOfSheetbendsOwnUser(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	write := func(t *testing.T, name string, mode outputMode, text string) {
		t.Helper()
		f, err := identity{}.openOutput(name, mode)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	write(t, name, truncate, "one")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: a new file is private", info, err)
	}
	write(t, name, appendTo, " two")
	if text, err := os.ReadFile(name); err != nil || string(text) != "one two" {
		t.Errorf("%q, %v", text, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	write(t, link, truncate, "three")
	if text, err := os.ReadFile(name); err != nil || string(text) != "three" {
		t.Errorf("%q, %v: a link of one's own is followed", text, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (identity{}).openOutput(pipe, truncate); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("error %v, want that nobody reads", err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	write(t, pipe, truncate, "four")
	got := make([]byte, 8)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "four" {
		t.Errorf("%q, %v", got[:n], err)
	}
	write(t, "/dev/null", appendTo, "gone")
	if _, err := (identity{}).openOutput(filepath.Join(dir, "no", "such"), truncate); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
