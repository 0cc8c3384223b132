// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // lets the server understand compressed requests
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sheetbend/sheetbend/collector/span"
)

// backend is an OTLP server whose answer to each request a test decides.
type backend struct {
	coltracepb.UnimplementedTraceServiceServer
	addr   string
	server *grpc.Server

	mu       sync.Mutex
	answer   func(ctx context.Context, spans int) (*coltracepb.ExportTraceServiceResponse, error)
	names    map[string]int // spans accepted, by name
	headers  metadata.MD
	requests chan int // spans of each request, as it arrives
}

func accept(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func refuse(code codes.Code) func(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error) {
	return func(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error) {
		return nil, status.Error(code, "refused by the test")
	}
}

func stall(ctx context.Context, _ int) (*coltracepb.ExportTraceServiceResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b *backend) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	n := 0
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			n += len(ss.Spans)
		}
	}
	b.mu.Lock()
	answer := b.answer
	b.headers, _ = metadata.FromIncomingContext(ctx)
	b.mu.Unlock()
	select {
	case b.requests <- n:
	default:
	}
	resp, err := answer(ctx, n)
	if err == nil {
		b.mu.Lock()
		for _, rs := range r.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					b.names[s.Name]++
				}
			}
		}
		b.mu.Unlock()
	}
	return resp, err
}

func (b *backend) set(answer func(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) total() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.names {
		n += k
	}
	return n
}

func startBackend(t *testing.T, addr string, opts ...grpc.ServerOption) *backend {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String(), server: grpc.NewServer(opts...), answer: accept, names: map[string]int{}, requests: make(chan int, 1<<16)}
	coltracepb.RegisterTraceServiceServer(b.server, b)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = b.server.Serve(l)
	}()
	t.Cleanup(func() {
		b.server.Stop()
		<-served
	})
	return b
}

// startSender reconnects soon.
func startSender(t testing.TB, cfg SenderConfig) *Sender {
	t.Helper()
	cfg.RetryWait = 5 * time.Millisecond
	s, err := NewSender(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startClient(t *testing.T, sender SenderConfig, cfg Config) *Client {
	t.Helper()
	if cfg.RetryWait == 0 {
		cfg.RetryWait = 5 * time.Millisecond
	}
	cfg.Backend = startSender(t, sender)
	return New(cfg)
}

func plain(addr string) Endpoint { return Endpoint{Target: addr, Insecure: true} }

// offer encodes n spans into batches of per spans.
func offer(c *Client, n, per int) {
	e := NewEncoder("test", Limits{Spans: per}, c.Offer)
	for range n {
		e.Span(&span.Span{Trace: span.TraceID{1}, ID: span.ID{1}, Name: "process.exec", Start: 1, End: 1001})
	}
	e.Flush()
}

func shutdown(t *testing.T, c *Client, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return c.Shutdown(ctx)
}

// expect also holds the invariant that every span offered is in exactly one field.
func expect(t *testing.T, c *Client, offered uint64, want Stats) {
	t.Helper()
	got := c.Stats()
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if sum := got.Sent + got.Dropped() + got.InFlight + got.Queued; sum != offered {
		t.Errorf("%d spans are accounted for, %d were offered", sum, offered)
	}
}

func TestClientDeliversEverything(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{})
	offer(c, 1000, 100)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 1000, Stats{Sent: 1000})
	if got := b.names["process.exec"]; got != 1000 {
		t.Errorf("the backend has %d spans, want 1000", got)
	}
}

func TestClientRetriesUntilTheBackendTakesTheBatch(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted} {
		t.Run(code.String(), func(t *testing.T) {
			b := startBackend(t, "127.0.0.1:0")
			b.set(refuse(code))
			var log bytes.Buffer
			c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{Senders: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
			offer(c, 10, 10)
			<-b.requests
			<-b.requests
			b.set(accept)
			if err := shutdown(t, c, time.Minute); err != nil {
				t.Error(err)
			}
			expect(t, c, 10, Stats{Sent: 10})
			if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "refused by the test") {
				t.Errorf("the outage is not told once at its begin and once at its end:\n%s", log.String())
			}
		})
	}
}

func TestClientCountsWhatTheBackendRefusesForGood(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.Unauthenticated, codes.Unimplemented, codes.ResourceExhausted} {
		t.Run(code.String(), func(t *testing.T) {
			b := startBackend(t, "127.0.0.1:0")
			b.set(refuse(code))
			c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{})
			offer(c, 20, 10)
			if err := shutdown(t, c, time.Minute); err != nil {
				t.Error(err)
			}
			expect(t, c, 20, Stats{Failed: 20})
		})
	}
}

func TestClientCountsPartialSuccess(t *testing.T) {
	tests := []struct {
		name     string
		partial  *coltracepb.ExportTracePartialSuccess
		rejected uint64
	}{
		{"spans rejected", &coltracepb.ExportTracePartialSuccess{RejectedSpans: 3, ErrorMessage: "too old"}, 3},
		{"a warning rejects nothing", &coltracepb.ExportTracePartialSuccess{ErrorMessage: "deprecated"}, 0},
		{"more than were sent", &coltracepb.ExportTracePartialSuccess{RejectedSpans: 1 << 40}, 10},
		{"a negative number", &coltracepb.ExportTracePartialSuccess{RejectedSpans: -5, ErrorMessage: "odd"}, 0},
		{"an empty partial success", &coltracepb.ExportTracePartialSuccess{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBackend(t, "127.0.0.1:0")
			b.set(func(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error) {
				return &coltracepb.ExportTraceServiceResponse{PartialSuccess: tt.partial}, nil
			})
			c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{})
			offer(c, 10, 10)
			if err := shutdown(t, c, time.Minute); err != nil {
				t.Error(err)
			}
			expect(t, c, 10, Stats{Sent: 10 - tt.rejected, Rejected: tt.rejected})
			if got := len(b.requests); got != 1 {
				t.Errorf("the batch was sent %d times, want once", got)
			}
		})
	}
}

func TestClientGivesAStalledAttemptUpAndTriesAgain(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	b.set(stall)
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr), Timeout: 50 * time.Millisecond}, Config{})
	offer(c, 10, 10)
	<-b.requests
	<-b.requests
	b.set(accept)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 10, Stats{Sent: 10})
}

func TestClientGivesABatchUpWhenItsTimeIsOver(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	b.set(refuse(codes.Unavailable))
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{RetryFor: 100 * time.Millisecond})
	offer(c, 10, 10)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 10, Stats{Failed: 10})
}

func TestShutdownCountsWhatItCannotDeliver(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	b.set(stall)
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{Senders: 2})
	offer(c, 100, 10)
	<-b.requests
	err := shutdown(t, c, 20*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "100 spans could not be delivered to http://"+b.addr) {
		t.Errorf("error is %v", err)
	}
	expect(t, c, 100, Stats{Shutdown: 100})
	offer(c, 5, 5)
	expect(t, c, 105, Stats{Shutdown: 105})
}

func TestOutageOverflowsTheQueueFromItsOldEnd(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	b.set(refuse(codes.Unavailable))
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{Senders: 1, QueueSpans: 50})
	offer(c, 10, 10)
	<-b.requests // the only sender holds the first batch
	offer(c, 100, 10)
	b.set(accept)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 110, Stats{Sent: 60, QueueFull: 50})
}

func TestClientReconnectsAfterTheBackendRestarts(t *testing.T) {
	first := startBackend(t, "127.0.0.1:0")
	c := startClient(t, SenderConfig{Endpoint: plain(first.addr)}, Config{})
	offer(c, 10, 10)
	<-first.requests
	first.server.GracefulStop()
	offer(c, 200, 10)
	second := startBackend(t, first.addr)
	offer(c, 10, 10)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 220, Stats{Sent: 220})
	if got := first.total() + second.total(); got < 220 {
		t.Errorf("the backends have %d spans, want all 220", got)
	}
}

func TestUnreachableBackendIsToldOnceAndCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	c := startClient(t, SenderConfig{Endpoint: plain(addr)}, Config{RetryFor: 200 * time.Millisecond, Senders: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	offer(c, 10, 10)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 10, Stats{Failed: 10})
	if n := strings.Count(log.String(), "they wait in memory"); n != 1 || !strings.Contains(log.String(), "connection refused") {
		t.Errorf("the outage is not told once with its reason:\n%s", log.String())
	}
}

func TestHeadersOfTheConfigurationWin(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-from=environment,x-only=environment")
	for _, tt := range []struct {
		name    string
		headers map[string]string
		want    string
	}{
		{"without any the environment's are sent", nil, "environment"},
		{"with some the environment's are not", map[string]string{"x-from": "config"}, "config"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBackend(t, "127.0.0.1:0")
			c := startClient(t, SenderConfig{Endpoint: plain(b.addr), Headers: tt.headers, UserAgent: "sheetbend/test"}, Config{})
			offer(c, 1, 1)
			if err := shutdown(t, c, time.Minute); err != nil {
				t.Error(err)
			}
			if got := b.headers.Get("x-from"); len(got) != 1 || got[0] != tt.want {
				t.Errorf("x-from is %q, want %q", got, tt.want)
			}
			if got := b.headers.Get("user-agent"); len(got) != 1 || !strings.Contains(got[0], "sheetbend/test") {
				t.Errorf("user-agent is %q", got)
			}
		})
	}
}

func TestCompressionFromTheEnvironmentHolds(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	b := startBackend(t, "127.0.0.1:0")
	c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{})
	offer(c, 10, 10)
	if err := shutdown(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	expect(t, c, 10, Stats{Sent: 10})
	if got := b.headers.Get("grpc-accept-encoding"); len(got) == 0 {
		t.Errorf("headers: %v", b.headers)
	}
}

func TestTLSFollowsTheEndpoint(t *testing.T) {
	dir := t.TempDir()
	cert := selfSigned(t, dir)
	secure := grpc.Creds(credentials.NewServerTLSFromCert(&cert))
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", filepath.Join(dir, "cert.pem"))

	t.Run("https uses the certificates of the environment", func(t *testing.T) {
		t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true") // https:// wins
		b := startBackend(t, "127.0.0.1:0", secure)
		c := startClient(t, SenderConfig{Endpoint: Endpoint{Target: b.addr}}, Config{})
		offer(c, 10, 10)
		if err := shutdown(t, c, time.Minute); err != nil {
			t.Error(err)
		}
		expect(t, c, 10, Stats{Sent: 10})
	})
	t.Run("http stays plain text beside certificates in the environment", func(t *testing.T) {
		b := startBackend(t, "127.0.0.1:0")
		c := startClient(t, SenderConfig{Endpoint: plain(b.addr)}, Config{})
		offer(c, 10, 10)
		if err := shutdown(t, c, time.Minute); err != nil {
			t.Error(err)
		}
		expect(t, c, 10, Stats{Sent: 10})
	})
}

func selfSigned(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// rawCodec lets a server take requests without decoding them, so that the sender's cost is measured.
type rawCodec struct{}

func (rawCodec) Marshal(any) ([]byte, error) { return nil, nil }
func (rawCodec) Unmarshal([]byte, any) error { return nil }
func (rawCodec) Name() string                { return "proto" }

func BenchmarkEncodeAndDeliver(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}))
	coltracepb.RegisterTraceServiceServer(server, &backend{answer: accept, names: map[string]int{}})
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	c := New(Config{Backend: startSender(b, SenderConfig{Endpoint: plain(l.Addr().String())})})
	r := &span.Resource{Attrs: []span.Attr{str("service.name", "codex")}}
	spans := make([]*span.Span, 1024)
	for i := range spans {
		spans[i] = typicalSpan(i, r)
	}
	e := NewEncoder("1.0.0", Limits{}, c.Offer)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		e.Span(spans[n%len(spans)])
		n++
		for n%512 == 0 && c.Stats().QueuedBytes > 32<<20 { // not faster than it can be sent
			runtime.Gosched()
		}
	}
	e.Flush()
	if err := c.Shutdown(context.Background()); err != nil {
		b.Fatal(err)
	}
	if s := c.Stats(); s.Sent != uint64(n) {
		b.Fatalf("%+v of %d spans", s, n)
	}
}
