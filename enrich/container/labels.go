// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Labels that the kubelet puts on every container.
const (
	labelPod       = "io.kubernetes.pod.name"
	labelPodUID    = "io.kubernetes.pod.uid"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelPart      = "io.kubernetes.container.name"
)

// partOfSandbox is the name that the kubelet's labels give a pod's own container under Docker.
const partOfSandbox = "POD"

// Pod fills in what the kubelet's labels have, where nothing better is known.
func Pod(c *record.Container, labels map[string]string) {
	for _, f := range []struct {
		field *string
		label string
	}{
		{&c.Pod, labelPod}, {&c.PodUID, labelPodUID}, {&c.Namespace, labelNamespace}, {&c.PodPart, labelPart},
	} {
		if *f.field == "" {
			*f.field = labels[f.label]
		}
	}
	if c.PodPart == partOfSandbox {
		c.PodPart = ""
	}
}

// Image splits a reference into name and tag. An id or a digest alone is no name.
func Image(reference string) (name, tag string) {
	name, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	if name == "sha256" || isID(name) {
		return "", ""
	}
	return name, tag
}

// maxPairs bounds the labels that are looked at; the kubelet and the runtimes allow 256 KiB of them.
const maxPairs = 4096

// Pairs lists labels or annotations.
func Pairs(m map[string]string) []record.Pair {
	pairs := make([]record.Pair, 0, min(len(m), maxPairs))
	for k, v := range m {
		if len(pairs) == maxPairs {
			break
		}
		pairs = append(pairs, record.Pair{Key: k, Value: v})
	}
	return pairs
}
