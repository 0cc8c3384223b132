// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RefusalKind says what has to change before a batch that was not taken can be.
type RefusalKind int

// The kinds of Refusal.
const (
	// Temporary: the backend is away, busy or slow. The same batch is worth another attempt.
	Temporary RefusalKind = iota
	// Misconfigured: credentials, rights or the kind of server are wrong. Another batch would be refused, too.
	Misconfigured
	// Permanent: the backend will never take this batch, but may take the next.
	Permanent
	// TooMuch: too much at once, or the batch is too large; the backend did not say which, nor when to come back.
	TooMuch
	// Unsupported: the backend does not take the signal at all. Another batch of it would be refused, too.
	Unsupported
)

// Refusal is why a backend did not take a batch.
type Refusal struct {
	Code    string // of gRPC or HTTP
	Message string // of the backend; for people, at most maxReason bytes
	Kind    RefusalKind
	// After is how long the backend asks to wait before the next attempt; 0 if it does not say.
	After time.Duration
}

const (
	// maxReason bounds what a backend can make logs and dead letters say, in bytes.
	maxReason = 512
	// maxAfter bounds what it can make the sender wait.
	maxAfter = time.Minute
)

// Error is the part of a gRPC error that a user can act on.
func (r *Refusal) Error() string { return fmt.Sprintf("%s (%s)", r.Message, r.Code) }

// Retryable is what the OTLP specification calls so.
func (r *Refusal) Retryable() bool { return r.Kind == Temporary }

func newRefusal(err error) *Refusal {
	var in interface{ GRPCStatus() *status.Status }
	s := status.New(codes.Unknown, err.Error())
	if errors.As(err, &in) {
		s = in.GRPCStatus()
	}
	r := &Refusal{Code: s.Code().String(), Message: reason(s.Message())}
	asked := false
	for _, detail := range s.Details() {
		if t, ok := detail.(*errdetails.RetryInfo); ok {
			asked = true
			r.After = min(max(0, t.GetRetryDelay().AsDuration()), maxAfter)
		}
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		r.Kind = Temporary
	case codes.ResourceExhausted:
		if r.Kind = TooMuch; asked {
			r.Kind = Temporary
		}
	case codes.Unauthenticated, codes.PermissionDenied:
		r.Kind = Misconfigured
	case codes.Unimplemented:
		r.Kind = Unsupported
	default:
		r.Kind = Permanent
	}
	return r
}

func reason(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
