// SPDX-License-Identifier: Apache-2.0

// Package container finds which container a cgroup is, and what the container runtimes of the host
// know about it. Clients of the runtimes are in packages of their own.
package container

import "strings"

// Names of runtimes, as in container.runtime.name.
const (
	Containerd = "containerd"
	CRIO       = "cri-o"
	Docker     = "docker"
	Podman     = "podman"
)

// Ref is what the path of a cgroup has about the container that it is, or lies in.
type Ref struct {
	ID      string // 64 hex digits
	Runtime string // "" where the path has no name of it
	PodUID  string // of a Kubernetes pod, "" outside of one; a static pod's has no dashes
	Root    string // path of the container's topmost directory
}

const idLength = 64

// prefixes of the names of containers' directories. The monitors' names (crio-conmon-…, libpod-conmon-…) are not
// among these: what follows the prefix is no id.
var prefixes = []struct{ prefix, runtime string }{
	{"cri-containerd-", Containerd},
	{"nerdctl-", Containerd},
	{"crio-", CRIO},
	{"docker-", Docker},
	{"libpod-payload-", Podman}, // --cgroups=split, as Quadlet has it
	{"libpod-", Podman},
}

// parents of directories whose name is an id alone. Elsewhere such a name means nothing: pods of Podman
// have one, and so may anything.
var parents = map[string]string{
	"docker":      Docker,
	"actions_job": Docker, // containers of GitHub Actions
	"k8s.io":      Containerd,
}

// FromCgroup reads the path of a cgroup v2 directory, from the mount or from above it. Of nested containers
// it gives the innermost. False: the path is in no container. The processes that watch a container
// (conmon) have directories beside it, and are not in it.
func FromCgroup(path string) (Ref, bool) {
	for end := len(path); end > 0; {
		start := strings.LastIndexByte(path[:end], '/') + 1
		id, runtime := own(path[start:end])
		above := strings.TrimSuffix(path[:start], "/")
		if id == "" && isID(path[start:end]) {
			id, runtime = below(path[start:end], above)
		}
		if id != "" {
			return Ref{ID: id, Runtime: runtime, PodUID: podAbove(path[:end]), Root: path[:end]}, true
		}
		end = start - 1
	}
	return Ref{}, false
}

// own reads a name that is a container's wherever it stands: "cri-containerd-ID.scope", "crio-ID", and
// "kubepods-podUID.slice:cri-containerd:ID", which the cgroupfs driver makes of a path meant for systemd.
func own(name string) (id, runtime string) {
	name = strings.TrimSuffix(name, ".scope")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		prefix := name[strings.LastIndexByte(name[:i], ':')+1 : i]
		name = prefix + "-" + name[i+1:]
	}
	for _, p := range prefixes {
		if id, ok := strings.CutPrefix(name, p.prefix); ok && isID(id) {
			return id, p.runtime
		}
	}
	return "", ""
}

// below reads a name that is an id alone, by where it stands.
func below(name, above string) (id, runtime string) {
	parent := above[strings.LastIndexByte(above, '/')+1:]
	if runtime, ok := parents[parent]; ok {
		return name, runtime
	}
	if podUID(parent) != "" {
		return name, ""
	}
	grand := strings.TrimSuffix(above, "/"+parent)
	if grand[strings.LastIndexByte(grand, '/')+1:] == "ecs" { // /ecs/TASK/ID
		return name, Docker
	}
	return "", ""
}

// podAbove looks for the pod of a container: its directory is the container's parent.
func podAbove(root string) string {
	name := root[strings.LastIndexByte(root, '/')+1:]
	if slice, _, ok := strings.Cut(name, ":"); ok {
		return podUID(slice)
	}
	root = strings.TrimSuffix(root, "/"+name)
	return podUID(root[strings.LastIndexByte(root, '/')+1:])
}

// podUID reads "podUID" and, of the systemd driver, "kubepods-burstable-podUID.slice", where a dash
// would mean a slice above and is written as an underscore.
func podUID(name string) string {
	name, systemd := strings.CutSuffix(name, ".slice")
	i := strings.LastIndex(name, "pod")
	if i < 0 || i > 0 && (!systemd || name[i-1] != '-') || i == 0 && systemd {
		return ""
	}
	uid := name[i+len("pod"):]
	if systemd {
		uid = strings.ReplaceAll(uid, "_", "-")
	}
	if IsPodUID(uid) {
		return uid
	}
	return ""
}

// IsPodUID knows UUIDs and the hashes that stand for them with static pods.
func IsPodUID(s string) bool {
	switch len(s) {
	case 32:
		return isHex(s)
	case 36:
		for i := range len(s) {
			if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i:i+1]) {
				return false
			}
		}
		return true
	}
	return false
}

func isID(s string) bool { return len(s) == idLength && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
