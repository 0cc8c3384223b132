// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxRetryWait is the longest pause between two attempts that the backend did not ask for.
const maxRetryWait = 5 * time.Second

// Pauses gives the time between the attempts to deliver one batch: doubled each time, with jitter, so that
// many sensors do not come back to a backend at the same moment.
type Pauses struct{ b backoff.ExponentialBackOff }

// NewPauses begins with first, which is 250 ms if it is 0.
func NewPauses(first time.Duration) *Pauses {
	first = Or(first, 250*time.Millisecond)
	p := &Pauses{backoff.ExponentialBackOff{
		InitialInterval: first, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: max(first, maxRetryWait),
	}}
	p.b.Reset()
	return p
}

// Wait pauses, for as long as the backend asked if that is longer. It reports false when ctx ended.
func (p *Pauses) Wait(ctx context.Context, asked time.Duration) bool {
	t := time.NewTimer(max(p.b.NextBackOff(), asked))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
