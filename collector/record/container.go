// SPDX-License-Identifier: Apache-2.0

package record

import "encoding/binary"

// MaxPairs bounds the labels, and the annotations, of a Container; AppendContainer leaves out further ones.
const MaxPairs = 64

// Container is what a container runtime of the host says of one container. "" where it does not.
type Container struct {
	ID        string // as in the path of its cgroup
	Runtime   string
	Name      string
	Image     string // without tag and digest
	Tag       string
	Pod       string // name; this and the following of Kubernetes
	PodUID    string
	Namespace string
	PodPart   string // name of the container in its pod; "" for the pod's own sandbox
	Handler   string // runtime handler of the pod
	// Labels and annotations: of the pod, in Kubernetes. Only those that the configuration names.
	Labels      []Pair
	Annotations []Pair
}

// Pair is one label or annotation.
type Pair struct{ Key, Value string }

// AppendContainer appends a Container record.
func AppendContainer(dst []byte, time uint64, c Container) []byte {
	base := len(dst)
	labels, annotations := fitPairs(c.Labels), fitPairs(c.Annotations)
	dst = appendHeader(dst, Header{Type: TypeContainer, Time: time})
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(labels)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(annotations)))
	dst = appendTexts(dst, base, containerSize, c.ID, c.Runtime, c.Name, c.Image, c.Tag,
		c.Pod, c.PodUID, c.Namespace, c.PodPart, c.Handler)
	for _, pairs := range [][]Pair{labels, annotations} {
		for _, p := range pairs {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(len(p.Key)))
			dst = binary.LittleEndian.AppendUint16(dst, uint16(len(p.Value)))
			dst = append(dst, p.Key...)
			dst = append(dst, p.Value...)
		}
	}
	binary.LittleEndian.PutUint32(dst[base+4:], uint32(len(dst)-base))
	return dst
}

// fitPairs leaves out what is too long rather than to cut it: half a value is a wrong one.
func fitPairs(pairs []Pair) []Pair {
	var fit []Pair
	for _, p := range pairs {
		if len(fit) < MaxPairs && len(p.Key) <= MaxText && len(p.Value) <= MaxText {
			fit = append(fit, p)
		}
	}
	return fit
}

// pairs takes n of them.
func (r *reader) pairs(n uint16) []Pair {
	if n > MaxPairs {
		r.short = true
		return nil
	}
	var pairs []Pair
	for range n {
		head := r.take(4)
		if r.short {
			return nil
		}
		pairs = append(pairs, Pair{Key: r.text(u16(head, 0)), Value: r.text(u16(head, 2))})
	}
	return pairs
}
