// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A trick is a way not to be seen. docs/evasion.md has one row for each, in this order.
type trick struct {
	what     string
	scenario string // of bpf/workload; "" when there is nothing to see
	seen     string // what the spans say
	where    string // on which kernels and in which form of the hooks; for a trick that is not seen: why not
}

// TestTricksAreSeen runs every scenario that tries not to be seen, for each form of the hooks.
func TestTricksAreSeen(t *testing.T) {
	program := workloadtest.Build(t)
	said := map[string]string{}
	for _, trick := range tricks {
		said[trick.scenario] = trick.what
	}
	var names, compat []string
	for _, name := range workload.Names() {
		switch {
		case strings.HasSuffix(name, "-int80"):
			compat = append(compat, name)
		case strings.HasPrefix(name, workload.EvadePrefix):
			names = append(names, name)
		}
	}
	int80 := program.Int80(t)
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) { testScenarios(t, program, bpf.Options{Form: form}, names, said) })
		if !int80 {
			continue
		}
		t.Run("with 32-bit system calls, by "+string(form), func(t *testing.T) {
			testScenarios(t, program, bpf.Options{Form: form, CompatCalls: true}, compat, said)
		})
	}
}

// TestEveryTrickStandsInTheDocument holds the table of tricks, the scenarios and docs/evasion.md together.
func TestEveryTrickStandsInTheDocument(t *testing.T) {
	named := map[string]bool{}
	for _, trick := range tricks {
		named[trick.scenario] = true
		if trick.scenario != "" && !slices.Contains(workload.Names(), trick.scenario) {
			t.Errorf("%s: the workload has no scenario %q", trick.what, trick.scenario)
		}
	}
	for _, name := range workload.Names() {
		if strings.HasPrefix(name, workload.EvadePrefix) && !named[name] {
			t.Errorf("scenario %s is in no row of the table", name)
		}
	}

	var want []string
	for _, trick := range tricks {
		scenario := "none"
		if trick.scenario != "" {
			scenario = "`" + trick.scenario + "`"
		}
		want = append(want, fmt.Sprintf("| %s | %s | %s | %s |", trick.what, trick.seen, trick.where, scenario))
	}
	if os.Getenv("SHEETBEND_GUEST") != "" {
		return // the documents stay outside
	}
	doc, err := os.ReadFile(filepath.Join("..", "docs", "evasion.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| trick ") {
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/evasion.md has other rows than the table of tricks; it should have:\n%s", strings.Join(want, "\n"))
	}
}

// trampoline tells whether opens are seen by trampolines, not by tracepoints.
func (r *rig) trampoline() bool {
	return slices.ContainsFunc(r.sensor.Hooks(), func(h bpf.Hook) bool { return h.Name == "open_file" && h.Attached })
}

func init() {
	demand := func(name string, check func(*testing.T, *rig, *account)) { particular[name] = check }

	for _, name := range workload.Names() {
		if strings.HasPrefix(name, workload.NoisePrefix) {
			demand(name, isNoNoise)
		}
	}
	demand("evade-exec-int80", func(t *testing.T, r *rig, a *account) {
		told, want := 0, 0
		for _, s := range a.of(span.ExecRefused) {
			if s.text(span.KeyRequestedExecutable) == workload.RefusedByInt80 && s.text(span.KeyErrorType) == "EACCES" {
				told += s.number(span.KeyCount)
			}
		}
		if !r.trampoline() {
			want = 2
		}
		if told != want {
			t.Errorf("%d refused execs by 32-bit system calls, want %d", told, want)
		}
	})
	demand("evade-exec-root", func(t *testing.T, r *rig, a *account) {
		var e record.Event
		for _, raw := range r.raw.records {
			if err := e.Decode(raw); err != nil || e.Header.Type != record.TypeExec || !slices.ContainsFunc(a.spans, func(s *seen) bool { return s.pid() == int(e.Header.Tgid) }) {
				continue
			}
			exe := string(e.Exec.Exe.AppendPath(nil))
			if below := e.Header.Flags&record.ExecForeignRoot != 0; below != (exe == "/program") {
				t.Errorf("%s is below another root: %v", exe, below)
			}
		}
	})

	// Where only the submission is seen, the span says so; where the open is, it says nothing of the kind.
	submitted := func(kind span.Kind, key string) func(*testing.T, *rig, *account) {
		return func(t *testing.T, r *rig, a *account) {
			for _, f := range a.facts {
				if !f.Submitted {
					continue
				}
				for _, s := range a.of(kind) {
					if difference(f, s) == "" && s.flag(key) == r.trampoline() {
						t.Errorf("%s is %v: %v", key, s.flag(key), s)
					}
				}
			}
		}
	}
	for _, name := range []string{"evade-open-uring", "evade-open-uring-worker", "evade-open-uring-sqpoll"} {
		demand(name, submitted(span.Open, span.KeyFileSubmitted))
	}
	demand("evade-unix-uring", submitted(span.Connect, span.KeyPeerSubmitted))

	demand("evade-open-swap-refused", func(t *testing.T, r *rig, a *account) {
		count := 0
		for _, s := range a.of(span.Open) {
			if !strings.Contains(s.text(span.KeyFilePath), "/nothing-") {
				continue
			}
			count += max(s.number(span.KeyCount), 1)
			if s.flag(span.KeyFileNameFromUser) == r.trampoline() {
				t.Errorf("whose word the name is: %v", s)
			}
		}
		if count != workload.RaceOpens {
			t.Errorf("%d refused opens are told, want %d", count, workload.RaceOpens)
		}
	})
	demand("evade-open-hard-link", func(t *testing.T, _ *rig, a *account) {
		inodes := map[string]bool{}
		for _, f := range a.facts {
			for _, s := range a.of(span.Open) {
				if s.text(span.KeyFilePath) == f.Path && s.text(span.KeyFileAccess) == "read" {
					inodes[s.text(span.KeyFileInode)] = true
				}
			}
		}
		if len(inodes) != 1 {
			t.Errorf("two names of one file have the inodes %v", inodes)
		}
	})
	demand("evade-open-detached-mount", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Open) {
			if s.text(span.KeyFilePath) == a.facts[0].Path && !s.flag(span.KeyFilePathOutside) {
				t.Errorf("not said to lie outside of the root: %v", s)
			}
		}
	})
	demand("evade-open-passed", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Open) {
			if s.text(span.KeyFilePath) == a.facts[0].Path && s.pid() != a.facts[0].Pid && s.text(span.KeyFileAccess) == "read" {
				t.Errorf("an open that was none: %v", s)
			}
		}
	})
	demand("evade-exec-rewrites-argv", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Exec) {
			if args, _ := s.attrs[span.KeyCommandArgs].([]string); s.pid() == a.facts[0].Pid && !slices.Contains(args, "the-secret-word") {
				t.Errorf("its arguments are %q", args)
			}
		}
	})
	demand("evade-exec-2-mib", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Exec) {
			if s.pid() == a.facts[0].Pid && !s.flag(span.KeyArgsTruncated) {
				t.Error("2 MiB of arguments are said to be whole")
			}
		}
	})
	demand("evade-exec-namespaces", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Exec) {
			if s.pid() == a.facts[1].Pid && s.number(span.KeyVPID) != 1 {
				t.Errorf("it takes itself for process %d", s.number(span.KeyVPID))
			}
		}
	})
	for _, name := range []string{"evade-unix-exchanged", "evade-unix-both", "evade-vsock-exchanged"} {
		demand(name, func(t *testing.T, r *rig, a *account) {
			for _, s := range a.of(span.Connect) {
				exchanged := slices.ContainsFunc(a.facts, func(f workload.Fact) bool {
					return f.Exchanged != "" && f.Pid == s.pid() && difference(f, s) == ""
				})
				if exchanged && s.flag(span.KeyPeerFromUser) == r.trampoline() {
					t.Errorf("whose word the address is: %v", s)
				}
			}
		})
	}
	demand("evade-connect-exchanged", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Connect) {
			if s.flag(span.KeyPartial) {
				t.Errorf("its outcome is not known: %v", s)
			}
		}
	})
	demand("evade-getfd-exchanged", func(t *testing.T, _ *rig, a *account) { a.atMost(span.Access, 2*workload.ExchangedCalls) })
	demand("evade-memory-gone", func(t *testing.T, _ *rig, a *account) { a.atMost(span.Access, 1) })
	demand("evade-setns-exchanged", func(t *testing.T, _ *rig, a *account) { a.atMost(span.Namespace, 2*workload.ExchangedCalls) })
	demand("evade-send-udp-elsewhere", func(t *testing.T, r *rig, a *account) {
		var e record.Event
		packets := 0
		for _, raw := range r.raw.records {
			if err := e.Decode(raw); err == nil && e.Header.Type == record.TypePacket && int(e.Header.Tgid) == a.facts[0].Pid {
				packets++
			}
		}
		if packets != 1 {
			t.Errorf("%d packets are taken for lookups, want one", packets)
		}
	})
	demand("evade-unix-runtime", func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Connect) {
			if !s.flag(span.KeySensitive) {
				t.Errorf("not said to be sensitive: %v", s)
			}
		}
	})
	for _, name := range []string{"evade-leave-born-outside", "evade-leave-sibling"} {
		demand(name, func(t *testing.T, _ *rig, a *account) {
			if escapes := a.of(span.Escape); len(escapes) != 1 {
				t.Errorf("%d escapes, want one: %v", len(escapes), escapes)
			}
		})
	}
}

// atMost wants calls of a kind told, in all, and of no fact more than it has: what is told of none is not known. Refusals do
// not count.
func (a *account) atMost(kind span.Kind, calls int) {
	a.t.Helper()
	unknown := 0
	known := map[int]int{}
	for _, s := range a.of(kind) {
		if s.text(span.KeyErrorType) != "" || s.text(span.KeyNamespaceOp) == "clone" {
			continue
		}
		n := slices.IndexFunc(a.facts, func(f workload.Fact) bool {
			f.Count = s.number(span.KeyCount)
			return f.Exchanged != "" && f.Pid == s.pid() && difference(f, s) == ""
		})
		types, target := s.attrs[span.KeyNamespaceTypes], s.attrs[span.KeyAccessPID]
		switch {
		case n >= 0:
			known[n] += s.number(span.KeyCount)
		case types == nil && target == nil:
			unknown += s.number(span.KeyCount)
		default:
			a.t.Errorf("not what was done: %v", s)
		}
	}
	sum := unknown
	for n, count := range known {
		sum += count
		if f := a.facts[n]; count > f.Count {
			a.t.Errorf("told %d times: %+v", count, f)
		}
	}
	if sum != calls {
		a.t.Errorf("%d calls are told, of %d", sum, calls)
	}
	a.t.Logf("of %d calls %d are told without what they were done to", calls, unknown)
}

// TestTheLoaderAsAProgram runs a program by the dynamic loader: the exec is the loader's, and the program is in what it
// was asked for and what it opened.
func TestTheLoaderAsAProgram(t *testing.T) {
	if os.Getenv("SHEETBEND_GUEST") != "" {
		return // no loader there: see the table
	}
	workloadtest.Root(t)
	loader, err := filepath.EvalSymlinks("/lib64/ld-linux-x86-64.so.2")
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, body, 0o644); err != nil { // the loader does not even need it to be executable
		t.Fatal(err)
	}
	r := unskipped(t, bpf.Options{}, func(r *rig) {
		r.start()
		r.read()
		cmd := exec.Command(loader, program)
		cmd.SysProcAttr = r.sandbox("loader")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r.stop()
	})
	var ran, opened bool
	for _, s := range r.sessions["loader"] {
		args, _ := s.attrs[span.KeyCommandArgs].([]string)
		ran = ran || s.Kind == span.Exec && s.text(span.KeyExecutablePath) == loader && slices.Equal(args, []string{loader, program})
		opened = opened || s.Kind == span.Open && s.text(span.KeyFilePath) == program
	}
	if !ran || !opened {
		t.Errorf("the loader's exec is told: %v; the program's open: %v; all: %v", ran, opened, r.sessions["loader"])
	}
}

// TestAThreadThatLeavesStaysWatched: with threaded cgroups one thread of a process can be outside while the others stay.
func TestAThreadThatLeavesStaysWatched(t *testing.T) {
	program := workloadtest.Build(t)
	var result workloadtest.Result
	r := unskipped(t, bpf.Options{}, func(r *rig) {
		r.start()
		r.read()
		r.sandbox("threaded")
		outside := filepath.Join(r.mount.Dir, r.base)
		inside := filepath.Join(outside, "threaded")
		if err := os.WriteFile(filepath.Join(inside, "cgroup.type"), []byte("threaded"), 0); err != nil {
			t.Fatal(err)
		}
		dir, err := r.mount.Open(r.base)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		result = program.Run(t, attr, "leave-thread", inside, outside)
		r.stop()
	})
	a := &account{t: t, facts: result.Facts, spans: r.sessions["threaded"]}
	a.compare()
}

// isNoNoise replays what was seen with the default list of noise: what the child read is told, what its parent read is not.
func isNoNoise(t *testing.T, r *rig, a *account) {
	config := r.config
	config.Noise = nil
	var again recorder
	c, err := collector.New(config, &again)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range r.raw.records {
		if err := c.Record(raw); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	child := 0
	for _, f := range a.facts {
		if f.Kind == "end" {
			child = f.Pid
		}
	}
	for _, f := range a.facts {
		if f.Kind != "open" {
			continue
		}
		told := slices.ContainsFunc(again.spans, func(s *seen) bool {
			return s.Kind == span.Open && s.pid() == f.Pid && s.attrs[span.KeyFilePath] == f.Path
		})
		if told != (f.Pid == child) {
			t.Errorf("%s, read by process %d, is told: %v; the child is %d", f.Path, f.Pid, told, child)
		}
	}
}
