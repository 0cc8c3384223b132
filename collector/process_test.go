// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/spans"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func TestThePeakOfMemoryIsTheProgramsOwn(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	// What its parent used, of which a child by vfork and exec has the account: the program itself never came near.
	w.execWith(10, 0, record.Exec{Exe: rt.Path("/bin/true"), PeakRSS: 80_000})
	w.exit(10, 0)
	w.begin(11, one)
	w.execWith(11, 0, record.Exec{Exe: rt.Path("/bin/cc"), PeakRSS: 6})
	w.exit(11, 0)
	wants(t, w.execOf(10), map[string]any{span.KeyPeakMemory: nil})
	wants(t, w.execOf(11), map[string]any{span.KeyPeakMemory: 7 * 4096})
}

func image1(pid uint32, execID uint64) span.Image {
	return span.Image{Tgid: pid, Start: start(pid), ExecID: execID}
}

func TestExecThatEndsWithinTheHoldIsOneCompleteSpan(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.execWith(10, 0, record.Exec{
		Exe: rt.Path("/usr/bin/curl"), Cwd: rt.Path("/home/agent"), Filename: []byte("/bin/curl"),
		Args: rt.Args("curl", "-s", "http://x/"), Argc: 3, ParentTgid: 1, UID: 1000, EUID: 1001, EGID: 1002,
	})
	began := w.now
	w.exit(10, 3<<8)
	s := w.only(span.Exec)
	if s.Name != "process.exec" || s.ID != span.ExecSpan(boot, image1(10, 1)) {
		t.Errorf("name %q, id %x", s.Name, s.ID)
	}
	if s.Start != wallStart+began-bootStart || s.End != s.Start+ms {
		t.Errorf("from %d to %d", s.Start-wallStart, s.End-wallStart)
	}
	if !s.Failed || s.Status != "exit code 3" {
		t.Errorf("failed %v, %q", s.Failed, s.Status)
	}
	wants(t, s, map[string]any{
		span.KeyContract: span.Contract, span.KeySeq: 1, span.KeyEvent: "process.exec", span.KeyOutcome: "failed", span.KeyRun: "0", span.KeyInstance: span.SandboxID(boot, one), span.KeySandboxID: span.SandboxID(boot, one), span.KeySessionID: "s1",
		span.KeyAgentName: "codex", span.KeyAttribution: "session", span.KeyPID: 10,
		span.KeyExecutablePath: "/usr/bin/curl", span.KeyExecutableName: "curl", span.KeyParentExecutable: nil,
		span.KeyCgroup: "/agents/one", span.KeyPartial: nil, span.KeyUnknownProcess: nil,
		span.KeyCommandArgs: []string{"curl", "-s", "http://x/"}, span.KeyCommandLine: "curl -s http://x/", span.KeyArgsCount: 3,
		span.KeyArgsTruncated: nil, span.KeyWorkingDirectory: "/home/agent", span.KeyParentPID: 1, span.KeyVPID: 10,
		span.KeyUserID: 1001, span.KeyRealUserID: 1000, span.KeyGroupID: 1002,
		span.KeyRequestedExecutable: "/bin/curl", span.KeyScript: nil,
		span.KeyExitCode: 3, span.KeyExitSignal: nil, span.KeyCPUTime: 5, span.KeyUserTime: 3, span.KeySystemTime: 2, span.KeyPeakMemory: 7 * 4096,
		span.KeyCreationTime: time.Unix(0, int64(wallStart)+10).UTC().Format("2006-01-02T15:04:05.000000000Z"),
	})
	if s.Session != "s1" || s.Resource.Attrs[0].Str != "codex" {
		t.Errorf("session %q, resource %v", s.Session, s.Resource.Attrs)
	}
}

func TestExecThatOutlivesAMinuteIsSentThenAndExitFollows(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/usr/bin/sleep", "sleep", "9")
	began := w.now
	w.tick(60100 * time.Millisecond)
	s := w.only(span.Exec)
	wants(t, s, map[string]any{span.KeyPartial: true, span.KeyNoticed: true, span.KeyExitCode: nil})
	if d := s.End - s.Start; d != 60_000*ms {
		t.Errorf("held for %d ms", d/ms)
	}
	if s.Failed {
		t.Error("failed before its end")
	}
	w.tick(5 * time.Second)
	w.exit(10, 9|0x80)
	e := w.only(span.Exit)
	if e.Parent != s.ID || e.Trace != s.Trace || e.ID != span.ExitSpan(boot, image1(10, 1)) || e.Start != s.Start ||
		e.End-e.Start != w.now-began || len(e.Links) != 0 {
		t.Errorf("exit %s", show([]span.Span{e}))
	}
	wants(t, e, map[string]any{
		span.KeyExitSignal: "SIGKILL", span.KeyExitCode: nil, span.KeyCoreDumped: true, span.KeyExecutableName: "sleep", span.KeySeq: 3,
	})
	if !e.Failed || e.Status != "killed by SIGKILL" {
		t.Errorf("status %q", e.Status)
	}
}

func TestParents(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(w *world)
		child  func(w *world) span.Span
		parent func(w *world) span.ID
		exe    any // parent's executable
	}{
		{
			name: "a forked child's exec stands under the span of the program that forked it",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.fork(10, 11)
				w.exec(11, "/bin/ls", "ls")
			},
			child:  func(w *world) span.Span { return w.execOf(11) },
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
			exe:    "/bin/sh",
		}, {
			name: "a grandchild by a fork without exec stands under the program that both run",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.fork(10, 11)
				w.fork(11, 12)
				w.exec(12, "/bin/ls", "ls")
			},
			child:  func(w *world) span.Span { return w.execOf(12) },
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
			exe:    "/bin/sh",
		}, {
			name: "an open of a forked child without exec stands under the program that it runs",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.fork(10, 11)
				w.open(11, "/repo/x")
			},
			child:  func(w *world) span.Span { return w.only(span.Open) },
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
		}, {
			name: "a second exec of a process stands under the first",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.exec(10, "/bin/foo", "foo")
			},
			child: func(w *world) span.Span {
				for _, s := range w.of(span.Exec) {
					if get(s, span.KeyExecutableName) == "foo" {
						return s
					}
				}
				return span.Span{}
			},
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
			exe:    "/bin/sh",
		}, {
			name: "a child whose parent is gone keeps it",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.fork(10, 11)
				w.exit(10, 0)
				w.exec(11, "/bin/daemon", "daemon")
			},
			child:  func(w *world) span.Span { return w.execOf(11) },
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
			exe:    "/bin/sh",
		}, {
			name: "an exec whose fork was lost finds its parent by pid and start time",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.execWith(11, 0, record.Exec{Exe: rt.Path("/bin/ls"), ParentTgid: 10, ParentStart: start(10)})
			},
			child:  func(w *world) span.Span { return w.execOf(11) },
			parent: func(*world) span.ID { return span.ExecSpan(boot, image1(10, 1)) },
			exe:    "/bin/sh",
		}, {
			name: "an exec whose parent's pid is now another process is a root",
			do: func(w *world) {
				w.begin(10, one)
				w.exec(10, "/bin/sh", "sh")
				w.execWith(11, 0, record.Exec{Exe: rt.Path("/bin/ls"), ParentTgid: 10, ParentStart: 1})
			},
			child:  func(w *world) span.Span { return w.execOf(11) },
			parent: func(*world) span.ID { return span.ID{} },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.do(w)
			w.c.Close()
			s := c.child(w)
			if s.Parent != c.parent(w) {
				t.Errorf("parent %x, want %x in%s", s.Parent, c.parent(w), show(w.spans))
			}
			if s.Kind == span.Exec {
				wants(t, s, map[string]any{span.KeyParentExecutable: c.exe})
			}
		})
	}
}

func TestExecEndsTheProgramBefore(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh", "-c", "exec foo")
	w.exec(10, "/bin/foo", "foo")
	first := w.only(span.Exec)
	wants(t, first, map[string]any{span.KeyReplaced: true, span.KeyExitCode: nil, span.KeyPartial: nil, span.KeyExecutableName: "sh"})
	if first.Failed {
		t.Error("failed")
	}
	w.tick(61 * time.Second)
	w.exec(10, "/bin/bar", "bar")
	wants(t, w.only(span.Exit), map[string]any{span.KeyReplaced: true, span.KeyExecutableName: "foo"})
	w.exit(10, 0)
	if n := len(w.of(span.Exec)); n != 3 {
		t.Errorf("%d execs", n)
	}
}

func TestForkWithoutExecHasNoSpanOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.fork(10, 11)
	w.exit(11, 0)
	if len(w.spans) != 0 {
		t.Errorf("spans %s", show(w.spans))
	}
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeyWorkers: 1, span.KeyWorkersFailed: nil})
}

func hash(args ...string) string {
	sum := sha256.Sum256(rt.Args(args...))
	return hex.EncodeToString(sum[:])
}

func TestArguments(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name string
		do   func(w *world)
		want map[string]any
	}{
		{"boundaries, empty arguments and quotes are kept",
			func(w *world) { w.exec(10, "/bin/sh", "sh", "-c", "a 'b'\nc", "", "é") },
			map[string]any{
				span.KeyCommandArgs: []string{"sh", "-c", "a 'b'\nc", "", "é"}, span.KeyArgsCount: 5, span.KeyArgsTruncated: nil,
				span.KeyCommandLine: "sh -c 'a '\\''b'\\''\nc' '' é",
			}},
		{"an argv in pieces is put together",
			func(w *world) {
				all := rt.Args("cmd", long, "end")
				w.execIDs[10]++
				h := w.header(10)
				w.raw(rt.Record(h, record.ExecArgs{Offset: 0, Args: all[:4096]}))
				w.raw(rt.Record(h, record.ExecArgs{Offset: 4096, Args: all[4096:]}))
				w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/bin/cmd"), Argc: 3, ArgsSize: uint32(len(all))}))
			},
			map[string]any{span.KeyArgsHash: hash("cmd", long, "end"), span.KeyArgsBytes: len(rt.Args("cmd", long, "end")), span.KeyArgsCount: 3, span.KeyArgsTruncated: true}},
		{"pieces after the start that came with the exec",
			func(w *world) {
				all := rt.Args("cmd", long)
				w.execIDs[10]++
				h := w.header(10)
				w.raw(rt.Record(h, record.ExecArgs{Offset: 100, Args: all[100:]}))
				w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/bin/cmd"), Argc: 2, ArgsSize: uint32(len(all)), Args: all[:100]}))
			},
			map[string]any{span.KeyArgsHash: hash("cmd", long), span.KeyArgsBytes: len(rt.Args("cmd", long)), span.KeyArgsTruncated: true}},
		{"a lost piece truncates",
			func(w *world) {
				all := rt.Args("cmd", long)
				w.execIDs[10]++
				h := w.header(10)
				w.raw(rt.Record(h, record.ExecArgs{Offset: 0, Args: all[:10]}))
				w.raw(rt.Record(h, record.ExecArgs{Offset: 20, Args: all[20:]}))
				w.raw(rt.Record(h, record.Exec{Exe: rt.Path("/bin/cmd"), Argc: 2, ArgsSize: uint32(len(all))}))
			},
			map[string]any{span.KeyCommandArgs: []string{"cmd", "xxxxxx"}, span.KeyArgsTruncated: true, span.KeyArgsCount: 2}},
		{"pieces of an exec that never came are not another's",
			func(w *world) {
				h := w.header(10)
				h.ExecID = 7
				w.raw(rt.Record(h, record.ExecArgs{Offset: 0, Args: rt.Args("old")}))
				w.execWith(10, 0, record.Exec{Exe: rt.Path("/bin/cmd"), Argc: 1, ArgsSize: 4})
			},
			map[string]any{span.KeyCommandArgs: nil, span.KeyArgsTruncated: true, span.KeyArgsCount: 1}},
		{"a page that could not be read truncates",
			func(w *world) {
				w.execWith(10, record.ExecArgsMissing, record.Exec{Exe: rt.Path("/bin/cmd"), Argc: 1, Args: rt.Args("cmd")})
			},
			map[string]any{span.KeyArgsTruncated: true}},
		{"invalid UTF-8 is replaced and flagged",
			func(w *world) { w.exec(10, "/bin/\xff", "a\xfeb") },
			map[string]any{span.KeyCommandArgs: []string{"a\uFFFDb"}, span.KeyExecutablePath: "/bin/\uFFFD", span.KeyUTF8Repaired: true}},
		{"credentials are masked and flagged",
			func(w *world) { w.exec(10, "/bin/curl", "curl", "--token", "abc", "https://u:pw@h/") },
			map[string]any{
				span.KeyCommandArgs: []string{"curl", "--token", "****", "https://u:****@h/"}, span.KeyArgsMasked: true,
				span.KeyCommandLine: "curl --token '****' 'https://u:****@h/'",
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			c.do(w)
			w.exit(10, 0)
			wants(t, w.only(span.Exec), c.want)
		})
	}
}

func TestCredentialsAreShownWhenAskedFor(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.ShowCredentials = true })
	w.begin(10, one)
	w.exec(10, "/bin/x", "x", "--password=p")
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeyCommandArgs: []string{"x", "--password=p"}, span.KeyArgsMasked: nil})
}

func TestCommandLineIsBounded(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x", strings.Repeat("é", 10_000))
	w.exit(10, 0)
	s := w.only(span.Exec)
	line := get(s, span.KeyCommandLine).(string)
	if len(line) > spans.MaxCommandLine+10 || !strings.HasSuffix(line, "…") || get(s, span.KeyUTF8Repaired) != nil {
		t.Errorf("%d bytes, ends %q", len(line), line[len(line)-10:])
	}
}

func TestExecFlags(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags uint16
		exec  record.Exec
		want  map[string]any
	}{
		{"memfd", record.ExecMemfd | record.ExecUnlinked, record.Exec{Exe: rt.Path("memfd:evil"), Filename: []byte("/dev/fd/3")},
			map[string]any{span.KeyExecutablePath: "/memfd:evil (deleted)", span.KeyFileless: true, span.KeyRequestedExecutable: "/dev/fd/3"}},
		{"deleted executable", record.ExecUnlinked, record.Exec{Exe: rt.Path("/tmp/x")},
			map[string]any{span.KeyExecutablePath: "/tmp/x (deleted)", span.KeyExecutableName: "x", span.KeyFileless: true}},
		{"an executable whose own name ends so", 0, record.Exec{Exe: rt.Path("/tmp/x (deleted)")},
			map[string]any{span.KeyExecutablePath: "/tmp/x (deleted)", span.KeyExecutableName: "x (deleted)", span.KeyFileless: nil}},
		{"set-user-id", record.ExecSecure, record.Exec{Exe: rt.Path("/usr/bin/sudo")},
			map[string]any{span.KeyPrivilegedExec: true, span.KeyFileless: nil}},
		{"script", 0, record.Exec{Exe: rt.Path("/usr/bin/dash"), Filename: []byte("./run.sh"), Args: rt.Args("/bin/sh", "./run.sh", "x"), Argc: 3},
			map[string]any{span.KeyScript: "./run.sh", span.KeyRequestedExecutable: "./run.sh"}},
		{"script whose interpreter has an option", 0, record.Exec{Exe: rt.Path("/usr/bin/dash"), Filename: []byte("./run.sh"), Args: rt.Args("/bin/sh", "-e", "./run.sh"), Argc: 3},
			map[string]any{span.KeyScript: "./run.sh"}},
		{"program by a symbolic link is no script", 0, record.Exec{Exe: rt.Path("/usr/bin/dash"), Filename: []byte("/bin/sh"), Args: rt.Args("sh", "-c", "x"), Argc: 3},
			map[string]any{span.KeyScript: nil, span.KeyRequestedExecutable: "/bin/sh"}},
		{"path too long", record.ExecExeTruncated, record.Exec{Exe: rt.Path("/b/c")},
			map[string]any{span.KeyExecutablePath: "…/b/c", span.KeyExecutableName: "c"}},
		{"outside the root", record.ExecExeOutside | record.ExecCwdOutside, record.Exec{Exe: rt.Path("/b/c"), Cwd: rt.Path("/d")},
			map[string]any{span.KeyExecutablePath: "(unreachable)/b/c", span.KeyWorkingDirectory: "(unreachable)/d"}},
		{"deleted working directory", record.ExecCwdDeleted, record.Exec{Exe: rt.Path("/b/c"), Cwd: rt.Path("/d")},
			map[string]any{span.KeyWorkingDirectory: "/d (deleted)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.execWith(10, c.flags, c.exec)
			w.exit(10, 0)
			wants(t, w.only(span.Exec), c.want)
		})
	}
}

func TestReusedPidEndsTheOldProcess(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/old", "old")
	h := w.header(1)
	h.Cgroup = outside
	w.raw(rt.Record(h, record.Fork{ChildStart: start(500), ChildCgroup: one, ChildTgid: 10}))
	wants(t, w.only(span.Exec), map[string]any{span.KeyExitUnknown: true, span.KeyExecutableName: "old"})
	if n := w.c.Stats().Processes; n != 1 {
		t.Errorf("%d processes", n)
	}
	// A late record of the old one changes nothing.
	w.exit(10, 0)
	if n := w.c.Stats().Processes; n != 1 || len(w.spans) != 1 {
		t.Errorf("%d processes, spans %s", n, show(w.spans))
	}
}

func TestOneFailureIsOneError(t *testing.T) {
	// shell runs a command as pid 12 below two shells, which end with the given statuses.
	shell := func(t *testing.T, command, inner, outer uint32, between func(*world)) (failed []string) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/outer", "outer")
		w.fork(10, 11)
		w.exec(11, "/bin/inner", "inner")
		w.fork(11, 12)
		w.exec(12, "/bin/command", "command")
		w.exit(12, command)
		if between != nil {
			between(w)
		}
		w.exit(11, inner)
		w.exit(10, outer)
		for _, s := range w.of(span.Exec) {
			if s.Failed {
				failed = append(failed, get(s, span.KeyExecutableName).(string))
			}
			if code, ended := get(s, span.KeyExitCode).(int64); ended && code != 0 {
				wants(t, s, map[string]any{span.KeyOutcome: "failed"})
			}
			if inherited := get(s, span.KeyExitInherited) == true; inherited && s.Failed {
				t.Errorf("both: %s", show([]span.Span{s}))
			}
		}
		return failed
	}
	for _, c := range []struct {
		name                  string
		command, inner, outer uint32
		between               func(*world)
		want                  []string
	}{
		{"of the command, not of what is around it", 3 << 8, 3 << 8, 3 << 8, nil, []string{"command"}},
		{"and of a shell that ends with another code, not of the one around that", 7 << 8, 3 << 8, 3 << 8, nil, []string{"command", "inner"}},
		{"and of one after a child that ended well", 3 << 8, 3 << 8, 3 << 8, func(w *world) {
			w.fork(11, 13)
			w.exit(13, 0)
		}, []string{"command", "inner"}},
		{"and of one that runs another program by then", 3 << 8, 3 << 8, 0, func(w *world) { w.exec(11, "/bin/inner2", "inner2") }, []string{"command", "inner2"}},
		{"a signal is passed on as a code, and is another failure", 9, (128 + 9) << 8, 0, nil, []string{"command", "inner"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if failed := shell(t, c.command, c.inner, c.outer, c.between); !slices.Equal(failed, c.want) {
				t.Errorf("failed are %v, want %v", failed, c.want)
			}
		})
	}
}

// What a fork of a shell ends with is the shell's failure, unless an Error tells of it already.
func TestAFailureOfAWorkerIsOneError(t *testing.T) {
	worker := func(do func(*world), status uint32) func(*world) {
		return func(w *world) { w.fork(11, 12); do(w); w.exit(12, status) }
	}
	no := func(*world) {}
	for _, c := range []struct {
		name   string
		do     func(*world)
		status uint32
		want   string // whose status is Error
	}{
		{"of a subshell", worker(no, 3<<8), 3 << 8, "process.exit"},
		{"of a command that is not there", worker(func(w *world) {
			w.refused(12, 0, record.ExecFailed{Error: int32(unix.ENOENT), Name: []byte("/bin/none")})
		}, 127<<8), 127 << 8, "process.exec"},
		{"of a command that may not be run", worker(func(w *world) {
			w.refused(12, 0, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/bin/none")})
		}, 126<<8), 126 << 8, "process.exec.refused"},
		{"of what a subshell runs", worker(func(w *world) {
			w.fork(12, 13)
			w.exec(13, "/bin/false", "false")
			w.exit(13, 1<<8)
		}, 1<<8), 1 << 8, "process.exec"},
		{"of the last of many", func(w *world) {
			for n := range uint32(33) {
				w.fork(11, 100+n)
				w.exit(100+n, 9)
			}
			w.fork(11, 12)
			w.exit(12, 3<<8)
		}, 3 << 8, "process.exec"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.codex(10)
			w.command(10, 11, "call_1", "bash", "-c", "x")
			c.do(w)
			w.exit(11, c.status)
			w.exit(10, 0)
			w.tick(3 * time.Second)
			var failed []string
			for _, s := range w.spans {
				if s.Failed && !s.Kind.Story() && get(s, span.KeyExitSignal) == nil {
					failed = append(failed, s.Kind.String())
				}
			}
			if !slices.Equal(failed, []string{c.want}) {
				t.Errorf("failed are %v, want %s", failed, c.want)
			}
			wants(t, w.told("call_1"), map[string]any{span.KeyCallExitCode: int64(c.status >> 8), span.KeyOutcome: "failed"})
			w.checkAccounts()
		})
	}
}

func TestSecondExitIsIgnored(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.exit(10, 0)
	w.exit(10, 0)
	w.only(span.Exec)
}

func TestProcessWhoseForkWasLost(t *testing.T) {
	w := newWorld(t)
	w.open(77, "/repo/x")
	w.exit(77, 0)
	s := w.only(span.Open)
	wants(t, s, map[string]any{span.KeyUnknownProcess: true, span.KeyExecutablePath: nil, span.KeyPID: 77, span.KeyFilePath: "/repo/x"})
	if s.Parent != (span.ID{}) || len(s.Links) != 0 {
		t.Errorf("parent %x, links %v", s.Parent, s.Links)
	}
}

func TestLostExecIsNotTakenForTheProgramBefore(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.execIDs[10]++
	w.open(10, "/repo/x")
	w.exit(10, 0)
	wants(t, w.only(span.Open), map[string]any{span.KeyUnknownProcess: true, span.KeyExecutablePath: nil, span.KeyParentExecutable: "/bin/sh"})
	wants(t, w.only(span.Exec), map[string]any{span.KeyReplaced: true})
}

func TestExecThatFailedHalfwayIsNoLostExec(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.execIDs[10]++
	w.exit(10, 9)
	wants(t, w.only(span.Exec), map[string]any{span.KeyReplaced: nil, span.KeyExitSignal: "SIGKILL"})
}

func TestProcessOlderThanTheSensor(t *testing.T) {
	w := newWorld(t)
	seen := func(pid, parent uint32, exe string) {
		h := w.header(pid)
		h.ExecID = 4
		w.execIDs[pid] = 4
		w.raw(rt.Record(h, record.Process{
			ParentTgid: parent, ParentStart: start(parent), Vpid: 3, UID: 7, Exe: rt.Path(exe), Cwd: rt.Path("/srv"),
		}))
	}
	seen(21, 20, "/bin/child") // before its parent
	at := w.now
	seen(20, 1, "/bin/agent")
	h := w.header(21)
	w.raw(record.AppendCmdline(nil, h, 2, rt.Args("child", "--token=x")))
	w.fork(21, 22)
	w.exec(22, "/bin/new", "new")
	w.exit(22, 0)
	w.tick(61 * time.Second)
	child, parent, fresh := w.execOf(21), w.execOf(20), w.execOf(22)
	wants(t, child, map[string]any{
		span.KeyPreexisting: true, span.KeyExecutablePath: "/bin/child", span.KeyParentExecutable: "/bin/agent",
		span.KeyCommandArgs: []string{"child", "--token=****"}, span.KeyArgsCount: 2, span.KeyWorkingDirectory: "/srv",
		span.KeyVPID: 3, span.KeyRealUserID: 7, span.KeyUserID: nil, span.KeyPartial: true,
	})
	if child.ID != span.SeenSpan(boot, image1(21, 4), at) || child.Parent != parent.ID || fresh.Parent != child.ID {
		t.Errorf("ids in %s", show(w.spans))
	}
	if child.Start != wallStart+21 {
		t.Errorf("start %d", child.Start-wallStart)
	}
	wants(t, parent, map[string]any{span.KeyCommandArgs: nil, span.KeyArgsCount: nil})
	w.exit(21, 0)
	if e := w.only(span.Exit); e.Parent != child.ID {
		t.Errorf("exit %s", show([]span.Span{e}))
	}
}

func TestLookAtAKnownProcessChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.raw(rt.Record(w.header(10), record.Process{Exe: rt.Path("/bin/x")}))
	w.exit(10, 0)
	wants(t, w.only(span.Exec), map[string]any{span.KeyPreexisting: nil})
}

// The sensor looks at what is there whenever something was moved into a sandbox, as each container's first process is. What is in
// the ring meanwhile comes after that.
func TestAProgramWhoseStartIsReadAfterALookIsWholeAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.cgroup[21] = two
	h := w.header(21)
	h.ExecID = 1
	w.raw(rt.Record(h, record.Process{ParentTgid: 20, ParentStart: start(20), Vpid: 3, Exe: rt.Path("/bin/new"), Cwd: rt.Path("/srv")}))
	w.exec(21, "/bin/new", "new", "--flag")
	w.raw(record.AppendCmdline(nil, h, 1, rt.Args("late")))
	w.exit(21, 0)
	s := w.only(span.Exec)
	wants(t, s, map[string]any{
		span.KeyPreexisting: nil, span.KeyCommandLine: "new --flag", span.KeyArgsCount: 2, span.KeyExecutablePath: "/bin/new", span.KeyExitCode: 0,
	})
	if get(s, span.KeyUserID) == nil {
		t.Error("its credentials are not told")
	}
}

func TestCloseSendsWhatIsHeld(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.open(10, "/repo/x")
	w.c.Close()
	w.c.Close()
	wants(t, w.only(span.Exec), map[string]any{span.KeyPartial: true})
	w.only(span.Open)
	if w.flush != 1 {
		t.Errorf("%d flushes", w.flush)
	}
}

func TestTextIsRepairedWhenAParentIsFoundLater(t *testing.T) {
	w := newWorld(t)
	for _, p := range []struct {
		pid, parent uint32
		exe         string
	}{{21, 20, "/t/\xffb"}, {20, 1, "/b/abcd"}} { // what a repair adds is as long as the parent's path
		w.cgroup[p.pid] = two
		w.raw(rt.Record(w.header(p.pid), record.Process{ParentTgid: p.parent, ParentStart: start(p.parent), Exe: rt.Path(p.exe), Cwd: rt.Path("/")}))
	}
	w.tick(61 * time.Second)
	wants(t, w.execOf(21), map[string]any{span.KeyExecutablePath: "/t/\uFFFDb", span.KeyParentExecutable: "/b/abcd", span.KeyUTF8Repaired: true})
}
