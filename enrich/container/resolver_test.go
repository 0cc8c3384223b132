// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

func (r *runtime) Watch(ctx context.Context, tell func(record.Container)) error {
	r.mu.Lock()
	r.watches++
	r.mu.Unlock()
	for {
		select {
		case c, ok := <-r.events:
			if !ok {
				return errors.New("connection lost")
			}
			tell(c)
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
	d := &desk{t: t}
	d.Resolver = NewResolver(Options{Sources: sources, Inject: d.inject, Labels: map[string]bool{"app": true}})
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
