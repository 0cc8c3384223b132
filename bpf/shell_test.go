// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package bpf_test

// Tests that need a shell and cp, which the guests of the kernel tests do not have.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// TestOneWhoEntersACgroupThatItJustMadeStaysWatched: until user space has taken the watch of the new directory back, who comes
// there seems not to have left.
func TestOneWhoEntersACgroupThatItJustMadeStaysWatched(t *testing.T) {
	const script = `mkdir "$1" && echo 0 >"$1/cgroup.procs" && sleep 0.5 && cat "$2" "$3" >/dev/null`
	dir := t.TempDir()
	first, later := filepath.Join(dir, "first"), filepath.Join(dir, "later")
	for _, file := range []string{first, later} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := unskipped(t, bpf.Options{}, func(r *rig) {
		r.start()
		r.read()
		made := r.base + "-made"
		t.Cleanup(func() { _ = os.Remove(filepath.Join(r.mount.Dir, made)) })
		sh := exec.Command("sh", "-c", script, "sh", filepath.Join(r.mount.Dir, made), first, later)
		sh.SysProcAttr = r.sandbox("leaves")
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r.stop()
	})
	for _, file := range []string{first, later} {
		if !slices.ContainsFunc(r.sessions["leaves"], func(s *seen) bool { return s.Kind == span.Open && s.text(span.KeyFilePath) == file }) {
			t.Errorf("the open of %s is not told", file)
		}
	}
	if !slices.ContainsFunc(r.sessions["leaves"], func(s *seen) bool { return s.Kind == span.Escape }) {
		t.Error("no escape is told")
	}
}

// TestAnAgentIsFoundWhereItsFirstMomentIsWatchedAlready: below a suspect that is no agent, and in a cgroup that was just made.
func TestAnAgentIsFoundWhereItsFirstMomentIsWatchedAlready(t *testing.T) {
	dir := t.TempDir()
	named := func(name string) string {
		to := filepath.Join(dir, name)
		if out, err := exec.Command("cp", "-L", "/bin/sh", to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return to
	}
	agent, launcher := named("codex"), named("python3.11")
	files := map[string]string{}
	for _, name := range []string{"below", "made"} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := unskipped(t, bpf.Options{Programs: []bpf.ProgramName{{Name: "codex"}, {Name: "python", Stem: true}}}, func(r *rig) {
		r.start()
		r.read()
		const look = `sleep 0.3; cat "$0" >/dev/null; :`
		made := r.base + "-made"
		if err := os.Mkdir(filepath.Join(r.mount.Dir, made), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(filepath.Join(r.mount.Dir, made)) })
		opened, err := r.mount.Open(made)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		in := exec.Command(agent, "-c", look, files["made"])
		in.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(opened.Fd())}
		for _, run := range []*exec.Cmd{in, exec.Command(launcher, "-c", `"$0" -c "$1" "$2"; :`, agent, look, files["below"])} {
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		r.stop()
	})
	for name, file := range files {
		if !slices.ContainsFunc(r.spans.spans, func(s *seen) bool { return s.Kind == span.Open && s.text(span.KeyFilePath) == file }) {
			t.Errorf("what the agent opens is not told (%s)", name)
		}
	}
}

// TestASuspectsArgumentsTakeLittleRoom: anybody can start programs with the names of interpreters.
func TestASuspectsArgumentsTakeLittleRoom(t *testing.T) {
	suspect := filepath.Join(t.TempDir(), "python3.11")
	if out, err := exec.Command("cp", "-L", "/bin/sh", suspect).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := newRig(t, bpf.Options{Programs: []bpf.ProgramName{{Name: "python", Stem: true}}})
	r.start()
	r.read()
	cmd := exec.Command(suspect, "-c", ":", strings.Repeat("x", 100<<10))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.stop()
	told := false
	for _, raw := range r.raw.records {
		var e record.Event
		if e.Decode(raw) != nil || int(e.Header.Tgid) != cmd.Process.Pid {
			continue
		}
		told = told || e.Header.Type == record.TypeExec && e.Exec.ArgsSize > 100<<10
		if e.Header.Type == record.TypeExecArgs || len(raw) > 24<<10 {
			t.Errorf("a record of %d bytes, of type %d", len(raw), e.Header.Type)
		}
	}
	if !told {
		t.Error("the program is not told of, or not the size of its arguments")
	}
}

// TestAChildThatNobodyWaitedForLeavesNoEntry: one that ended before the sensor came has no end any more that takes it away.
func TestAChildThatNobodyWaitedForLeavesNoEntry(t *testing.T) {
	const name = "codex-aarch64-unknown-linux-musl" // nobody else's on this machine
	agent := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("cp", "-L", "/bin/sh", agent).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), bpf.UnwaitedVariable+"="+agent)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscanln(out, &child); err != nil {
		t.Fatal(err)
	}
	ended, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ended)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(ended), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
		t.Fatalf("the child has not ended: %d, %v", n, err)
	}
	r := newRig(t, bpf.Options{Programs: []bpf.ProgramName{{Name: name}}})
	r.start()
	r.read()
	if !r.sensor.Follows(uint32(cmd.Process.Pid)) {
		t.Error("the agent is not followed")
	}
	_ = in.Close()
	_ = cmd.Wait()
	for _, table := range []string{"followed", "watched"} {
		if n, err := r.sensor.Entries(table); n != 0 || err != nil {
			t.Errorf("%s: %d entries are left (%v)", table, n, err)
		}
	}
	r.stop()
}
