// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	warmLabel = `agents.x-k8s.io/sandbox-name-hash="b1d2"`
	warm      = `[{kubernetes: {labels: {agents.x-k8s.io/sandbox-name-hash: "*"}}, session: "{namespace}/{pod}"}]`
)

// A kubelet writes into pods' downward API volumes what their labels and annotations are now. This one is a directory.
type kubelet struct {
	t    *testing.T
	dir  string
	last int
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	k := &kubelet{t: t, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(k.dir, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kubelet) containers(n *node) string {
	return fmt.Sprintf("{cri: [%s], docker: [], kubelet: %s}", n.socket, k.dir)
}

func (k *kubelet) volume(uid string) string {
	return filepath.Join(k.dir, "pods", uid, "volumes", "kubernetes.io~downward-api", "sheetbend")
}

// write changes the files of a pod at once, as the kubelet does.
func (k *kubelet) write(uid, labels, annotations string) {
	k.t.Helper()
	k.last++
	volume, stamp := k.volume(uid), fmt.Sprintf("..2026_11_28_10_00_00.%d", k.last)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(volume, stamp), 0o755),
		os.WriteFile(filepath.Join(volume, stamp, "labels"), []byte(labels), 0o644),
		os.WriteFile(filepath.Join(volume, stamp, "annotations"), []byte(annotations), 0o644),
		os.Symlink(stamp, filepath.Join(volume, "..data_tmp")),
		os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")),
	} {
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

// pod makes a pod with such a volume: the kubelet makes the volumes before it asks for the pod.
func (k *kubelet) pod(n *node, name, labels, annotations string, change func(*runtime.PodSandboxConfig)) (*pod, string) {
	k.t.Helper()
	var uid string
	p := n.podWith(k.t, "agents", name, func(c *runtime.PodSandboxConfig) {
		change(c)
		uid = c.Metadata.Uid
		k.write(uid, labels, annotations)
		for _, file := range []string{"labels", "annotations"} {
			if err := os.Symlink(filepath.Join("..data", file), filepath.Join(k.volume(uid), file)); err != nil {
				k.t.Fatal(err)
			}
		}
	})
	return p, uid
}

// exec runs a command in a container that says a word in its arguments.
func (n *node) exec(t *testing.T, id, word string) {
	t.Helper()
	r, err := n.api.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", ": " + word}})
	if err != nil || r.GetExitCode() != 0 {
		t.Fatal(r, err)
	}
}

// A pod of agent-sandbox's warm pool waits with its program running, and is taken: then its annotations in the API
// server change, and the kubelet writes them into the pod's downward API volume. The runtime is real, the kubelet is
// this test.
func TestAPodOfAWarmPoolGetsItsSessionWhenItIsTaken(t *testing.T) {
	n, k := newNode(t), newKubelet(t)
	s := watch(t, warm, k.containers(n))
	p, uid := k.pod(n, "warm-0", warmLabel, `sheetbend.github.io/note="none"`, func(c *runtime.PodSandboxConfig) {
		c.Labels = map[string]string{"agents.x-k8s.io/sandbox-name-hash": "b1d2"}
	})
	id, err := p.run("main", "/bin/true; : waits; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	n.exec(t, id, "before")
	before := s.execs(t, ": before", 1)[0]
	says(t, before, p.expects("main"))
	if got := before.attr("session.id"); got != "agents/warm-0" {
		t.Errorf("session %q before it was taken", got)
	}
	k.write(uid, warmLabel, `sheetbend.github.io/call-id="call-1"`+"\n"+`sheetbend.github.io/session-id="claim-7"`)
	s.find(t, "a span with the claim's session", 1, func(sp seen) bool {
		n.exec(t, id, "after")
		return strings.Contains(sp.attr("process.command_line"), ": after") && sp.attr("session.id") == "claim-7" && sp.attr("gen_ai.tool.call.id") == "call-1"
	})
}

// A pod that no selector chooses runs, and then gets the label that one asks for.
func TestAPodWhoseLabelsComeLaterIsWatchedFromThenOn(t *testing.T) {
	n, k := newNode(t), newKubelet(t)
	s := watch(t, warm, k.containers(n))
	p, uid := k.pod(n, "adopted", `app="pool"`, "", func(*runtime.PodSandboxConfig) {})
	id, err := p.run("main", "exec sleep 1234")
	if err != nil {
		t.Fatal(err)
	}
	n.exec(t, id, "unseen")
	// The sensor has asked for the first pod before it asks for this one.
	other, _ := k.pod(n, "chosen", warmLabel, "", func(*runtime.PodSandboxConfig) {})
	if _, err := other.run("main", ": other"); err != nil {
		t.Fatal(err)
	}
	s.execs(t, ": other", 1)
	k.write(uid, warmLabel, "")
	after := s.find(t, "a span of the adopted pod", 1, func(sp seen) bool {
		n.exec(t, id, "after")
		return strings.Contains(sp.attr("process.command_line"), ": after")
	})[0]
	says(t, after, p.expects("main"))
	if got := after.attr("session.id"); got != "agents/adopted" {
		t.Errorf("session %q", got)
	}
	s.Stop()
	waits := 0
	for _, sp := range s.read() {
		line := sp.attr("process.command_line")
		if strings.Contains(line, ": unseen") {
			t.Error("what came before the label is told")
		}
		if line == "sleep 1234" && sp.attr("sheetbend.process.preexisting") != "" {
			waits++
			says(t, sp, p.expects("main"))
		}
		if sp.attr("sheetbend.event") == "sensor.loss" {
			t.Errorf("lost: %s", sp.attr("sheetbend.lost.cause"))
		}
	}
	if waits != 1 {
		t.Errorf("the program that waited is told %d times, want once", waits)
	}
	if log := s.Log(); !strings.Contains(log, "a container has become a sandbox") {
		t.Errorf("it was one from the start:\n%s", log)
	}
}
