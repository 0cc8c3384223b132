// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"slices"
	"sync"
)

// What a party may use. A party is a sandbox with all its cgroups and users, or a user outside of all sandboxes: none can use up
// what others need.
const (
	maxConnections      = 512 // of all; root outside of all sandboxes has maxPartyConnections more
	maxPartyConnections = 32
	maxParties          = 1024

	// Requests are paid from a bucket that fills by perSecond up to burst.
	perSecond = 200
	burst     = 1000
	markCosts = 1
	askCosts  = 50 // a list or tree is work for the sensor
)

// A party is named by its sandbox, or by a user if that is empty.
type party struct {
	sandbox string
	uid     uint32 // 0 in a sandbox: users in there are its own affair
}

var rootOutside = party{}

type account struct {
	seats  []*seat // of its connections, the one that was not used for longest first
	tokens float64
	at     uint64 // boottime ns, when tokens was right
}

// A seat is the place of one connection.
type seat struct {
	account *account
	vacate  func() // ends the connection
}

// quota is safe for concurrent use.
type quota struct {
	mu          sync.Mutex
	connections int
	accounts    map[party]*account
	displaced   uint64
}

func newQuota() *quota { return &quota{accounts: make(map[party]*account)} }

// enter takes a place for a connection, which leave gives back; nil if there is none. When a party has too many, or all have, the
// connection of that party, or of the one that has most, which was not used for longest has to go: whoever keeps connections
// open keeps nobody out, neither those outside of its sandbox nor the hooks of the agent in it.
func (q *quota) enter(p party, now uint64, vacate func()) *seat {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.accounts[p]
	if a == nil {
		if len(q.accounts) >= maxParties {
			q.forget(now)
		}
		if len(q.accounts) >= maxParties && p != rootOutside {
			return nil
		}
		a = &account{tokens: burst, at: now}
		q.accounts[p] = a
	}
	most := maxConnections
	if p == rootOutside {
		most += maxPartyConnections
	}
	switch {
	case len(a.seats) >= maxPartyConnections:
		q.displace(a)
	case q.connections >= most:
		largest := a
		for _, other := range q.accounts {
			if len(other.seats) > len(largest.seats) {
				largest = other
			}
		}
		if len(largest.seats) < 2 {
			return nil
		}
		q.displace(largest)
	}
	s := &seat{a, vacate}
	a.seats = append(a.seats, s)
	q.connections++
	return s
}

func (q *quota) displace(a *account) {
	s := a.seats[0]
	q.remove(s)
	q.displaced++
	s.vacate()
}

// used says that the connection has been of use.
func (q *quota) used(s *seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(s.account.seats, s); i >= 0 {
		s.account.seats = append(slices.Delete(s.account.seats, i, i+1), s)
	}
}

func (q *quota) leave(s *seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(s)
}

// remove does nothing with a seat that was taken away before.
func (q *quota) remove(s *seat) {
	if i := slices.Index(s.account.seats, s); i >= 0 {
		s.account.seats = slices.Delete(s.account.seats, i, i+1)
		q.connections--
	}
}

// pay takes the price of a request from a party that has a connection.
func (q *quota) pay(s *seat, price float64, now uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := s.account
	a.fill(now)
	if a.tokens < price {
		return false
	}
	a.tokens -= price
	return true
}

func (a *account) fill(now uint64) {
	if now > a.at {
		a.tokens = min(burst, a.tokens+float64(now-a.at)*perSecond/1e9)
		a.at = now
	}
}

// forget drops the accounts that are as good as new.
func (q *quota) forget(now uint64) {
	for p, a := range q.accounts {
		if a.fill(now); len(a.seats) == 0 && a.tokens >= burst {
			delete(q.accounts, p)
		}
	}
}
