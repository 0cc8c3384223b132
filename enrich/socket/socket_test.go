// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
)

func TestTheSocketIsForEveryoneWhateverTheUmaskAndGoesWithTheListener(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "new", "s.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", st, err)
	}
	if served, err := Served(path); !served || err != nil {
		t.Errorf("served: %t, %v", served, err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "serves it") {
		t.Errorf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestADirectoryWhereOthersCouldExchangeTheSocketIsRefused(t *testing.T) {
	workloadtest.Root(t)
	for name, c := range map[string]struct {
		mode os.FileMode
		uid  int
		ok   bool
	}{
		"root's own":                   {0o755, 0, true},
		"for all, but sticky, as /tmp": {0o777 | os.ModeSticky, 0, true},
		"for all":                      {0o777, 0, false},
		"for a group":                  {0o775, 0, false},
		"a user's":                     {0o755, 54321, false},
		"a user's, and sticky":         {0o777 | os.ModeSticky, 54321, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			below := filepath.Join(dir, "below")
			if err := os.MkdirAll(below, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, c.uid, c.uid); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, c.mode); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{filepath.Join(dir, "s"), filepath.Join(below, "s")} {
				l, err := Listen(path)
				if (err == nil) != c.ok {
					t.Errorf("%s: %v", path, err)
				}
				if l != nil {
					_ = l.Close()
				}
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
				t.Errorf("left: %v, %v", names, err)
			}
		})
	}
}

func TestTheModeIsThatOfTheSocketAndOfNoFileInItsPlace(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{secret, link} {
		if err := open(name); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if st, err := os.Stat(secret); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}
