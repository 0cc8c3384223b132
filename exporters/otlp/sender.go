// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
)

// SenderConfig says how one endpoint is reached. Zero values mean the defaults.
//
// What the standard variables say (headers, certificates, compression, timeout) holds unless a field here says
// otherwise.
type SenderConfig struct {
	Endpoint Endpoint          // required
	Headers  map[string]string // if not nil, instead of OTEL_EXPORTER_OTLP_HEADERS
	// HeadersFile names a file of further headers, one "name: value" a line. It is read again when it changes.
	HeadersFile string
	TLS         TLS // its As counts for all files, and for the socket of a unix: endpoint
	// Timeout bounds one attempt: 10 s, or what OTEL_EXPORTER_OTLP_TIMEOUT says, or the variable of the endpoint's
	// signal.
	Timeout     time.Duration
	Compression string        // Gzip, None, or "" for what OTEL_EXPORTER_OTLP_COMPRESSION says
	RetryWait   time.Duration // between attempts to connect over gRPC, 250 ms at first; grows up to 5 s
	UserAgent   string
	// Dial connects to the unix socket of the endpoint; it is given unix://PATH, or PATH. nil: as usual, with the
	// rights of TLS.As.
	Dial func(ctx context.Context, path string) (net.Conn, error)
	Log  *slog.Logger // nil: silent
}

// A transport makes one attempt at a time.
type transport interface {
	send(ctx context.Context, b Batch, headers metadata.MD) (Receipt, *Refusal)
	close() error
}

// Sender delivers batches to one endpoint, each call once. Its methods are safe for concurrent use.
type Sender struct {
	cfg     SenderConfig
	headers metadata.MD
	file    *headersFile // nil without one
	over    transport
}

// NewSender does not wait for a connection.
func NewSender(cfg SenderConfig) (*Sender, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	fromEnv, err := timeoutFromEnvironment(cfg.Endpoint.Signal, os.Getenv)
	if err != nil && cfg.Timeout <= 0 {
		return nil, err
	}
	cfg.Timeout = Or(Or(cfg.Timeout, fromEnv), 10*time.Second)
	cfg.RetryWait = Or(cfg.RetryWait, 250*time.Millisecond)
	s := &Sender{cfg: cfg, headers: metadata.MD{}}
	for name, value := range cfg.Headers {
		if err := addHeader(s.headers, name, value); err != nil {
			return nil, fmt.Errorf("the header %q of the OTLP endpoint %s %w", name, cfg.Endpoint, err)
		}
	}
	if cfg.Headers == nil {
		if s.headers, err = headersFromEnvironment(cfg.Endpoint.Signal, os.Getenv); err != nil {
			return nil, err
		}
	}
	if cfg.HeadersFile != "" {
		if s.file, err = openHeaders(cfg.HeadersFile, cfg.TLS.As); err != nil {
			return nil, err
		}
	}
	zip, err := compressed(cfg.Compression, cfg.Endpoint.Signal, os.Getenv)
	if err != nil {
		return nil, err
	}
	var certificates *rotating
	if !cfg.Endpoint.Insecure {
		if certificates, err = newRotating(cfg.TLS.OrEnvironment(cfg.Endpoint.Signal, os.Getenv), cfg.Log); err != nil {
			return nil, err
		}
	}
	if cfg.Endpoint.Protocol == HTTP {
		s.over = newOverHTTP(cfg, zip, certificates)
	} else if s.over, err = newOverGRPC(cfg, zip, certificates); err != nil {
		return nil, fmt.Errorf("OTLP endpoint %s cannot be used: %w", cfg.Endpoint, err)
	}
	return s, nil
}

// connect opens the unix socket of the endpoint.
func (c *SenderConfig) connect(ctx context.Context, path string) (conn net.Conn, err error) {
	if c.Dial != nil {
		return c.Dial(ctx, path)
	}
	err = withRights(c.TLS.As, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(path, "unix://"))
		return err
	})
	return conn, err
}

// Send tries once to deliver b, for the configured timeout at most. The error is a *Refusal, or ctx's when that ended.
func (s *Sender) Send(ctx context.Context, b Batch) (Receipt, error) {
	if b.Signal < Traces || b.Signal > Metrics {
		return Receipt{}, &Refusal{Kind: Permanent, Message: "a batch of no signal"}
	}
	headers := s.headers
	if s.file != nil {
		if err := s.file.refresh(); err != nil {
			s.cfg.Log.Warn("the headers cannot be read again: those read before stay in use",
				"endpoint", s.String(), "error", err)
		}
		headers = metadata.Join(headers, s.file.current())
	}
	attempt, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, errSlow)
	defer cancel()
	receipt, refusal := s.over.send(attempt, b, headers)
	switch {
	case refusal == nil:
		receipt.Rejected, receipt.Message = min(receipt.Rejected, uint64(b.Spans)), reason(receipt.Message)
		return receipt, nil
	case ctx.Err() != nil:
		return Receipt{}, ctx.Err()
	}
	return Receipt{}, refusal
}

var errSlow = errors.New("no answer in time")

// Close ends the connection. No Send may be under way.
func (s *Sender) Close() error {
	if err := s.over.close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", s, err)
	}
	return nil
}

// String names the endpoint.
func (s *Sender) String() string { return s.cfg.Endpoint.String() }
