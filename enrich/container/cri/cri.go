// SPDX-License-Identifier: Apache-2.0

// Package cri asks a container runtime over the Container Runtime Interface, which the kubelet uses:
// containerd and CRI-O. It only ever reads.
package cri

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

const (
	// maxMessage is what the kubelet allows, too: a list of all containers with their annotations.
	maxMessage = 16 << 20
	// answerWithin bounds the questions of Watch; those of Find are bounded by its caller.
	answerWithin = 10 * time.Second
	// eventsAgainAfter is when a runtime without events is asked for them again: it may have been upgraded.
	eventsAgainAfter = 5 * time.Minute
)

// Client is a container.Source.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	api    runtime.RuntimeServiceClient

	mu      sync.Mutex
	runtime string // its name; "" while not known
}

// New makes a client of the runtime that listens on a unix socket, to which dial connects; it is given unix://PATH
// (nil: as usual). It connects when it is used, and again when the connection is lost.
func New(socket string, dial func(ctx context.Context, path string) (net.Conn, error)) (*Client, error) {
	o := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Short: a socket is close, and spans wait for the answer no longer than the hold.
			Backoff: backoff.Config{
				BaseDelay: 20 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 200 * time.Millisecond,
			},
			MinConnectTimeout: time.Second,
		}),
	}
	if dial != nil {
		o = append(o, grpc.WithContextDialer(dial))
	}
	conn, err := grpc.NewClient("unix://"+socket, o...)
	if err != nil {
		return nil, fmt.Errorf("container runtime at %s: %w", socket, err)
	}
	return &Client{socket: socket, conn: conn, api: runtime.NewRuntimeServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// String names the socket.
func (c *Client) String() string { return c.socket }

// Find implements container.Source. A pod's own container has the pod's id.
func (c *Client) Find(ctx context.Context, id string) (record.Container, error) {
	name, err := c.name(ctx)
	if err != nil {
		return record.Container{}, err
	}
	found, err := c.api.ListContainers(ctx, &runtime.ListContainersRequest{Filter: &runtime.ContainerFilter{Id: id}})
	if err != nil {
		return record.Container{}, fmt.Errorf("list the container: %w", err)
	}
	for _, got := range found.GetContainers() {
		if got.GetId() != id {
			continue
		}
		pod, err := c.pod(ctx, got.GetPodSandboxId())
		if err != nil {
			return record.Container{}, err
		}
		if info := inPod(name, got, pod); info.Image != "" {
			return info, nil
		}
		// The image was named by its id; the status has a name for it.
		s, err := c.api.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return record.Container{}, fmt.Errorf("ask for the container: %w", err)
		}
		return inPod(name, s.GetStatus(), pod), nil
	}
	pod, err := c.pod(ctx, id)
	if err != nil {
		return record.Container{}, err
	}
	return sandbox(name, pod), nil
}

// Watch implements container.Source.
func (c *Client) Watch(ctx context.Context, report func(record.Container)) error {
	c.mu.Lock()
	c.runtime = "" // another may listen there now
	c.mu.Unlock()
	events, err := c.api.GetContainerEvents(ctx, &runtime.GetEventsRequest{})
	if err == nil {
		// The stream is open before the list is made, so that no container falls between.
		if err = c.list(ctx, report); err != nil {
			return err
		}
	}
	for err == nil {
		var e *runtime.ContainerEventResponse
		if e, err = events.Recv(); err == nil {
			c.event(ctx, e, report)
		}
	}
	if status.Code(err) != codes.Unimplemented {
		return fmt.Errorf("container events: %w", err)
	}
	// Each container is asked for when its cgroup is made: that is enough but for one that is removed within
	// milliseconds.
	select {
	case <-ctx.Done():
	case <-time.After(eventsAgainAfter):
	}
	return fmt.Errorf("container events: %w", err)
}

// list reports the containers that there are, with two questions for all of them.
func (c *Client) list(ctx context.Context, report func(record.Container)) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	name, err := c.name(ctx)
	if err != nil {
		return err
	}
	pods, err := c.api.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	byID := make(map[string]pod, len(pods.GetItems()))
	for _, p := range pods.GetItems() {
		byID[p.GetId()] = p
		report(sandbox(name, p))
	}
	all, err := c.api.ListContainers(ctx, &runtime.ListContainersRequest{})
	if err != nil {
		return fmt.Errorf("list the containers: %w", err)
	}
	for _, got := range all.GetContainers() {
		p, ok := byID[got.GetPodSandboxId()]
		if !ok {
			continue // removed in between
		}
		if info := inPod(name, got, p); info.Image != "" {
			report(info)
		}
	}
	return nil
}

// event reports the container that an event is about. Some runtimes send less than all: then nothing is reported, and
// the container is asked for when its cgroup is seen.
func (c *Client) event(ctx context.Context, e *runtime.ContainerEventResponse, report func(record.Container)) {
	switch e.GetContainerEventType() {
	case runtime.ContainerEventType_CONTAINER_CREATED_EVENT, runtime.ContainerEventType_CONTAINER_STARTED_EVENT:
	default:
		return
	}
	p := e.GetPodSandboxStatus()
	name, err := c.name(ctx)
	if err != nil || p.GetId() == "" {
		return
	}
	if e.GetContainerId() == p.GetId() {
		report(sandbox(name, p))
		return
	}
	for _, s := range e.GetContainersStatuses() {
		if s.GetId() == e.GetContainerId() && s.GetMetadata() != nil {
			report(inPod(name, s, p))
		}
	}
}

// name is the runtime's, as in container.runtime.name.
func (c *Client) name(ctx context.Context) (string, error) {
	c.mu.Lock()
	name := c.runtime
	c.mu.Unlock()
	if name != "" {
		return name, nil
	}
	v, err := c.api.Version(ctx, &runtime.VersionRequest{})
	if err != nil {
		return "", fmt.Errorf("ask for the runtime's version: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runtime = v.GetRuntimeName()
	return c.runtime, nil
}

// pod asks by a list: containerd logs an error for each PodSandboxStatus of a pod that it does not know yet, and a
// pod's own container runs before containerd knows the pod.
func (c *Client) pod(ctx context.Context, id string) (pod, error) {
	found, err := c.api.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{Filter: &runtime.PodSandboxFilter{Id: id}})
	if err != nil {
		return nil, fmt.Errorf("list the pod: %w", err)
	}
	for _, p := range found.GetItems() {
		if p.GetId() == id {
			return p, nil
		}
	}
	return nil, container.ErrUnknown
}

// pod is what the answers of a list and an event's status have in common.
type pod interface {
	GetId() string
	GetMetadata() *runtime.PodSandboxMetadata
	GetLabels() map[string]string
	GetAnnotations() map[string]string
	GetRuntimeHandler() string
}

// sandbox is the pod's own container.
func sandbox(name string, p pod) record.Container {
	return record.Container{
		ID: p.GetId(), Runtime: name, Handler: p.GetRuntimeHandler(),
		Pod: p.GetMetadata().GetName(), PodUID: p.GetMetadata().GetUid(), Namespace: p.GetMetadata().GetNamespace(),
		Labels: container.Pairs(p.GetLabels()), Annotations: container.Pairs(p.GetAnnotations()),
	}
}

// part is what a list and a status have of a container.
type part interface {
	GetId() string
	GetMetadata() *runtime.ContainerMetadata
	GetImage() *runtime.ImageSpec
}

// inPod is a container of a pod. The image may have no name.
func inPod(name string, c part, p pod) record.Container {
	info := sandbox(name, p)
	info.ID = c.GetId()
	info.Name = c.GetMetadata().GetName()
	info.PodPart = info.Name
	info.Image, info.Tag = image(c.GetImage())
	return info
}

// image prefers what the user wrote: the kubelet hands the runtime an id.
func image(s *runtime.ImageSpec) (name, tag string) {
	if name, tag = container.Image(s.GetUserSpecifiedImage()); name == "" {
		name, tag = container.Image(s.GetImage())
	}
	return name, tag
}
