// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// FailOver sends each batch to the first of its endpoints that takes it. Its methods are safe for concurrent use.
type FailOver struct {
	senders []Backend
	log     *slog.Logger
	rest    time.Duration // how long an endpoint that failed is asked last

	mu     sync.Mutex
	failed []time.Time    // by endpoint: the last failure; zero since it took something
	using  map[Signal]int // the endpoint that took it last
}

// NewFailOver prefers the endpoints in their order. One that failed is asked last for 30 s, so that a preferred one
// that stalls does not cost each batch its timeout, and is preferred again when it works. log may be nil.
func NewFailOver(senders []Backend, log *slog.Logger) (*FailOver, error) {
	if len(senders) == 0 {
		return nil, errNoEndpoint
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &FailOver{
		senders: senders, log: log, rest: 30 * time.Second,
		failed: make([]time.Time, len(senders)), using: map[Signal]int{},
	}, nil
}

// Send implements Backend. A batch that one endpoint refuses for its content is not offered to the others: they would
// have to agree by chance. A signal is not supported if none of them takes it.
func (f *FailOver) Send(ctx context.Context, b Batch) (Receipt, error) {
	var last error
	for _, i := range f.order() {
		r, err := f.senders[i].Send(ctx, b)
		var refusal *Refusal
		switch {
		case err == nil:
			f.took(i, b.Signal)
			return r, nil
		case !errors.As(err, &refusal), refusal.Kind == Permanent:
			return r, err
		case refusal.Kind == Unsupported: // of this signal only: no reason to ask it last for others
			if last == nil {
				last = err
			}
			continue
		}
		f.mu.Lock()
		f.failed[i] = time.Now()
		f.mu.Unlock()
		last = err
	}
	return Receipt{}, last
}

// order has the endpoints that did not fail lately first.
func (f *FailOver) order() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var good, resting []int
	for i, t := range f.failed {
		if t.IsZero() || time.Since(t) >= f.rest {
			good = append(good, i)
		} else {
			resting = append(resting, i)
		}
	}
	return append(good, resting...)
}

func (f *FailOver) took(i int, s Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed[i] = time.Time{}
	if from := f.using[s]; i != from {
		f.log.Warn(s.String()+" go to another OTLP endpoint",
			"from", f.senders[from].String(), "to", f.senders[i].String())
		f.using[s] = i
	}
}

// Close implements Backend.
func (f *FailOver) Close() error {
	var errs []error
	for _, s := range f.senders {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// String names all endpoints.
func (f *FailOver) String() string {
	var names []string
	for _, s := range f.senders {
		names = append(names, s.String())
	}
	return strings.Join(names, " or ")
}
