// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// node is a containerd of the test's own, and what the kubelet would be.
type node struct {
	t      *testing.T
	dir    string
	bin    string   // of containerd's programs; "": this machine's
	init   *manager // that makes the cgroups; nil: runc makes them
	socket string
	cgroup string // below it, the pods
	cmd    *exec.Cmd
	api    runtime.RuntimeServiceClient
}

const nodeConfig = `
version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[ttrpc]
  address = "%[1]s/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  disable_tcp_service = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = %[2]t
        BinaryName = "%[3]s"
`

// newNode starts this machine's containerd.
func newNode(t *testing.T) *node { return newNodeOf(t, "", false) }

// onEachContainerd runs a test under this machine's containerd, which on Debian 12 is a 1.6 and has no events, and
// under the one of SHEETBEND_CONTAINERD, a 1.7 that has them.
func onEachContainerd(t *testing.T, test func(*testing.T, *node)) {
	t.Run("of this machine", func(t *testing.T) { test(t, newNode(t)) })
	t.Run("with events", func(t *testing.T) {
		bin := os.Getenv("SHEETBEND_CONTAINERD")
		if bin == "" {
			if os.Getenv("CI") != "" {
				t.Fatal("needs the programs of a newer containerd in SHEETBEND_CONTAINERD, and in CI nothing is skipped")
			}
			t.Skip("needs the programs of a newer containerd in SHEETBEND_CONTAINERD (make test-containers)")
		}
		test(t, newNodeOf(t, bin, false))
	})
	t.Run("under systemd", func(t *testing.T) { test(t, newNodeOf(t, "", true)) })
}

func newNodeOf(t *testing.T, bin string, systemd bool) *node {
	t.Helper()
	programs(t, "containerd", "runc", "ctr")
	if systemd {
		programs(t, "unshare", "nsenter", "systemd-run", "/lib/systemd/systemd", "jq")
	}
	m, cg := sensortest.Cgroup(t)
	// Not t.TempDir(): the path of a shim's socket is made of it, and bounded.
	dir, err := os.MkdirTemp("/run", "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	n := &node{t: t, dir: dir, bin: bin, socket: dir + "/containerd.sock", cgroup: cg}
	runc := "runc"
	if systemd {
		n.init, runc = newManager(t, m, cg), unlimited(t, dir)
	}
	if err := os.WriteFile(dir+"/config.toml", fmt.Appendf(nil, nodeConfig, dir, systemd, runc), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.end)
	for name, command := range map[string][]string{boxImage: {"/bin/sh"}, pauseImage: {"/bin/sleep", "1000000"}} {
		n.load(t, archive(t, name, busybox, command...))
	}
	return n
}

func (n *node) load(t *testing.T, archive string) {
	t.Helper()
	if out, err := exec.Command(n.program("ctr"), "-a", n.socket, "-n", "k8s.io", "images", "import", "--snapshotter", "native", archive).CombinedOutput(); err != nil {
		t.Fatalf("import %s: %v: %s", archive, err, out)
	}
}

// program is the path of one of containerd's programs; it finds its shim beside itself.
func (n *node) program(name string) string { return filepath.Join(n.bin, name) }

// start starts containerd, and waits until its CRI answers.
func (n *node) start() {
	n.t.Helper()
	log, err := os.OpenFile(n.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	command := []string{n.program("containerd"), "--config", n.dir + "/config.toml", "--log-level", "error"}
	n.cmd = exec.Command(command[0], command[1:]...)
	if n.init != nil {
		n.cmd = n.init.in(append([]string{"systemd-run", "--quiet", "--scope", "--"}, command...)...)
	}
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	if n.api == nil {
		conn, err := grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { _ = conn.Close() })
		n.api = runtime.NewRuntimeServiceClient(conn)
	}
	n.await("containerd's CRI", func() error {
		_, err := n.api.Status(n.t.Context(), &runtime.StatusRequest{})
		return err
	})
}

func (n *node) stop() {
	n.t.Helper()
	if n.init == nil {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
	} else if pid, err := childOf(n.cmd.Process.Pid); err == nil { // nsenter waits for it
		_ = exec.Command("kill", pid).Run()
	}
	_ = n.cmd.Wait()
}

// end removes all pods, and containerd with them.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if pods, err := n.api.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{}); err == nil {
		for _, p := range pods.GetItems() {
			_, _ = n.api.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: p.GetId()})
			_, _ = n.api.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: p.GetId()})
		}
	}
	n.stop()
	if n.t.Failed() {
		if log, err := os.ReadFile(n.dir + "/log"); err == nil {
			n.t.Logf("log of containerd:\n%s", log)
		}
	}
}

func (n *node) await(what string, try func() error) {
	n.t.Helper()
	sensortest.Succeeds(n.t, what, func() error {
		err := try()
		if err == nil {
			return nil
		}
		log, _ := os.ReadFile(n.dir + "/log")
		return fmt.Errorf("%w\n%s", err, log)
	})
}

// sandboxes chooses each container of each pod.
func (n *node) sandboxes() string {
	if n.init != nil {
		return fmt.Sprintf("[{cgroup: %s/kubepods.slice/kubepods-besteffort.slice/*/*}]", n.cgroup)
	}
	return fmt.Sprintf("[{cgroup: %s/kubepods/besteffort/*/*}]", n.cgroup)
}

func (n *node) runtimes() string { return fmt.Sprintf("{cri: [%s], docker: []}", n.socket) }

// pod is a pod as the kubelet would ask for it.
type pod struct {
	*node
	id, name, uid string
	config        *runtime.PodSandboxConfig
}

func (n *node) pod(t *testing.T, name string, labels, annotations map[string]string) *pod {
	t.Helper()
	return n.podIn(t, "agents", name, labels, annotations)
}

func (n *node) podIn(t *testing.T, namespace, name string, labels, annotations map[string]string) *pod {
	t.Helper()
	return n.podWith(t, namespace, name, func(p *runtime.PodSandboxConfig) { p.Labels, p.Annotations = labels, annotations })
}

func (n *node) podWith(t *testing.T, namespace, name string, change func(*runtime.PodSandboxConfig)) *pod {
	t.Helper()
	var b [16]byte
	_, _ = rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	p := &pod{node: n, name: name, uid: h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]}
	p.config = &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Name: name, Uid: p.uid, Namespace: namespace},
		LogDirectory: filepath.Join(n.dir, "logs", name),
		Linux: &runtime.LinuxPodSandboxConfig{
			CgroupParent:    n.cgroup + "/kubepods/besteffort/pod" + p.uid,
			SecurityContext: &runtime.LinuxSandboxSecurityContext{NamespaceOptions: &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE}},
		},
	}
	if n.init != nil {
		p.config.Linux.CgroupParent = "kubepods-besteffort-pod" + strings.ReplaceAll(p.uid, "-", "_") + ".slice"
	}
	change(p.config)
	r, err := n.api.RunPodSandbox(t.Context(), &runtime.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		t.Fatalf("run pod %s: %v", name, err)
	}
	p.id = r.GetPodSandboxId()
	return p
}

// remove stops the pod and removes it with its containers.
func (p *pod) remove() {
	p.t.Helper()
	ctx := p.t.Context()
	if _, err := p.api.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.api.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.t.Fatal(err)
	}
}

// run starts a container and gives its id.
func (p *pod) run(name, script string) (string, error) { return p.attempt(name, 0, script) }

// attempt starts a container that the kubelet started before.
func (p *pod) attempt(name string, attempt uint32, script string) (string, error) {
	return p.start(&runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: name, Attempt: attempt}, Image: &runtime.ImageSpec{Image: boxImage},
		Command: []string{"/bin/sh", "-c", script}, LogPath: name + ".log",
		Linux: &runtime.LinuxContainerConfig{SecurityContext: &runtime.LinuxContainerSecurityContext{NamespaceOptions: &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE}}},
	})
}

func (p *pod) start(c *runtime.ContainerConfig) (string, error) {
	ctx := p.t.Context()
	made, err := p.api.CreateContainer(ctx, &runtime.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: c})
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", c.GetMetadata().GetName(), err)
	}
	if _, err = p.api.StartContainer(ctx, &runtime.StartContainerRequest{ContainerId: made.GetContainerId()}); err != nil {
		err = fmt.Errorf("start container %s: %w", c.GetMetadata().GetName(), err)
	}
	return made.GetContainerId(), err
}

// finish removes a container as soon as it has ended.
func (p *pod) finish(id string) error {
	end := time.Now().Add(patience)
	for {
		s, err := p.api.ContainerStatus(p.t.Context(), &runtime.ContainerStatusRequest{ContainerId: id})
		if err == nil && s.GetStatus().GetState() == runtime.ContainerState_CONTAINER_EXITED {
			if code := s.GetStatus().GetExitCode(); code != 0 {
				return fmt.Errorf("container %s ended with %d: %s", id, code, s.GetStatus().GetMessage())
			}
			// containerd refuses while it still cleans up.
			if _, err = p.api.RemoveContainer(p.t.Context(), &runtime.RemoveContainerRequest{ContainerId: id}); err == nil {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("container %s does not end: %w", id, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// expects is what spans of one of the pod's containers have to say.
func (p *pod) expects(container string) map[string]string {
	return map[string]string{
		"k8s.pod.name": p.name, "k8s.pod.uid": p.uid, "k8s.namespace.name": "agents", "k8s.container.name": container,
		"container.name": container, "container.image.name": "sheetbend.test/box", "container.image.tags": `["1.2"]`, "container.runtime.name": "containerd",
	}
}

func TestSpansOfPodsUnderContainerd(t *testing.T) { onEachContainerd(t, testSpansOfPods) }

func testSpansOfPods(t *testing.T, n *node) {
	before := n.pod(t, "before", nil, nil)
	id, err := before.run("old", "sleep 1000; : old")
	if err != nil {
		t.Fatal(err)
	}
	s := watch(t, n.sandboxes(), n.runtimes())

	t.Run("of a container that was there before the sensor", func(t *testing.T) {
		for _, sp := range s.execs(t, ": old", 1) {
			says(t, sp, before.expects("old"))
		}
	})
	t.Run("of a command that is started in a running container", func(t *testing.T) {
		r, err := n.api.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", ": inside"}})
		if err != nil || r.GetExitCode() != 0 {
			t.Fatal(r, err)
		}
		says(t, s.execs(t, ": inside", 1)[0], before.expects("old"))
	})
	t.Run("of the first program of each container, and of the pod's own", func(t *testing.T) {
		for _, name := range []string{"web-0", "web-1"} {
			p := n.pod(t, name, map[string]string{"app": "web"}, nil)
			for _, c := range []string{"main", "sidecar"} {
				if _, err := p.run(c, "/bin/true; : "+name+" "+c); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []string{"main", "sidecar"} {
				says(t, s.execs(t, ": "+name+" "+c, 1)[0], p.expects(c))
			}
			own := s.find(t, "the pod's own container", 1, func(sp seen) bool { return strings.Contains(sp.attr("process.linux.cgroup"), p.id) })
			// containerd knows a pod when all of it is made, which on a slow machine may be after the hold.
			if own[0].attr("sheetbend.container.unresolved") == "" {
				says(t, own[0], map[string]string{"k8s.pod.name": name, "k8s.container.name": "", "container.runtime.name": "containerd"})
			}
		}
	})
	t.Run("of containers that live for 50 ms and less, many at once", func(t *testing.T) {
		pods := []*pod{n.pod(t, "short-0", nil, nil), n.pod(t, "short-1", nil, nil), n.pod(t, "short-2", nil, nil)}
		const containers = 50
		var group sync.WaitGroup
		for c := range containers {
			group.Go(func() {
				script := fmt.Sprintf(": instant %d.", c)
				if c%2 == 0 {
					script = "sleep 0.05; " + script
				}
				id, err := pods[c%len(pods)].run(fmt.Sprint("c", c), script)
				if err == nil {
					err = pods[c%len(pods)].finish(id)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for c := range containers {
			says(t, s.execs(t, fmt.Sprintf(": instant %d.", c), 1)[0], pods[c%len(pods)].expects(fmt.Sprint("c", c)))
		}
	})
	t.Run("of a container that is started again", func(t *testing.T) {
		p := n.pod(t, "again", nil, nil)
		var ids []string
		for try := range 2 {
			id, err := p.attempt("main", uint32(try), fmt.Sprintf(": try %d.", try))
			if err == nil {
				err = p.finish(id)
			}
			if err != nil {
				t.Fatal(err)
			}
			sp := s.execs(t, fmt.Sprintf(": try %d.", try), 1)[0]
			says(t, sp, p.expects("main"))
			ids = append(ids, sp.resourceOf("container.id"))
		}
		if ids[0] == ids[1] {
			t.Errorf("both have the id %s", ids[0])
		}
	})
	t.Run("of a pod that is removed at once, after another of its name", func(t *testing.T) {
		for try := range 2 {
			p := n.pod(t, "removed", nil, nil)
			if _, err := p.run("main", fmt.Sprintf(": removed %d.; echo up %[1]d; sleep 1000", try)); err != nil {
				t.Fatal(err)
			}
			// A container is started before its program is.
			n.await("the program", func() error {
				text, err := os.ReadFile(filepath.Join(p.config.LogDirectory, "main.log"))
				if err == nil && !strings.Contains(string(text), fmt.Sprint("up ", try)) {
					return &notYet{string(text)}
				}
				return err
			})
			p.remove()
			says(t, s.execs(t, fmt.Sprintf(": removed %d.", try), 1)[0], p.expects("main"))
		}
	})
	t.Run("after the runtime was restarted", func(t *testing.T) {
		n.stop()
		n.start()
		p := n.pod(t, "later", nil, nil)
		if _, err := p.run("main", ": restarted"); err != nil {
			t.Fatal(err)
		}
		says(t, s.execs(t, ": restarted", 1)[0], p.expects("main"))
	})
	t.Run("after the sensor was restarted", func(t *testing.T) {
		s.Stop()
		s = watch(t, n.sandboxes(), n.runtimes())
		says(t, s.execs(t, ": old", 1)[0], before.expects("old"))
		if r, err := n.api.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", ": again"}}); err != nil || r.GetExitCode() != 0 {
			t.Fatal(r, err)
		}
		says(t, s.execs(t, ": again", 1)[0], before.expects("old"))
	})
	s.Stop()
	for _, sp := range s.read() {
		if sp.attr("sheetbend.container.unresolved") != "" && strings.Contains(sp.attr("process.command_line"), ": ") {
			t.Errorf("unresolved: %s in %s", sp.attr("process.command_line"), sp.attr("process.linux.cgroup"))
		}
	}
}

func TestSandboxesAreChosenByWhatTheRuntimeSays(t *testing.T) {
	n := newNode(t)
	hash := map[string]string{"agents.x-k8s.io/sandbox-name-hash": "b1d2"}
	before := n.pod(t, "before", hash, nil)
	if _, err := before.run("main", "sleep 1000; : chosen 0."); err != nil {
		t.Fatal(err)
	}
	other := n.pod(t, "unlabelled", nil, nil)
	if _, err := other.run("main", "sleep 1000; : other"); err != nil {
		t.Fatal(err)
	}
	s := watch(t, `[{kubernetes: {labels: {agents.x-k8s.io/sandbox-name-hash: "*"}}, session: "{namespace}/{pod}", agent: tester}, {kubernetes: {namespaces: [special], containers: [m*], annotations: {watch: "yes"}}}]`, n.runtimes())
	chosen := []*pod{before, n.pod(t, "labelled", hash, nil), n.podIn(t, "special", "annotated", nil, map[string]string{"sheetbend.github.io/session-id": "run-42", "watch": "yes"})}
	for i, p := range chosen[1:] {
		if _, err := p.run("main", fmt.Sprintf(": chosen %d.", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*pod{other, n.pod(t, "late", nil, nil)} {
		if _, err := p.run("m", ": other"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := chosen[2].run("sidecar", ": other"); err != nil {
		t.Fatal(err)
	}
	for i, session := range []string{"agents/before", "agents/labelled", "run-42"} {
		sp := s.execs(t, fmt.Sprintf(": chosen %d.", i), 1)[0]
		says(t, sp, map[string]string{"k8s.pod.name": chosen[i].name, "k8s.container.name": "main"})
		if got := sp.attr("session.id"); got != session {
			t.Errorf("session %q, want %q", got, session)
		}
	}
	s.Stop()
	for _, sp := range s.read() {
		if strings.Contains(sp.attr("process.command_line"), ": other") || strings.Contains(sp.attr("process.command_line"), "sleep 1000000") {
			t.Errorf("a span of a container that was not chosen: %s", sp.attr("process.command_line"))
		}
		if sp.attr("sheetbend.event") == "sensor.loss" && sp.attr("sheetbend.lost.cause") != "unassigned" {
			t.Errorf("lost: %s", sp.attr("sheetbend.lost.cause"))
		}
	}
}
