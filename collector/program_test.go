// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func (w *world) refused(pid uint32, flags uint16, r record.ExecFailed) {
	w.t.Helper()
	h := w.header(pid)
	h.Flags = flags
	w.raw(rt.Record(h, r))
}

func TestAnExecThatIsRefusedHasASpan(t *testing.T) {
	relative := record.ExecFailed{Path: rt.Path("/project"), Name: []byte("nx/../t")}
	for _, c := range []struct {
		name  string
		errno unix.Errno
		flags uint16
		exec  record.ExecFailed
		want  map[string]any
	}{
		{"no permission", unix.EACCES, record.OpenBase, relative, map[string]any{
			span.KeyRequestedExecutable: "/project/t", span.KeyErrorType: "EACCES", span.KeyOutcome: "refused", span.KeyCount: 1, span.KeyPID: 11}},
		{"no program", unix.ENOEXEC, 0, record.ExecFailed{Name: []byte("/x")}, map[string]any{
			span.KeyRequestedExecutable: "/x", span.KeyErrorType: "ENOEXEC", span.KeyOutcome: "failed"}},
		{"written to", unix.ETXTBSY, 0, record.ExecFailed{Name: []byte("/x")}, map[string]any{span.KeyOutcome: "refused"}},
		{"too many links", unix.ELOOP, 0, record.ExecFailed{Name: []byte("/x")}, map[string]any{span.KeyOutcome: "refused"}},
		{"too many arguments", unix.E2BIG, 0, record.ExecFailed{Name: []byte("/x")}, map[string]any{span.KeyOutcome: "failed"}},
		{"by descriptor", unix.EACCES, record.OpenBase | record.OpenTruncated, record.ExecFailed{Path: rt.Path("/project/x")},
			map[string]any{span.KeyRequestedExecutable: "…/project/x", span.KeyFilePathTruncated: true}},
		{"without a name", unix.EFAULT, record.OpenNameMissing, record.ExecFailed{}, map[string]any{
			span.KeyRequestedExecutable: nil, span.KeyFileNameMissing: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/sh", "sh")
			w.fork(10, 11)
			c.exec.Error = int32(c.errno)
			w.refused(11, c.flags, c.exec)
			at := w.now
			w.exit(11, 0)
			s := w.only(span.ExecRefused)
			wants(t, s, c.want)
			of := image1(10, 1)
			of.Tgid, of.Start = 11, start(11)
			if !s.Failed || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.ID != span.RefusedSpan(boot, of, 11, at) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestExecsOfWhatIsNotThereAreCounted(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.fork(10, 11)
	for _, e := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ENOENT} {
		w.refused(11, 0, record.ExecFailed{Error: int32(e), Name: []byte("/usr/bin/none")})
	}
	w.refused(11, 0, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/x")})
	w.refused(11, 0, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/x")})
	w.exit(11, 127<<8)
	w.exit(10, 0)
	wants(t, w.only(span.ExecRefused), map[string]any{span.KeyCount: 2})
	wants(t, w.only(span.Exec), map[string]any{span.KeyExecsMissing: 3, span.KeyWorkersFailed: 1})
	if len(w.of(span.Exit)) != 0 {
		t.Error("the exit of who could run no program has a span")
	}
	if w.only(span.Exec).Failed {
		t.Error("failed for a program that is not there")
	}
}

func TestAnExecThatFailsHalfwayIsNoOtherProgram(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	h := w.header(10)
	h.ExecID++ // the kernel has counted it already
	w.raw(rt.Record(h, record.ExecFailed{Error: int32(unix.ENOMEM), Name: []byte("/x")}))
	w.raw(rt.Record(h, record.Exit{Status: 11}))
	wants(t, w.only(span.ExecRefused), map[string]any{span.KeyExecutablePath: "/bin/sh", span.KeyUnknownProcess: nil})
	wants(t, w.only(span.Exec), map[string]any{span.KeyExitSignal: "SIGSEGV", span.KeyReplaced: nil})
}

func TestAWorkerThatEndsBadlyHasAnEnd(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/usr/bin/python3", "python3")
	for n, status := range []uint32{9, 11 | 0x80, 3 << 8, 0} {
		w.fork(10, uint32(11+n))
		w.tick(time.Second)
		w.exit(uint32(11+n), status)
	}
	w.fork(10, 20)
	w.exec(20, "/bin/true", "true")
	w.exit(20, 1<<8) // no worker
	list := w.of(span.Exit)
	if len(list) != 3 {
		t.Fatalf("spans %s", show(list))
	}
	for n, want := range []map[string]any{
		{span.KeyPID: 11, span.KeyExitSignal: "SIGKILL", span.KeyCoreDumped: nil, span.KeyExitCode: nil, span.KeyOutcome: "failed"},
		{span.KeyPID: 12, span.KeyExitSignal: "SIGSEGV", span.KeyCoreDumped: true},
		{span.KeyPID: 13, span.KeyExitCode: 3, span.KeyExitSignal: nil},
	} {
		s := list[n]
		want[span.KeyWorker], want[span.KeyExecutableName] = true, "python3"
		wants(t, s, want)
		if !s.Failed || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.Start != wallStart+uint64(11+n) || lasted(s) < time.Duration(n+1)*time.Second {
			t.Errorf("span %s", show([]span.Span{s}))
		}
	}
	w.exit(10, 0)
	wants(t, w.execOf(10), map[string]any{span.KeyWorkers: 4, span.KeyWorkersFailed: 3, span.KeyExitCode: 0})
}

func TestManyWorkersThatEndBadlyAreCounted(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/usr/bin/python3", "python3")
	for n := range uint32(200) {
		w.fork(10, 11+n)
		w.exit(11+n, 9)
	}
	if n := len(w.of(span.Exit)); n != 32 {
		t.Errorf("%d spans", n)
	}
	w.tick(time.Minute)
	wants(t, w.only(span.Exec), map[string]any{span.KeyWorkers: 200, span.KeyWorkersFailed: 200})
	w.fork(10, 300)
	w.exit(300, 9)
	if n := len(w.of(span.Exit)); n != 33 {
		t.Errorf("%d spans in the next minute", n)
	}
	w.exit(10, 0)
	wants(t, w.of(span.Exit)[33], map[string]any{span.KeyPID: 10, span.KeyWorker: nil, span.KeyWorkers: 1, span.KeyWorkersFailed: 1})
}

func TestWhomTheKernelKillsForMemory(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.codex(10)
	w.call(10, 11, "call_1")
	w.fork(11, 12)
	w.exec(12, "/usr/bin/node", "node")
	w.fork(12, 13)
	for _, pid := range []uint32{12, 13} {
		w.act(pid, record.OOM{ByTgid: 10})
	}
	w.exit(13, 9)
	w.exit(12, 9)
	w.exit(11, 137<<8)
	w.call(10, 21, "call_2")
	w.act(21, record.OOM{ByTgid: 10})
	w.exit(21, 0) // it was over anyway
	w.tick(15 * time.Second)
	for _, s := range []span.Span{w.only(span.Exit), w.execOf(12)} {
		wants(t, s, map[string]any{span.KeyExitSignal: "SIGKILL", span.KeyOOMKilled: true})
	}
	wants(t, w.execOf(21), map[string]any{span.KeyOOMKilled: nil})
	wants(t, w.told("call_1"), map[string]any{span.KeyCallOOM: true, span.KeyCallExitCode: 137})
	wants(t, w.told("call_2"), map[string]any{span.KeyCallOOM: nil})
}

func TestASignalToAProcessOutside(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.begin(20, one)
	w.exec(20, "/bin/neighbour", "n")
	w.begin(30, two)
	w.exec(30, "/bin/stranger", "s")
	signal := func(flags uint16, n, target uint32, cgroup uint64, exe string) {
		w.reach(10, flags, record.Access{Op: record.AccessSignal, Signal: n, TargetTgid: target, TargetStart: start(target), TargetCgroup: cgroup, Exe: rt.Path(exe)})
	}
	signal(record.AccessOutside, 15, 1, outside, "/sbin/init")
	signal(record.AccessOutside, 15, 1, outside, "/sbin/init")
	signal(record.AccessOutside, 9, 1, outside, "/sbin/init")
	signal(0, 34, 30, two, "")
	signal(0, 15, 20, one, "")       // a neighbour
	signal(0, 15, 40, oneInside, "") // of the sandbox, though its fork was lost
	w.exit(10, 0)
	list := w.of(span.Access)
	if len(list) != 3 {
		t.Fatalf("spans %s", show(list))
	}
	for n, want := range []map[string]any{
		{span.KeyAccessSignal: "SIGTERM", span.KeyAccessPID: 1, span.KeyAccessExe: "/sbin/init", span.KeyCount: 2},
		{span.KeyAccessSignal: "SIGKILL", span.KeyAccessPID: 1, span.KeyCount: 1},
		{span.KeyAccessSignal: "SIG34", span.KeyAccessPID: 30, span.KeyAccessExe: "/bin/stranger"},
	} {
		want[span.KeyAccessOp], want[span.KeyAccessOutside], want[span.KeyErrorType] = "signal", true, nil
		wants(t, list[n], want)
	}
}

func TestALimitThatIsHitIsTold(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Sandboxes = []config.Selector{{Cgroup: "/agents/*"}} })
	hit := func(cgroup uint64, which uint16, n uint64) {
		w.now += ms
		w.raw(record.AppendLimit(nil, w.now, cgroup, record.Limit{Which: which, Count: n}))
	}
	hit(one, record.LimitPids, 7)
	hit(outside, record.LimitPids, 7)
	hit(one, 77, 1)
	w.begin(10, two)
	w.codex(10)
	hit(two, record.LimitMemoryMax, 2)
	list := w.of(span.Limit)
	if len(list) != 3 {
		t.Fatalf("spans %s", show(list))
	}
	wants(t, list[0], map[string]any{span.KeyLimit: "pids.max", span.KeyCount: 7, span.KeyCgroup: "/agents/one", span.KeyPID: nil, span.KeyOutcome: nil})
	wants(t, list[1], map[string]any{span.KeyLimit: "limit_77", span.KeyAgentName: nil})
	wants(t, list[2], map[string]any{span.KeyLimit: "memory.max", span.KeyCount: 2, span.KeyAgentName: "codex", span.KeyInstance: span.AgentInstance(boot, image1(10, 1))})
	if !list[0].Failed || list[1].Failed || list[2].Failed || list[0].Parent != (span.ID{}) {
		t.Errorf("spans %s", show(list))
	}
}

// Who looks for a program in one directory after the other meets some that it may not enter. That is no refusal that
// anybody asks for, unless the program was refused and was nowhere else.
func TestASearchForAProgramIsNoRefusal(t *testing.T) {
	const refused, missing = unix.EACCES, unix.ENOENT
	type try struct {
		file  string
		errno unix.Errno // 0: it ran
	}
	for name, c := range map[string]struct {
		tries []try
		want  []string // that are notable
	}{
		"found later":           {tries: []try{{"/root/bin/tool", refused}, {"/sbin/tool", refused}, {"/bin/tool", 0}}},
		"nowhere":               {tries: []try{{"/root/bin/tool", refused}, {"/sbin/tool", missing}, {"/bin/tool", missing}}},
		"and last":              {tries: []try{{"/bin/tool", missing}, {"/root/bin/tool", refused}}},
		"refused everywhere":    {tries: []try{{"/root/bin/tool", refused}, {"/opt/tool", refused}}, want: []string{"/opt/tool"}},
		"once":                  {tries: []try{{"/opt/tool", refused}}, want: []string{"/opt/tool"}},
		"again and again":       {tries: []try{{"/opt/tool", refused}, {"/opt/tool", refused}, {"/opt/tool", 0}}, want: []string{"/opt/tool"}},
		"and another runs then": {tries: []try{{"/opt/tool", refused}, {"/bin/other", 0}}, want: []string{"/opt/tool"}},
		"of two":                {tries: []try{{"/opt/tool", refused}, {"/opt/other", refused}, {"/bin/other", 0}}, want: []string{"/opt/tool"}},
	} {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/sh", "sh")
		w.fork(10, 11)
		for _, x := range c.tries {
			if x.errno == 0 {
				w.exec(11, x.file, "tool")
				continue
			}
			w.refused(11, 0, record.ExecFailed{Name: []byte(x.file), Error: int32(x.errno)})
		}
		w.exit(11, 0)
		w.c.Close()
		var got []string
		for _, s := range w.of(span.ExecRefused) {
			if is := get(s, span.KeyNotableEvent) != nil; is {
				got = append(got, fmt.Sprint(get(s, span.KeyRequestedExecutable)))
			} else if get(s, span.KeySearch) != true || s.Failed || get(s, span.KeyOutcome) != "refused" {
				t.Errorf("%s: %s", name, show([]span.Span{s}))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q are notable, want %q", name, got, c.want)
		}
	}
}
