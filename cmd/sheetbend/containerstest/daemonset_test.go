// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sheetbend/sheetbend/bpf"
)

// daemonSet is the part of the manifest that a kubelet makes a container of.
type daemonSet struct {
	Spec struct {
		Template struct {
			Spec struct {
				HostPID    bool `yaml:"hostPID"`
				Containers []struct {
					Args            []string
					Env             []struct{ Name, Value string }
					SecurityContext struct {
						Privileged               bool  `yaml:"privileged"`
						ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
						AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
						Capabilities             struct{ Add, Drop []string }
						SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
					} `yaml:"securityContext"`
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
						ReadOnly  bool   `yaml:"readOnly"`
					} `yaml:"volumeMounts"`
					StartupProbe   probe `yaml:"startupProbe"`
					LivenessProbe  probe `yaml:"livenessProbe"`
					ReadinessProbe probe `yaml:"readinessProbe"`
				}
				Volumes []struct {
					Name     string
					HostPath struct{ Path string } `yaml:"hostPath"`
				}
			}
		}
	}
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

// asks does what a kubelet does with a probe.
func (p probe) asks(address string) error {
	r, err := http.Get("http://" + address + p.HTTPGet.Path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", p.HTTPGet.Path, r.Status)
	}
	return nil
}

// costs logs what the sensor says of itself: docs/kubernetes.md has figures from here.
func costs(t *testing.T, address string) {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		for _, name := range []string{"process_resident_memory_bytes ", "process_cpu_seconds_total ", "sheetbend_records_total{", "sheetbend_spans_total "} {
			if strings.HasPrefix(lines.Text(), name) {
				t.Log(lines.Text())
			}
		}
	}
}

// freePort is one of loopback, where nothing listens at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The sensor as the manifest of deploy/kustomize runs it, in a container on a real node. Only the node's own
// directories and where the spans go are others.
func TestTheDaemonSetWatchesItsNode(t *testing.T) {
	t.Run("privileged", func(t *testing.T) { watchesItsNode(t, "") })
	t.Run("with capabilities", func(t *testing.T) { watchesItsNode(t, "../../../deploy/kustomize-capabilities/capabilities.yaml") })
}

// patched puts a patch over the manifest, as kustomize does: what the one container may, and mounts.
func (ds *daemonSet) patched(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var patch daemonSet
	if err := yaml.Unmarshal(text, &patch); err != nil {
		t.Fatal(err)
	}
	spec, p := &ds.Spec.Template.Spec, patch.Spec.Template.Spec
	readOnly := spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem
	spec.Containers[0].SecurityContext = p.Containers[0].SecurityContext
	spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = readOnly
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, p.Containers[0].VolumeMounts...)
	spec.Volumes = append(spec.Volumes, p.Volumes...)
}

// mountedTracefs stands for the node's, which this machine need not have mounted.
func mountedTracefs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tracefs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A rollout is the sensor's pod, as the manifest has it, on a node.
type rollout struct {
	*node
	t        *testing.T
	own      *pod
	args     []string
	env      []*runtime.KeyValue
	mounts   []*runtime.Mount
	rights   *runtime.LinuxContainerSecurityContext
	probes   []probe
	address  string // of its metrics
	pins     string // the bpf file system
	log      string // of the container that was started last
	attempts uint32
	sensorFile
}

// rolledOut makes the pod, and no container in it.
func rolledOut(t *testing.T, n *node, patch string) *rollout {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/kustomize/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ds daemonSet
	if err := yaml.Unmarshal(text, &ds); err != nil {
		t.Fatal(err)
	}
	if patch != "" {
		ds.patched(t, patch)
	}
	conf, err := os.ReadFile("../../../deploy/kustomize/sheetbend.yaml")
	if err != nil {
		t.Fatal(err)
	}
	spec := ds.Spec.Template.Spec
	c := spec.Containers[0]
	out, etc := t.TempDir(), t.TempDir()
	address := freePort(t) // the pod has the network of the machine here
	conf = bytes.ReplaceAll(conf, []byte(`":9464"`), []byte(address))
	conf = bytes.ReplaceAll(conf, []byte("exporters:\n"), []byte("exporters:\n  file:\n    path: /out/spans.jsonl\n"))
	if err := os.WriteFile(filepath.Join(etc, "sheetbend.yaml"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	for _, v := range spec.Volumes {
		from[v.Name] = v.HostPath.Path
	}
	from["config"], from["containerd"], from["run"], from["state"] = etc, n.dir, t.TempDir(), t.TempDir()
	if from["tracefs"] != "" {
		from["tracefs"] = mountedTracefs(t)
	}
	pins := t.TempDir()
	if err := unix.Mount("bpf", pins, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if _, err := bpf.Unpin(filepath.Join(pins, "sheetbend")); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(pins, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the bpf file system: %v", err)
		}
	})
	from["bpf"] = pins
	mounts := []*runtime.Mount{{ContainerPath: "/out", HostPath: out}}
	for _, m := range c.VolumeMounts {
		mounts = append(mounts, &runtime.Mount{ContainerPath: m.MountPath, HostPath: from[m.Name], Readonly: m.ReadOnly})
	}
	env := []*runtime.KeyValue{{Key: "NODE_NAME", Value: []byte("node-1")}}
	for _, e := range c.Env {
		if e.Value != "" {
			env = append(env, &runtime.KeyValue{Key: e.Name, Value: []byte(strings.ReplaceAll(e.Value, "$(NODE_NAME)", "node-1"))})
		}
	}
	namespaces := &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE}
	if spec.HostPID {
		namespaces.Pid = runtime.NamespaceMode_NODE
	}
	own := n.podWith(t, "sheetbend", "sensor", func(p *runtime.PodSandboxConfig) {
		p.Linux.SecurityContext.Privileged = c.SecurityContext.Privileged
		p.Linux.SecurityContext.NamespaceOptions = namespaces
	})
	rights := &runtime.LinuxContainerSecurityContext{
		Privileged: c.SecurityContext.Privileged, ReadonlyRootfs: c.SecurityContext.ReadOnlyRootFilesystem, NamespaceOptions: namespaces,
		Capabilities: &runtime.Capability{AddCapabilities: c.SecurityContext.Capabilities.Add, DropCapabilities: c.SecurityContext.Capabilities.Drop},
	}
	if !rights.Privileged {
		// As a kubelet has it.
		rights.NoNewPrivs = c.SecurityContext.AllowPrivilegeEscalation != nil && !*c.SecurityContext.AllowPrivilegeEscalation
		rights.MaskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
		rights.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
		if c.SecurityContext.SeccompProfile.Type == "RuntimeDefault" {
			rights.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_RuntimeDefault}
		}
	}
	return &rollout{
		node: n, t: t, own: own, args: c.Args, env: env, mounts: mounts, rights: rights, address: address, pins: pins,
		probes:     []probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe},
		sensorFile: sensorFile{t: t, spans: filepath.Join(out, "spans.jsonl")},
	}
}

// container starts a container of the pod, and gives its id.
func (r *rollout) container(name, image string, args ...string) string {
	r.t.Helper()
	logs := fmt.Sprintf("%s-%d.log", name, r.attempts)
	id, err := r.own.start(&runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: name, Attempt: r.attempts}, Image: &runtime.ImageSpec{Image: image}, LogPath: logs,
		Args: args, Envs: r.env, Mounts: r.mounts,
		Linux: &runtime.LinuxContainerConfig{SecurityContext: r.rights},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.attempts++
	r.log = filepath.Join(r.own.config.LogDirectory, logs)
	return id
}

// sensor starts the sensor of an image, and waits until it watches.
func (r *rollout) sensor(image string) (id string) {
	r.t.Helper()
	id = r.container("sensor", image, r.args...)
	r.await("the sensor in its pod", func() error {
		text, err := os.ReadFile(r.log)
		if err == nil && !bytes.Contains(text, []byte(`"msg":"watching"`)) {
			return &notYet{string(text)}
		}
		return err
	})
	return id
}

// end ends a container as a kubelet does.
func (r *rollout) end(id string) {
	r.t.Helper()
	if _, err := r.api.StopContainer(r.t.Context(), &runtime.StopContainerRequest{ContainerId: id, Timeout: 30}); err != nil {
		r.t.Error(err)
	}
}

func watchesItsNode(t *testing.T, patch string) {
	n := newNode(t)
	archive, image := sensorImage(t)
	n.load(t, archive)
	s := rolledOut(t, n, patch)
	sensor := s.sensor(image)
	log := s.log
	for _, p := range s.probes {
		n.await("the answer to a probe", func() error { return p.asks(s.address) })
	}
	p := n.pod(t, "agent", map[string]string{"agents.x-k8s.io/sandbox-name-hash": "b1d2"}, nil)
	main, err := p.run("main", "/bin/sh -c ': in a sandbox'; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	sp := s.execs(t, ": in a sandbox", 1)[0]
	says(t, sp, p.expects("main"))
	id, _ := os.ReadFile("/etc/machine-id")
	says(t, sp, map[string]string{"k8s.node.name": "node-1", "host.name": "node-1", "host.id": strings.TrimSpace(string(id))})
	if text, err := os.ReadFile(log); err != nil || !bytes.Contains(text, []byte(`"msg":"confined","capabilities":"none","no_new_privs":true,"seccomp":true`)) ||
		bytes.Contains(text, []byte("is missing: ")) {
		t.Errorf("%v: %s", err, text)
	}
	costs(t, s.address)
	// What `helm test` runs, beside it.
	if err := s.own.finish(s.container("doctor", image, "doctor", "--config", "/etc/sheetbend/sheetbend.yaml")); err != nil {
		text, _ := os.ReadFile(s.log)
		t.Errorf("%v:\n%s", err, text)
	}
	s.end(sensor)
	// It is pinned, so that the pod's successor can go on. To find a program by its id asks for CAP_SYS_ADMIN.
	if names, _, err := bpf.PinsAt(filepath.Join(s.pins, "sheetbend")); err != nil || s.rights.Privileged && len(names) != 1 {
		t.Errorf("pinned: %v, %v", names, err)
	}
	if s.rights.Privileged {
		n.exec(t, main, "while none runs")
		if _, err := p.run("made-meanwhile", "/bin/sh -c ': made while none runs'"); err != nil {
			t.Fatal(err)
		}
		sensor = s.sensor(image)
		says(t, s.execs(t, ": while none runs", 1)[0], p.expects("main"))
		says(t, s.execs(t, ": made while none runs", 1)[0], p.expects("made-meanwhile"))
		s.end(sensor)
	}
}

// notYet says what there is instead.
type notYet struct{ text string }

func (n *notYet) Error() string { return "not yet: " + n.text }
