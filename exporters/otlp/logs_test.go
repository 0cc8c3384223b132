// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// referenceRecord is the same message by way of the generated types.
func referenceRecord(s *span.Span, e notable.Event) *logspb.LogRecord {
	return &logspb.LogRecord{
		TimeUnixNano: e.Time(s), ObservedTimeUnixNano: e.Time(s),
		SeverityNumber: logspb.SeverityNumber(e.Severity), SeverityText: e.Severity.String(), EventName: "sheetbend." + e.Name,
		Body:       &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(e.Sentence)}},
		Attributes: referenceAttrs(s.Attrs), TraceId: s.Trace[:], SpanId: s.ID[:], Flags: 1,
	}
}

// secretRead is a notable span; typicalSpan is none.
func secretRead(r *span.Resource) *span.Span {
	s := typicalSpan(7, r)
	s.Attrs = append(s.Attrs, flag(span.KeySensitive, true), str(span.KeyOutcome, string(span.OK)))
	for i := range s.Attrs {
		switch s.Attrs[i].Key {
		case span.KeyFilePath:
			s.Attrs[i].Str = "/root/.aws/credentials"
		case span.KeySensitive:
			s.Attrs[i].Int = 1
		}
	}
	return s
}

// Each notable span is a record with the attributes of the span, which it names; the others are none.
func TestNotableSpansAreLogRecords(t *testing.T) {
	r := &span.Resource{Attrs: []span.Attr{str("service.name", "codex")}}
	ended := &span.Span{Kind: span.Exit, Start: 5, End: 9, Trace: span.TraceID{1}, ID: span.ID{2}, Resource: r, Attrs: []span.Attr{flag(span.KeyOOMKilled, true), str(span.KeyExecutableName, "no\xffde")}}
	var batches []Batch
	e := NewEventEncoder("1.2", Limits{}, func(b Batch) { batches = append(batches, b) })
	for _, s := range []*span.Span{typicalSpan(1, r), secretRead(r), typicalSpan(2, nil), ended} {
		e.Span(s)
	}
	e.Flush()
	e.Span(typicalSpan(3, r))
	e.Flush()
	if len(batches) != 1 || batches[0].Signal != Logs || batches[0].Spans != 2 {
		t.Fatalf("%+v", batches)
	}
	got := &logspb.LogsData{}
	if err := proto.Unmarshal(batches[0].AppendRequest(nil), got); err != nil {
		t.Fatal(err)
	}
	secret, _ := notable.Of(secretRead(r))
	oom, _ := notable.Of(ended)
	want := &logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{SchemaUrl: span.Schema, ScopeLogs: []*logspb.ScopeLogs{{
		SchemaUrl: span.Schema, Scope: &commonpb.InstrumentationScope{Name: span.ScopeName, Version: "1.2"},
		LogRecords: []*logspb.LogRecord{referenceRecord(secretRead(r), secret), referenceRecord(ended, oom)},
	}}}}}
	want.ResourceLogs[0].Resource = got.ResourceLogs[0].Resource
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if rec := got.ResourceLogs[0].ScopeLogs[0].LogRecords[0]; rec.EventName != "sheetbend.secret" || rec.SeverityText != "WARN" ||
		rec.Body.GetStringValue() != "python3.13 read /root/.aws/credentials" || len(got.ResourceLogs[0].Resource.Attributes) != 1 {
		t.Errorf("%v", got)
	}
	if when := got.ResourceLogs[0].ScopeLogs[0].LogRecords[1].TimeUnixNano; when != ended.End {
		t.Errorf("killed at %d", when)
	}
}

// A record that is too large goes without what makes it large, as a span does.
func TestTooLargeRecordGoesWithoutItsLists(t *testing.T) {
	s := secretRead(nil)
	s.Attrs = append(s.Attrs, list("many", make([]string, 4000)...))
	var got []Batch
	e := NewEventEncoder("", Limits{Bytes: 4000}, func(b Batch) { got = append(got, b) })
	e.Span(s)
	e.Flush()
	if len(got) != 1 || got[0].Spans != 1 || e.TooLarge() != 0 {
		t.Errorf("%+v, %d too large", got, e.TooLarge())
	}
}

// logsBackend is an OTLP server that takes nothing but logs.
type logsBackend struct {
	collogspb.UnimplementedLogsServiceServer
	got chan *collogspb.ExportLogsServiceRequest
}

func (b *logsBackend) Export(_ context.Context, r *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	b.got <- r
	return &collogspb.ExportLogsServiceResponse{}, nil
}

func TestSecurityEventsArriveOverEachProtocol(t *testing.T) {
	b := &logsBackend{got: make(chan *collogspb.ExportLogsServiceRequest, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collogspb.RegisterLogsServiceServer(s, b)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := &collogspb.ExportLogsServiceRequest{}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/logs" || proto.Unmarshal(body, request) != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = b.Export(r.Context(), request)
	}))
	t.Cleanup(web.Close)
	logs, ok, err := FindLogsEndpoint(HTTP, func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": web.URL + "/v1/logs"}[name]
	})
	if !ok || err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Endpoint{"gRPC": plain(l.Addr().String()), "HTTP": httpEndpoint(t, web.URL), "HTTP, logs only": logs} {
		sender := startSender(t, SenderConfig{Endpoint: e})
		encoder := NewEventEncoder("test", Limits{}, func(batch Batch) {
			if r, err := sender.Send(t.Context(), batch); err != nil || r.Rejected > 0 {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		})
		want := secretRead(nil)
		encoder.Span(want)
		encoder.Flush()
		event, _ := notable.Of(want)
		if rec := (<-b.got).ResourceLogs[0].ScopeLogs[0].LogRecords; len(rec) != 1 || !proto.Equal(rec[0], referenceRecord(want, event)) {
			t.Errorf("%s: got %v", name, rec)
		}
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Where the environment has an endpoint for logs, its own variables hold, and nothing else goes there.
func TestTheEndpointForLogsOfTheEnvironment(t *testing.T) {
	const endpoint, protocol = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"
	for _, c := range []struct {
		env          map[string]string
		want, traces string
	}{
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317"}},
		{env: map[string]string{endpoint: "http://h:4317"}, want: "http://h:4317 (logs) grpc"},
		{env: map[string]string{endpoint: "http://h:4318/in", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://h:4318/in http/protobuf"},
		{env: map[string]string{endpoint: "http://h:1", protocol: "http/protobuf"}, want: "http://h:1/ http/protobuf"},
		{
			env:  map[string]string{endpoint: "http://h:1/v1/logs", protocol: "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
			want: "http://h:1/v1/logs http/protobuf", traces: "http://h:1/v1/traces",
		},
	} {
		getenv := func(name string) string { return c.env[name] }
		e, ok, err := FindLogsEndpoint("", getenv)
		got := ""
		if ok {
			got = e.String() + " " + string(e.Protocol)
		}
		if err != nil || got != c.want || e.URL(Traces) != c.traces && e.Protocol == HTTP {
			t.Errorf("%v: got %q, %v, traces to %q", c.env, got, err, e.URL(Traces))
		}
	}
	if _, _, err := FindLogsEndpoint("", func(name string) string { return map[string]string{endpoint: "ftp://h"}[name] }); err == nil {
		t.Error("an endpoint that is none")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=all")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=traces")
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-tenant=logs")
	e, got := httpBackend(t, took)
	e.Signal, e.Path = Logs, "/v1/logs"
	sender := startSender(t, SenderConfig{Endpoint: e})
	defer sender.Close()
	encoder := NewEventEncoder("test", Limits{}, func(b Batch) {
		if _, err := sender.Send(t.Context(), b); err != nil {
			t.Error(err)
		}
	})
	encoder.Span(secretRead(nil))
	encoder.Flush()
	if a := <-got; a.tenant != "logs" || a.where != "/v1/logs" {
		t.Errorf("%+v", a)
	}
}
