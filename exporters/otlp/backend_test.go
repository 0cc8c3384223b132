// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
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

func plain(addr string) Endpoint { return Endpoint{Target: addr, Insecure: true} }

// deliver sends n spans as one batch.
func deliver(t *testing.T, cfg SenderConfig, n int) Receipt {
	t.Helper()
	s := startSender(t, cfg)
	defer s.Close()
	receipt, err := s.Send(t.Context(), oneBatch(n))
	if err != nil {
		t.Error(err)
	}
	return receipt
}

func TestAPartialSuccessSaysWhatWasRejected(t *testing.T) {
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
			if got := deliver(t, SenderConfig{Endpoint: plain(b.addr)}, 10); got.Rejected != tt.rejected {
				t.Errorf("%+v", got)
			}
			if got := len(b.requests); got != 1 {
				t.Errorf("the batch was sent %d times, want once", got)
			}
		})
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
			deliver(t, SenderConfig{Endpoint: plain(b.addr), Headers: tt.headers, UserAgent: "sheetbend/test"}, 1)
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
	deliver(t, SenderConfig{Endpoint: plain(b.addr)}, 10)
	if got := b.total(); got != 10 {
		t.Errorf("%d spans arrived", got)
	}
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
		deliver(t, SenderConfig{Endpoint: Endpoint{Target: b.addr}}, 10)
		if got := b.total(); got != 10 {
			t.Errorf("%d spans arrived", got)
		}
	})
	t.Run("http stays plain text beside certificates in the environment", func(t *testing.T) {
		b := startBackend(t, "127.0.0.1:0")
		deliver(t, SenderConfig{Endpoint: plain(b.addr)}, 10)
		if got := b.total(); got != 10 {
			t.Errorf("%d spans arrived", got)
		}
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
