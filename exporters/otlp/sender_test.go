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
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sheetbend/sheetbend/collector/span"
)

// oneBatch is a batch of n spans.
func oneBatch(n int) (b Batch) {
	e := NewEncoder("test", Limits{Spans: n}, func(x Batch) { b = x })
	for range n {
		e.Span(&span.Span{Trace: span.TraceID{1}, ID: span.ID{1}, Name: "process.exec", Start: 1, End: 1001})
	}
	return b
}

// send tries until the backend takes the batch: a connection may have to be made anew first.
func send(t *testing.T, s Backend) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (Receipt, error) { return s.Send(ctx, oneBatch(1)) },
		backoff.WithBackOff(NewPauses(time.Millisecond)))
	if err != nil {
		t.Fatalf("not sent: %v", err)
	}
}

func TestARefusalSaysWhatHasToChange(t *testing.T) {
	later, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	forever, err := status.New(codes.Unavailable, "x").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(1000 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		err   error
		kind  RefusalKind
		after time.Duration
	}{
		{"away", status.Error(codes.Unavailable, "x"), Temporary, 0},
		{"too slow", status.Error(codes.DeadlineExceeded, "x"), Temporary, 0},
		{"asks to come later", later.Err(), Temporary, 3 * time.Second},
		{"asks to come much later", forever.Err(), Temporary, maxAfter},
		{"too much, not saying what", status.Error(codes.ResourceExhausted, "x"), TooMuch, 0},
		{"who are you", status.Error(codes.Unauthenticated, "x"), Misconfigured, 0},
		{"not you", status.Error(codes.PermissionDenied, "x"), Misconfigured, 0},
		{"no OTLP here", status.Error(codes.Unimplemented, "x"), Unsupported, 0},
		{"bad batch", status.Error(codes.InvalidArgument, "x"), Permanent, 0},
		{"no gRPC error", errors.New("x"), Permanent, 0},
		{"joined as otlptracegrpc does", errors.Join(nil, status.Error(codes.Aborted, "x")), Temporary, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r := newRefusal(tt.err); r.Kind != tt.kind || r.After != tt.after {
				t.Errorf("kind %d, wait %s, want %d, %s", r.Kind, r.After, tt.kind, tt.after)
			}
		})
	}
	if r := newRefusal(status.Error(codes.Internal, strings.Repeat("é", 1<<20))); len(r.Message) > maxReason+3 {
		t.Errorf("a message of %d bytes", len(r.Message))
	}
}

func TestHeadersOfAFileAreReadAgainWhenItChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "headers")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	write("# renewed hourly\nAuthorization: Bearer one\nx-tenant: a:b\n", began)
	b := startBackend(t, "127.0.0.1:0")
	s := startSender(t, SenderConfig{Endpoint: plain(b.addr), Headers: map[string]string{"x-from": "config"}, HeadersFile: name})
	defer s.Close()
	expect := func(want string) {
		t.Helper()
		send(t, s)
		b.mu.Lock()
		defer b.mu.Unlock()
		got := strings.Join([]string{strings.Join(b.headers.Get("authorization"), "+"), strings.Join(b.headers.Get("x-from"), "+")}, " ")
		if got != want {
			t.Errorf("headers %q, want %q", got, want)
		}
	}
	expect("Bearer one config")
	write("authorization: Bearer two\n", began.Add(time.Second))
	expect("Bearer two config")
	write("half a li", began.Add(2*time.Second)) // being written: the last good ones hold
	expect("Bearer two config")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	expect("Bearer two config")
	write("authorization: Bearer six\n", began.Add(3*time.Second))
	expect("Bearer six config")
}

func TestHeaderFilesThatCannotWorkAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"secret":                   "line 1",
		"a: b\n: c\n":              "line 2",
		"grpc-timeout: 1S":         "line 1",
		"a: \x01":                  "printable",
		strings.Repeat("a:\n", 3):  "",
		strings.Repeat("x", 1<<17): "at most",
	} {
		name := filepath.Join(t.TempDir(), "headers")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openHeaders(name, nil)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v, want %q", text, err, says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats a secret: %v", err)
		}
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue gives a certificate for 127.0.0.1, and its files' content.
func (a authority) issue(t *testing.T, name string) (pair tls.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

// mutual are the credentials of a server that wants a client certificate of the same authority.
func (a authority) mutual(t *testing.T) grpc.ServerOption {
	t.Helper()
	pair, _, _ := a.issue(t, "backend")
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}))
}

func TestRenewedCertificatesAreUsedForTheNextConnection(t *testing.T) {
	dir := t.TempDir()
	files := TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	install := func(a authority) {
		t.Helper()
		_, cert, key := a.issue(t, "sensor")
		for name, text := range map[string][]byte{files.CA: a.pem, files.Cert: cert, files.Key: key} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	install(before)
	first := startBackend(t, "127.0.0.1:0", before.mutual(t))
	s := startSender(t, SenderConfig{Endpoint: Endpoint{Target: first.addr}, TLS: files})
	defer s.Close()
	send(t, s)

	// A renewal that is half done changes nothing.
	if err := os.WriteFile(files.Key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	first.server.Stop()
	second := startBackend(t, first.addr, before.mutual(t))
	send(t, s)

	install(after)
	second.server.Stop()
	third := startBackend(t, first.addr, after.mutual(t))
	send(t, s)
	if third.total() == 0 {
		t.Error("the backend with the renewed certificates has no span")
	}
}

func TestCertificatesThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	_, err := NewSender(SenderConfig{Endpoint: Endpoint{Target: "127.0.0.1:1"}, TLS: TLS{CA: "/nonexistent.pem"}})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v", err)
	}
	if _, err = NewSender(SenderConfig{Endpoint: Endpoint{Target: "127.0.0.1:1"}, TLS: TLS{Cert: "/c.pem"}}); err == nil || !strings.Contains(err.Error(), "only work together") {
		t.Errorf("error is %v", err)
	}
}

func TestFailOver(t *testing.T) {
	a, b := startBackend(t, "127.0.0.1:0"), startBackend(t, "127.0.0.1:0")
	start := func(rest time.Duration) *FailOver {
		f, err := NewFailOver([]Backend{
			startSender(t, SenderConfig{Endpoint: plain(a.addr), Timeout: time.Minute}), startSender(t, SenderConfig{Endpoint: plain(b.addr)}),
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.rest = rest
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	expect := func(wantA, wantB int) {
		t.Helper()
		if a.total() != wantA || b.total() != wantB {
			t.Errorf("the endpoints have %d and %d spans, want %d and %d", a.total(), b.total(), wantA, wantB)
		}
	}
	f := start(time.Hour)
	send(t, f)
	expect(1, 0)

	a.set(refuse(codes.Unavailable))
	send(t, f)
	expect(1, 1)
	asked := len(a.requests)
	send(t, f)
	expect(1, 2)
	if len(a.requests) != asked {
		t.Error("an endpoint that just failed is asked first")
	}

	b.set(refuse(codes.Unavailable))
	if _, err := f.Send(t.Context(), oneBatch(1)); err == nil {
		t.Error("no error when no endpoint takes the batch")
	}
	a.set(accept) // the only one that works, however lately it failed
	send(t, f)
	expect(2, 2)

	b.set(accept)
	f = start(0)
	a.set(refuse(codes.Unauthenticated))
	send(t, f)
	expect(2, 3)
	a.set(accept)
	send(t, f)
	expect(3, 3)

	a.set(refuse(codes.InvalidArgument))
	var refusal *Refusal
	if _, err := f.Send(t.Context(), oneBatch(1)); !errors.As(err, &refusal) || refusal.Kind != Permanent {
		t.Errorf("a batch that is refused for its content: %v", err)
	}
	expect(3, 3)
}

func TestAPartialSuccessIsNoFailure(t *testing.T) {
	b := startBackend(t, "127.0.0.1:0")
	b.set(func(context.Context, int) (*coltracepb.ExportTraceServiceResponse, error) {
		return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "old"}}, nil
	})
	for _, agent := range []string{"", "sheetbend/1"} { // as the command sets it
		s := startSender(t, SenderConfig{Endpoint: plain(b.addr), UserAgent: agent})
		if r, err := s.Send(t.Context(), oneBatch(5)); err != nil || r != (Receipt{Rejected: 2, Message: "old"}) {
			t.Errorf("user agent %q: %+v, %v", agent, r, err)
		}
		_ = s.Close()
	}
}

func TestCertificatesOfTheEnvironmentAreReadByWhoSends(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{"/nonexistent.pem": "no such file", none: "no PEM certificate"} {
		t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
		_, err := NewSender(SenderConfig{Endpoint: Endpoint{Target: "127.0.0.1:1"}})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
