// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxRetryWait is the longest pause between two attempts that the backend did not ask for.
const maxRetryWait = 5 * time.Second

// NewPauses gives the time between attempts: doubled each time, with jitter, so that many sensors do not come back to a
// backend at the same moment. It begins with first, which is 250 ms if it is 0.
func NewPauses(first time.Duration) *backoff.ExponentialBackOff {
	first = Or(first, 250*time.Millisecond)
	b := &backoff.ExponentialBackOff{
		InitialInterval: first, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: max(first, maxRetryWait),
	}
	b.Reset()
	return b
}

// Or is v, or byDefault if v is not above zero.
func Or[T int | int64 | time.Duration](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}
