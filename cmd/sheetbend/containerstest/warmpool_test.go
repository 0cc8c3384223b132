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

// A pod of agent-sandbox's warm pool waits with its program running, and is taken: then its annotations in the API server
// change, and the kubelet writes them into the pod's downward API volume. The runtime is real, the kubelet is this test.
func TestAPodOfAWarmPoolGetsItsSessionWhenItIsTaken(t *testing.T) {
	n := newNode(t)
	kubelet := t.TempDir()
	if err := os.Mkdir(filepath.Join(kubelet, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	s := watch(t, `[{kubernetes: {labels: {agents.x-k8s.io/sandbox-name-hash: "*"}}, session: "{namespace}/{pod}"}]`,
		fmt.Sprintf("{cri: [%s], docker: [], kubelet: %s}", n.socket, kubelet))
	hash := map[string]string{"agents.x-k8s.io/sandbox-name-hash": "b1d2"}
	labels := `agents.x-k8s.io/sandbox-name-hash="b1d2"`
	var volume string
	version := 0
	write := func(annotations string) {
		version++
		stamp := fmt.Sprintf("..2026_11_28_10_00_00.%d", version)
		for _, err := range []error{
			os.MkdirAll(filepath.Join(volume, stamp), 0o755),
			os.WriteFile(filepath.Join(volume, stamp, "labels"), []byte(labels), 0o644),
			os.WriteFile(filepath.Join(volume, stamp, "annotations"), []byte(annotations), 0o644),
			os.Symlink(stamp, filepath.Join(volume, "..data_tmp")),
			os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	p := n.podWith(t, "agents", "warm-0", func(c *runtime.PodSandboxConfig) {
		c.Labels = hash
		// The kubelet makes the volumes before it asks for the pod.
		volume = filepath.Join(kubelet, "pods", c.Metadata.Uid, "volumes", "kubernetes.io~downward-api", "sheetbend")
		write(`sheetbend.github.io/note="none"`)
		for _, name := range []string{"labels", "annotations"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(volume, name)); err != nil {
				t.Fatal(err)
			}
		}
	})
	id, err := p.run("main", "/bin/true; : waits; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	exec := func(word string) {
		t.Helper()
		if r, err := n.api.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", ": " + word}}); err != nil || r.GetExitCode() != 0 {
			t.Fatal(r, err)
		}
	}
	exec("before")
	before := s.execs(t, ": before", 1)[0]
	says(t, before, p.expects("main"))
	if got := before.attr("session.id"); got != "agents/warm-0" {
		t.Errorf("session %q before it was taken", got)
	}
	write(`sheetbend.github.io/call-id="call-1"` + "\n" + `sheetbend.github.io/session-id="claim-7"`)
	s.find(t, "a span with the claim's session", 1, func(sp seen) bool {
		exec("after")
		return strings.Contains(sp.attr("process.command_line"), ": after") && sp.attr("session.id") == "claim-7" && sp.attr("gen_ai.tool.call.id") == "call-1"
	})
}
