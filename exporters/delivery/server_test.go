// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// A server is an OTLP backend on loopback whose behaviour a test decides.
type server struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string
	grpc *grpc.Server

	mu       sync.Mutex
	answer   answer
	names    []string          // of the spans that were taken, in order
	bytes    map[string][]byte // of each
	differ   []string          // spans that came twice and differ
	twice    int
	requests int
	conns    []net.Conn
}

type answer func(ctx context.Context, s *server) (*coltracepb.ExportTraceServiceResponse, error)

func take(context.Context, *server) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func refuse(code codes.Code) answer {
	return func(context.Context, *server) (*coltracepb.ExportTraceServiceResponse, error) {
		return nil, status.Error(code, "refused by the test")
	}
}

func stall(ctx context.Context, _ *server) (*coltracepb.ExportTraceServiceResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// reset breaks all connections without an answer.
func reset(_ context.Context, s *server) (*coltracepb.ExportTraceServiceResponse, error) {
	s.cut()
	return nil, status.Error(codes.Internal, "nobody hears this")
}

// mute takes the spans, but the answer is lost with the connection.
func mute(_ context.Context, s *server) (*coltracepb.ExportTraceServiceResponse, error) {
	s.cut()
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset, not an end
		}
		_ = c.Close()
	}
	s.conns = nil
}

func (s *server) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	answer := s.answer
	s.requests++
	s.mu.Unlock()
	resp, err := answer(ctx, s)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, rs := range r.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, sp := range ss.Spans {
					s.taken(sp)
				}
			}
		}
	}
	return resp, err
}

func (s *server) taken(sp *tracepb.Span) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(sp)
	if err != nil {
		panic(err)
	}
	if old, ok := s.bytes[sp.Name]; ok {
		s.twice++
		if !bytes.Equal(old, b) {
			s.differ = append(s.differ, sp.Name)
		}
		return
	}
	s.bytes[sp.Name] = b
	s.names = append(s.names, sp.Name)
}

func (s *server) set(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.names...)
}

// keeping remembers connections, to break them.
type keeping struct {
	net.Listener
	s *server
}

func (k keeping) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil {
		k.s.mu.Lock()
		k.s.conns = append(k.s.conns, c)
		k.s.mu.Unlock()
	}
	return c, err
}

func serve(t testing.TB, addr string, a answer) *server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), grpc: grpc.NewServer(), answer: a, bytes: map[string][]byte{}}
	coltracepb.RegisterTraceServiceServer(s.grpc, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.grpc.Serve(keeping{l, s})
	}()
	t.Cleanup(func() {
		s.grpc.Stop()
		<-served
	})
	return s
}

// to is the server as a destination with the name.
func (s *server) to(t testing.TB, name string) Destination {
	t.Helper()
	return destinationOf(t, name, s.addr, 10*time.Second)
}

func destinationOf(t testing.TB, name, addr string, timeout time.Duration) Destination {
	t.Helper()
	b, err := otlp.NewSender(otlp.SenderConfig{Endpoint: otlp.Endpoint{Target: addr, Insecure: true}, Timeout: timeout, RetryWait: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return Destination{Name: name, Backend: b}
}

func spoolDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "spool")
}

// open fills in what tests want: quick retries, crash counters beside the spool.
func open(t testing.TB, cfg Config) *Queue {
	t.Helper()
	cfg.RetryWait = 5 * time.Millisecond
	if cfg.CrashCounters == "" {
		cfg.CrashCounters = cfg.Dir + ".tally"
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// offer gives the spool batches of per spans, named by the numbers from first on.
func offer(s *Queue, first, n, per int) {
	e := otlp.NewEncoder("test", otlp.Limits{Spans: per}, s.Offer)
	for i := first; i < first+n; i++ {
		e.Span(numbered(i))
	}
	e.Flush()
}

func numbered(i int) *span.Span {
	return &span.Span{
		Trace: span.TraceID{1}, ID: span.ID{byte(i >> 16), byte(i >> 8), byte(i), 1}, Name: fmt.Sprint("span ", i), Start: uint64(i), End: uint64(i) + 1000,
		Attrs: []span.Attr{{Key: span.KeyFilePath, Kind: span.StringAttr, Str: fmt.Sprintf("/some/where/%d", i)}},
	}
}

// until waits for a condition, for as long as the test may run.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

func end(t testing.TB, s *Queue, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return s.Close(ctx)
}

// balanced holds the invariant of LaneStats.
func balanced(t testing.TB, s *Queue) []LaneStats {
	t.Helper()
	st := s.Stats()
	for _, d := range st.Lanes {
		if in, out := d.Resumed+d.Offered, d.resolved()+d.Queued; in != out {
			t.Errorf("%s: %d spans came in, %d are accounted for: %+v", d.Endpoint, in, out, d)
		}
	}
	return st.Lanes
}

// hasAll wants the spans first to first+n-1, in batches of 500 at most and about in their order, each taken at least once.
func (s *server) hasAll(t testing.TB, first, n int) {
	t.Helper()
	got := s.got()
	if len(got) != n {
		t.Errorf("the backend has %d spans, want %d", len(got), n)
		return
	}
	for i, name := range got {
		var number int
		if _, err := fmt.Sscanf(name, "span %d", &number); err != nil || max(number-first-i, i-number+first) > 500*(window+maxAhead) {
			t.Errorf("span %d of %d is %q: %v", i, n, name, err)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.differ) > 0 {
		t.Errorf("spans came twice with different content: %q", s.differ)
	}
}

// logTo collects the log.
func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
