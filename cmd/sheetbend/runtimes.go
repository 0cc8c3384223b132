// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/enrich/container"
	"github.com/sheetbend/sheetbend/enrich/container/cri"
	"github.com/sheetbend/sheetbend/enrich/container/docker"
	"github.com/sheetbend/sheetbend/enrich/container/kubelet"
)

// Where container runtimes listen.
var (
	criSockets = []string{
		"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock",
	}
	dockerSockets = []string{"/run/docker.sock", "/run/podman/podman.sock"}
)

// runtimes asks the container runtimes of the host. nil does nothing.
type runtimes struct {
	resolver *container.Resolver
	undo     cleanups
	pods     string // the directory in which pods' labels and annotations are followed, "" if they are not
}

func openRuntimes(
	c *config.Config, selectors []collector.Selector, inject func([]byte) bool, d *dialer, log *slog.Logger,
) (_ *runtimes, err error) {
	r := &runtimes{}
	defer r.undo.onError(&err)
	o := container.Options{
		Inject: inject, Log: log, Labels: map[string]bool{},
		Annotations: map[string]bool{collector.SessionAnnotation: true, collector.CallAnnotation: true},
	}
	for _, s := range selectors {
		if s.Container != nil {
			for key := range s.Container.Labels {
				o.Labels[key] = true
			}
			for key := range s.Container.Annotations {
				o.Annotations[key] = true
			}
		}
	}
	for _, socket := range config.Expand(c.Containers.CRI, criSockets) {
		client, err := cri.New(socket, d.dial)
		if err != nil {
			return nil, err
		}
		r.undo.add(socket, client.Close)
		o.Sources = append(o.Sources, client)
	}
	for _, socket := range config.Expand(c.Containers.Docker, dockerSockets) {
		client := docker.New(socket, d.dial)
		r.undo.add(socket, client.Close)
		o.Sources = append(o.Sources, client)
	}
	if dir := c.Containers.Kubelet; dir != "" {
		pods, err := kubelet.New(dir)
		switch {
		case err == nil:
			o.Pods, r.pods = pods, kubelet.Pods(dir)
			r.undo.add(dir, pods.Close)
		case !errors.Is(err, fs.ErrNotExist):
			log.Warn("labels and annotations of pods are not followed", "err", err)
		}
		o.Now = func() (uint64, error) {
			boot, _, err := live.SystemClock()
			return boot, err
		}
	}
	r.resolver = container.NewResolver(o)
	return r, nil
}

func (r *runtimes) start() {
	if r == nil {
		return
	}
	ctx, end := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { r.resolver.Run(ctx) })
	r.undo.add("questions", func() error { end(); group.Wait(); return nil })
}

// close may be called again.
func (r *runtimes) close() error {
	if r == nil {
		return nil
	}
	return r.undo.run()
}
