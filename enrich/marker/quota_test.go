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
	// A connection more than the party may have: the one that was not used for longest goes.
	lines := []*line{l}
	for range maxPartyConnections - 1 {
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

func TestQuotasAreOfEachPartyAndAreForgotten(t *testing.T) {
	q := newQuota()
	a, b := q.enter(party{uid: 1}, 0, nothing), q.enter(party{sandbox: "/b"}, 0, nothing)
	for range burst {
		q.pay(a, 1, 0)
	}
	if q.pay(a, 1, 0) || !q.pay(b, 1, 0) {
		t.Error("one party pays for another")
	}
	if !q.pay(a, 1, 1e9/perSecond) || q.pay(a, 1, 1e9/perSecond) {
		t.Error("the bucket does not fill as it should")
	}
	q.leave(a)
	for i := range maxParties {
		if s := q.enter(party{uid: uint32(i), sandbox: "/many"}, 10e9, nothing); s != nil {
			q.leave(s)
		}
	}
	if q.enter(party{sandbox: "/new"}, 10e9, nothing) == nil {
		t.Error("accounts that nobody uses keep others out")
	}
}

func TestWhoKeepsConnectionsOpenKeepsNobodyOut(t *testing.T) {
	q := newQuota()
	gone := 0
	for i := range 20 * maxConnections {
		if q.enter(party{sandbox: strconv.Itoa(i % 20)}, 0, func() { gone++ }) == nil {
			t.Fatal("refused")
		}
	}
	if q.seats.Taken() != maxConnections || gone != 19*maxConnections {
		t.Errorf("%d connections, %d ended", q.seats.Taken(), gone)
	}
	if q.enter(party{uid: 1000}, 0, nothing) == nil || q.seats.Taken() != maxConnections {
		t.Error("a user outside is kept out")
	}
	// Even if each party has only one.
	q = newQuota()
	for i := range maxConnections {
		q.enter(party{uid: uint32(i + 1)}, 0, nothing)
	}
	if q.enter(party{uid: 9999}, 0, nothing) != nil {
		t.Error("more connections than all may have")
	}
	if q.enter(rootOutside, 0, nothing) == nil {
		t.Error("root is kept out")
	}
	var one *seat
	for range maxPartyConnections {
		one = q.enter(rootOutside, 0, nothing)
	}
	before := q.seats.Taken()
	q.enter(rootOutside, 0, nothing)
	for range 2 * maxPartyConnections {
		q.leave(one) // more than once: harmless
	}
	if q.seats.Taken() > before {
		t.Errorf("%d connections, were %d", q.seats.Taken(), before)
	}
}
