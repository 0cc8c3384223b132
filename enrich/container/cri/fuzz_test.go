// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sheetbend/sheetbend/collector/record"
)

// answers is a runtime whose answers are what a fuzzer makes of them.
type answers struct {
	runtime.RuntimeServiceClient
	pods       *runtime.ListPodSandboxResponse
	containers *runtime.ListContainersResponse
	status     *runtime.ContainerStatusResponse
}

func (a answers) Version(context.Context, *runtime.VersionRequest, ...grpc.CallOption) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{RuntimeName: "containerd"}, nil
}

func (a answers) ListPodSandbox(context.Context, *runtime.ListPodSandboxRequest, ...grpc.CallOption) (*runtime.ListPodSandboxResponse, error) {
	return a.pods, nil
}

func (a answers) ListContainers(context.Context, *runtime.ListContainersRequest, ...grpc.CallOption) (*runtime.ListContainersResponse, error) {
	return a.containers, nil
}

func (a answers) ContainerStatus(context.Context, *runtime.ContainerStatusRequest, ...grpc.CallOption) (*runtime.ContainerStatusResponse, error) {
	return a.status, nil
}

func FuzzAnswers(f *testing.F) {
	s := &server{}
	seed := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	pods, _ := s.ListPodSandbox(f.Context(), &runtime.ListPodSandboxRequest{})
	containers, _ := s.ListContainers(f.Context(), &runtime.ListContainersRequest{})
	status, _ := s.ContainerStatus(f.Context(), &runtime.ContainerStatusRequest{ContainerId: webID})
	event := &runtime.ContainerEventResponse{
		ContainerId: webID, ContainerEventType: runtime.ContainerEventType_CONTAINER_STARTED_EVENT,
		PodSandboxStatus:   &runtime.PodSandboxStatus{Id: podID, Metadata: metadata, Labels: labels},
		ContainersStatuses: []*runtime.ContainerStatus{{Id: webID, Metadata: &runtime.ContainerMetadata{Name: "web"}}},
	}
	f.Add(seed(pods), seed(containers), seed(status), seed(event))
	f.Add([]byte{10, 0}, []byte{10, 0}, []byte{10, 0}, []byte{})
	f.Fuzz(func(t *testing.T, pods, containers, status, event []byte) {
		a := answers{pods: &runtime.ListPodSandboxResponse{}, containers: &runtime.ListContainersResponse{}, status: &runtime.ContainerStatusResponse{}}
		e := &runtime.ContainerEventResponse{}
		for m, b := range map[proto.Message][]byte{a.pods: pods, a.containers: containers, a.status: status, e: event} {
			if proto.Unmarshal(b, m) != nil {
				return // gRPC gives no such answer
			}
		}
		c := &Client{socket: "fuzz", api: a}
		report := func(info record.Container) {
			var e record.Event
			if err := e.Decode(record.AppendContainer(nil, 1, info)); err != nil {
				t.Fatalf("%+v: %v", info, err)
			}
		}
		_ = c.list(t.Context(), report)
		c.event(t.Context(), e, report)
		for _, id := range []string{webID, bareID, podID} {
			if info, err := c.Find(t.Context(), id); err == nil {
				report(info)
			}
		}
	})
}
