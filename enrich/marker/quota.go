// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sheetbend/sheetbend/enrich/limit"
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

type seat = limit.Seat[*rate.Limiter]

// quota is safe for concurrent use.
type quota struct {
	mu    sync.Mutex
	now   time.Time // of the request that is looked at
	seats limit.Seats[party, *rate.Limiter]
}

func newQuota() *quota {
	q := &quota{}
	q.seats = limit.Seats[party, *rate.Limiter]{
		Most: maxConnections, MostEach: maxPartyConnections, Parties: maxParties,
		Privilege: func(p party) bool { return p == rootOutside },
		Open:      func() *rate.Limiter { return rate.NewLimiter(perSecond, burst) },
		Idle:      func(l **rate.Limiter) bool { return (*l).TokensAt(q.now) >= burst },
	}
	return q
}

// at is a time of the host's boottime clock, in ns.
func at(boottime uint64) time.Time { return time.Unix(0, int64(boottime)) }

// enter takes a place for a connection, which leave gives back; nil if there is none: see limit.Seats.
func (q *quota) enter(p party, now uint64, vacate func()) *seat {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = at(now)
	return q.seats.Take(p, vacate)
}

// used says that the connection has been of use.
func (q *quota) used(s *seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seats.Used(s)
}

func (q *quota) leave(s *seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seats.Leave(s)
}

func (q *quota) displaced() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seats.Displaced()
}

// pay takes the price of a request from a party that has a connection.
func (q *quota) pay(s *seat, price int, now uint64) bool {
	return (*s.Account()).AllowN(at(now), price)
}
