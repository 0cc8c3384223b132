// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// somebody is a user without an account.
const somebody = 54321

// homeOf makes a home that somebody else can reach.
func homeOf(t *testing.T, uid int) string {
	t.Helper()
	needRoot(t)
	home, err := os.MkdirTemp("/tmp", "sheetbend-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	if err := os.Chown(home, uid, uid); err != nil {
		t.Fatal(err)
	}
	return home
}

func asOwner(t *testing.T, uid int, name string, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(name, uid, uid); err != nil {
		t.Fatal(err)
	}
}

func linkOf(t *testing.T, uid int, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(name, uid, uid); err != nil {
		t.Fatal(err)
	}
}

func hookChange(t *testing.T, home string, args ...string) result {
	t.Helper()
	cmd := sheetbend(t, append(append([]string{"hook"}, args...), "--yes")...)
	cmd.Env = append(cmd.Env, "HOME="+home, "CLAUDE_CONFIG_DIR=", "CODEX_HOME=", "PATH=/usr/bin:/bin")
	return finish(t, cmd)
}

func ownerAndMode(t *testing.T, name string) string {
	t.Helper()
	st, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return fmt.Sprintf("%d %d %o", sys.Uid, sys.Gid, st.Mode().Perm())
}

func TestRootInstallsHooksForTheUserWhoseHomeItIs(t *testing.T) {
	home := homeOf(t, somebody)
	if r := hookChange(t, home, "install", "claude-code"); r.code != 0 {
		t.Fatal(describeResult(r))
	}
	dir, file := filepath.Join(home, ".claude"), filepath.Join(home, ".claude", "settings.json")
	if got := ownerAndMode(t, dir); got != "54321 54321 700" {
		t.Errorf("the directory is of %s", got)
	}
	if got := ownerAndMode(t, file); got != "54321 54321 600" {
		t.Errorf("the file is of %s", got)
	}
	asOwner(t, somebody, file, `{"a": 1}`)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := hookChange(t, home, "install", "claude-code"); r.code != 0 || ownerAndMode(t, file) != "54321 54321 644" {
		t.Errorf("%s: %s", ownerAndMode(t, file), describeResult(r))
	}
	// A link of the user's own is followed, as that user.
	if err := os.Rename(file, filepath.Join(home, "dotfile")); err != nil {
		t.Fatal(err)
	}
	linkOf(t, somebody, "../dotfile", file)
	if r := hookChange(t, home, "uninstall", "claude-code"); r.code != 0 {
		t.Error(describeResult(r))
	}
	if text, err := os.ReadFile(filepath.Join(home, "dotfile")); err != nil || string(text) != `{"a": 1}` {
		t.Errorf("%v: %s", err, text)
	}
}

func TestRootDoesNotChangeWhatAUserLinksTo(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(home, secret string)
	}{
		{"a link to a file", func(home, secret string) {
			if err := os.Mkdir(filepath.Join(home, ".claude"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(filepath.Join(home, ".claude"), somebody, somebody); err != nil {
				t.Fatal(err)
			}
			linkOf(t, somebody, secret, filepath.Join(home, ".claude", "settings.json"))
		}},
		{"a link to a directory", func(home, secret string) {
			linkOf(t, somebody, filepath.Dir(secret), filepath.Join(home, ".claude"))
		}},
		{"a directory that is not there", func(home, secret string) {
			linkOf(t, somebody, filepath.Join(filepath.Dir(secret), "new"), filepath.Join(home, ".claude"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := homeOf(t, somebody)
			secret := filepath.Join(homeOf(t, 0), "settings.json")
			asOwner(t, 0, secret, "{}")
			if err := os.Chmod(filepath.Dir(secret), 0o755); err != nil {
				t.Fatal(err)
			}
			c.make(home, secret)
			r := hookChange(t, home, "install", "claude-code")
			text, err := os.ReadFile(secret)
			names, _ := os.ReadDir(filepath.Dir(secret))
			if r.code == 0 || err != nil || string(text) != "{}" || len(names) != 1 {
				t.Errorf("%s in %v: %s", text, names, describeResult(r))
			}
		})
	}
}

func TestOnlyARegularFileOfTheUserIsChanged(t *testing.T) {
	home := homeOf(t, somebody)
	dir := filepath.Join(home, ".claude")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, somebody, somebody); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "settings.json")
	for _, c := range []struct {
		name, says string
		make       func() error
	}{
		{"a FIFO", "no regular file", func() error { return unix.Mkfifo(file, 0o666) }},
		{"a directory", "is a directory", func() error { return os.Mkdir(file, 0o700) }},
		{"a file of another user", "belongs to user 0", func() error { return os.WriteFile(file, []byte("{}"), 0o644) }},
		{"a link to nothing", "does not exist", func() error { linkOf(t, somebody, "nothing", file); return nil }},
		{"a link to itself", "too many links", func() error { linkOf(t, somebody, "settings.json", file); return nil }},
		{"what no settings are as large as", "larger than 16 MiB", func() error {
			asOwner(t, somebody, file, "{}")
			return os.Truncate(file, 50<<20)
		}},
		{"one that nests deeply", "is not changed", func() error { asOwner(t, somebody, file, strings.Repeat("[", 1<<20)); return nil }},
		{"one with a byte order mark", "not valid JSON", func() error { asOwner(t, somebody, file, "\ufeff{}"); return nil }},
		{"one with comments", "not valid JSON", func() error { asOwner(t, somebody, file, "{} // mine"); return nil }},
		{"hooks that are a list", "hooks", func() error { asOwner(t, somebody, file, `{"hooks": []}`); return nil }},
		{"hooks of an event that are no list", "PreToolUse", func() error { asOwner(t, somebody, file, `{"hooks": {"PreToolUse": {}}}`); return nil }},
		{"a link of another user", "not followed", func() error { linkOf(t, somebody+1, "/etc/passwd", file); return nil }},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		before := ownerAndMode(t, file)
		read := func() []byte { // nil: no file
			if st, err := os.Lstat(file); err != nil || !st.Mode().IsRegular() {
				return nil
			}
			text, _ := os.ReadFile(file)
			return text
		}
		text := read()
		if r := hookChange(t, home, "install", "claude-code"); r.code == 0 || !strings.Contains(r.stderr, c.says) || ownerAndMode(t, file) != before {
			t.Errorf("%s: %s", c.name, describeResult(r))
		}
		if !bytes.Equal(read(), text) {
			t.Errorf("%s: changed", c.name)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUninstallDoesNotRemoveWhatALinkPointsTo(t *testing.T) {
	home := t.TempDir()
	if r := hookChange(t, home, "install", "codex"); r.code != 0 {
		t.Fatal(describeResult(r))
	}
	file := filepath.Join(home, ".codex", "hooks.json")
	real := filepath.Join(home, "dotfile")
	if err := os.Rename(file, real); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, file); err != nil {
		t.Fatal(err)
	}
	if r := hookChange(t, home, "uninstall", "codex"); r.code != 0 {
		t.Error(describeResult(r))
	}
	if text, err := os.ReadFile(real); err != nil || string(text) != "{}\n" {
		t.Errorf("%v: %s", err, text)
	}
}

func TestAChangeOfALongFileIsShown(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".claude"), 0o700); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, 5000)
	for i := range lines {
		lines[i] = fmt.Sprintf(`  "k%d": %d`, i, i)
	}
	if err := os.WriteFile(filepath.Join(home, ".claude", "settings.json"), []byte("{\n"+strings.Join(lines, ",\n")+"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := hookChange(t, home, "install", "claude-code")
	if r.code != 0 || !strings.Contains(r.stdout, `+     "PreToolUse": [`) || strings.Contains(r.stdout, `"k1"`) || len(strings.Split(r.stdout, "\n")) > 200 {
		t.Errorf("%d bytes: %.2000s", len(r.stdout), describeResult(r))
	}
}

// The rights are those of one thread, which ends.
func TestActingAsAUserLeavesTheProcessItself(t *testing.T) {
	home := homeOf(t, somebody)
	f, err := findAgentFile(filepath.Join(home, "x", "y"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := f.write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(t.TempDir(), "own")
		if err := os.WriteFile(own, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ownerAndMode(t, own); !strings.HasPrefix(got, "0 ") {
			t.Fatalf("a file of the process is of %s", got)
		}
		if out, err := exec.Command("id", "-u").Output(); err != nil || string(out) != "0\n" {
			t.Fatalf("%v: %s", err, out)
		}
	}
}
