// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"sync"
	"time"
)

// What all peers together, and one of them, may hold and do. A peer is a user of this host
// (unix socket, loopback TCP), what of loopback cannot be told whose it is, or an address.
const (
	maxPeers     = 256
	maxConns     = 128
	maxPeerConns = 64

	maxMemory     = 64 << 20 // bytes of requests that are being read
	maxPeerMemory = 48 << 20

	// Bytes of requests per second, and at once after a quiet time.
	peerBytes, peerBytesBurst = 16 << 20, 64 << 20
	// Facts. The stream of the collector takes some 8,000 at a time, markers included: this leaves room for those.
	peerFacts, peerFactsBurst = 500, 2000
)

// peers accounts for what the peers use.
type peers struct {
	now func() time.Time

	mu     sync.Mutex
	byKey  map[string]*peer
	conns  int
	memory int

	displaced uint64
}

type peer struct {
	key    string
	seats  []*seat // the one that has not brought a request for longest first
	memory int
	bytes  bucket
	facts  bucket
}

func newPeers(now func() time.Time) *peers {
	return &peers{now: now, byKey: map[string]*peer{}}
}

// A seat is the place of one connection.
type seat struct {
	peer   *peer
	vacate func() // ends the connection
}

// connect returns nil when there is no place. When the peer has too many connections, or all have, that of the peer, or of the one
// with most, has to go which has not brought a request for longest: slow senders keep nobody out.
func (ps *peers) connect(key string, vacate func()) *seat {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byKey[key]
	if p == nil {
		if len(ps.byKey) >= maxPeers && !ps.forget() {
			return nil
		}
		now := ps.now()
		p = &peer{key: key,
			bytes: bucket{rate: peerBytes, burst: peerBytesBurst, level: peerBytesBurst, at: now},
			facts: bucket{rate: peerFacts, burst: peerFactsBurst, level: peerFactsBurst, at: now}}
		ps.byKey[key] = p
	}
	switch {
	case len(p.seats) >= maxPeerConns:
		ps.displace(p)
	case ps.conns >= maxConns:
		largest := p
		for _, other := range ps.byKey {
			if len(other.seats) > len(largest.seats) {
				largest = other
			}
		}
		if len(largest.seats) < 2 {
			return nil
		}
		ps.displace(largest)
	}
	s := &seat{p, vacate}
	p.seats = append(p.seats, s)
	ps.conns++
	return s
}

func (ps *peers) displace(p *peer) {
	s := p.seats[0]
	ps.remove(s)
	ps.displaced++
	s.vacate()
}

// remove does nothing with a seat that was taken away before.
func (ps *peers) remove(s *seat) {
	if i := slices.Index(s.peer.seats, s); i >= 0 {
		s.peer.seats = slices.Delete(s.peer.seats, i, i+1)
		ps.conns--
	}
}

// used says that the connection has brought a request.
func (ps *peers) used(s *seat) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if i := slices.Index(s.peer.seats, s); i >= 0 {
		s.peer.seats = append(slices.Delete(s.peer.seats, i, i+1), s)
	}
}

func (ps *peers) disconnect(s *seat) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.remove(s)
}

func (ps *peers) displacements() uint64 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.displaced
}

// forget makes room. A peer without connections is kept while it has used up some of its rate: it
// should not get a new one by connecting again.
func (ps *peers) forget() bool {
	now := ps.now()
	for key, p := range ps.byKey {
		if len(p.seats) == 0 && p.memory == 0 && p.bytes.full(now) && p.facts.full(now) {
			delete(ps.byKey, key)
			return true
		}
	}
	return false
}

// spend takes n bytes of the peer's rate.
func (ps *peers) spend(p *peer, n int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.bytes.take(ps.now(), float64(n))
}

// tell takes one fact of the peer's rate.
func (ps *peers) tell(p *peer) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.facts.take(ps.now(), 1)
}

// hold is the memory that one request has. It is used by one goroutine.
type hold struct {
	peers *peers
	peer  *peer
	bytes int
}

func (h *hold) grow(n int) bool {
	h.peers.mu.Lock()
	defer h.peers.mu.Unlock()
	if h.peers.memory+n > maxMemory || h.peer.memory+n > maxPeerMemory {
		return false
	}
	h.peers.memory += n
	h.peer.memory += n
	h.bytes += n
	return true
}

func (h *hold) shrink(n int) {
	h.peers.mu.Lock()
	defer h.peers.mu.Unlock()
	h.peers.memory -= n
	h.peer.memory -= n
	h.bytes -= n
}

func (h *hold) release() { h.shrink(h.bytes) }

// bucket is a token bucket; rate is per second.
type bucket struct {
	rate, burst, level float64
	at                 time.Time
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(b.burst, b.level+b.rate*d.Seconds())
	}
	b.at = now
}

func (b *bucket) take(now time.Time, n float64) bool {
	if b.fill(now); b.level < n {
		return false
	}
	b.level -= n
	return true
}

func (b *bucket) full(now time.Time) bool {
	b.fill(now)
	return b.level >= b.burst
}
