// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"

	"github.com/sheetbend/sheetbend/exporters/otlp/signal"
)

// Signal is one of OTLP's.
type Signal = signal.Signal

// The signals.
const (
	Traces  = signal.Traces
	Logs    = signal.Logs
	Metrics = signal.Metrics
)

// Backend is what takes batches: a Sender or a FailOver.
type Backend interface {
	// Send tries once to deliver. The error is a *Refusal, or ctx's.
	Send(ctx context.Context, b Batch) (Receipt, error)
	Close() error
	String() string
}

// Receipt is a backend's answer to a batch that it took.
type Receipt struct {
	Rejected uint64 // items of it that it did not take (partial success)
	Message  string // the reason that it gave
}

var errNoEndpoint = errors.New("no OTLP endpoint is given")
