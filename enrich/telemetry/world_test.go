// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	"google.golang.org/grpc/mem"

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

// rawCodec sends bytes that are a message already.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" } // of the content type

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("not bytes")
	}
	*b = data.Materialize()
	return nil
}

// forwarded is what an intake passed on.
type forwarded struct {
	signal Signal
	body   []byte
}

// behind has what comes out of an intake.
type behind chan forwarded

func newBehind() behind { return make(behind, 100) }

func (b behind) take(s Signal, body []byte) { b <- forwarded{s, body} }

// next is what was passed on before the request was answered.
func (b behind) next(t *testing.T) forwarded {
	t.Helper()
	select {
	case f := <-b:
		return f
	default:
		t.Fatal("nothing was forwarded")
	}
	return forwarded{}
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

func (i *Intake) url(s Signal) string { return "http://" + i.Addr().String() + s.Path() }

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
