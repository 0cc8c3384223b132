// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/sheetbend/sheetbend/collector/record"
)

// runtime is a container runtime in memory.
type runtime struct {
	mu      sync.Mutex
	knows   map[string]record.Container
	down    bool
	asked   int
	watches int
	events  chan record.Container
}

func (r *runtime) String() string { return "/run/test.sock" }

func (r *runtime) Find(_ context.Context, id string) (record.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.down {
		return record.Container{}, errors.New("connection refused")
	}
	if c, ok := r.knows[id]; ok {
		return c, nil
	}
	return record.Container{}, ErrUnknown
}

func (r *runtime) Watch(ctx context.Context, report func(record.Container)) error {
	r.mu.Lock()
	r.watches++
	r.mu.Unlock()
	for {
		select {
		case c, ok := <-r.events:
			if !ok {
				return errors.New("connection lost")
			}
			report(c)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *runtime) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// desk is a Resolver and what it injected.
type desk struct {
	*Resolver
	t    *testing.T
	end  func()
	mu   sync.Mutex
	told []record.Event
}

func newDesk(t *testing.T, sources ...Source) *desk {
	return newDeskOf(t, Options{Sources: sources})
}

func newDeskOf(t *testing.T, o Options) *desk {
	d := &desk{t: t}
	o.Inject, o.Labels = d.inject, map[string]bool{"app": true}
	d.Resolver = NewResolver(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	d.end = func() { cancel(); <-done }
	return d
}

func (d *desk) inject(raw []byte) bool {
	var e record.Event
	if err := e.Decode(raw); err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, e)
	return true
}

func (d *desk) wants(n int) {
	d.t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.told) != n {
		d.t.Errorf("%d records, want %d", len(d.told), n)
	}
}

var path = "/docker/" + a

func named(id, name string) record.Container {
	return record.Container{ID: id, Name: name, Labels: []record.Pair{{Key: "app", Value: "x"}, {Key: "secret", Value: "y"}}}
}

func TestAContainerIsToldWhenItsCgroupIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &runtime{}, &runtime{knows: map[string]record.Container{a: named(a, "web")}})
		defer d.end()
		d.Seen(7, "/agents/one")
		d.Seen(8, path)
		d.Seen(9, path+"/init.scope")
		d.wants(1)
		e := d.told[0]
		if e.Header.Time != 8 || e.Container.Name != "web" {
			t.Errorf("%+v %+v", e.Header, e.Container)
		}
		if l := e.Container.Labels; len(l) != 1 || l[0].Key != "app" {
			t.Errorf("labels that nobody asked for: %v", l)
		}
	})
}

func TestARuntimeThatDoesNotKnowYetIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{}
		d := newDesk(t, r)
		defer d.end()
		d.Seen(8, path)
		time.Sleep(40 * time.Millisecond)
		d.wants(0)
		r.set(func() { r.knows = map[string]record.Container{a: named(a, "web")} })
		time.Sleep(100 * time.Millisecond)
		d.wants(1)
	})
}

func TestAnEventAnswersAQuestionAndComesBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{events: make(chan record.Container)}
		d := newDesk(t, r)
		defer d.end()
		d.Seen(8, path)
		r.events <- named(a, "web")
		d.wants(1)
		// Removed before its cgroup was read from the ring: the runtime does not know it any more.
		r.events <- named(b, "short")
		synctest.Wait()
		d.Seen(9, "/docker/"+b)
		d.wants(2)
		if d.told[1].Container.Name != "short" || d.told[1].Header.Time != 9 {
			t.Errorf("%+v", d.told[1])
		}
	})
}

func TestContainersAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{events: make(chan record.Container)}
		d := newDesk(t, r)
		defer d.end()
		r.events <- named(a, "web")
		time.Sleep(keptFor + time.Second)
		for n := range kept + 10 {
			r.events <- named(fmt.Sprintf("%064x", n), "n")
		}
		synctest.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.known[a] != nil || len(d.known) != kept || d.recent.Len() != kept {
			t.Errorf("%d kept", len(d.known))
		}
	})
}

func TestARuntimeMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{down: true, events: make(chan record.Container)}
		close(r.events)
		d := newDesk(t, r)
		defer d.end()
		d.Seen(8, path)
		time.Sleep(30 * time.Second)
		d.wants(0)
		events := make(chan record.Container)
		r.set(func() {
			if r.watches < 3 || r.watches > 12 {
				t.Errorf("tried %d times in 30 s", r.watches)
			}
			if r.asked < 20 || r.asked > 60 {
				t.Errorf("asked %d times in 30 s", r.asked)
			}
			r.down, r.events, r.knows = false, events, map[string]record.Container{a: named(a, "web")}
		})
		time.Sleep(10 * time.Second)
		d.wants(1)
		events <- named(b, "other")
	})
}

func TestAContainerThatNobodyKnowsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &runtime{})
		defer d.end()
		d.Seen(8, path)
		time.Sleep(2 * askFor)
		d.wants(0)
		if s := d.Stats(); s.Unknown != 1 || len(d.wanted) != 0 {
			t.Errorf("%+v, %d wanted", s, len(d.wanted))
		}
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	r := NewResolver(Options{Inject: func([]byte) bool { return true }})
	for n := range maxWanted + 5 {
		r.Seen(1, fmt.Sprintf("/docker/%064x", n))
	}
	if s := r.Stats(); s.Refused != 5 || len(r.wanted) != maxWanted {
		t.Errorf("%+v, %d wanted", s, len(r.wanted))
	}
}

func TestImageNames(t *testing.T) {
	for ref, want := range map[string][2]string{
		"busybox":                             {"busybox", ""},
		"docker.io/library/busybox:1.36":      {"docker.io/library/busybox", "1.36"},
		"localhost:5000/team/app":             {"localhost:5000/team/app", ""},
		"localhost:5000/team/app:v1@sha256:0": {"localhost:5000/team/app", "v1"},
		"sha256:" + a:                         {"", ""},
		a:                                     {"", ""},
		"":                                    {"", ""},
	} {
		if name, tag := Image(ref); name != want[0] || tag != want[1] {
			t.Errorf("%s: %q %q", ref, name, tag)
		}
	}
}

// pods are what a kubelet says.
type pods struct {
	mu    sync.Mutex
	of    map[string]PodNow
	reads int
}

func (p *pods) Read(uid string) (PodNow, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	now, ok := p.of[uid]
	switch {
	case !ok:
		return now, fs.ErrNotExist
	case now.Version == "bad":
		return now, errors.New("no pairs")
	}
	return now, nil
}

func (p *pods) Version(uid string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ok := p.of[uid]
	if !ok {
		return "", fs.ErrNotExist
	}
	return now.Version, nil
}

func (p *pods) set(uid string, now PodNow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[uid] = now
}

func TestAPodThatChangesIsToldOfAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		info := named(a, "web")
		info.PodUID = uid
		plain := named(b, "plain")
		plain.PodUID = staticPod
		kubelet := &pods{of: map[string]PodNow{uid: {Version: "1", Labels: map[string]string{"app": "pool", "secret": "z"}}}}
		d := newDeskOf(t, Options{Sources: []Source{&runtime{knows: map[string]record.Container{a: info, b: plain}}}, Pods: kubelet, Now: func() (uint64, error) { return 99, nil }})
		defer d.end()
		says := func(n int, time uint64, app string) {
			t.Helper()
			d.wants(n)
			e := d.told[n-1]
			if l := e.Container.Labels; e.Header.Time != time || len(l) != 1 || l[0].Value != app {
				t.Errorf("at %d: %v, want %s at %d", e.Header.Time, l, app, time)
			}
		}
		d.Seen(8, path)
		says(1, 8, "pool")
		d.Seen(9, "/docker/"+b) // of a pod that has no such volume
		says(2, 9, "x")
		reads := kubelet.reads
		time.Sleep(time.Minute)
		d.wants(2)
		if kubelet.reads != reads {
			t.Errorf("read %d times, and nothing had changed", kubelet.reads-reads)
		}
		kubelet.set(uid, PodNow{Version: "2", Labels: map[string]string{"app": "taken"}})
		time.Sleep(2 * refreshEvery)
		says(3, 99, "taken")
		d.Seen(10, path) // its cgroup is told of once more
		says(4, 10, "taken")
		kubelet.set(uid, PodNow{Version: "bad"})
		time.Sleep(time.Minute)
		d.wants(4)
		if s := d.Stats(); s.Unreadable != 1 {
			t.Errorf("%+v", s)
		}
		kubelet.set(uid, PodNow{Version: "3", Labels: map[string]string{"app": "again"}})
		time.Sleep(2 * refreshEvery)
		says(5, 99, "again")
		kubelet.mu.Lock()
		delete(kubelet.of, uid)
		kubelet.mu.Unlock()
		time.Sleep(2 * refreshEvery)
		synctest.Wait()
		if len(d.pods) != 0 {
			t.Errorf("%d pods followed", len(d.pods))
		}
	})
}

func TestFollowedPodsAreBounded(t *testing.T) {
	kubelet := &pods{of: map[string]PodNow{}}
	r := NewResolver(Options{Inject: func([]byte) bool { return true }, Pods: kubelet})
	for n := range maxPods + 3 {
		uid := fmt.Sprintf("%032x", n)
		kubelet.of[uid] = PodNow{Version: "1"}
		r.learned(record.Container{ID: fmt.Sprintf("%064x", n), PodUID: uid})
	}
	for n := range maxParts + 2 {
		r.learned(record.Container{ID: fmt.Sprintf("%063xf", n), PodUID: fmt.Sprintf("%032x", 0)})
	}
	if s := r.Stats(); s.Unfollowed != 3+3 || len(r.pods) != maxPods || len(r.pods[fmt.Sprintf("%032x", 0)].parts) != maxParts {
		t.Errorf("%+v, %d pods", s, len(r.pods))
	}
}

func TestOfAPodOnlyWhatIsAskedForIsKept(t *testing.T) {
	file := "s1" + strings.Repeat("x", 256<<10) // values are parts of what was read
	all := func(version string) PodNow {
		return PodNow{
			Version: version, Labels: map[string]string{"app": file[:2], "other": "y", "long": file[:record.MaxText+1]},
			Annotations: map[string]string{"session": file[:2], "configuration": file[2:]},
		}
	}
	kubelet := &pods{of: map[string]PodNow{uid: all("1")}}
	var last record.Event
	r := NewResolver(Options{
		Inject: func(raw []byte) bool { return last.Decode(raw) == nil }, Labels: map[string]bool{"app": true, "long": true}, Annotations: map[string]bool{"session": true},
		Pods: kubelet, Now: func() (uint64, error) { return 9, nil },
	})
	kept := func() {
		t.Helper()
		now := r.pods[uid].now
		if !maps.Equal(now.Labels, map[string]string{"app": "s1"}) || !maps.Equal(now.Annotations, map[string]string{"session": "s1"}) {
			t.Errorf("%d labels and %d annotations are kept: %.99q", len(now.Labels), len(now.Annotations), fmt.Sprint(now))
		}
		for _, s := range []string{now.Labels["app"], now.Annotations["session"]} {
			if unsafe.StringData(s) == unsafe.StringData(file) {
				t.Error("all that was read is kept with a value")
			}
		}
	}
	r.learned(record.Container{ID: a, PodUID: uid, Annotations: []record.Pair{{Key: "session", Value: file[:2]}, {Key: "configuration", Value: file}}})
	kept()
	if of := r.pods[uid].parts[0].Annotations; len(of) != 1 || unsafe.StringData(of[0].Value) == unsafe.StringData(file) {
		t.Errorf("the runtime's word is kept whole: %d", len(of))
	}
	kubelet.of[uid] = all("2")
	r.refresh(uid, r.pods[uid])
	kept()
	if c := last.Container; len(c.Labels) != 1 || len(c.Annotations) != 1 || c.Annotations[0].Value != "s1" {
		t.Errorf("told: %v %v", c.Labels, c.Annotations)
	}
}
