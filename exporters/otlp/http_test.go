// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func writeCertificate(t *testing.T, name string, c *x509.Certificate) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// arrived is what a server got.
type arrived struct {
	where, tenant, agent, compression string
	body                              []byte
}

// httpBackend answers each request as answer says, and tells it.
func httpBackend(t *testing.T, answer http.HandlerFunc) (e Endpoint, got chan arrived) {
	t.Helper()
	got = make(chan arrived, 64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- arrived{r.URL.EscapedPath(), r.Header.Get("x-tenant"), r.Header.Get("User-Agent"), r.Header.Get("Content-Encoding"), body}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return httpEndpoint(t, s.URL), got
}

func httpEndpoint(t *testing.T, url string) Endpoint {
	t.Helper()
	e, _, err := FindEndpoint(url, HTTP, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func took(http.ResponseWriter, *http.Request) {}

// grpcBackend takes all signals but those of refuse.
func grpcBackend(t *testing.T, refuse Signal, o ...grpc.ServerOption) (e Endpoint, got chan arrived) {
	t.Helper()
	got = make(chan arrived, 64)
	seen := &compressions{}
	s := grpc.NewServer(append(o, grpc.StatsHandler(seen), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		request := &coltracepb.ExportTraceServiceRequest{}
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		if refuse > 0 && method == refuse.Method() {
			return status.Error(codes.Unimplemented, "unknown service")
		}
		body, err := proto.Marshal(request)
		if err != nil {
			return err
		}
		md, _ := metadata.FromIncomingContext(stream.Context())
		got <- arrived{method, strings.Join(md.Get("x-tenant"), "+"), strings.Join(md.Get("user-agent"), "+"), seen.last(), body}
		return stream.SendMsg(&coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "old"}})
	}))...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		served.Wait()
	})
	return plain(l.Addr().String()), got
}

// compressions has that of the last request.
type compressions struct {
	mu   sync.Mutex
	name string
}

func (c *compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c *compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *compressions) HandleConn(context.Context, stats.ConnStats)                       {}
func (c *compressions) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.name = h.Compression
	}
}

func (c *compressions) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

func TestEverySignalArrivesAsItIsOverEachProtocol(t *testing.T) {
	partial := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeProtobuf)
		answer, _ := proto.Marshal(&coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "old"}})
		_, _ = w.Write(answer)
	}
	overHTTP, gotHTTP := httpBackend(t, partial)
	overGRPC, gotGRPC := grpcBackend(t, 0)
	resource := protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "a schema")
	tests := []struct {
		name     string
		endpoint Endpoint
		got      chan arrived
		where    func(Signal) string
		agent    string
	}{
		{"HTTP", overHTTP, gotHTTP, Signal.Path, "sheetbend/1"},
		{"gRPC", overGRPC, gotGRPC, Signal.Method, "sheetbend/1 grpc-go/" + grpc.Version},
	}
	for _, tt := range tests {
		for _, compression := range []string{"", Gzip} {
			t.Run(tt.name+" "+compression, func(t *testing.T) {
				t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b")
				s := startSender(t, SenderConfig{Endpoint: tt.endpoint, UserAgent: "sheetbend/1", Compression: compression})
				defer s.Close()
				for _, signal := range []Signal{Traces, Logs, Metrics} {
					b := Batch{Signal: signal, Spans: 2, Resources: [][]byte{resource, resource}}
					r, err := s.Send(t.Context(), b)
					if err != nil || r != (Receipt{Rejected: 1, Message: "old"}) {
						t.Fatalf("%s: %+v, %v", signal, r, err)
					}
					a := <-tt.got
					if compression == Gzip && tt.name == "HTTP" {
						z, err := gzip.NewReader(bytes.NewReader(a.body))
						if err != nil {
							t.Fatal(err)
						}
						if a.body, err = io.ReadAll(z); err != nil {
							t.Fatal(err)
						}
					}
					want := arrived{tt.where(signal), "a b", tt.agent, compression, b.AppendRequest(nil)}
					if !bytes.Equal(a.body, want.body) {
						t.Errorf("%s: the body is %x, want %x", signal, a.body, want.body)
					}
					a.body, want.body = nil, nil
					if a.where != want.where || a.tenant != want.tenant || a.agent != want.agent || a.compression != want.compression {
						t.Errorf("%s: %+v, want %+v", signal, a, want)
					}
				}
			})
		}
	}
}

func TestASignalThatABackendDoesNotTakeIsSaidToBeUnsupported(t *testing.T) {
	overGRPC, _ := grpcBackend(t, Logs)
	overHTTP, _ := httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == Logs.Path() {
			http.NotFound(w, r)
		}
	})
	tracesOnly := overHTTP
	tracesOnly.Path = "/otlp"
	for _, e := range []Endpoint{overGRPC, overHTTP, tracesOnly} {
		s := startSender(t, SenderConfig{Endpoint: e})
		defer s.Close()
		var refusal *Refusal
		if _, err := s.Send(t.Context(), Batch{Signal: Logs}); !errors.As(err, &refusal) || refusal.Kind != Unsupported {
			t.Errorf("%s, logs: %v", e, err)
		}
		if _, err := s.Send(t.Context(), oneBatch(1)); err != nil {
			t.Errorf("%s, traces: %v", e, err)
		}
	}
}

func TestARefusalOverHTTPSaysWhatHasToChange(t *testing.T) {
	withText := func(code int, kind, text string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}
	}
	details, err := proto.Marshal(&statuspb.Status{Message: "bad span"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		kind   RefusalKind
		after  time.Duration
		says   string
	}{
		{"busy", withText(429, "text/plain", "slow down"), Temporary, 0, "slow down (HTTP 429)"},
		{"asks to come later", withText(429, "", "", "Retry-After", "3"), Temporary, 3 * time.Second, "Too Many Requests"},
		{"asks to come much later", withText(503, "", "", "Retry-After", "99999999999999999999"), Temporary, maxAfter, ""},
		{"asks to come at a time", withText(503, "", "", "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), Temporary, maxAfter, ""},
		{"asks to come at a time that is over", withText(503, "", "", "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"), Temporary, 0, ""},
		{"asks to come who knows when", withText(502, "", "", "Retry-After", "soon"), Temporary, 0, ""},
		{"too slow", withText(504, "", ""), Temporary, 0, ""},
		{"who are you", withText(401, "", ""), Misconfigured, 0, "Unauthorized (HTTP 401)"},
		{"not you", withText(403, "application/json", `{"error":"no"}`), Misconfigured, 0, `{"error":"no"}`},
		{"nothing here", withText(404, "text/html", "<html>"), Unsupported, 0, "Not Found at /v1/traces"},
		{"bad batch", withText(400, typeProtobuf, string(details)), Permanent, 0, "bad span (HTTP 400)"},
		{"too large", withText(413, "", ""), Permanent, 0, ""},
		{"broken", withText(500, "text/html", "<html>"), Permanent, 0, "Internal Server Error (HTTP 500)"},
		{"endless", withText(500, "text/plain", strings.Repeat("é", 1<<20)), Permanent, 0, "é"},
		{"a web page", withText(200, "text/html; charset=utf-8", "<html>"), Misconfigured, 0, "web page"},
		{"a redirect", withText(307, "", "", "Location", "https://user:secret@other.example/v1/traces?token=secret"), Misconfigured, 0, "leads to https://other.example/v1/traces (HTTP 307)"},
		{"a redirect to nowhere", withText(301, "", ""), Misconfigured, 0, "nowhere"},
		{"plain text where TLS is spoken", withText(400, "text/plain", "Client sent an HTTP request to an HTTPS server."), Misconfigured, 0, "https://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, got := httpBackend(t, tt.answer)
			s := startSender(t, SenderConfig{Endpoint: e, Headers: map[string]string{"authorization": "Bearer secret"}})
			defer s.Close()
			_, err := s.Send(t.Context(), oneBatch(1))
			var r *Refusal
			if !errors.As(err, &r) {
				t.Fatal(err)
			}
			if r.Kind != tt.kind || r.After != tt.after || !strings.Contains(r.Error(), tt.says) {
				t.Errorf("kind %d, wait %s, %q, want %d, %s, %q", r.Kind, r.After, r, tt.kind, tt.after, tt.says)
			}
			if len(r.Error()) > 2*maxReason || strings.Contains(r.Error(), "secret") {
				t.Errorf("the error has %d bytes: %s", len(r.Error()), r)
			}
			if len(got) != 1 {
				t.Errorf("%d requests, want 1", len(got))
			}
		})
	}
}

// What a backend answers to a batch that it took is for people only, if it is not as it should be.
func TestABatchThatWasTakenIsTakenWhateverTheAnswerSays(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"empty":      took,
		"no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{}`)
		},
		"no message": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typeProtobuf)
			_, _ = io.WriteString(w, "\xff\xff")
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeProtobuf)
			for range 64 << 20 / 4096 { // much more than fits into the buffers of a socket
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
			if r.Context().Err() == nil {
				t.Error("all of it is read")
			}
		},
		"it breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := httpBackend(t, answer)
			s := startSender(t, SenderConfig{Endpoint: e})
			defer s.Close()
			if r, err := s.Send(t.Context(), oneBatch(1)); err != nil || r != (Receipt{}) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestWhoSpeaksAnotherProtocolIsToldSo(t *testing.T) {
	overGRPC, _ := grpcBackend(t, 0)
	overHTTP, _ := httpBackend(t, took)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeCertificate(t, ca, secure.Certificate())
	away := plain("127.0.0.1:1")
	tests := []struct {
		name     string
		endpoint Endpoint
		kind     RefusalKind
		says     string
	}{
		{"HTTP to gRPC", httpEndpoint(t, "http://"+overGRPC.Target), Misconfigured, "protocol: grpc"},
		{"gRPC to HTTP", plain(overHTTP.Target), Misconfigured, "protocol: http/protobuf"},
		{"gRPC to HTTP/2", Endpoint{Target: secure.Listener.Addr().String()}, Misconfigured, "protocol: http/protobuf"},
		{"TLS to plain text", httpEndpoint(t, "https://"+overHTTP.Target), Misconfigured, "http://"},
		{"plain text to TLS", httpEndpoint(t, "http://"+secure.Listener.Addr().String()), Misconfigured, "https://"},
		{"nobody", httpEndpoint(t, "http://"+away.Target), Temporary, "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := startSender(t, SenderConfig{Endpoint: tt.endpoint, TLS: TLS{CA: ca}})
			defer s.Close()
			_, err := s.Send(t.Context(), oneBatch(1))
			var r *Refusal
			if !errors.As(err, &r) || r.Kind != tt.kind || !strings.Contains(r.Error(), tt.says) {
				t.Errorf("%v, want kind %d, %q", err, tt.kind, tt.says)
			}
		})
	}
}

func TestAnAttemptOverHTTPEndsInTime(t *testing.T) {
	release := make(chan struct{})
	e, _ := httpBackend(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	s := startSender(t, SenderConfig{Endpoint: e, Timeout: 50 * time.Millisecond})
	defer s.Close()
	var r *Refusal
	if _, err := s.Send(t.Context(), oneBatch(1)); !errors.As(err, &r) || r.Kind != Temporary || r.Message != "no answer in time" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Send(ctx, oneBatch(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestOverAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "otel.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(took)}}
	s.Start()
	defer s.Close()
	rights := 0
	e := httpEndpoint(t, "unix://"+path)
	sender := startSender(t, SenderConfig{Endpoint: e, TLS: TLS{As: func(do func() error) error {
		rights++
		return do()
	}}})
	defer sender.Close()
	if _, err := sender.Send(t.Context(), oneBatch(1)); err != nil || rights == 0 {
		t.Errorf("%v, the rights were used %d times", err, rights)
	}
}

func TestRenewedCertificatesAreUsedForTheNextConnectionOverHTTP(t *testing.T) {
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
	serve := func(a authority, addr string) *httptest.Server {
		t.Helper()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		pair, _, _ := a.issue(t, "backend")
		pool := x509.NewCertPool()
		pool.AddCert(a.cert)
		s := &httptest.Server{Listener: l, EnableHTTP2: true, Config: &http.Server{Handler: http.HandlerFunc(took), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	install(before)
	first := serve(before, "127.0.0.1:0")
	addr := first.Listener.Addr().String()
	s := startSender(t, SenderConfig{Endpoint: httpEndpoint(t, "https://"+addr), TLS: files})
	defer s.Close()
	send(t, s)
	if err := os.WriteFile(files.Key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := serve(before, addr)
	send(t, s)

	install(after)
	second.Close()
	serve(after, addr)
	send(t, s)
}
