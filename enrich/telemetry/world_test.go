// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

const patience = 30 * time.Second

// heard keeps what an intake reads.
type heard struct {
	mu      sync.Mutex
	facts   []record.Said
	senders []Sender
}

func (h *heard) said(s record.Said, from Sender) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = append(h.facts, s)
	h.senders = append(h.senders, from)
}

func (h *heard) all() []record.Said {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.facts)
}

func intake(t *testing.T, o Options) (*Intake, *heard) {
	t.Helper()
	h := &heard{}
	if o.Said == nil {
		o.Said = h.said
	}
	if o.Dialects == nil {
		o.Dialects = agents.Builtin()
	}
	if o.Listen == "" && o.Unix == "" {
		o.Listen = "127.0.0.1:0"
	}
	i, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := i.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return i, h
}

// backend records the requests that it gets, over HTTP and gRPC.
type backend struct {
	grpc, http string
	got        chan delivery
	refuse     chan int // of each request, the HTTP or gRPC code to answer; none: success
}

type delivery struct {
	path   string
	header http.Header
	body   []byte
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{got: make(chan delivery, 100), refuse: make(chan int, 100)}
	l := listenLocal(t)
	b.grpc = l.Addr().String()
	g := grpc.NewServer(grpc.ForceServerCodecV2(rawServerCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var body []byte
		if err := s.RecvMsg(&body); err != nil {
			return err
		}
		md, _ := metadata.FromIncomingContext(s.Context())
		method, _ := grpc.MethodFromServerStream(s)
		b.got <- delivery{method, http.Header(md), body}
		select {
		case code := <-b.refuse:
			return status.Error(codes.Code(code), "refused")
		default:
			return s.SendMsg([]byte{})
		}
	}))
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)

	web := listenLocal(t)
	b.http = "http://" + web.Addr().String()
	s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.got <- delivery{r.URL.Path, r.Header, body}
		select {
		case code := <-b.refuse:
			w.WriteHeader(code)
		default:
		}
	})}
	go func() { _ = s.Serve(web) }()
	t.Cleanup(func() { _ = s.Close() })
	return b
}

func (b *backend) next(t *testing.T) delivery {
	t.Helper()
	select {
	case d := <-b.got:
		return d
	case <-time.After(patience):
		t.Fatal("nothing was forwarded")
	}
	return delivery{}
}

type rawServerCodec struct{ rawCodec }

func (rawServerCodec) Marshal(v any) (mem.BufferSlice, error) { return rawCodec{}.Marshal(v) }

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func forwarder(t *testing.T, b Backend) *Forwarder {
	t.Helper()
	f, err := NewForwarder(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func flush(t *testing.T, f *Forwarder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// post sends a request and returns the status and the answer.
func post(t *testing.T, url string, header map[string]string, body []byte) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func (i *Intake) url(s Signal) string { return "http://" + i.Addr().String() + s.httpPath() }

var (
	traceA = pcommon.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	spanA  = pcommon.SpanID{1, 2, 3, 4, 5, 6, 7, 8}
)

func attributes(m pcommon.Map, pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		key, _ := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case string:
			m.PutStr(key, v)
		case bool:
			m.PutBool(key, v)
		case int:
			m.PutInt(key, int64(v))
		}
	}
}

// tracesOf makes a request with one span.
func tracesOf(service, name string, pairs ...any) ptraceotlp.ExportRequest {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr(keyService, service)
	addSpan(rs, name, pairs...)
	return ptraceotlp.NewExportRequestFromTraces(td)
}

func addSpan(rs ptrace.ResourceSpans, name string, pairs ...any) ptrace.Span {
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetName(name)
	s.SetTraceID(traceA)
	s.SetSpanID(spanA)
	attributes(s.Attributes(), pairs...)
	return s
}

// logsOf makes a request with one log record, whose body is the event's name unless it is empty.
func logsOf(service, body string, pairs ...any) plogotlp.ExportRequest {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr(keyService, service)
	l := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	if body != "" {
		l.Body().SetStr(body)
	}
	l.SetTraceID(traceA)
	l.SetSpanID(spanA)
	attributes(l.Attributes(), pairs...)
	return plogotlp.NewExportRequestFromLogs(ld)
}

func asProtobuf(t testing.TB, r interface{ MarshalProto() ([]byte, error) }) []byte {
	t.Helper()
	b, err := r.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func asJSON(t testing.TB, r interface{ MarshalJSON() ([]byte, error) }) []byte {
	t.Helper()
	b, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
