// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

var (
	podID  = strings.Repeat("a", 64)
	webID  = strings.Repeat("b", 64)
	bareID = strings.Repeat("c", 64)
)

// server is a runtime with one pod and two containers. What newer runtimes do than the tests with a real one have is
// tested with it: events.
type server struct {
	runtime.UnimplementedRuntimeServiceServer
	events chan *runtime.ContainerEventResponse // nil: not implemented
	mu     sync.Mutex
	asked  []string
}

var (
	metadata = &runtime.PodSandboxMetadata{Name: "shop-0", Uid: "1e597579-417e-482f-bf65-5fe170c3aebd", Namespace: "prod"}
	labels   = map[string]string{"app": "shop"}
)

func (s *server) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{RuntimeName: "cri-o"}, nil
}

func (s *server) ListPodSandbox(_ context.Context, r *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	if id := r.GetFilter().GetId(); id != "" && id != podID {
		return &runtime.ListPodSandboxResponse{}, nil
	}
	return &runtime.ListPodSandboxResponse{Items: []*runtime.PodSandbox{{Id: podID, Metadata: metadata, Labels: labels, RuntimeHandler: "kata", Annotations: map[string]string{"note": "x"}}}}, nil
}

func (s *server) ListContainers(_ context.Context, r *runtime.ListContainersRequest) (*runtime.ListContainersResponse, error) {
	all := []*runtime.Container{
		{Id: webID, PodSandboxId: podID, Metadata: &runtime.ContainerMetadata{Name: "web"}, Image: &runtime.ImageSpec{Image: "sha256:" + podID, UserSpecifiedImage: "registry.example/web:1.2"}},
		{Id: bareID, PodSandboxId: podID, Metadata: &runtime.ContainerMetadata{Name: "bare"}, Image: &runtime.ImageSpec{Image: "sha256:" + podID}},
	}
	out := &runtime.ListContainersResponse{}
	for _, c := range all {
		if id := r.GetFilter().GetId(); id == "" || id == c.Id {
			out.Containers = append(out.Containers, c)
		}
	}
	return out, nil
}

func (s *server) ContainerStatus(_ context.Context, r *runtime.ContainerStatusRequest) (*runtime.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.GetContainerId())
	return &runtime.ContainerStatusResponse{Status: &runtime.ContainerStatus{Id: r.GetContainerId(), Metadata: &runtime.ContainerMetadata{Name: "bare"}, Image: &runtime.ImageSpec{Image: "registry.example/bare:3"}}}, nil
}

func (s *server) GetContainerEvents(_ *runtime.GetEventsRequest, stream grpc.ServerStreamingServer[runtime.ContainerEventResponse]) error {
	if s.events == nil {
		return status.Error(codes.Unimplemented, "no events")
	}
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return status.Error(codes.Unavailable, "shutting down")
			}
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func serve(t *testing.T, s *server) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	runtime.RegisterRuntimeServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c, err := New(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestFindTellsOfAContainerAndItsPod(t *testing.T) {
	s := &server{}
	c := serve(t, s)
	got, err := c.Find(t.Context(), webID)
	if err != nil {
		t.Fatal(err)
	}
	got.Labels, got.Annotations = nil, nil
	want := record.Container{
		ID: webID, Runtime: "cri-o", Name: "web", Image: "registry.example/web", Tag: "1.2", Pod: "shop-0", PodUID: metadata.Uid, Namespace: "prod", PodPart: "web", Handler: "kata",
	}
	if got.ID != want.ID || got.Name != want.Name || got.Image != want.Image || got.Tag != want.Tag || got.Pod != want.Pod || got.PodUID != want.PodUID ||
		got.Namespace != want.Namespace || got.PodPart != want.PodPart || got.Handler != want.Handler || got.Runtime != want.Runtime {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(s.asked) != 0 {
		t.Errorf("asked for the status of %v, which the list told", s.asked)
	}
	if got, err := c.Find(t.Context(), bareID); err != nil || got.Image != "registry.example/bare" || got.Tag != "3" {
		t.Errorf("an image that the list names by its id: %+v, %v", got, err)
	}
	if got, err := c.Find(t.Context(), podID); err != nil || got.Pod != "shop-0" || got.PodPart != "" || got.ID != podID {
		t.Errorf("the pod's own container: %+v, %v", got, err)
	}
	if _, err := c.Find(t.Context(), strings.Repeat("d", 64)); !errors.Is(err, container.ErrUnknown) {
		t.Errorf("a container that is not there: %v", err)
	}
}

func TestWatchTellsOfWhatIsThereAndWhatIsMade(t *testing.T) {
	s := &server{events: make(chan *runtime.ContainerEventResponse)}
	c := serve(t, s)
	told := make(chan record.Container, 16)
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(t.Context(), func(i record.Container) { told <- i }) }()
	for _, want := range []string{podID, webID} {
		if got := <-told; got.ID != want || got.Pod != "shop-0" {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	newID := strings.Repeat("e", 64)
	pod := &runtime.PodSandboxStatus{Id: podID, Metadata: metadata, Labels: labels}
	created := runtime.ContainerEventType_CONTAINER_CREATED_EVENT
	// Neither of these two says which container it is about.
	s.events <- &runtime.ContainerEventResponse{ContainerId: newID, ContainerEventType: created}
	s.events <- &runtime.ContainerEventResponse{ContainerId: newID, ContainerEventType: created, PodSandboxStatus: pod}
	s.events <- &runtime.ContainerEventResponse{ContainerId: newID, ContainerEventType: created, PodSandboxStatus: pod, ContainersStatuses: []*runtime.ContainerStatus{
		{Id: webID, Metadata: &runtime.ContainerMetadata{Name: "web"}},
		{Id: newID, Metadata: &runtime.ContainerMetadata{Name: "job"}, Image: &runtime.ImageSpec{Image: "registry.example/job"}},
	}}
	if got := <-told; got.ID != newID || got.PodPart != "job" || got.Image != "registry.example/job" || len(got.Labels) != 1 {
		t.Errorf("%+v", got)
	}
	s.events <- &runtime.ContainerEventResponse{ContainerId: podID, ContainerEventType: runtime.ContainerEventType_CONTAINER_STARTED_EVENT, PodSandboxStatus: pod}
	if got := <-told; got.ID != podID || got.PodPart != "" {
		t.Errorf("%+v", got)
	}
	close(s.events)
	if err := <-ended; err == nil {
		t.Error("the end of the runtime is no error")
	}
}

func TestARuntimeWithoutEventsIsListed(t *testing.T) {
	c := serve(t, &server{})
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan record.Container, 16)
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(ctx, func(i record.Container) { told <- i }) }()
	if got := <-told; got.ID != podID {
		t.Errorf("%+v", got)
	}
	cancel()
	<-ended
}
