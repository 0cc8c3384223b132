// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sheetbend/sheetbend/enrich/limit"
)

// What all peers together, and one of them, may use. A peer is a user of this host
// (unix socket, loopback TCP), all of loopback TCP whose user is unknown together, or an address.
const (
	maxPeers     = 256
	maxConns     = 128
	maxPeerConns = 64

	maxMemory     = 64 << 20 // bytes of requests that are being read
	maxPeerMemory = 48 << 20

	// Bytes of requests per second, and at once after a quiet time.
	peerBytes, peerBytesBurst = 16 << 20, 64 << 20
	// Facts. The collector's stream queues some 8,000 injected records, marks included: this leaves room for marks.
	peerFacts, peerFactsBurst = 500, 2000
)

// peers accounts for what the peers use. It is safe for concurrent use.
type peers struct {
	limit.Slots[string, peer]
	now func() time.Time

	mu     sync.Mutex // of memory, here and of each peer; after that of the slots, where both are held
	memory int
}

type peer struct {
	memory int
	bytes  *rate.Limiter
	facts  *rate.Limiter
}

type slot = limit.Slot[peer]

func newPeers(now func() time.Time) *peers {
	ps := &peers{now: now}
	ps.Most, ps.MostEach, ps.Clients = maxConns, maxPeerConns, maxPeers
	ps.Open = func() peer {
		return peer{
			bytes: rate.NewLimiter(peerBytes, peerBytesBurst), facts: rate.NewLimiter(peerFacts, peerFactsBurst),
		}
	}
	// One that has used up some of its rate should not get a new one by connecting again.
	ps.Idle = func(p *peer, now time.Time) bool {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		return p.memory == 0 && p.bytes.TokensAt(now) >= peerBytesBurst && p.facts.TokensAt(now) >= peerFactsBurst
	}
	return ps
}

// spendBytes takes n bytes off the peer's rate.
func (ps *peers) spendBytes(p *peer, n int) bool { return p.bytes.AllowN(ps.now(), n) }

// spendFact takes one fact off the peer's rate.
func (ps *peers) spendFact(p *peer) bool { return p.facts.AllowN(ps.now(), 1) }

// reservation is the memory that one request has. It is used by one goroutine.
type reservation struct {
	peers *peers
	peer  *peer
	bytes int
}

func (h *reservation) grow(n int) bool {
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

func (h *reservation) shrink(n int) {
	h.peers.mu.Lock()
	defer h.peers.mu.Unlock()
	h.peers.memory -= n
	h.peer.memory -= n
	h.bytes -= n
}

func (h *reservation) release() { h.shrink(h.bytes) }
