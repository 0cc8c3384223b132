// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

var (
	web = record.Container{
		ID: strings.Repeat("ab", 32), Runtime: "containerd", Name: "web", Image: "registry.example/web", Tag: "1.2",
		Pod: "shop-0", PodUID: "1e597579-417e-482f-bf65-5fe170c3aebd", Namespace: "prod", PodPart: "web", Handler: "runc",
	}
	otherID = strings.Repeat("cd", 32)
	webPath = "/agents/one/cri-containerd-" + web.ID + ".scope"
)

// webCgroup is that of the container web, in the sandbox one.
const webCgroup = uint64(20)

func (w *world) container(id uint64, path string) {
	w.t.Helper()
	w.now += ms
	w.raw(record.AppendCgroup(nil, w.now, id, one, path))
}

func (w *world) removed(id uint64, path string) {
	w.t.Helper()
	h := w.header(1)
	h.Type = record.TypeCgroupRmdir
	w.raw(rt.Record(h, record.Cgroup{ID: id, Path: []byte(path)}))
}

func (w *world) runtimeSays(c record.Container) {
	w.t.Helper()
	w.raw(record.AppendContainer(nil, w.now, c))
}

// runs starts and ends a program.
func (w *world) runs(pid uint32, cgroup uint64) {
	w.t.Helper()
	w.begin(pid, cgroup)
	w.exec(pid, "/bin/true", "true", "--password=x")
	w.exit(pid, 0)
}

func withContainers(c *config.Config) { c.Containers = true }

func resource(s span.Span, key string) any {
	for _, a := range s.Resource.Attrs {
		if a.Key == key {
			return value(a)
		}
	}
	return nil
}

func TestSpansWaitForTheirContainer(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.runs(30, webCgroup)
	w.tick(time.Second)
	if len(w.spans) != 0 {
		t.Fatalf("sent before the runtime told of the container: %s", show(w.spans))
	}
	w.runtimeSays(web)
	s := w.only(span.Exec)
	for key, want := range map[string]any{
		"service.name": "codex", "container.id": web.ID, "container.name": "web", "container.image.name": "registry.example/web", "container.runtime.name": "containerd",
		"k8s.pod.name": "shop-0", "k8s.pod.uid": web.PodUID, "k8s.namespace.name": "prod", "k8s.container.name": "web",
	} {
		if got := resource(s, key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	wants(t, s, map[string]any{
		span.KeyContainerUnresolved: nil, span.KeyCgroup: webPath, span.KeySeq: int64(1), span.KeyExitCode: int64(0), span.KeyCommandLine: "true '--password=****'",
	})
}

func TestAContainerThatIsGoneIsStillNamed(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.runs(30, webCgroup)
	w.removed(webCgroup, webPath)
	w.tick(time.Second)
	w.runtimeSays(web)
	if s := w.only(span.Exec); resource(s, span.KeyPodName) != "shop-0" {
		t.Errorf("resource %v", s.Resource.Attrs)
	}
	if s := w.c.Stats(); s.Containers != 0 || s.WaitingSpans != 0 {
		t.Errorf("kept: %+v", s)
	}
}

func TestWithoutAWordTheSpanGoesOutWhenTheHoldEnds(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.runs(30, webCgroup)
	w.runs(31, one)
	w.tick(3 * time.Second)
	wants(t, w.execOf(30), map[string]any{span.KeyContainerUnresolved: true, span.KeyCgroup: webPath})
	if got := resource(w.execOf(30), span.KeyContainerID); got != nil {
		t.Errorf("container.id %v", got)
	}
	wants(t, w.execOf(31), map[string]any{span.KeyContainerUnresolved: nil})

	w.runs(32, webCgroup)
	wants(t, w.execOf(32), map[string]any{span.KeyContainerUnresolved: true})
	w.runtimeSays(web)
	w.runs(33, webCgroup)
	wants(t, w.execOf(33), map[string]any{span.KeyContainerUnresolved: nil})
	if got := resource(w.execOf(33), span.KeyPodName); got != "shop-0" {
		t.Errorf("a late word is not used: %v", got)
	}
	if n := w.c.Stats().UnresolvedContainers; n != 1 {
		t.Errorf("%d unresolved", n)
	}
}

func TestSpansOfAContainerShareOneResource(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.raw(record.AppendCgroup(nil, w.now, 21, webCgroup, webPath+"/init.scope"))
	w.runs(30, webCgroup)
	w.runtimeSays(web)
	w.runs(31, webCgroup)
	w.runs(32, 21)
	w.runs(33, one)
	if w.execOf(30).Resource != w.execOf(31).Resource || w.execOf(30).Resource != w.execOf(32).Resource {
		t.Error("three resources")
	}
	if w.execOf(33).Resource == w.execOf(30).Resource || resource(w.execOf(33), span.KeyContainerID) != nil {
		t.Error("a process beside the container has its resource")
	}
}

func TestAgentsAndCallsCarryTheirContainer(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.runtimeSays(web)
	w.begin(200, webCgroup)
	w.start(200, "/usr/bin/codex", false)
	w.call(200, 210, "call_1")
	w.exit(210, 0)
	w.exit(200, 0)
	w.tick(3 * time.Second)
	for _, s := range append(w.of(span.Tool), w.of(span.Exec)...) {
		if resource(s, span.KeyPodName) != "shop-0" || resource(s, span.KeyServiceName) != "codex" {
			t.Errorf("%s has resource %v", s.Name, s.Resource.Attrs)
		}
	}
	w.only(span.Tool)
}

func TestANameAloneMakesNoContainer(t *testing.T) {
	w := newWorld(t, withContainers)
	w.container(webCgroup, webPath)
	w.runtimeSays(web)
	// A process with a cgroup file system of its own names a directory as another's container.
	w.container(22, "/agents/two/docker-"+web.ID+".scope")
	w.runs(30, 22)
	wants(t, w.execOf(30), map[string]any{span.KeyContainerUnresolved: true})
	if got := resource(w.execOf(30), span.KeyPodName); got != nil {
		t.Errorf("it passes for %v", got)
	}
	w.removed(22, "/agents/two/docker-"+web.ID+".scope")
	w.runs(31, webCgroup)
	if got := resource(w.execOf(31), span.KeyPodName); got != "shop-0" {
		t.Errorf("the container itself has lost its name: %v", got)
	}
}

func TestWaitingSpansAreBounded(t *testing.T) {
	w := newWorld(t, withContainers, func(c *config.Config) { c.MaxPending = 16 })
	w.container(webCgroup, webPath)
	w.container(21, "/agents/two/docker-"+otherID+".scope")
	for n := range uint32(12) {
		w.runs(100+n, webCgroup)
		w.runs(200+n, 21)
		if s := w.c.Stats(); s.WaitingSpans > 16 {
			t.Fatalf("%d wait", s.WaitingSpans)
		}
	}
	w.c.Close()
	if got := len(w.of(span.Exec)); got != 24 {
		t.Errorf("%d spans of 24", got)
	}
	for n, s := range w.spans {
		if get(s, span.KeySeq) != int64(n+1) {
			t.Errorf("seq %v at %d", get(s, span.KeySeq), n+1)
		}
	}
	if s := w.c.Stats(); s.EarlySpans == 0 || s.WaitingSpans != 0 || w.c.Stats().WaitingBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWithoutRuntimesNothingWaits(t *testing.T) {
	w := newWorld(t)
	w.container(webCgroup, webPath)
	w.runs(30, webCgroup)
	wants(t, w.only(span.Exec), map[string]any{span.KeyContainerUnresolved: nil})
}

func TestContainersComeAndGo(t *testing.T) {
	w := newWorld(t, withContainers)
	for n := range uint64(100) {
		path := fmt.Sprintf("/agents/one/docker-%064x.scope", n)
		w.container(1000+n, path)
		w.runs(uint32(1000+n), 1000+n)
		w.removed(1000+n, path)
	}
	w.tick(3 * time.Second)
	if s := w.c.Stats(); s.Containers != 0 || len(w.of(span.Exec)) != 100 {
		t.Errorf("%d kept, %d spans", s.Containers, len(w.of(span.Exec)))
	}
}
