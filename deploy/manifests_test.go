// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

const chartDir = "helm/sheetbend"

// render gives what `helm template` gives for a file of values, by file.
func render(ctx context.Context, values []byte) (map[string]string, error) {
	c, err := loader.Load(chartDir)
	if err != nil {
		return nil, err
	}
	given, err := loader.LoadValues(bytes.NewReader(values))
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "sheetbend", Namespace: "observability", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c, given, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.RenderWithContext(ctx, c, all)
}

// kustomized gives what `kubectl kustomize` gives of a directory.
func kustomized(t *testing.T, dir string) string {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// chart renders the chart with one of testdata's values.
func chart(t *testing.T, values string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", values+".values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := render(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(files[name]) != "" {
			fmt.Fprintf(&out, "---\n# %s\n%s\n", name, strings.Trim(files[name], "\n"))
		}
	}
	return out.String()
}

// A manifest is what is applied: the objects in it, each strictly of its type.
type manifest struct {
	daemonSet *appsv1.DaemonSet
	configMap *corev1.ConfigMap
	policy    *networkingv1.NetworkPolicy
	monitor   *monitoringv1.PodMonitor
	test      *corev1.Pod
	kinds     []string
}

func decode(t *testing.T, text string) manifest {
	t.Helper()
	m, err := decodeStrictly(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func decodeStrictly(text string) (manifest, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return manifest{}, err
		}
	}
	// Unknown fields, and fields that are there twice, are errors.
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	var m manifest
	for _, doc := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		o, kind, err := s.Decode([]byte(doc), nil, nil)
		if err != nil {
			return manifest{}, fmt.Errorf("%w in:\n%s", err, doc)
		}
		m.kinds = append(m.kinds, kind.Kind)
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			m.daemonSet = o
		case *corev1.ConfigMap:
			m.configMap = o
		case *networkingv1.NetworkPolicy:
			m.policy = o
		case *monitoringv1.PodMonitor:
			m.monitor = o
		case *corev1.Pod:
			m.test = o
		}
	}
	return m, nil
}

// every gives all manifests that there are, by name.
func every(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"kustomize", "kustomize-capabilities"} {
		out[dir] = kustomized(t, dir)
	}
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".values.yaml")
		out["chart-"+name] = chart(t, name)
	}
	return out
}

func TestManifestsAreAsReviewed(t *testing.T) {
	for name, text := range every(t) {
		golden := filepath.Join("testdata", name+".golden.yaml")
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != text {
			t.Errorf("%s is not what %s has (review it: go test . -update):\n%s", name, golden, text)
		}
	}
}

// What docs/kubernetes.md says of the pod holds in each of them.
func TestThePodSeesTheNodeAndIsLimited(t *testing.T) {
	for name, text := range every(t) {
		t.Run(name, func(t *testing.T) {
			m := decode(t, text)
			if m.daemonSet == nil || m.configMap == nil {
				t.Fatalf("it has %v", m.kinds)
			}
			for _, kind := range m.kinds {
				if !slices.Contains([]string{"DaemonSet", "ConfigMap", "Namespace", "NetworkPolicy", "PodMonitor", "Pod"}, kind) {
					t.Errorf("a %s: the sensor needs no rights in the cluster", kind)
				}
			}
			spec := m.daemonSet.Spec.Template.Spec
			if !spec.HostPID || spec.HostNetwork || spec.HostIPC {
				t.Error("it is to be in the node's pid namespace, and in no other of the node's")
			}
			if a := spec.AutomountServiceAccountToken; a == nil || *a || spec.ServiceAccountName != "" {
				t.Error("it has an account")
			}
			if spec.PriorityClassName == "" {
				t.Error("no priority class")
			}
			if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
				t.Fatal("it is not one container")
			}
			c := spec.Containers[0]
			rights(t, c.SecurityContext)
			if r := c.SecurityContext.ReadOnlyRootFilesystem; r == nil || !*r {
				t.Error("its root file system can be written")
			}
			for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if c.Resources.Requests[r] == (resource.Quantity{}) {
					t.Errorf("it requests no %s", r)
				}
			}
			if c.Resources.Limits[corev1.ResourceMemory] == (resource.Quantity{}) {
				t.Error("its memory has no limit")
			}
			mounts(t, spec, c)
			probes(t, c, m.configMap)
			if m.daemonSet.Spec.Selector == nil || len(m.daemonSet.Spec.Selector.MatchLabels) == 0 {
				t.Fatal("no selector")
			}
			for k, v := range m.daemonSet.Spec.Selector.MatchLabels {
				if m.daemonSet.Spec.Template.Labels[k] != v {
					t.Errorf("its pods have not the label %s", k)
				}
			}
		})
	}
}

func rights(t *testing.T, s *corev1.SecurityContext) {
	t.Helper()
	switch {
	case s.Privileged == nil:
		t.Error("it does not say whether it is privileged")
	case *s.Privileged:
		if s.Capabilities != nil || s.AllowPrivilegeEscalation != nil || s.SeccompProfile != nil {
			t.Errorf("it is privileged, which makes the rest meaningless: %v", s)
		}
	case s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != 3 ||
		s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("it has more than capabilities: %v", s)
	}
}

func mounts(t *testing.T, spec corev1.PodSpec, c corev1.Container) {
	t.Helper()
	from := map[string]corev1.VolumeSource{}
	for _, v := range spec.Volumes {
		from[v.Name] = v.VolumeSource
	}
	at := map[string]corev1.VolumeMount{}
	for _, v := range c.VolumeMounts {
		if _, ok := from[v.Name]; !ok {
			t.Errorf("%s is mounted, and no volume", v.Name)
		}
		at[v.MountPath] = v
	}
	for path, readOnly := range map[string]bool{
		"/sys/fs/cgroup": true, "/etc/machine-id": true, "/sys/fs/bpf": false, "/run/sheetbend": false, "/run/containerd": false,
	} {
		host := from[at[path].Name].HostPath
		if host == nil || host.Path != path {
			t.Errorf("the node's %s is not there", path)
		}
		if at[path].ReadOnly != readOnly {
			t.Errorf("%s: read-only is %v", path, !readOnly)
		}
	}
	if v, ok := at["/var/lib/sheetbend-recorder"]; ok && from[v.Name].HostPath == nil && from[v.Name].EmptyDir == nil {
		t.Error("the recorder's volume is neither of the node nor of the pod")
	}
	if from[at["/var/lib/sheetbend"].Name].HostPath == nil {
		t.Error("the spool does not outlive the pod")
	}
	if len(at) != len(spec.Volumes) {
		t.Errorf("%d volumes, %d mounts", len(spec.Volumes), len(at))
	}
}

func probes(t *testing.T, c corev1.Container, config *corev1.ConfigMap) {
	t.Helper()
	var conf struct {
		Metrics struct{ Listen string }
	}
	if err := yaml.Unmarshal([]byte(config.Data["sheetbend.yaml"]), &conf); err != nil {
		t.Fatal(err)
	}
	if conf.Metrics.Listen == "" {
		if c.StartupProbe != nil || c.LivenessProbe != nil || c.ReadinessProbe != nil || len(c.Ports) != 0 {
			t.Error("it is probed where nothing listens")
		}
		return
	}
	if len(c.Ports) != 1 || !strings.HasSuffix(conf.Metrics.Listen, fmt.Sprintf(":%d", c.Ports[0].ContainerPort)) {
		t.Fatalf("ports %v, and it listens at %s", c.Ports, conf.Metrics.Listen)
	}
	for path, p := range map[string][]*corev1.Probe{"/healthz": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
		for _, p := range p {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port.String() != c.Ports[0].Name {
				t.Errorf("%s is not asked: %v", path, p)
			}
		}
	}
}

// The sensor has no reload: another configuration has to be another pod.
func TestAnotherConfigurationMakesOtherPods(t *testing.T) {
	annotations := map[string]string{}
	for _, endpoint := range []string{"http://one:4317", "http://two:4317"} {
		files, err := render(t.Context(), []byte("config: {exporters: {otlp: {endpoint: \""+endpoint+"\"}}}"))
		if err != nil {
			t.Fatal(err)
		}
		m := decode(t, files["sheetbend/templates/daemonset.yaml"])
		sum := m.daemonSet.Spec.Template.Annotations["checksum/config"]
		if sum == "" {
			t.Fatal("no checksum")
		}
		annotations[sum] = endpoint
	}
	if len(annotations) != 2 {
		t.Error("two configurations have the same checksum")
	}
	k := decode(t, kustomized(t, "kustomize"))
	for _, v := range k.daemonSet.Spec.Template.Spec.Volumes {
		if v.ConfigMap != nil && (v.ConfigMap.Name != k.configMap.Name || v.ConfigMap.Name == "sheetbend") {
			t.Errorf("kustomize: the pods have %s, and there is %s", v.ConfigMap.Name, k.configMap.Name)
		}
	}
}

// The chart and the kustomization are two ways to the same pod.
func TestBothWaysMakeTheSamePod(t *testing.T) {
	t.Run("privileged", func(t *testing.T) { samePod(t, "default", "kustomize") })
	t.Run("with capabilities", func(t *testing.T) { samePod(t, "capabilities", "kustomize-capabilities") })
}

func samePod(t *testing.T, values, dir string) {
	h, k := decode(t, chart(t, values)).daemonSet.Spec.Template.Spec, decode(t, kustomized(t, dir)).daemonSet.Spec.Template.Spec
	for _, s := range []*corev1.PodSpec{&h, &k} {
		s.Volumes = slices.DeleteFunc(s.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil })
		names := map[string]string{}
		for i := range s.Volumes {
			names[s.Volumes[i].Name] = s.Volumes[i].HostPath.Path
			s.Volumes[i].Name = s.Volumes[i].HostPath.Path
		}
		for i, m := range s.Containers[0].VolumeMounts {
			if n, ok := names[m.Name]; ok {
				s.Containers[0].VolumeMounts[i].Name = n
			}
		}
		// A patch puts its own first.
		slices.SortFunc(s.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(s.Containers[0].VolumeMounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	}
	a, errA := yaml.Marshal(h)
	b, errB := yaml.Marshal(k)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the chart's:\n%s\nthe kustomization's:\n%s\n%v %v", a, b, errA, errB)
	}
}

func TestAFieldThatTheAPIDoesNotHaveIsAnError(t *testing.T) {
	text := chart(t, "default")
	for _, change := range [][2]string{{"hostPID:", "hostPid:"}, {"priorityClassName:", "priorityClass:"}, {"hostPID: true", "hostPID: true\n      hostPID: true"}} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if _, err := decodeStrictly(changed); changed == text || err == nil {
			t.Errorf("%s instead of %s is no error", change[1], change[0])
		}
	}
}

func TestValuesThatTheChartDoesNotHaveAreRefused(t *testing.T) {
	for _, values := range []string{
		"priorityClass: x", "image: {repo: x}", "image: {digest: latest}", "tolerations: {operator: Exists}",
		"config: {exporters: 3}", "config: {sandbox: []}", "config: {sandboxes: [{kubernetes: {label: {a: b}}}]}",
		"config: {exporters: {otlp: {protocol: http}}}", "config: {exporters: {otlp: {endpoint: 'collector:4317'}}}",
		"config: {exporters: {otlp: {signal: [logs]}}}", "config: {exporters: {otlp: {signals: [metrics]}}}",
		"config: {exporters: {otlp: [{protocol: grpc}]}}", "runtimeDirectories: [run/containerd]",
		"recorder: {hostPath: /data}", "recorder: {size: 1G}", "networkPolicy: {backends: [{pod: x}]}",
		"podMonitor: {interval: 30}",
	} {
		if _, err := render(t.Context(), []byte(values)); err == nil {
			t.Errorf("%s is taken", values)
		}
	}
}
