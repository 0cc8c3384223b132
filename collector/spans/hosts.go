// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"fmt"
	"hash/maphash"
	gonet "net"
	"slices"
	"strconv"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A traffic is what went over the connections to a destination that have ended, in bytes.
type traffic struct{ sent, received int64 }

func (t traffic) sum() int64 { return t.sent + t.received }

// A host is a destination whose name is kept.
type host struct {
	name string
	hash uint64
}

// A room is how many destinations may be kept.
type room struct {
	left   int
	within *room
}

func (r *room) take() bool {
	for in := r; in != nil; in = in.within {
		if in.left <= 0 {
			return false
		}
	}
	r.give(-1)
	return true
}

func (r *room) give(n int) {
	for ; r != nil; r = r.within {
		r.left += n
	}
}

// A destination is what a connect goes to. Without a name it is none.
type destination struct {
	name string
	port int64
}

func (to destination) String() string {
	return gonet.JoinHostPort(to.name, strconv.FormatInt(to.port, 10))
}

// addHost counts a destination that is new, and what went to one that is known. Names are kept of the first, and of those
// with more traffic in their place.
func (c *out) addHost(a *account, e *entry) {
	if e.host.name == "" {
		return
	}
	to := c.spans.hashOf(e.host)
	t, known := a.hosts[to]
	switch {
	case !known && (e.closed || len(a.hosts) >= maxHosts || !a.room.take()):
		return
	case !known && a.hosts == nil:
		a.hosts = make(map[uint64]traffic)
	}
	t.sent, t.received = t.sent+e.sent, t.received+e.received
	a.hosts[to] = t
	if !slices.ContainsFunc(a.hostNames, func(h host) bool { return h.hash == to }) {
		if len(a.hostNames) == maxNames && t.sum() <= a.hosts[a.hostNames[maxNames-1].hash].sum() {
			return
		}
		a.hostNames = append(a.hostNames, host{span.Clip(e.host.String(), maxAccountName), to})
	}
	slices.SortStableFunc(a.hostNames, func(x, y host) int {
		return cmp.Compare(a.hosts[y.hash].sum(), a.hosts[x.hash].sum())
	})
	a.hostNames = a.hostNames[:min(len(a.hostNames), maxNames)]
}

// traffics are the names of destinations, those with the most traffic first, and what went over each, as "IN OUT".
func (a *account) traffics() (names, bytes []string) {
	for _, h := range a.hostNames {
		t := a.hosts[h.hash]
		names, bytes = append(names, h.name), append(bytes, fmt.Sprint(t.received, " ", t.sent))
	}
	if len(a.hostNames) == 0 || a.hosts[a.hostNames[0].hash].sum() == 0 {
		bytes = nil
	}
	return names, bytes
}

// fill says of which room the destinations of an account are. It stays the same while there are any.
func (a *account) fill(r *room) {
	if len(a.hosts) == 0 {
		a.room = r
	}
}

func (c *Spans) hashOf(to destination) uint64 {
	var h maphash.Hash
	h.SetSeed(c.accounts.seed)
	_, _ = h.WriteString(to.name)
	_, _ = h.Write([]byte{byte(to.port >> 8), byte(to.port)})
	return h.Sum64()
}

// isNew says whether nobody of an agent, or else of a sandbox, has connected to a destination before, as far as is kept.
func (c *Spans) isNew(sb *attribution.Sandbox, w attribution.Owner, to destination) bool {
	a := &c.toldOf(sb).account
	if w.Agent != nil {
		s := storyOf(w)
		if s == nil {
			return false
		}
		a = &s.account
	}
	_, known := a.hosts[c.hashOf(to)]
	return !known // where there is no room it is told again rather than never
}
