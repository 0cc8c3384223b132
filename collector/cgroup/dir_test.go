// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asNamespaced makes the test binary say what it finds, of itself and of the processes that are listed.
const asNamespaced = "SHEETBEND_TEST_AS_NAMESPACED"

func TestMain(m *testing.M) {
	if list := os.Getenv(asNamespaced); list != "" {
		mount, err := Find()
		fmt.Println(mount.Dir, err)
		for pid := range strings.FieldsSeq(strconv.Itoa(os.Getpid()) + " " + list) {
			n, _ := strconv.Atoi(pid)
			fmt.Println(mount.Of(n))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A container that is not privileged has a cgroup namespace of its own: it is shown other paths than the host.
func TestInACgroupNamespaceOfItsOwnPathsAreThoseOfTheHost(t *testing.T) {
	m, cg := hierarchy(t)
	for _, c := range []string{"/pod/one", "/pod/two", "/other"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
	}
	sibling, other := sleeper(t, m, cg+"/pod/two"), sleeper(t, m, cg+"/other")
	dir, err := m.Open(cg + "/pod/one")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", asNamespaced, sibling.Process.Pid, other.Process.Pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Unshareflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	want := fmt.Sprintf("%s <nil>\n%s/pod/one <nil>\n%s/pod/two <nil>\n%s/other <nil>\n", m.Dir, cg, cg, cg)
	if err != nil || string(out) != want {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
}

// hierarchy is the host's, with a directory of the test's own that is removed at its end.
func hierarchy(t *testing.T) (Mount, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root to make cgroups")
		}
		t.Skip("needs root to make cgroups")
	}
	m, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	cg := fmt.Sprintf("/sheetbend-test-%d", os.Getpid())
	if err := m.Create(cg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = m.Kill(ctx, cg)
		if err := m.Remove(ctx, cg); err != nil {
			t.Error(err)
		}
	})
	return m, cg
}

// sleeper runs a process in the cgroup from its first instant.
func sleeper(t *testing.T, m Mount, cg string) *exec.Cmd {
	t.Helper()
	dir, err := m.Open(cg)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestTheIDOfACgroupIsStableAndItsOwn(t *testing.T) {
	m, cg := hierarchy(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	outer, err := m.ID(cg)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := m.ID(cg + "/a")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := m.ID(cg); again != outer || inner == outer || inner == 0 || outer == 0 {
		t.Errorf("ids %d, %d, then %d", outer, inner, again)
	}
	if root, err := m.ID("/"); err != nil || root != 1 {
		t.Errorf("the root's id is %d (%v), want 1", root, err)
	}
	if _, err := m.ID(cg + "/gone"); err == nil {
		t.Error("a cgroup that does not exist has an id")
	}
	for id, want := range map[uint64]string{1: "/", outer: cg, inner: cg + "/a"} {
		if got, err := m.Path(id); err != nil || got != want {
			t.Errorf("id %d is %q (%v), want %s", id, got, err, want)
		}
	}
	if err := os.Remove(m.dir(cg + "/a")); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Path(inner); err == nil {
		t.Errorf("the id of a cgroup that is gone is %q", got)
	}
}

func TestProcessesAreListedMovedAndKilled(t *testing.T) {
	m, cg := hierarchy(t)
	for _, c := range []string{"/a/b", "/c"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
	}
	deep, side := sleeper(t, m, cg+"/a/b"), sleeper(t, m, cg+"/c")
	pids, err := m.Procs(cg)
	slices.Sort(pids)
	want := []int{deep.Process.Pid, side.Process.Pid}
	slices.Sort(want)
	if err != nil || !slices.Equal(pids, want) {
		t.Fatalf("processes %v (%v), want %v", pids, err, want)
	}
	if err := m.Move(deep.Process.Pid, cg+"/c"); err != nil {
		t.Fatal(err)
	}
	if of, err := m.Of(deep.Process.Pid); err != nil || of != cg+"/c" {
		t.Errorf("the moved process is in %q (%v)", of, err)
	}
	if names, err := m.Children(cg); err != nil || !slices.Equal(names, []string{"a", "c"}) {
		t.Errorf("children %v (%v)", names, err)
	}
	if p, err := m.Populated(cg); err != nil || !p {
		t.Errorf("populated %v (%v) while processes run", p, err)
	}
	if err := m.Kill(t.Context(), cg); err != nil {
		t.Fatal(err)
	}
	_, _ = deep.Process.Wait()
	_, _ = side.Process.Wait()
	if err := m.WaitEmpty(t.Context(), cg); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), cg); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), cg); err != nil {
		t.Errorf("removing it again: %v", err)
	}
	if p, err := m.Populated(cg); err != nil || p {
		t.Errorf("populated %v (%v) after removal", p, err)
	}
}

// What the kernel writes behind the name of a removed cgroup may be a cgroup's own name.
func TestACgroupThatIsCalledAsTheKernelMarksRemovedOnesIsItself(t *testing.T) {
	m, cg := hierarchy(t)
	for _, c := range []string{"/one", "/one (deleted)"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
		id, err := m.ID(cg + c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Path(id); err != nil || got != cg+c {
			t.Errorf("the id of %s is %q (%v)", cg+c, got, err)
		}
		if of, err := m.Of(sleeper(t, m, cg+c).Process.Pid); err != nil || of != cg+c {
			t.Errorf("a process in %s is in %q (%v)", cg+c, of, err)
		}
	}
}

func TestRemoveGivesUpOnAPopulatedCgroupWhenItsContextEnds(t *testing.T) {
	m, cg := hierarchy(t)
	sleeper(t, m, cg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Remove(ctx, cg); err == nil {
		t.Fatal("removed under a running process")
	}
	if _, err := m.ID(cg); err != nil {
		t.Errorf("the cgroup is gone: %v", err)
	}
}
