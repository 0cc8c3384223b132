// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// as runs a file under a name.
func (w *world) as(pid uint32, flags uint16, exe string, owner uint32, args []string, env ...string) {
	w.t.Helper()
	w.execWith(pid, flags, record.Exec{
		Exe: rt.Path(exe), Filename: []byte(exe), Args: rt.Args(args...), Argc: uint32(len(args)), Env: rt.Args(env...),
		UID: 1000, EUID: 1000, ExeUID: owner,
	})
}

var namesCall = []string{"CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID=call_1"}

// setsUp does what bubblewrap does before it runs a command, and reads a secret, which it does not.
func (w *world) setsUp(pid uint32) {
	w.act(pid, record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWNS})
	w.change(pid, 0, "", "/newroot/tmp", record.Change{Op: record.ChangeMount})
	w.openWith(pid, record.OpenCreated, record.Open{Path: rt.Path("/newroot/home/u/.ssh/id_rsa"), Inode: 9, Flags: unix.O_CREAT | unix.O_WRONLY})
	w.open(pid, "/newroot/home/u/.aws/credentials")
	w.write(pid, "/repo/target", 8, true)
}

// What sets up an agent's sandbox is known by its file and by who started it. Its name alone hides nothing, and nobody's
// hides what is read.
func TestOnlyAnAgentsOwnWrapperMayMount(t *testing.T) {
	const agent, mine, own = "/usr/bin/codex", 1000, 0
	sandbox := []string{"codex-linux-sandbox", "--", "bash", "-c", "make"}
	for name, c := range map[string]struct {
		start   func(w *world) (pid uint32)
		wrapper bool
	}{
		"the agent's own file": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, agent, mine, sandbox, namesCall...)
			return 11
		}, true},
		"bwrap of root's": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, "/usr/bin/bwrap", own, []string{"bwrap", "--", "bash"}, namesCall...)
			return 11
		}, true},
		"bwrap that the agent brings along": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, agent, mine, sandbox, namesCall...)
			w.fork(11, 12)
			w.as(12, 0, "/home/u/codex/bwrap", mine, []string{"bwrap", "--", "codex-linux-sandbox", "--", "bash"})
			return 12
		}, true},
		"and the agent's file in it": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, agent, mine, sandbox, namesCall...)
			w.fork(11, 12)
			w.as(12, 0, "/home/u/codex/bwrap", mine, []string{"bwrap", "--", "codex-linux-sandbox", "--", "bash"})
			w.as(12, 0, agent, mine, []string{"codex-linux-sandbox", "--", "bash"})
			return 12
		}, true},
		"a file of that name in another mount namespace": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader|record.ExecForeignMounts, "/usr/bin/bwrap", own, []string{"bwrap", "--", "bash"}, namesCall...)
			return 11
		}, false},
		"a user's as the command": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, "/repo/bwrap", mine, []string{"bwrap", "--", "bash"}, namesCall...)
			return 11
		}, false},
		"a user's as the command in the sandbox": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, agent, mine, []string{"codex-linux-sandbox", "--", "./bwrap", "--", "x"}, namesCall...)
			w.as(11, 0, "/repo/bwrap", mine, []string{"./bwrap", "--", "x"})
			return 11
		}, false},
		"below the command": {func(w *world) uint32 {
			w.as(11, record.ExecSessionLeader, agent, mine, sandbox, namesCall...)
			w.as(11, 0, "/usr/bin/bash", own, []string{"bash", "-c", "make"})
			w.fork(11, 12)
			w.as(12, 0, "/usr/bin/bwrap", own, []string{"bwrap", "--", "x"})
			return 12
		}, false},
		"in no call": {func(w *world) uint32 {
			w.as(11, 0, "/usr/bin/bwrap", own, []string{"bwrap", "--", "x"})
			return 11
		}, false},
	} {
		w := newWorld(t)
		w.codex(10)
		w.fork(10, 11)
		pid := c.start(w)
		w.setsUp(pid)
		w.exit(pid, 0)
		w.exit(11, 0)
		w.c.Close()
		want := map[string]int{"secret": 1}
		if !c.wrapper {
			want = map[string]int{"secret": 2, "namespace": 1, "mount": 1}
		}
		got := map[string]int{}
		for i := range w.spans {
			if e, is := get(w.spans[i], span.KeyNotableEvent).(string); is && e != "claim" && e != "unannounced" {
				got[e]++
			}
		}
		if len(got) != len(want) || got["secret"] != want["secret"] || got["mount"] != want["mount"] {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if name == "in no call" {
			continue
		}
		var created any // in the call
		if !c.wrapper {
			created = int64(2)
		}
		if n := get(w.only(span.SessionCall), span.KeyFilesCreated); n != created {
			t.Errorf("%s: %v files created in the call, want %v", name, n, created)
		}
		w.checkAccounts()
	}
}

// ps opens the environments of all processes; another program that is called so, or has other code in it, does not do
// that for nothing.
func TestOnlyTheHostsPsMayLookAtEnvironments(t *testing.T) {
	for name, c := range map[string]struct {
		exe   string
		owner uint32
		flags uint16
		env   []string
		want  any
	}{
		"ps":                                    {exe: "/usr/bin/ps"},
		"with other variables":                  {exe: "/usr/bin/ps", env: []string{"LD_PRELOAD=", "TRACEPARENT=x"}},
		"elsewhere":                             {exe: "/repo/ps", want: "secret"},
		"a user's":                              {exe: "/usr/bin/ps", owner: 1000, want: "secret"},
		"in another mount namespace":            {exe: "/usr/bin/ps", flags: record.ExecForeignMounts, want: "secret"},
		"with another's code":                   {exe: "/usr/bin/ps", env: []string{"LD_PRELOAD=/repo/x.so"}, want: "secret"},
		"with another's libraries":              {exe: "/usr/bin/ps", env: []string{"LD_LIBRARY_PATH=/repo"}, want: "secret"},
		"with an auditor":                       {exe: "/usr/bin/ps", env: []string{"LD_AUDIT=/repo/x.so"}, want: "secret"},
		"with an environment not all looked at": {exe: "/usr/bin/ps", flags: record.ExecEnvTruncated, want: "secret"},
	} {
		w := newWorld(t)
		w.begin(10, one)
		w.as(10, c.flags, c.exe, c.owner, []string{"ps", "aux"}, c.env...)
		w.open(10, "/proc/77/environ")
		w.exit(10, 0)
		w.tick(3 * time.Second)
		if got := get(w.opened("/proc/77/environ"), span.KeyNotableEvent); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		w.c.Close()
		w.checkAccounts()
	}
}
