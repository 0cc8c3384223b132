// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Pods reads pods as they are now: a runtime gets a pod's labels and annotations only once. An error that wraps
// fs.ErrNotExist means that there is nothing of this pod, or not any more.
type Pods interface {
	Read(uid string) (PodNow, error)
	// Version changes when what Read gives does.
	Version(uid string) (string, error)
}

// PodNow is what is known of a pod. A nil map: nothing is known, and what the runtime reported stays.
type PodNow struct {
	Version             string
	Labels, Annotations map[string]string
}

const (
	// refreshEvery is how often followed pods are read: one readlink each.
	refreshEvery = time.Second
	// maxPods and maxParts bound the pods that are followed, and the containers of each.
	maxPods  = 1024
	maxParts = 64
)

// A followed pod has files that change.
type followed struct {
	version string
	now     PodNow             // with what is asked for
	parts   []record.Container // as the runtime reported them, with the labels and annotations that are asked for
}

// current adds what is known of the pod now to what a runtime reported, and follows the pod from then on.
func (r *Resolver) current(info record.Container) record.Container {
	if r.o.Pods == nil || info.PodUID == "" {
		return info
	}
	r.podsMu.Lock()
	defer r.podsMu.Unlock()
	pod := r.pods[info.PodUID]
	if pod == nil {
		now, err := r.read(info.PodUID)
		if err != nil {
			r.unreadable(info.PodUID, err)
			return info
		}
		if len(r.pods) >= maxPods {
			r.count(func(s *Stats) { s.Unfollowed++ })
			return overlaid(info, now)
		}
		pod = &followed{version: now.Version, now: now}
		r.pods[info.PodUID] = pod
	}
	pod.parts = slices.DeleteFunc(pod.parts, func(c record.Container) bool { return c.ID == info.ID })
	if len(pod.parts) >= maxParts {
		pod.parts = pod.parts[1:]
		r.count(func(s *Stats) { s.Unfollowed++ })
	}
	pod.parts = append(pod.parts, info)
	return overlaid(info, pod.now)
}

// read keeps of a pod what is asked for. All of it may be a quarter of a MiB, and more by the kubelet's quoting.
func (r *Resolver) read(uid string) (PodNow, error) {
	now, err := r.o.Pods.Read(uid)
	now.Labels, now.Annotations = asked(now.Labels, r.o.Labels), asked(now.Annotations, r.o.Annotations)
	return now, err
}

// asked leaves what only does. nil stays nil: nothing is known, which is another thing than none.
func asked(pairs map[string]string, keys map[string]bool) map[string]string {
	if pairs == nil {
		return nil
	}
	kept := map[string]string{}
	for key := range keys {
		if value, ok := pairs[key]; ok && len(value) <= record.MaxText {
			kept[key] = strings.Clone(value)
		}
	}
	return kept
}

func overlaid(info record.Container, now PodNow) record.Container {
	if now.Labels != nil {
		info.Labels = Pairs(now.Labels)
	}
	if now.Annotations != nil {
		info.Annotations = Pairs(now.Annotations)
	}
	return info
}

// follow looks at the followed pods until ctx ends.
func (r *Resolver) follow(ctx context.Context) {
	for {
		sleep(ctx, refreshEvery)
		if ctx.Err() != nil {
			return
		}
		r.podsMu.Lock()
		for uid, pod := range r.pods {
			r.refresh(uid, pod)
		}
		r.podsMu.Unlock()
	}
}

// refresh injects a pod's containers again if the pod has changed.
func (r *Resolver) refresh(uid string, pod *followed) {
	version, err := r.o.Pods.Version(uid)
	if err == nil && version == pod.version {
		return
	}
	now, err := r.read(uid)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			delete(r.pods, uid) // it is over
		}
		r.unreadable(uid, err)
		pod.version = version // not again before it changes again
		return
	}
	pod.version, pod.now = now.Version, now
	time, err := r.o.Now()
	if err != nil {
		r.o.Log.Warn("a pod has changed, and its containers are not reported again", "pod", uid, "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range pod.parts {
		info := overlaid(part, now)
		if e := r.known[info.ID]; e != nil {
			e.Value.(*answer).info = info
		}
		r.inject(time, info)
	}
}

func (r *Resolver) unreadable(uid string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		r.count(func(s *Stats) { s.Unreadable++ })
		r.o.Log.Warn("the kubelet's files of a pod cannot be read: what the runtime reported stays",
			"pod", uid, "err", err)
	}
}

func (r *Resolver) count(change func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.stats)
}
