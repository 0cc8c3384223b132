// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

const memoryLimit = "67108864" // bytes

// controls turns a controller on for the sandboxes of a rig, and says whether this machine has it in cgroup v2.
func (r *rig) controls(t *testing.T, controller string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.mount.Dir, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(" "+strings.TrimSpace(string(text))+" ", " "+controller+" ") {
		if os.Getenv("SHEETBEND_GUEST") != "" {
			t.Fatalf("no controller %s: %s", controller, text)
		}
		return false
	}
	for _, dir := range []string{r.mount.Dir, filepath.Join(r.mount.Dir, r.base)} {
		write(t, filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
	}
	return true
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// memoryGroup makes a cgroup v1 directory with a limit, where v2 has none.
func memoryGroup(t *testing.T) (tasks string) {
	t.Helper()
	dir := fmt.Sprintf("/sys/fs/cgroup/memory/sheetbend-test-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no cgroup has a limit on memory here; the guests' have")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); ; {
			err := os.Remove(dir)
			if err == nil || time.Now().After(deadline) || !errors.Is(err, unix.EBUSY) {
				if err != nil {
					t.Error(err)
				}
				return
			}
		}
	})
	write(t, dir+"/memory.limit_in_bytes", memoryLimit)
	return dir + "/cgroup.procs"
}

func TestWhoIsKilledForMemoryIsTold(t *testing.T) {
	program := workloadtest.Build(t)
	r := newRig(t, bpf.Options{})
	r.start()
	r.read()
	v2 := r.controls(t, "memory")
	attr := r.sandbox("memory")
	tasks := ""
	if v2 {
		dir := filepath.Join(r.mount.Dir, r.base, "memory")
		write(t, dir+"/memory.max", memoryLimit)
		if err := os.WriteFile(dir+"/memory.swap.max", []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.Fatal(err)
		}
	} else {
		tasks = memoryGroup(t)
	}
	run := program.Start(t, attr, "role-memory")
	if tasks != "" {
		write(t, tasks, strconv.Itoa(run.Pid()))
	}
	result := run.Finish(t)
	r.stop()

	a := &account{t: t, facts: result.Facts, spans: r.sessions["memory"]}
	a.compare()
	killed := 0
	for _, s := range a.of(span.Exec) {
		if s.flag(span.KeyOOMKilled) {
			killed++
			if s.pid() == result.Pid || s.text(span.KeyExitSignal) != "SIGKILL" {
				t.Errorf("told of %v", s)
			}
		}
	}
	if killed != 1 {
		t.Errorf("%d programs were killed for memory, want one", killed)
	}
	if limits := a.of(span.Limit); v2 {
		hits := map[string]int{}
		for _, s := range limits {
			hits[s.text(span.KeyLimit)] += s.number(span.KeyCount)
		}
		if hits["memory.oom_kill"] != 1 || hits["memory.max"] == 0 {
			t.Errorf("limits %v", hits)
		}
	} else if len(limits) != 0 {
		t.Errorf("limits %v", limits)
	}
	r.lossless(t)
}

func TestForksBeyondALimitAreTold(t *testing.T) {
	program := workloadtest.Build(t)
	r := newRig(t, bpf.Options{})
	if !r.controls(t, "pids") {
		t.Skip("no cgroup v2 has a limit on processes here; the guests' have")
	}
	r.start()
	r.read()
	attr := r.sandbox("pids")
	write(t, filepath.Join(r.mount.Dir, r.base, "pids", "pids.max"), "40")
	const refusals = 7
	program.Run(t, attr, "role-fork", strconv.Itoa(refusals))
	r.stop()
	refused := 0
	for _, s := range r.sessions["pids"] {
		if s.Kind == span.Limit {
			if refused += s.number(span.KeyCount); s.text(span.KeyLimit) != "pids.max" || !s.Failed {
				t.Errorf("told of %v", s)
			}
		}
	}
	if refused != refusals {
		t.Errorf("%d refused forks are told, want %d", refused, refusals)
	}
	r.lossless(t)
}
