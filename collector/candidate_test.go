// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

const (
	podPath  = "/kubepods/burstable/pod1e597579-417e-482f-bf65-5fe170c3aebd/"
	podsRoot = uint64(5)
)

func choosing(s config.Selector) func(*config.Config) {
	return func(c *config.Config) { c.Containers, c.Sandboxes = true, []config.Selector{s} }
}

func prod() config.Selector {
	return config.Selector{Agent: "codex", Session: "{namespace}/{pod}/{container}", Container: &config.ContainerSelector{Kubernetes: true, Namespaces: []string{"prod"}}}
}

func (w *world) podContainer(id uint64, containerID string) {
	w.t.Helper()
	w.now += ms
	w.raw(record.AppendCgroup(nil, w.now, id, podsRoot, podPath+containerID))
}

func TestAContainerIsChosenFromItsFirstExecOn(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.runs(30, webCgroup)
	w.begin(31, webCgroup)
	w.exec(31, "/bin/server", "server")
	w.tick(20 * time.Second) // the word comes very late
	if len(w.spans) != 0 {
		t.Fatalf("sent before it was known whose it is: %s", show(w.spans))
	}
	w.runtimeSays(web)
	wants(t, w.execOf(30), map[string]any{span.KeySessionID: "prod/shop-0/web", span.KeyAgentName: "codex", span.KeyContainerUnresolved: nil, span.KeyExitCode: int64(0)})
	if got := resource(w.execOf(30), span.KeyPodName); got != "shop-0" {
		t.Errorf("pod %v", got)
	}
	w.fork(31, 32)
	w.exec(32, "/bin/child", "child")
	w.exit(32, 0)
	w.exit(31, 0)
	w.tick(3 * time.Second)
	if w.execOf(32).Parent != w.execOf(31).ID {
		t.Error("the processes of before and after are not one tree")
	}
	other := web
	other.Namespace = "test"
	w.runtimeSays(other)
	if !w.c.containers.Chose(web.ID) || w.c.containers.Chose(otherID) {
		t.Error("it does not know its sandboxes")
	}
}

func TestOtherContainersLeaveNothing(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.runs(30, webCgroup)
	other := web
	other.Namespace = "test"
	w.runtimeSays(other)
	w.runs(31, webCgroup)
	w.tick(time.Hour)
	w.c.Close()
	if len(w.spans) != 0 {
		t.Errorf("%s", show(w.spans))
	}
	if s := w.c.Stats(); s.Cgroups != 0 || s.Containers != 0 || s.Processes != 0 || w.c.Stats().UndecidedBytes != 0 || w.c.Stats().Undecided != 0 {
		t.Errorf("kept: %+v", s)
	}
}

func TestAnAnnotationNamesTheSession(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	c := web
	c.Annotations = []record.Pair{{Key: config.SessionAnnotation, Value: "run-42"}}
	w.runtimeSays(c)
	w.runs(30, webCgroup)
	w.tick(3 * time.Second)
	wants(t, w.execOf(30), map[string]any{span.KeySessionID: "run-42"})
}

// annotated is the container with annotations of its pod.
func annotated(c record.Container, pairs ...string) record.Container {
	c.Annotations = nil
	for i := 0; i < len(pairs); i += 2 {
		c.Annotations = append(c.Annotations, record.Pair{Key: pairs[i], Value: pairs[i+1]})
	}
	return c
}

func TestAnAnnotationNamesTheCall(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.runs(30, webCgroup)
	w.runtimeSays(annotated(web, config.SessionAnnotation, "run-42", config.CallAnnotation, "call-7"))
	// Another container of the same pod.
	other := annotated(web, config.SessionAnnotation, "run-42", config.CallAnnotation, "call-7")
	other.ID, other.Name, other.PodPart = otherID, "side", "side"
	w.podContainer(21, otherID)
	w.runs(31, 21)
	w.runtimeSays(other)
	w.tick(3 * time.Second)
	for _, pid := range []uint32{30, 31} {
		wants(t, w.execOf(pid), map[string]any{span.KeySessionID: "run-42", span.KeyCallID: "call-7", span.KeyAttribution: "marker"})
	}
	if w.execOf(30).Trace == w.execOf(31).Trace {
		t.Error("two containers share the trace of a call")
	}
	if s := w.c.Stats(); s.RefusedMarks != 0 {
		t.Errorf("%+v", s)
	}
	w.removed(webCgroup, podPath+web.ID)
	w.removed(21, podPath+otherID)
	w.tick(time.Hour)
	if s := w.c.Stats(); s.Containers != 0 || s.Agents != 0 || s.Sandboxes != 0 || w.c.Stats().OpenMarks != 0 {
		t.Errorf("kept: %+v", s)
	}
}

// A pod of a warm pool is taken: it gets annotations and labels that it had not when it was made.
func TestASessionFollowsTheAnnotation(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.runtimeSays(web)
	w.begin(30, webCgroup)
	w.exec(30, "/bin/server", "server")
	w.runs(31, webCgroup)
	w.runtimeSays(annotated(web, config.SessionAnnotation, "claim-1"))
	w.fork(30, 32)
	w.exec(32, "/bin/child", "child")
	w.exit(32, 0)
	w.runtimeSays(annotated(web, config.SessionAnnotation, "claim-1", config.CallAnnotation, "call-1"))
	w.runs(33, webCgroup)
	w.runtimeSays(annotated(web, config.SessionAnnotation, "claim-1", config.CallAnnotation, "call-2"))
	w.runs(34, webCgroup)
	w.runtimeSays(annotated(web, config.SessionAnnotation, "claim-2"))
	w.runs(35, webCgroup)
	elsewhere := annotated(web, config.SessionAnnotation, "claim-3")
	elsewhere.Namespace = "test" // what is a sandbox stays one
	w.runtimeSays(elsewhere)
	w.runs(36, webCgroup)
	w.exit(30, 0)
	w.tick(3 * time.Second)
	for pid, want := range map[uint32][2]any{
		31: {"prod/shop-0/web", nil}, 32: {"claim-1", nil}, 33: {"claim-1", "call-1"}, 34: {"claim-1", "call-2"}, 35: {"claim-2", nil}, 36: {"claim-2", nil},
	} {
		wants(t, w.execOf(pid), map[string]any{span.KeySessionID: want[0], span.KeyCallID: want[1]})
	}
	child, server := w.execOf(32), w.execOf(30)
	if child.Parent != (span.ID{}) && child.Trace != server.Trace {
		t.Error("a parent in another trace")
	}
	if w.c.Stats().OpenMarks != 0 {
		t.Errorf("%d marks open", w.c.Stats().OpenMarks)
	}
}

func TestAContainerThatNobodyTellsOfIsALoss(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(21, otherID)
	told := web
	told.ID = otherID
	w.runtimeSays(told) // so that there is a session to tell
	w.podContainer(webCgroup, web.ID)
	w.runs(30, webCgroup)
	w.tick(2 * lineage.UndecidedFor)
	w.tick(time.Second)
	wants(t, w.only(span.Loss), map[string]any{span.KeyLostKind: "container", span.KeyLostCause: "unassigned"})
	if s := w.c.Stats(); s.UnresolvedContainers != 1 || s.Containers != 1 || w.c.Stats().Undecided != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatSelectorsChoose(t *testing.T) {
	labelled := web
	labelled.Labels = []record.Pair{{Key: "app", Value: "shop"}, {Key: "agents.x-k8s.io/sandbox-name-hash", Value: "b1d2"}}
	pause := labelled
	pause.PodPart, pause.Name = "", ""
	docker := record.Container{ID: otherID, Runtime: "docker", Name: "runner-1", Labels: []record.Pair{{Key: "role", Value: "agent"}}}
	for name, c := range map[string]struct {
		s    config.ContainerSelector
		c    record.Container
		want bool
	}{
		"any container of a pod":       {config.ContainerSelector{Kubernetes: true}, labelled, true},
		"a pod's own container":        {config.ContainerSelector{Kubernetes: true}, pause, false},
		"one of two namespaces":        {config.ContainerSelector{Kubernetes: true, Namespaces: []string{"a", "prod"}}, labelled, true},
		"another namespace":            {config.ContainerSelector{Kubernetes: true, Namespaces: []string{"a"}}, labelled, false},
		"a label":                      {config.ContainerSelector{Kubernetes: true, Labels: map[string]string{"app": "shop"}}, labelled, true},
		"a label of another value":     {config.ContainerSelector{Kubernetes: true, Labels: map[string]string{"app": "x"}}, labelled, false},
		"one of two labels":            {config.ContainerSelector{Kubernetes: true, Labels: map[string]string{"app": "shop", "tier": "*"}}, labelled, false},
		"an agent sandbox":             {config.ContainerSelector{Kubernetes: true, Labels: map[string]string{"agents.x-k8s.io/sandbox-name-hash": "*"}}, labelled, true},
		"an annotation":                {config.ContainerSelector{Kubernetes: true, Annotations: map[string]string{"watch": "yes", "team": "*"}}, annotated(labelled, "team", "a", "watch", "yes"), true},
		"an annotation of other value": {config.ContainerSelector{Kubernetes: true, Annotations: map[string]string{"watch": "yes"}}, annotated(labelled, "watch", "no"), false},
		"a label is no annotation":     {config.ContainerSelector{Kubernetes: true, Annotations: map[string]string{"app": "*"}}, labelled, false},
		"a container's name":           {config.ContainerSelector{Kubernetes: true, Containers: []string{"w?b"}}, labelled, true},
		"another container's name":     {config.ContainerSelector{Kubernetes: true, Containers: []string{"main"}}, labelled, false},
		"a runtime handler":            {config.ContainerSelector{Kubernetes: true, Handlers: []string{"runc"}}, labelled, true},
		"another runtime handler":      {config.ContainerSelector{Kubernetes: true, Handlers: []string{"gvisor"}}, labelled, false},
		"a container of Docker":        {config.ContainerSelector{Labels: map[string]string{"role": "agent"}}, docker, true},
		"of Docker, by name":           {config.ContainerSelector{Containers: []string{"runner-*"}}, docker, true},
		"of Docker, where pods are":    {config.ContainerSelector{Kubernetes: true}, docker, false},
		"a pod, where Docker is meant": {config.ContainerSelector{}, labelled, false},
	} {
		if got := c.s.Chooses(&c.c); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.podContainer(21, otherID)
	w.begin(30, webCgroup)
	w.begin(31, 21)
	long := strings.Repeat("x", 60<<10)
	for range 700 {
		w.exec(30, "/bin/true", "true", long)
		w.exec(31, "/bin/true", "true", long)
		if w.c.Stats().UndecidedBytes > lineage.MaxKeptBytes {
			t.Fatalf("%d bytes", w.c.Stats().UndecidedBytes)
		}
	}
	w.tick(2 * lineage.UndecidedFor)
	if s := w.c.Stats(); s.UnresolvedContainers != 2 || w.c.Stats().UndecidedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestANoisyContainerCostsNoOtherItsRecords(t *testing.T) {
	w := newWorld(t, choosing(prod()))
	w.podContainer(webCgroup, web.ID)
	w.podContainer(21, otherID)
	w.runs(30, webCgroup)
	w.begin(31, 21)
	long := strings.Repeat("x", 60<<10)
	for range 700 {
		w.exec(31, "/bin/true", "true", long)
	}
	w.runtimeSays(web)
	w.tick(3 * time.Second)
	wants(t, w.execOf(30), map[string]any{span.KeySessionID: "prod/shop-0/web"})
	if w.c.losses.Counts.ByKind[lineage.LossKind{Kind: record.TypeContainer, Cause: record.CauseUnassigned}] == 0 {
		t.Error("what was dropped is not told")
	}
}

// Somebody who makes directories with names of containers takes no room from real ones, and is told where there is none.
func TestDirectoriesThatLookLikeContainersTakeNoRoom(t *testing.T) {
	w := newWorld(t, choosing(prod()), func(c *config.Config) { c.MaxCgroups = 16 })
	named := func(n int) string { return fmt.Sprintf("%064x", n) }
	for n := range 100 {
		w.podContainer(uint64(1000+n), named(n))
		w.removed(uint64(1000+n), podPath+named(n))
	}
	w.tick(3 * time.Second)
	if n := w.c.losses.Counts.ByKind[lineage.LossKind{Kind: record.TypeCgroup, Cause: record.CauseTableFull}]; n != 0 || w.c.Stats().Containers != 0 {
		t.Errorf("%d lost, %d known", n, w.c.Stats().Containers)
	}
	for n := range 20 {
		w.podContainer(uint64(2000+n), named(1000+n))
	}
	w.tick(6 * time.Second)
	if n := w.c.losses.Counts.ByKind[lineage.LossKind{Kind: record.TypeCgroup, Cause: record.CauseTableFull}]; n != 4 {
		t.Errorf("%d told as lost, want 4", n)
	}
}
