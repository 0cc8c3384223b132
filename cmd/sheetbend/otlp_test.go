// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// backend is an OTLP server on loopback.
type backend struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string
	http string // its address for OTLP over HTTP

	mu     sync.Mutex
	spans  []*tracepb.Span
	agents []string
	events []*logspb.LogRecord
}

func (b *backend) Export(_ context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				b.agents = append(b.agents, a.Value.GetStringValue())
			}
		}
		for _, ss := range rs.ScopeSpans {
			b.spans = append(b.spans, ss.Spans...)
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// logsOf is the part of a backend that takes logs.
type logsOf struct {
	collogspb.UnimplementedLogsServiceServer
	*backend
}

func (l logsOf) Export(_ context.Context, r *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rl := range r.ResourceLogs {
		for _, sl := range rl.ScopeLogs {
			l.events = append(l.events, sl.LogRecords...)
		}
	}
	return &collogspb.ExportLogsServiceResponse{}, nil
}

func serve(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String()}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := &coltracepb.ExportTraceServiceRequest{}
		body, err := io.ReadAll(r.Body)
		logs := &collogspb.ExportLogsServiceRequest{}
		if err == nil && r.URL.Path == otlp.Logs.Path() && proto.Unmarshal(body, logs) == nil {
			_, _ = logsOf{backend: b}.Export(r.Context(), logs)
			return
		}
		if err != nil || r.URL.Path != otlp.Traces.Path() || proto.Unmarshal(body, request) != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = b.Export(r.Context(), request)
	}))
	t.Cleanup(web.Close)
	b.http = strings.TrimPrefix(web.URL, "http://")
	s := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(s, b)
	collogspb.RegisterLogsServiceServer(s, logsOf{backend: b})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return b
}

func TestSpansReachABackendThatAFlagOrTheEnvironmentNames(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		name, agent string
		flags, env  func(b *backend) []string
	}{
		{name: "a flag", agent: "sh", flags: func(b *backend) []string { return []string{"--otlp-endpoint", "http://" + b.addr} }},
		{name: "a flag, over HTTP", agent: "sh", flags: func(b *backend) []string {
			return []string{"--otlp-endpoint", "http://" + b.http, "--otlp-protocol", "http/protobuf"}
		}},
		{name: "the environment, over HTTP", agent: "sh", env: func(b *backend) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + b.http, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}
		}},
		{name: "the environment", agent: "sh", env: func(b *backend) []string { return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + b.addr} }},
		{name: "the agent's name", agent: "codex", flags: func(b *backend) []string {
			return []string{"--agent", "codex", "--otlp-endpoint", "http://" + b.addr}
		}},
		{name: "the service's name from the environment wins", agent: "mine",
			flags: func(b *backend) []string { return []string{"--otlp-endpoint", "http://" + b.addr} },
			env: func(*backend) []string {
				return []string{"OTEL_SERVICE_NAME=mine", "OTEL_RESOURCE_ATTRIBUTES=service.name=x"}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := serve(t)
			args := []string{"run", "--quiet"}
			if c.flags != nil {
				args = append(args, c.flags(b)...)
			}
			cmd := sheetbend(t, append(args, "--", "sh", "-c", "true; sh -c 'exit 0'; exit 2")...)
			if c.env != nil {
				cmd.Env = append(cmd.Env, c.env(b)...)
			}
			if r := finish(t, cmd); r.code != 2 || r.stderr != "" {
				t.Fatal(describeResult(r))
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			byID := map[string]*tracepb.Span{}
			for _, s := range b.spans {
				byID[string(s.SpanId)] = s
			}
			execs, children := 0, 0
			for _, s := range b.spans {
				if eventOf(s) == "process.exec" {
					execs++
					if p := byID[string(s.ParentSpanId)]; p != nil && eventOf(p) == "process.exec" {
						children++
					}
				}
			}
			if execs != 2 || children != 1 || !slices.Contains(b.agents, c.agent) {
				t.Errorf("%d execs, %d of them below another, services %v; want %s", execs, children, b.agents, c.agent)
			}
		})
	}
}

// A secret that is read is a log record where the configuration asks for that, which names its span.
func TestSecurityEventsReachTheBackendsThatAreToHaveThem(t *testing.T) {
	t.Parallel()
	needRoot(t)
	home := t.TempDir()
	secret := filepath.Join(home, ".netrc")
	if err := os.WriteFile(secret, []byte("machine x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		otlp   func(traces, logs *backend) string
		env    func(traces, logs *backend) []string
		shared bool // one backend gets both
		none   bool
	}{
		{name: "spans only by default", none: true, otlp: func(a, _ *backend) string { return "{endpoint: 'http://" + a.addr + "'}" }},
		{name: "both to one, over gRPC", shared: true, otlp: func(a, _ *backend) string {
			return "{endpoint: 'http://" + a.addr + "', signals: [traces, logs]}"
		}},
		{name: "both to one, over HTTP", shared: true, otlp: func(a, _ *backend) string {
			return "{endpoint: 'http://" + a.http + "', protocol: http/protobuf, signals: [traces, logs]}"
		}},
		{name: "each to its own", otlp: func(a, b *backend) string {
			return "[{endpoint: 'http://" + a.addr + "'}, {endpoint: 'http://" + b.addr + "', signals: [logs]}]"
		}},
		{name: "the environment names another one for logs", otlp: func(*backend, *backend) string { return "{signals: [traces, logs]}" },
			env: func(a, b *backend) []string {
				return []string{
					"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + a.addr,
					"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://" + b.http + "/v1/logs", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf",
				}
			}},
		{name: "the environment names one for all", shared: true, otlp: func(*backend, *backend) string { return "{signals: [traces, logs]}" },
			env: func(a, _ *backend) []string { return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + a.addr} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := serve(t), serve(t)
			config := filepath.Join(t.TempDir(), "sheetbend.yaml")
			if err := os.WriteFile(config, []byte("exporters:\n  otlp: "+c.otlp(a, b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := sheetbend(t, "run", "--quiet", "--config", config, "--", "cat", secret)
			if c.env != nil {
				cmd.Env = append(cmd.Env, c.env(a, b)...)
			}
			if r := finish(t, cmd); r.code != 0 {
				t.Fatal(describeResult(r))
			}
			to := b
			if c.shared {
				to = a
			}
			for _, s := range []*backend{a, b} {
				s.mu.Lock()
				defer s.mu.Unlock()
				if (len(s.spans) > 0) != (s == a) || (len(s.events) > 0) != (s == to && !c.none) {
					t.Errorf("%d spans and %d events", len(s.spans), len(s.events))
				}
			}
			for _, e := range to.events {
				if e.EventName != "sheetbend.secret" {
					continue
				}
				if e.Body.GetStringValue() != "cat read "+secret || !slices.ContainsFunc(a.spans, func(s *tracepb.Span) bool {
					return string(s.SpanId) == string(e.SpanId) && string(s.TraceId) == string(e.TraceId)
				}) {
					t.Errorf("%v", e)
				}
				return
			}
			if !c.none {
				t.Errorf("no event of the secret: %v", to.events)
			}
		})
	}
}

// Where the environment names a backend for logs that cannot be used, it is these that are not sent.
func TestAnUnusableBackendForLogsKeepsNoSpans(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := serve(t)
	conf := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(conf, []byte("exporters: {otlp: {signals: [traces, logs]}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := sheetbend(t, "run", "--quiet", "--config", conf, "--", "true")
	cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+a.addr, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=ftp://h")
	r := finish(t, cmd)
	if r.code != 0 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "no logs are sent") {
		t.Error(describeResult(r))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.spans) == 0 {
		t.Error("no spans came")
	}
}

func TestSpansThatReachNoBackendAreCounted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // refused from now on
	r := sheetbendRun(t, "run", "--otlp-endpoint", "http://"+addr, "--", "sh", "-c", "exit 3")
	if r.code != 3 || !strings.Contains(r.stderr, "not all is shown") || !strings.Contains(r.stderr, "waiting up to 5s for http://"+addr) || !strings.Contains(r.stderr, "not delivered") {
		t.Error(describeResult(r))
	}
}

func TestABackendThatCannotBeReachedIsNamedWithTheCause(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	_ = l.Close()
	r := sheetbendRun(t, "run", "--quiet", "--otlp-endpoint", endpoint, "--", "true")
	if r.code != 0 || !strings.Contains(r.stderr, endpoint) || !strings.Contains(r.stderr, "connection refused") {
		t.Error(describeResult(r))
	}
}
