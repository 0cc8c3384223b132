// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/enrich/container"
	"github.com/sheetbend/sheetbend/enrich/container/docker"
)

// engine is a Podman with storage of the test's own, and its API as Docker's clients know it.
type engine struct {
	t      *testing.T
	dir    string
	socket string
	cgroup string
	serves *exec.Cmd
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	programs(t, "podman", "conmon", "runc")
	_, cg := sensortest.Cgroup(t)
	dir, err := os.MkdirTemp("/run", "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, dir: dir, socket: dir + "/p.sock", cgroup: cg}
	t.Cleanup(e.end)
	if out, err := e.podman("load", "-q", "-i", archive(t, boxImage, busybox, "/bin/sh", "-c")).CombinedOutput(); err != nil {
		t.Fatalf("load the image: %v: %s", err, out)
	}
	e.serve()
	return e
}

func (e *engine) podman(args ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"--root", e.dir + "/root", "--runroot", e.dir + "/run", "--tmpdir", e.dir + "/tmp", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc",
	}, args...)...)
}

// serve starts the API, and waits until it answers.
func (e *engine) serve() {
	e.t.Helper()
	e.serves = e.podman("system", "service", "--time", "0", "unix://"+e.socket)
	if err := e.serves.Start(); err != nil {
		e.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := docker.New(e.socket, nil).Find(e.t.Context(), "none")
		if errors.Is(err, container.ErrUnknown) {
			return
		}
		if time.Now().After(end) {
			e.t.Fatalf("podman does not answer: %v", err)
		}
	}
}

func (e *engine) stop() {
	_ = e.serves.Process.Signal(syscall.SIGTERM)
	_ = e.serves.Wait()
	_ = os.Remove(e.socket)
}

func (e *engine) end() {
	if e.serves != nil {
		e.stop()
	}
	if out, err := e.podman("rm", "--force", "--all", "--time", "0").CombinedOutput(); err != nil {
		e.t.Errorf("remove the containers: %v: %s", err, out)
	}
	removeAll(e.t, e.dir)
}

func (e *engine) run(name string, more ...string) error {
	args := append([]string{"run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none", "--cgroup-parent", e.cgroup + "/libpod_parent", "--name", name}, more...)
	if out, err := e.podman(args...).CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, out)
	}
	return nil
}

func TestSpansOfContainersUnderPodman(t *testing.T) {
	e := newEngine(t)
	s := watch(t, fmt.Sprintf("[{cgroup: %s/libpod_parent/libpod-*}]", e.cgroup), fmt.Sprintf("{cri: [], docker: [%s]}", e.socket))
	expects := func(name string) map[string]string {
		return map[string]string{
			"container.name": name, "container.image.name": "sheetbend.test/box", "container.image.tags": `["1.2"]`, "container.runtime.name": "podman", "k8s.pod.name": "",
		}
	}
	t.Run("that are removed at once", func(t *testing.T) {
		const containers = 5
		var group sync.WaitGroup
		for c := range containers {
			group.Go(func() {
				if err := e.run(fmt.Sprint("instant-", c), "--rm", boxImage, fmt.Sprintf(": instant %d.", c)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for c := range containers {
			says(t, s.execs(t, fmt.Sprintf(": instant %d.", c), 1)[0], expects(fmt.Sprint("instant-", c)))
		}
	})
	t.Run("that run when the API comes back", func(t *testing.T) {
		e.stop()
		if err := e.run("later", "--detach", boxImage, "sleep 1000; : later"); err != nil {
			t.Fatal(err)
		}
		e.serve()
		if out, err := e.podman("exec", "later", "/bin/sh", "-c", ": inside").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.find(t, "a span with the name of its container", 1, func(sp seen) bool {
			if out, err := e.podman("exec", "later", "/bin/sh", "-c", ": inside").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return strings.Contains(sp.attr("process.command_line"), ": inside") && sp.resourceOf("container.name") == "later"
		})
	})
	for _, sp := range s.read() {
		if strings.Contains(sp.attr("process.executable.name"), "conmon") {
			t.Errorf("the monitor is taken for a part of the container: %s", sp.attr("process.linux.cgroup"))
		}
	}
}

// The image is one that Podman runs, too, and of several architectures it takes this machine's.
func TestTheImageRunsUnderPodman(t *testing.T) {
	e := newEngine(t)
	archive, image := sensorImage(t)
	if out, err := e.podman("load", "-q", "-i", archive).CombinedOutput(); err != nil {
		t.Fatalf("load the image: %v: %s", err, out)
	}
	out, err := e.podman("run", "--rm", "--read-only", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none", "--cgroup-parent", e.cgroup+"/libpod_parent", image, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "sheetbend ") {
		t.Errorf("%v: %s", err, out)
	}
}
