// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
)

// needRoot skips without root; in CI that is a failure, for nothing may be skipped there.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root to load BPF programs")
}

// load loads the sensor and makes a watched cgroup.
func load(t *testing.T, o bpf.Options) (s *bpf.Sensor, dir *os.File) {
	t.Helper()
	needRoot(t)
	mount, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	o.CgroupRoot = mount.Dir
	s, err = bpf.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	path, err := os.MkdirTemp(mount.Dir, "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	dir, err = os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	id, err := mount.ID("/" + filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Watch(id, bpf.WatchTasks); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// run runs a command in the cgroup and returns the records of it, raw.
func run(t *testing.T, s *bpf.Sensor, dir *os.File, name string, args ...string) [][]byte {
	t.Helper()
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return drain(t, s)
}

// drain returns the records that wait in the ring, raw.
func drain(t *testing.T, s *bpf.Sensor) [][]byte {
	t.Helper()
	var records [][]byte
	s.SetDeadline(time.Now())
	for {
		raw, err := s.Read(nil)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, append([]byte(nil), raw...))
	}
}

// forms are the forms of hook that this kernel can attach; the tracepoint form is always among them.
func forms(t *testing.T) []bpf.Form {
	t.Helper()
	needRoot(t)
	mount, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	s, err := bpf.Load(bpf.Options{CgroupRoot: mount.Dir, Form: bpf.FormTrampoline})
	if err != nil {
		t.Logf("no trampolines here: %v", err)
		return []bpf.Form{bpf.FormTracepoint}
	}
	s.Close()
	return []bpf.Form{bpf.FormTrampoline, bpf.FormTracepoint}
}

func TestProcessIsSeenFromForkToExitInOrder(t *testing.T) {
	for _, form := range allForms(t) {
		t.Run(string(form), func(t *testing.T) {
			s, dir := load(t, bpf.Options{Form: form})
			var order []record.Type
			var opened bool
			for _, raw := range run(t, s, dir, "/bin/sh", "-c", "true </etc/passwd") {
				var e record.Event
				if err := e.Decode(raw); err != nil {
					t.Fatal(err)
				}
				if e.Header.Type == record.TypeOpen {
					opened = opened || string(e.Open.Path.AppendPath(nil)) == "/etc/passwd"
					continue
				}
				order = append(order, e.Header.Type)
			}
			if !opened {
				t.Error("the open of /etc/passwd was not recorded")
			}
			want := []record.Type{record.TypeFork, record.TypeExec, record.TypeExit}
			if len(order) != len(want) || order[0] != want[0] || order[1] != want[1] || order[2] != want[2] {
				t.Errorf("records %v, want %v", order, want)
			}
			losses, err := s.Losses()
			if err != nil || len(losses) > 0 {
				t.Errorf("losses %v, %v; want none", losses, err)
			}
		})
	}
}

func TestFullRingIsCountedExactly(t *testing.T) {
	s, dir := load(t, bpf.Options{Form: bpf.FormTracepoint, RingBytes: 64 << 10})
	const opens = 5000
	records := run(t, s, dir, "/bin/sh", "-c", "i=0; while [ $i -lt 5000 ]; do : </dev/zero; i=$((i+1)); done")
	var seen, lost uint64
	for _, raw := range records {
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		if e.Header.Type == record.TypeOpen && string(e.Open.Path.AppendPath(nil)) == "/dev/zero" {
			seen++
		}
	}
	losses, err := s.Losses()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range losses {
		if record.Type(l.Kind) == record.TypeOpen {
			lost += l.Count
		}
	}
	if lost == 0 || seen+lost < opens || seen+lost > opens+20 { // the loader's few opens may be among the lost
		t.Errorf("seen %d + lost %d, want %d and some lost", seen, lost, opens)
	}
}

func TestRecordsOfOtherCgroupsAreNotSent(t *testing.T) {
	s, dir := load(t, bpf.Options{Form: bpf.FormTracepoint})
	if out, err := exec.Command("/bin/sh", "-c", "true </etc/passwd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first := uint32(0)
	for _, raw := range run(t, s, dir, "/bin/true") {
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		if e.Header.Type == record.TypeFork {
			first = e.Fork.ChildTgid
			continue
		}
		if e.Header.Tgid != first {
			t.Errorf("a %v of process %d, which is not in the sandbox", e.Header.Type, e.Header.Tgid)
		}
	}
}

func TestExistingProcessesAreReported(t *testing.T) {
	s, dir := load(t, bpf.Options{Form: bpf.FormTracepoint})
	c := exec.Command("/bin/cat")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer in.Close()
	var found int
	err = s.Existing(func(raw []byte) error {
		var e record.Event
		if err := e.Decode(raw); err != nil {
			return err
		}
		if e.Header.Tgid != uint32(c.Process.Pid) {
			t.Errorf("process %d reported, which is not in the sandbox", e.Header.Tgid)
		}
		exe, _ := filepath.EvalSymlinks("/bin/cat")
		if got := string(e.Process.Exe.AppendPath(nil)); got != exe {
			t.Errorf("executable %s, want %s", got, exe)
		}
		if e.Process.ParentTgid != uint32(os.Getpid()) {
			t.Errorf("parent %d, want %d", e.Process.ParentTgid, os.Getpid())
		}
		found++
		return nil
	})
	if err != nil || found != 1 {
		t.Errorf("%d processes reported, error %v; want 1", found, err)
	}
}

// TestWhatAnOlderProcessMayHaveMadeUpIsSaid looks at processes whose paths or executable are not what they seem.
func TestWhatAnOlderProcessMayHaveMadeUpIsSaid(t *testing.T) {
	program := workloadtest.Build(t)
	s, dir := load(t, bpf.Options{Form: bpf.FormTracepoint})
	const made = record.ExecForeignMounts | record.ExecForeignRoot | record.ExecExeSet
	want := map[uint32]uint16{}
	for _, p := range []struct {
		attr  syscall.SysProcAttr
		run   []string
		flags uint16
	}{
		{syscall.SysProcAttr{}, []string{"wait"}, 0},
		{syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}, []string{"wait"}, 0},
		{syscall.SysProcAttr{}, []string{"role-wait-root", t.TempDir()}, record.ExecForeignRoot},
		{syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{Size: 1}}}, []string{"wait"}, record.ExecExeSet},
		{
			syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: []syscall.SysProcIDMap{{Size: 1}}}, []string{"wait"},
			record.ExecExeSet | record.ExecForeignMounts,
		},
	} {
		p.attr.UseCgroupFD, p.attr.CgroupFD = true, int(dir.Fd())
		running := program.Start(t, &p.attr, p.run...)
		want[uint32(running.Pid())] = p.flags
		defer running.Finish(t)
	}
	err := s.Existing(func(raw []byte) error {
		var e record.Event
		if err := e.Decode(raw); err != nil {
			return err
		}
		flags, ok := want[e.Header.Tgid]
		if got := e.Header.Flags & made; !ok || got != flags {
			t.Errorf("process %d has the flags %#x, want %#x (%v)", e.Header.Tgid, got, flags, ok)
		}
		delete(want, e.Header.Tgid)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("not told: %v; %v", want, err)
	}
}

func TestBadOptionsAreRefusedBeforeAnythingIsLoaded(t *testing.T) {
	for name, o := range map[string]bpf.Options{
		"no cgroup root":       {},
		"odd ring size":        {CgroupRoot: "/", RingBytes: 100_000},
		"unknown form":         {CgroupRoot: "/", Form: "kprobe"},
		"name too long to use": {CgroupRoot: "/", EnvNames: []string{"A_NAME_OF_MORE_THAN_THIRTY_ONE_BYTES"}},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := bpf.Load(o); err == nil {
				s.Close()
				t.Error("loaded")
			}
		})
	}
}

// Somebody else may close the perf events when it suits him: nothing of ours runs any more.
func TestProgramsEndBeforeTheirPerfEvents(t *testing.T) {
	needRoot(t)
	mount, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	s, err := bpf.Load(bpf.Options{
		CgroupRoot: mount.Dir, Form: bpf.FormTracepoint, CloseEvents: func(events []*os.File) { held = events },
	})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Programs()
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, e := range held {
			_ = e.Close()
		}
	}()
	end := time.Now().Add(time.Minute)
	for _, id := range ids {
		for {
			p, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("program %d is still there (%v)", id, err)
			}
			_ = p.Close()
			<-time.After(10 * time.Millisecond)
		}
	}
}
