// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// What chooses pods by labels chooses the sensor's, and not the one of `helm test`.
func choosesTheSensors(t *testing.T, what string, chosen *metav1.LabelSelector, m manifest) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(chosen)
	if err != nil {
		t.Fatal(err)
	}
	if !selector.Matches(labels.Set(m.daemonSet.Spec.Template.Labels)) || selector.Matches(labels.Set(m.test.Labels)) {
		t.Errorf("%s chooses by %s", what, selector)
	}
}

// An image that a digest names stays the same when somebody moves the tag.
func TestADigestNamesTheImage(t *testing.T) {
	m := decode(t, chart(t, "gateway"))
	want := "registry.example/sheetbend@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, spec := range []corev1.PodSpec{m.daemonSet.Spec.Template.Spec, m.test.Spec} {
		if got := spec.Containers[0].Image; got != want {
			t.Errorf("the image is %s", got)
		}
	}
}

// Port and protocol, sorted.
func ports(list []networkingv1.NetworkPolicyPort) (out []string) {
	for _, p := range list {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		out = append(out, p.Port.String()+" "+string(protocol))
	}
	slices.Sort(out)
	return out
}

func TestTheNetworkPolicyLeavesBackendNamesAndMetrics(t *testing.T) {
	m := decode(t, chart(t, "gateway"))
	spec := m.policy.Spec
	choosesTheSensors(t, "the policy", &spec.PodSelector, m)
	if !slices.Equal(spec.PolicyTypes, []networkingv1.PolicyType{"Ingress", "Egress"}) {
		t.Errorf("it is about %v", spec.PolicyTypes)
	}
	if len(spec.Ingress) != 1 || !slices.Equal(ports(spec.Ingress[0].Ports), []string{"9464 TCP"}) ||
		len(spec.Ingress[0].From) != 1 {
		t.Errorf("in comes %+v", spec.Ingress)
	}
	if len(spec.Egress) != 2 ||
		!slices.Equal(ports(spec.Egress[0].Ports), []string{"4318 TCP", "443 TCP"}) || len(spec.Egress[0].To) != 2 ||
		!slices.Equal(ports(spec.Egress[1].Ports), []string{"53 TCP", "53 UDP"}) || len(spec.Egress[1].To) != 1 {
		t.Errorf("out goes %+v", spec.Egress)
	}
}

// policyOf gives the policy for endpoints.
func policyOf(t *testing.T, values string) (*networkingv1.NetworkPolicy, error) {
	t.Helper()
	files, err := render(t.Context(), []byte("networkPolicy: {enabled: true}\n"+values))
	if err != nil {
		return nil, err
	}
	return decode(t, files["sheetbend/templates/networkpolicy.yaml"]).policy, nil
}

// As cmd/sheetbend finds the port of an endpoint (docs/configuration.md, "The protocol").
func TestThePolicyHasThePortsOfTheEndpoints(t *testing.T) {
	for otlp, want := range map[string]string{
		"{endpoint: http://a}":                                          "4317",
		"{endpoint: http://a:4317}":                                     "4317",
		"{endpoint: https://a}":                                         "443",
		"{endpoint: https://a/}":                                        "443",
		"{endpoint: http://a/otlp}":                                     "80",
		"{endpoint: http://a, protocol: http/protobuf}":                 "80",
		"{endpoint: http://a/v1/traces, protocol: grpc}":                "4317",
		"{endpoint: 'https://[2001:db8::1]:4000/x'}":                    "4000",
		"{endpoint: 'http://[2001:db8::1]'}":                            "4317",
		"[{endpoint: http://a:1}, {endpoint: unix:///run/x.sock}]":      "1",
		"[{endpoint: http://a:1}, {endpoint: http://b:1, timeout: 1s}]": "1",
	} {
		p, err := policyOf(t, "config: {exporters: {otlp: "+otlp+"}}")
		if err != nil {
			t.Errorf("%s: %v", otlp, err)
			continue
		}
		if got := ports(p.Spec.Egress[0].Ports); !slices.Equal(got, []string{want + " TCP"}) {
			t.Errorf("%s: %v, want %s", otlp, got, want)
		}
	}
	p, err := policyOf(t, "config: {metrics: null}")
	if err != nil || len(p.Spec.Ingress) != 0 || len(p.Spec.PolicyTypes) != 2 {
		t.Errorf("without metrics: %v, %+v", err, p)
	}
	files, err := render(t.Context(), []byte("networkPolicy: {enabled: true, ports: [55680]}"))
	if err != nil {
		t.Fatal(err)
	}
	given := decode(t, files["sheetbend/templates/networkpolicy.yaml"]).policy.Spec.Egress[0].Ports
	if got := ports(given); !slices.Equal(got, []string{"55680 TCP"}) {
		t.Errorf("given ports: %v", got)
	}
}

// Where nobody knows where spans go, a policy would keep all of them on the node.
func TestAPolicyWithoutABackendIsRefused(t *testing.T) {
	_, err := policyOf(t, "config: {exporters: {otlp: {endpoint: unix:///run/x.sock}}}")
	if err == nil || !strings.Contains(err.Error(), "networkPolicy.ports") {
		t.Errorf("%v", err)
	}
}

func TestThePodMonitorAsksThePortOfTheMetrics(t *testing.T) {
	m := decode(t, chart(t, "gateway"))
	choosesTheSensors(t, "the monitor", &m.monitor.Spec.Selector, m)
	if m.monitor.Labels["release"] != "prometheus" {
		t.Errorf("its labels are %v", m.monitor.Labels)
	}
	e := m.monitor.Spec.PodMetricsEndpoints
	port := m.daemonSet.Spec.Template.Spec.Containers[0].Ports[0]
	if len(e) != 1 || e[0].Port == nil || *e[0].Port != port.Name || e[0].Path != "/metrics" || e[0].Interval == "" {
		t.Errorf("it asks %+v, and there is %+v", e, port)
	}
	for _, name := range []string{"default", "cluster", "quiet"} {
		if m := decode(t, chart(t, name)); m.monitor != nil || m.policy != nil {
			t.Errorf("%s has what it did not ask for: %v", name, m.kinds)
		}
	}
	if _, err := render(t.Context(), []byte("podMonitor: {enabled: true}\nconfig: {metrics: null}")); err == nil {
		t.Error("it asks where nothing listens")
	}
}

// `helm test` tries a node as the sensor has it: same image, rights, files and environment of the backend.
func TestTheTestOfTheChartHasWhatTheSensorHas(t *testing.T) {
	for _, name := range []string{"default", "capabilities", "cluster", "gateway", "quiet"} {
		m := decode(t, chart(t, name))
		if m.test.Annotations["helm.sh/hook"] != "test" {
			t.Errorf("%s: it is installed", name)
		}
		a, b := m.daemonSet.Spec.Template.Spec, m.test.Spec
		if b.RestartPolicy != corev1.RestartPolicyNever || b.Containers[0].Args[0] != "doctor" || a.HostPID != b.HostPID {
			t.Errorf("%s: %+v", name, b)
		}
		x, y := a.Containers[0], b.Containers[0]
		if x.Image != y.Image || !reflect.DeepEqual(x.SecurityContext, y.SecurityContext) ||
			!reflect.DeepEqual(x.VolumeMounts, y.VolumeMounts) || !reflect.DeepEqual(a.Volumes, b.Volumes) ||
			!reflect.DeepEqual(a.Tolerations, b.Tolerations) || !reflect.DeepEqual(x.Args[1:3], y.Args[1:]) {
			t.Errorf("%s: the sensor has\n%+v\n%+v\nthe test has\n%+v\n%+v", name, a.Volumes, x, b.Volumes, y)
		}
	}
}

// What `helm install` says names this release, and only what there is.
func TestTheNotesSayWhatIsThere(t *testing.T) {
	for values, want := range map[string][2]string{
		"default": {"recorder.size=1Gi", "exec daemonset"},
		"gateway": {"sheetbend story SESSION", "can be another image"},
		"cluster": {"cannot be asked for", "exec daemonset"},
		"quiet":   {"rollout status daemonset/sheetbend", "/metrics"},
	} {
		text, err := os.ReadFile("testdata/" + values + ".values.yaml")
		if err != nil {
			t.Fatal(err)
		}
		files, err := render(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		notes := files["sheetbend/templates/NOTES.txt"]
		if !strings.Contains(notes, "--namespace observability test sheetbend") || !strings.Contains(notes, want[0]) ||
			strings.Contains(notes, want[1]) {
			t.Errorf("%s:\n%s", values, notes)
		}
	}
}
