// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// SenderConfig says how one endpoint is reached. Zero values mean the defaults.
//
// What otlptracegrpc reads from the environment (headers, certificates, compression, timeout)
// holds unless a field here says otherwise.
type SenderConfig struct {
	Endpoint Endpoint          // required
	Headers  map[string]string // if not nil, instead of OTEL_EXPORTER_OTLP_HEADERS
	// HeadersFile names a file of further headers, one "name: value" a line. It is read again when it changes.
	HeadersFile string
	TLS         TLS // its As counts for all files, and for the socket of a unix: endpoint
	// Timeout bounds one attempt: 10 s, or OTEL_EXPORTER_OTLP_TRACES_TIMEOUT or OTEL_EXPORTER_OTLP_TIMEOUT.
	Timeout   time.Duration
	RetryWait time.Duration // between attempts to connect, 250 ms at first; grows up to 5 s
	UserAgent string        // put before otlptracegrpc's own
	// Dial connects to the unix socket of the endpoint; it is given unix://PATH, or PATH. nil: as usual, with the
	// rights of TLS.As.
	Dial func(ctx context.Context, path string) (net.Conn, error)
	Log  *slog.Logger // nil: silent
}

// Sender delivers batches to one endpoint, each call once. Its methods are safe for concurrent use.
type Sender struct {
	cfg     SenderConfig
	log     *slog.Logger
	headers *headersFile // nil without one
	grpc    otlptrace.Client
}

// NewSender does not wait for a connection.
func NewSender(cfg SenderConfig) (*Sender, error) {
	if cfg.Timeout <= 0 {
		fromEnv, err := timeoutFromEnvironment(os.Getenv)
		if err != nil {
			return nil, err
		}
		cfg.Timeout = Or(fromEnv, 10*time.Second)
	}
	cfg.RetryWait = Or(cfg.RetryWait, 250*time.Millisecond)
	s := &Sender{cfg: cfg, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if cfg.HeadersFile != "" {
		if s.headers, err = openHeaders(cfg.HeadersFile, cfg.TLS.As); err != nil {
			return nil, err
		}
	}
	o, err := s.options()
	if err != nil {
		return nil, err
	}
	// It reads what the variables name, too, though other certificates are given.
	err = withRights(cfg.TLS.As, func() error {
		if err := noPipes(); err != nil {
			return err
		}
		s.grpc = otlptracegrpc.NewClient(o...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.grpc.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("OTLP endpoint %s cannot be used: %w", cfg.Endpoint, err)
	}
	return s, nil
}

func (s *Sender) options() ([]otlptracegrpc.Option, error) {
	dial := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(readReceipt),
		// gRPC's own backoff between connections grows to 120 s.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: s.cfg.RetryWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: max(s.cfg.RetryWait, maxRetryWait),
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Timeout also becomes TCP_USER_TIMEOUT: a peer that vanished without a FIN is noticed by
		// it. Pings only while a request runs, and seldom: servers close connections that ping more.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	switch as := s.cfg.TLS.As; {
	case s.cfg.Dial != nil && strings.HasPrefix(s.cfg.Endpoint.Target, "unix:"):
		dial = append(dial, grpc.WithContextDialer(s.cfg.Dial))
	case as != nil && strings.HasPrefix(s.cfg.Endpoint.Target, "unix:"):
		dial = append(dial, grpc.WithContextDialer(func(ctx context.Context, addr string) (conn net.Conn, err error) {
			err = as(func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(addr, "unix://"))
				return err
			})
			return conn, err
		}))
	}
	if s.cfg.UserAgent != "" {
		dial = append(dial, grpc.WithUserAgent(s.cfg.UserAgent))
	}
	o := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpoint(s.cfg.Endpoint.Target),
		otlptracegrpc.WithTimeout(s.cfg.Timeout),
		// Who calls Send knows how long a batch may be tried, and where else it can go.
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}),
		otlptracegrpc.WithDialOption(dial...), // once: a second one replaces the first
	}
	switch {
	case s.cfg.Endpoint.Insecure:
		// WithInsecure alone would lose against a certificate from the environment.
		o = append(o, otlptracegrpc.WithInsecure(), otlptracegrpc.WithTLSCredentials(insecure.NewCredentials()))
	default:
		// Undoes OTEL_EXPORTER_OTLP_INSECURE, which Endpoint has taken into account already.
		o = append(o, otlptracegrpc.WithEndpointURL(s.cfg.Endpoint.String()))
		files := s.cfg.TLS.OrEnvironment(os.Getenv)
		creds, err := newRotating(files, s.log)
		if err != nil {
			return nil, err
		}
		o = append(o, otlptracegrpc.WithTLSCredentials(creds))
	}
	if s.cfg.Headers != nil {
		o = append(o, otlptracegrpc.WithHeaders(s.cfg.Headers))
	}
	return o, nil
}

// outcome is filled by the interceptor: UploadTraces returns a partial success as an error of an internal type.
type outcome struct {
	accepted bool
	receipt  Receipt
}

type outcomeKey struct{}

// Send tries once to deliver b, for the configured timeout at most. The error is a *Refusal, or ctx's when that ended.
func (s *Sender) Send(ctx context.Context, b Batch) (Receipt, error) {
	var o outcome
	resourceSpans := make([]*tracepb.ResourceSpans, len(b.Resources))
	for i, raw := range b.Resources {
		// Unknown fields go on the wire as they are, so the spans are not encoded again.
		resourceSpans[i] = new(tracepb.ResourceSpans)
		resourceSpans[i].ProtoReflect().SetUnknown(raw)
	}
	if s.headers != nil {
		if err := s.headers.refresh(); err != nil {
			s.log.Warn("the headers cannot be read again: those read before stay in use",
				"endpoint", s.cfg.Endpoint.String(), "error", err)
		}
		ctx = metadata.NewOutgoingContext(ctx, s.headers.current())
	}
	err := s.grpc.UploadTraces(context.WithValue(ctx, outcomeKey{}, &o), resourceSpans)
	switch {
	case o.accepted:
		o.receipt.Rejected = min(o.receipt.Rejected, uint64(b.Spans))
		return o.receipt, nil
	case err == nil:
		return Receipt{}, nil
	case ctx.Err() != nil:
		return Receipt{}, ctx.Err()
	}
	return Receipt{}, newRefusal(err)
}

// Close ends the connection. No Send may be under way.
func (s *Sender) Close() error {
	if err := s.grpc.Stop(context.Background()); err != nil {
		return fmt.Errorf("close the connection to %s: %w", s.cfg.Endpoint, err)
	}
	return nil
}

// readReceipt is the interceptor that fills outcome.
func readReceipt(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if o, ok := ctx.Value(outcomeKey{}).(*outcome); ok && err == nil {
		o.accepted = true
		if r, ok := reply.(*coltracepb.ExportTraceServiceResponse); ok && r.GetPartialSuccess() != nil {
			o.receipt.Rejected = uint64(max(0, r.GetPartialSuccess().GetRejectedSpans()))
			o.receipt.Message = r.GetPartialSuccess().GetErrorMessage()
		}
	}
	return err
}

// String names the endpoint.
func (s *Sender) String() string { return s.cfg.Endpoint.String() }
