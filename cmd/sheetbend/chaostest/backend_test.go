// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A mood is how a backend answers. It says whether it keeps the spans of a request, and of how many it says that it
// does not.
type mood func(ctx context.Context, b *backend, spans int) (keep int, err error)

var moods = map[string]mood{
	"takes": func(_ context.Context, _ *backend, spans int) (int, error) { return spans, nil },
	"refuses": func(context.Context, *backend, int) (int, error) {
		return 0, status.Error(codes.Unavailable, "refused by the test")
	},
	"refuses credentials": func(context.Context, *backend, int) (int, error) {
		return 0, status.Error(codes.Unauthenticated, "refused by the test")
	},
	"stalls": func(ctx context.Context, _ *backend, _ int) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	},
	"resets": func(_ context.Context, b *backend, _ int) (int, error) {
		b.cut()
		return 0, status.Error(codes.Unavailable, "nobody hears this")
	},
	"takes and loses the answer": func(_ context.Context, b *backend, spans int) (int, error) {
		b.cut()
		return spans, nil
	},
	"takes a part": func(_ context.Context, _ *backend, spans int) (int, error) { return spans - 1, nil },
}

// A backend is an OTLP server on loopback that remembers each span and what it said of it.
type backend struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string

	mu       sync.Mutex
	mood     mood
	requests int
	conns    []net.Conn
	spans    map[string]*tracepb.Span // taken, by id
	order    []*tracepb.Span          // the same as they came
	rejected []*tracepb.Span
	twice    int
	again    int
	forget   bool
	differ   []string // came twice and were not the same
}

// serve begins to listen; the address is free to be taken again after the returned function.
func (b *backend) serve(t *testing.T) (stop func()) {
	t.Helper()
	addr := b.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	s := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	coltracepb.RegisterTraceServiceServer(s, b)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(keeping{l, b})
	}()
	stop = sync.OnceFunc(func() {
		s.Stop()
		<-served
	})
	t.Cleanup(stop)
	return stop
}

func newBackend() *backend { return &backend{mood: moods["takes"], spans: map[string]*tracepb.Span{}} }

type keeping struct {
	net.Listener
	b *backend
}

func (k keeping) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil {
		k.b.mu.Lock()
		k.b.conns = append(k.b.conns, c)
		k.b.mu.Unlock()
	}
	return c, err
}

// cut resets all connections.
func (b *backend) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
	b.conns = nil
}

func (b *backend) set(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mood = moods[name]
}

func (b *backend) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

func (b *backend) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	var spans []*tracepb.Span
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			spans = append(spans, ss.Spans...)
		}
	}
	b.mu.Lock()
	mood := b.mood
	b.requests++
	b.mu.Unlock()
	keep, err := mood(ctx, b, len(spans))
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range spans[:keep] {
		b.take(s)
	}
	b.rejected = append(b.rejected, spans[keep:]...)
	resp := &coltracepb.ExportTraceServiceResponse{}
	if keep < len(spans) {
		resp.PartialSuccess = &coltracepb.ExportTracePartialSuccess{RejectedSpans: int64(len(spans) - keep), ErrorMessage: "rejected by the test"}
	}
	return resp, nil
}

func (b *backend) take(s *tracepb.Span) {
	if b.forget {
		return
	}
	id := string(s.TraceId) + string(s.SpanId)
	before, ok := b.spans[id]
	if !ok {
		b.spans[id] = s
		b.order = append(b.order, s)
		return
	}
	if number(before, "sheetbend.seq") != number(s, "sheetbend.seq") {
		b.again++ // of another sensor
	}
	b.twice++
	if one, other := content(before), content(s); !bytes.Equal(one, other) {
		b.differ = append(b.differ, before.String()+"\n"+s.String())
	}
}

// content is what is the same on all copies of a span: of one that comes after a kill, number, run and flagged counts
// are others.
func content(s *tracepb.Span) []byte {
	c := proto.CloneOf(s)
	c.Attributes = slices.DeleteFunc(c.Attributes, func(a *commonpb.KeyValue) bool {
		return recordtest.Counted(a.Key) || a.Key == span.KeySeq || a.Key == span.KeyRun
	})
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	return text
}

func attr(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func number(s *tracepb.Span, key string) int {
	for _, a := range s.Attributes {
		if a.Key == key {
			return int(a.Value.GetIntValue())
		}
	}
	return 0
}
