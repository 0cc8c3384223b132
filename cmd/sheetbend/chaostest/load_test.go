// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// A load runs the generator in sandboxes, one round after the other, and adds up what it says that it did.
type load struct {
	program workloadtest.Program
	mount   cgroup.Mount
	cgroup  string
	session string // begins the names of sandboxes
	before  func() // called when a sandbox is there and nothing runs in it

	mu    sync.Mutex
	facts map[string]int
	did   map[string]string // the session of each thing done, see event
}

func newLoad(t *testing.T, m cgroup.Mount, cg string) *load {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	if err := os.Chmod(os.Getenv("TMPDIR"), 0o777); err != nil {
		t.Fatal(err)
	}
	return &load{program: workloadtest.Build(t), mount: m, cgroup: cg, facts: map[string]int{}, did: map[string]string{}}
}

// round runs a storm of processes in a sandbox that begins and ends with it.
func (l *load) round(t *testing.T, name string, processes int) {
	t.Helper()
	cg := filepath.Join(l.cgroup, name)
	if err := l.mount.Create(cg); err != nil {
		t.Fatal(err)
	}
	dir, err := l.mount.Open(cg)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if l.before != nil {
		l.before()
	}
	r := l.program.Run(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}, "storm", strconv.Itoa(processes))
	l.add(r.Facts)
	if err := l.mount.Remove(t.Context(), cg); err != nil {
		t.Fatal(err)
	}
}

func (l *load) add(facts []workload.Fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range facts {
		l.facts[f.Kind]++
		l.did[event(f.Kind, f.Pid)] = l.session
	}
}

// event names what a process of the generator does: one thing of each kind.
func event(kind string, pid int) string { return kind + " of " + strconv.Itoa(pid) }

// run goes on for a time, one round at least.
func (l *load) run(t *testing.T, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	for i := 0; i == 0 || time.Now().Before(end); i++ {
		l.round(t, l.session+"s"+strconv.Itoa(i), 30)
	}
}

func (l *load) generated() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.facts)
}
