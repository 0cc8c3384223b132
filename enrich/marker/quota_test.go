// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"strconv"
	"strings"
	"testing"
)

func TestTooManyRequestsAndConnectionsAreRefused(t *testing.T) {
	s, to := serve(t, nil)
	l := dial(t, s)
	refused := 0
	for range burst + 10 {
		if r := l.ask(`{"op":"begin","call":"c"}`); !r.OK {
			refused++
		}
	}
	if _, n := to.last(); refused != 10 || n != burst {
		t.Errorf("%d refused, %d taken", refused, n)
	}
	// A connection more than the tenant may have: the one that was not used for longest goes.
	lines := []*line{l}
	for range maxTenantConnections - 1 {
		l := dial(t, s)
		l.ask(`{"op":"x"}`) // it is served
		lines = append(lines, l)
	}
	l.ask(`{"op":"x"}`) // the second one is the oldest now
	if r := dial(t, s).ask(`{"op":"x"}`); !strings.Contains(r.Error, "too many requests") && !strings.Contains(r.Error, "unknown op") {
		t.Errorf("%+v", r)
	}
	if _, err := lines[1].in.ReadByte(); err == nil {
		t.Error("the connection that was not used for longest is still open")
	}
	l.ask(`{"op":"x"}`)
	if s.Stats().Displaced != 1 {
		t.Errorf("%+v", s.Stats())
	}
}

func nothing() {}

func TestQuotasAreOfEachTenantAndAreForgotten(t *testing.T) {
	q := newSlots()
	a, b := q.Take(tenant{uid: 1}, at(0), nothing), q.Take(tenant{sandbox: "/b"}, at(0), nothing)
	for range burst {
		pay(a, 1, 0)
	}
	if pay(a, 1, 0) || !pay(b, 1, 0) {
		t.Error("one tenant pays for another")
	}
	if !pay(a, 1, 1e9/perSecond) || pay(a, 1, 1e9/perSecond) {
		t.Error("the bucket does not fill as it should")
	}
	q.Leave(a)
	for i := range maxTenants {
		if s := q.Take(tenant{uid: uint32(i), sandbox: "/many"}, at(10e9), nothing); s != nil {
			q.Leave(s)
		}
	}
	if q.Take(tenant{sandbox: "/new"}, at(10e9), nothing) == nil {
		t.Error("accounts that nobody uses keep others out")
	}
}

func TestWhoKeepsConnectionsOpenKeepsNobodyOut(t *testing.T) {
	q := newSlots()
	gone := 0
	for i := range 20 * maxConnections {
		if q.Take(tenant{sandbox: strconv.Itoa(i % 20)}, at(0), func() { gone++ }) == nil {
			t.Fatal("refused")
		}
	}
	if taken, displaced := q.Count(); taken != maxConnections || gone != 19*maxConnections || displaced != uint64(gone) {
		t.Errorf("%d connections, %d ended, %d displaced", taken, gone, displaced)
	}
	got := q.Take(tenant{uid: 1000}, at(0), nothing)
	if taken, _ := q.Count(); got == nil || taken != maxConnections {
		t.Error("a user outside is kept out")
	}
	// Even if each tenant has only one.
	q = newSlots()
	for i := range maxConnections {
		q.Take(tenant{uid: uint32(i + 1)}, at(0), nothing)
	}
	if q.Take(tenant{uid: 9999}, at(0), nothing) != nil {
		t.Error("more connections than all may have")
	}
	if q.Take(rootOutside, at(0), nothing) == nil {
		t.Error("root is kept out")
	}
	var one *slot
	for range maxTenantConnections {
		one = q.Take(rootOutside, at(0), nothing)
	}
	before, _ := q.Count()
	q.Take(rootOutside, at(0), nothing)
	for range 2 * maxTenantConnections {
		q.Leave(one) // more than once: harmless
	}
	if taken, _ := q.Count(); taken > before {
		t.Errorf("%d connections, were %d", taken, before)
	}
}
