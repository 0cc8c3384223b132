// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// TestContainersAreToldAsTheySeeThemselves runs two containers at once, in which the same paths and pids mean different things.
func TestContainersAreToldAsTheySeeThemselves(t *testing.T) {
	workloadtest.Root(t)
	runc := findRunc(t)
	program := workloadtest.Build(t)
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			results := map[string]workloadtest.Result{}
			r := unskipped(t, bpf.Options{Form: form}, func(r *rig) {
				r.start()
				r.read()
				one := r.container(t, runc, program, "one")
				two := r.container(t, runc, program, "two")
				// Both are there now, and go on side by side.
				one.Go()
				results["two"] = two.Finish(t)
				results["one"] = one.Finish(t)
				r.stop()
			})
			pids := map[int]string{}
			for name, result := range results {
				t.Run("container "+name, func(t *testing.T) { r.checkContainer(t, name, result, pids) })
			}
			r.lossless(t)
		})
	}
}

// checkContainer compares the account of a container, which knows its own pids only, with the spans of its session.
func (r *rig) checkContainer(t *testing.T, name string, result workloadtest.Result, pids map[int]string) {
	a := &account{t: t}
	host := map[int]*seen{}  // what the container ran, by the pid in it
	owner := map[int]*seen{} // by the pid of the host
	for _, s := range r.sessions[name] {
		if s.Kind != span.Loss && s.Kind != span.SandboxEnd { // these have no process
			if got, want := s.text(span.KeyCgroup), r.base+"/"+name; got != want {
				t.Errorf("in the cgroup %s, not %s: %v", got, want, s)
			}
			if other := pids[s.pid()]; other != "" && other != name {
				t.Errorf("a process of the container %s: %v", other, s)
			}
			pids[s.pid()] = name
		}
		if s.text(span.KeyExecutablePath) != "/bin/sheetbend-workload" {
			continue // runc moves itself into the cgroup and makes the container from there
		}
		a.spans = append(a.spans, s)
		if s.Kind != span.Exec {
			continue
		}
		vpid := s.number(span.KeyVPID)
		if host[vpid] != nil {
			t.Errorf("two processes have the pid %d in the container: %v and %v", vpid, host[vpid], s)
		}
		host[vpid], owner[s.pid()] = s, s
	}
	first := host[1]
	if first == nil {
		t.Fatalf("no process has the pid 1 in the container: %v", a.spans)
	}
	for _, s := range a.spans {
		under := owner[s.pid()]
		switch {
		case s == first:
			continue
		case s.Kind == span.Exec:
			under = first
		}
		if under == nil || s.Parent != under.ID {
			t.Errorf("not under %v: %v", under, s)
		}
	}
	for _, f := range result.Facts {
		own, parent := host[f.Pid], host[f.Ppid]
		if own == nil {
			t.Errorf("no process has the pid %d in the container", f.Pid)
			continue
		}
		if parent != nil {
			f.Ppid = parent.pid()
		} else if f.Kind == "exec" && own == first {
			f.Ppid = own.number(span.KeyParentPID) // of runc, which the container does not see
		}
		f.Pid = own.pid()
		a.facts = append(a.facts, f)
	}
	a.compare()
}

func findRunc(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"runc", "/usr/sbin/runc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const needed = "needs runc: apt-get install runc"
	if os.Getenv("CI") != "" {
		t.Fatal(needed)
	}
	t.Skip(needed)
	return ""
}

// container starts role-container of the workload in a container, by runc as containerd and Docker do: from a bundle on an
// overlay, with namespaces of its own, and in the cgroup that runc makes for it.
func (r *rig) container(t *testing.T, runc string, program workloadtest.Program, name string) *workloadtest.Running {
	t.Helper()
	bundle := t.TempDir()
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"hostname":   name,
		"root":       map[string]any{"path": "rootfs"},
		"process": map[string]any{
			"args": []string{"/bin/sheetbend-workload", "role-container"},
			"env":  []string{"PATH=/bin"},
			"cwd":  "/srv",
			"user": map[string]int{"uid": 0, "gid": 0},
		},
		"mounts": []map[string]string{{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{
			"cgroupsPath": r.base + "/" + name,
			"namespaces": []map[string]string{
				{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}, {"type": "cgroup"},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	mountRoot(t, bundle, program)
	t.Cleanup(func() {
		// On a hybrid host runc makes the cgroup in the v1 hierarchies too, and leaves those above it.
		left, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", r.base))
		if err != nil {
			t.Error(err)
		}
		for _, dir := range left {
			os.Remove(dir)
		}
	})
	id := strings.TrimPrefix(r.base, "/") + "-" + name
	return workloadtest.Start(t, exec.Command(runc, "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, id))
}

// mountRoot makes bundle/rootfs: an overlay, whose layers lie on a file system of their own as those of the scenario open-overlay.
func mountRoot(t *testing.T, bundle string, program workloadtest.Program) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	layers, root := filepath.Join(bundle, "layers"), filepath.Join(bundle, "rootfs")
	must("make the root's mount points", os.Mkdir(layers, 0o755))
	must("make the root's mount points", os.Mkdir(root, 0o755))
	must("mount tmpfs", unix.Mount("tmpfs", layers, "tmpfs", 0, ""))
	t.Cleanup(func() { must("unmount tmpfs", unix.Unmount(layers, 0)) })
	for _, d := range []string{"lower/bin", "lower/etc", "lower/srv", "lower/proc", "lower/dev", "upper", "work"} {
		must("make the layers", os.MkdirAll(filepath.Join(layers, d), 0o755))
	}
	binary, err := os.ReadFile(program.Path())
	must("read the workload", err)
	must("copy the workload", os.WriteFile(filepath.Join(layers, "lower/bin/sheetbend-workload"), binary, 0o755))
	must("make a file", os.WriteFile(filepath.Join(layers, "lower/etc/same"), []byte("same"), 0o644))
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", layers, layers, layers)
	must("mount overlay", unix.Mount("overlay", root, "overlay", 0, options))
	t.Cleanup(func() { must("unmount overlay", unix.Unmount(root, 0)) })
}
