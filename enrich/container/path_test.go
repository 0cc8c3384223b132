// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"
)

const (
	a   = "d7dfb4a21fe1703a8537e60d5af248af729315d187b24a538102d14874c8117d"
	b   = "66be9b2efdf4d85288c319b8c1a2f50d2439b5617e36f45d9d0d0be1381113be"
	uid = "1e597579-417e-482f-bf65-5fe170c3aebd"
	// What systemd's names have for it.
	uidSlice  = "1e597579_417e_482f_bf65_5fe170c3aebd"
	staticPod = "03671a0313f5acf27bef3683009923f8"
	rootless  = "/user.slice/user-1000.slice/user@1000.service"
)

func TestAPathNamesItsInnermostContainer(t *testing.T) {
	for _, c := range []struct {
		name string
		path string
		root string // "" is path itself
		want Ref
	}{
		{name: "containerd, systemd", path: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidSlice + ".slice/cri-containerd-" + a + ".scope",
			want: Ref{ID: a, Runtime: Containerd, PodUID: uid}},
		{name: "containerd, systemd, guaranteed", path: "/kubepods.slice/kubepods-pod" + uidSlice + ".slice/cri-containerd-" + a + ".scope",
			want: Ref{ID: a, Runtime: Containerd, PodUID: uid}},
		{name: "containerd, systemd, static pod", path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + staticPod + ".slice/cri-containerd-" + a + ".scope",
			want: Ref{ID: a, Runtime: Containerd, PodUID: staticPod}},
		{name: "containerd, cgroupfs", path: "/kubepods/burstable/pod" + uid + "/" + a, want: Ref{ID: a, PodUID: uid}},
		{name: "containerd, cgroupfs, guaranteed", path: "/kubepods/pod" + uid + "/" + a, want: Ref{ID: a, PodUID: uid}},
		{name: "containerd, a systemd path under the cgroupfs driver", path: "/system.slice/containerd.service/kubepods-burstable-pod" + uidSlice + ".slice:cri-containerd:" + a,
			want: Ref{ID: a, Runtime: Containerd, PodUID: uid}},
		{name: "containerd, no parent asked for", path: "/k8s.io/" + a, want: Ref{ID: a, Runtime: Containerd}},
		{name: "containerd, pod outside of kubepods", path: "/system.slice/system-getty.slice/cri-containerd-" + a + ".scope", want: Ref{ID: a, Runtime: Containerd}},
		{name: "nerdctl", path: "/system.slice/nerdctl-" + a + ".scope", want: Ref{ID: a, Runtime: Containerd}},

		{name: "CRI-O, systemd", path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSlice + ".slice/crio-" + a + ".scope",
			want: Ref{ID: a, Runtime: CRIO, PodUID: uid}},
		{name: "CRI-O with crun", path: "/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-" + a + ".scope/container",
			root: "/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-" + a + ".scope", want: Ref{ID: a, Runtime: CRIO, PodUID: uid}},
		{name: "CRI-O, cgroupfs", path: "/kubepods/besteffort/pod" + uid + "/crio-" + a, want: Ref{ID: a, Runtime: CRIO, PodUID: uid}},

		{name: "Docker, systemd", path: "/system.slice/docker-" + a + ".scope", want: Ref{ID: a, Runtime: Docker}},
		{name: "Docker, cgroupfs", path: "/docker/" + a, want: Ref{ID: a, Runtime: Docker}},
		{name: "Docker, rootless", path: rootless + "/user.slice/docker-" + a + ".scope", want: Ref{ID: a, Runtime: Docker}},
		{name: "Docker under the kubelet", path: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidSlice + ".slice/docker-" + a + ".scope",
			want: Ref{ID: a, Runtime: Docker, PodUID: uid}},
		{name: "Docker on ECS", path: "/ecs/9781c248-0edd-4cdb-9a93-f63cb662a5d3/" + a, want: Ref{ID: a, Runtime: Docker}},
		{name: "Docker on ECS, systemd", path: "/ecstasks.slice/ecstasks-9781c2480edd4cdb9a93f63cb662a5d3.slice/docker-" + a + ".scope", want: Ref{ID: a, Runtime: Docker}},
		{name: "GitHub Actions", path: "/actions_job/" + a, want: Ref{ID: a, Runtime: Docker}},

		{name: "Podman", path: "/machine.slice/libpod-" + a + ".scope", want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman with crun", path: "/machine.slice/libpod-" + a + ".scope/container", root: "/machine.slice/libpod-" + a + ".scope", want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, rootless", path: rootless + "/user.slice/libpod-" + a + ".scope/container", root: rootless + "/user.slice/libpod-" + a + ".scope",
			want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, in a pod", path: "/machine.slice/machine-libpod_pod_" + b + ".slice/libpod-" + a + ".scope", want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, rootless, in a pod", path: rootless + "/user.slice/user-libpod_pod_" + b + ".slice/libpod-" + a + ".scope", want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, cgroupfs", path: "/libpod_parent/libpod-" + a, want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, cgroupfs, in a pod", path: "/libpod_parent/" + b + "/libpod-" + a, want: Ref{ID: a, Runtime: Podman}},
		{name: "Podman, split cgroups", path: "/system.slice/app.service/libpod-payload-" + a, want: Ref{ID: a, Runtime: Podman}},

		{name: "kind, systemd", path: "/system.slice/docker-" + b + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" +
			uidSlice + ".slice/cri-containerd-" + a + ".scope", want: Ref{ID: a, Runtime: Containerd, PodUID: uid}},
		{name: "kind, cgroupfs", path: "/docker/" + b + "/kubelet/kubepods/besteffort/pod" + uid + "/" + a, want: Ref{ID: a, PodUID: uid}},
		{name: "kind, seen from the node", path: "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidSlice +
			".slice/cri-containerd-" + a + ".scope", want: Ref{ID: a, Runtime: Containerd, PodUID: uid}},
		{name: "kind, of the node itself", path: "/docker/" + b + "/system.slice/kubelet.service", root: "/docker/" + b, want: Ref{ID: b, Runtime: Docker}},
		{name: "minikube with CRI-O", path: "/docker/" + b + "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidSlice + ".slice/crio-" + a + ".scope",
			want: Ref{ID: a, Runtime: CRIO, PodUID: uid}},
		{name: "Docker in Docker", path: "/docker/" + b + "/docker/" + a, want: Ref{ID: a, Runtime: Docker}},
		{name: "Docker in a pod", path: "/kubepods/burstable/pod" + uid + "/" + b + "/docker/" + a, want: Ref{ID: a, Runtime: Docker}},
		{name: "systemd in a container", path: "/machine.slice/libpod-" + a + ".scope/init.scope", root: "/machine.slice/libpod-" + a + ".scope", want: Ref{ID: a, Runtime: Podman}},
		{name: "above the cgroup namespace", path: "/../../kubepods/burstable/pod" + uid + "/" + a, want: Ref{ID: a, PodUID: uid}},
		{name: "a monitor inside of kind", path: "/docker/" + b + "/kubepods.slice/crio-conmon-" + a + ".scope", root: "/docker/" + b, want: Ref{ID: b, Runtime: Docker}},
	} {
		c.want.Root = c.path
		if c.root != "" {
			c.want.Root = c.root
		}
		if got, ok := FromCgroup(c.path); !ok || got != c.want {
			t.Errorf("%s: %s\n got %+v, %v\nwant %+v", c.name, c.path, got, ok, c.want)
		}
	}
}

func TestOtherPathsNameNone(t *testing.T) {
	for _, path := range []string{
		"", "/", "//", "/user.slice/user-1000.slice/session-2.scope", "/system.slice/docker.service", "/agents/one",
		// Monitors, beside the container.
		"/machine.slice/libpod-conmon-" + a + ".scope",
		"/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-conmon-" + a + ".scope",
		"/kubepods/pod" + uid + "/crio-conmon-" + a,
		"/system.slice/app.service/runtime",
		"/libpod_parent/conmon",
		// Pods, not containers.
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSlice + ".slice",
		"/kubepods/burstable/pod" + uid,
		"/machine.slice/machine-libpod_pod_" + a + ".slice",
		"/libpod_parent/" + a,
		// No ids.
		"/docker/buildkit", "/docker/" + a[:63], "/docker/" + a + "0", "/docker/" + strings.ToUpper(a),
		"/system.slice/docker-" + a[:12] + ".scope",
		"/kata_overhead/" + a, "/jailer/" + a, "/" + a,
		"/kubepods/burstable/podnone/" + a,
		"/kubepods/burstable/notpod" + uid + "/" + a,
	} {
		if got, ok := FromCgroup(path); ok {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func FuzzFromCgroup(f *testing.F) {
	f.Add("/docker/" + b + "/kubelet/kubepods/besteffort/pod" + uid + "/" + a)
	f.Add("/kubepods-burstable-pod" + uidSlice + ".slice:cri-containerd:" + a)
	f.Add("/libpod_parent/" + b + "/libpod-" + a + "/container")
	f.Add("::/:/ecs//" + a)
	f.Fuzz(func(t *testing.T, path string) {
		r, ok := FromCgroup(path)
		if !ok {
			if r != (Ref{}) {
				t.Fatalf("none, and %+v", r)
			}
			return
		}
		if !isID(r.ID) || r.PodUID != "" && !IsPodUID(r.PodUID) {
			t.Fatalf("%+v", r)
		}
		if !strings.HasPrefix(path, r.Root) || !strings.Contains(r.Root, r.ID) {
			t.Fatalf("root %q of %q", r.Root, path)
		}
		if again, ok := FromCgroup(r.Root); !ok || again != r {
			t.Fatalf("root %q says %+v, not %+v", r.Root, again, r)
		}
	})
}
