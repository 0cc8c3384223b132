// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/sheetbend/sheetbend/enrich/limit"
)

// What a tenant may use: none can use up what others need.
const (
	maxConnections       = 512 // of all; root outside of all sandboxes has maxTenantConnections more
	maxTenantConnections = 32
	maxTenants           = 1024

	// Requests are paid from a bucket that fills by perSecond up to burst.
	perSecond = 200
	burst     = 1000
	markCosts = 1
	askCosts  = 50 // a list or tree is work for the sensor
)

// A tenant is a sandbox with all its cgroups and users, or a user outside of all sandboxes.
type tenant struct {
	sandbox string
	uid     uint32 // 0 in a sandbox: users in there are its own affair
}

var rootOutside = tenant{}

type slot = limit.Slot[*rate.Limiter]

func newSlots() *limit.Slots[tenant, *rate.Limiter] {
	return &limit.Slots[tenant, *rate.Limiter]{
		Most: maxConnections, MostEach: maxTenantConnections, Clients: maxTenants,
		Privileged: func(t tenant) bool { return t == rootOutside },
		Open:       func() *rate.Limiter { return rate.NewLimiter(perSecond, burst) },
		Idle:       func(l **rate.Limiter, now time.Time) bool { return (*l).TokensAt(now) >= burst },
	}
}

// at is a time of the host's boottime clock, in ns.
func at(boottime uint64) time.Time { return time.Unix(0, int64(boottime)) }

// pay takes the price of a request from the tenant that has the slot.
func pay(s *slot, price int, now uint64) bool { return (*s.Account()).AllowN(at(now), price) }
