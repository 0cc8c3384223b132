// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

func TestWhoTheCommandRunsAs(t *testing.T) {
	for _, c := range []struct {
		name, user string
		euid       int
		env        map[string]string
		uid        int64 // -1: as sheetbend
		says       string
	}{
		{name: "root without sudo stays root", uid: -1},
		{name: "who called sudo", env: map[string]string{"SUDO_UID": "65534", "SUDO_GID": "65534"}, uid: 65534},
		{name: "who called sudo, even if no file knows the user", env: map[string]string{"SUDO_UID": "123456", "SUDO_GID": "654", "SUDO_USER": "x"}, uid: 123456},
		{name: "root who called sudo", env: map[string]string{"SUDO_UID": "0", "SUDO_GID": "0"}, uid: -1},
		{name: "sudo's variables mean nothing to who is not root", euid: 1000, env: map[string]string{"SUDO_UID": "1", "SUDO_GID": "1"}, uid: -1},
		{name: "root's own shell may name anyone", user: "65534", env: map[string]string{"SUDO_UID": "0", "SUDO_GID": "0"}, uid: 65534},
		{name: "who called sudo may name nobody else", user: "root", env: map[string]string{"SUDO_UID": "65534", "SUDO_GID": "65534"}, says: "gets the rights of no other"},
		{name: "but oneself", user: "65534", env: map[string]string{"SUDO_UID": "65534", "SUDO_GID": "65534"}, uid: 65534},
		{name: "a number is a name, too", user: "65534", uid: 65534},
		{name: "others cannot become root", user: "root", euid: 1000, says: "only root"},
		{name: "a uid that setuid reads as unchanged is refused", env: map[string]string{"SUDO_UID": "4294967295", "SUDO_GID": "1"}, says: "not a user"},
		{name: "a gid that is none is refused", env: map[string]string{"SUDO_UID": "123456", "SUDO_GID": ""}, says: "not a user or group id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := identify(c.user, c.euid, func(key string) string { return c.env[key] })
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			uid := int64(-1)
			if who.credential != nil {
				uid = int64(who.credential.Uid)
				if who.credential.Groups == nil {
					t.Error("the groups of root would stay")
				}
			}
			if uid != c.uid {
				t.Errorf("uid %d, want %d", uid, c.uid)
			}
		})
	}
}

func TestTheEnvironmentBecomesTheUsers(t *testing.T) {
	env := []string{"PATH=/bin", "HOME=/root", "SUDO_UID=1", "SUDO_COMMAND=x", "USER=root", "SHELL=/bin/zsh", "A=B=C"}
	sudo := map[string]string{"SUDO_UID": "65534", "SUDO_GID": "65534"}
	who, err := identify("", 0, func(key string) string { return sudo[key] })
	if err != nil {
		t.Fatal(err)
	}
	who.name, who.home, who.shell, who.path = "nobody", "/nonexistent", "", ""
	want := []string{"PATH=/bin", "SHELL=/bin/zsh", "A=B=C", "HOME=/nonexistent", "USER=nobody", "LOGNAME=nobody"}
	if got := who.environment(env); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (identity{}).environment(env); !slices.Equal(got, env) {
		t.Errorf("changed for nobody: %q", got)
	}
}

func TestTheVersionIsTheLinkersElseTheModulesElseTheCommit(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	commit := []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "true")}
	for _, c := range []struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		{"v1.2.3", nil, "v1.2.3"},
		{"", nil, "unknown"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}, Settings: commit}, "v0.9.0"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: commit}, "devel-0123456789ab-dirty"},
		{"", &debug.BuildInfo{}, "devel"},
	} {
		if got := describe(c.linked, c.info); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestThroughSudoTheCommandIsFoundInThePathOfWhoCalledIt(t *testing.T) {
	t.Parallel()
	needRoot(t)
	_, dir := another(t)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("my-node", "#!/bin/sh\necho found as $(id -u) with $PATH\n")
	write("my-tool", "#!/usr/bin/env my-node\n")
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	places := t.TempDir()
	for name, c := range map[string]struct {
		program, with string
		code          int
		says          string
	}{
		"whose PATH sudo replaced":               {"sudo", "/usr/bin:/bin", 0, "found as 65534 with " + dir + ":/usr/bin:/bin\n"},
		"who hands down more than that":          {"sudo", "/sbin:" + dir + ":/usr/bin:/bin", 0, "with /sbin:" + dir},
		"unless the caller is not known as sudo": {"doas", "/usr/bin:/bin", exitNotFound, `sudo -E env "PATH=$PATH"`},
	} {
		t.Run(name, func(t *testing.T) {
			// A shell under the name stands for sudo: it has the caller's environment, its child another.
			program := filepath.Join(places, c.program)
			if err := os.WriteFile(program, shell, 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := sheetbend(t)
			cmd.Path, cmd.Args = program, []string{"sudo", "-c", `PATH=$1 "$0" run -q -- my-tool; exit $?`, self, c.with}
			cmd.Env = append(cmd.Env, "SUDO_UID=65534", "SUDO_GID=65534", "SUDO_USER=nobody", "PATH="+dir+":/usr/bin:/bin")
			cmd.Dir = "/"
			if r := finish(t, cmd); r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.says) {
				t.Error(describeResult(r))
			}
		})
	}
}
