// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sheetbend/sheetbend/collector/proc"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/socket"
)

// sdkSpan sends one span as a program with the OpenTelemetry SDK does, and returns its ids.
func sdkSpan(t *testing.T, o ...otlptracegrpc.Option) (trace [16]byte, span [8]byte) {
	t.Helper()
	exporter, err := otlptracegrpc.New(t.Context(), append(o, otlptracegrpc.WithInsecure())...)
	if err != nil {
		t.Fatal(err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String(keyService, "claude-code"))))
	_, s := p.Tracer("t").Start(t.Context(), "claude_code.tool.execution")
	s.SetAttributes(attribute.String("session.id", "s"), attribute.String("gen_ai.tool.call.id", "toolu_1"))
	s.End()
	if err := p.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.SpanContext().TraceID(), s.SpanContext().SpanID()
}

func TestTheSDKsGRPCClientIsServedOnTCPAndUnixSocketsWithAndWithoutCompression(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "intake.sock")
	i, h := intake(t, Options{Listen: "127.0.0.1:0", Unix: socket, Find: ownHolder})
	for _, c := range []struct {
		name     string
		endpoint string
		gzip     bool
		sender   bool
	}{
		{"TCP", i.Addr().String(), false, true},
		{"TCP, gzip", i.Addr().String(), true, true},
		{"unix", "unix:" + socket, false, true},
		{"unix, gzip", "unix:" + socket, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(h.all())
			o := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.endpoint)}
			if c.gzip {
				o = append(o, otlptracegrpc.WithCompressor("gzip"))
			}
			trace, span := sdkSpan(t, o...)
			// The answer comes after the facts: nothing has to be waited for.
			got := h.all()[before:]
			want := record.Said{Kind: record.SaidContext, Trace: trace, Span: span, TraceFlags: 1, Agent: "claude-code", Session: "s", Call: "toolu_1"}
			if len(got) != 1 || got[0] != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			from := h.senders[before]
			own, err := proc.Start("/proc", uint32(os.Getpid()))
			sender := Sender{}
			if c.sender {
				sender = Sender{uint32(os.Getpid()), own, uint32(os.Geteuid())}
			}
			if err != nil || from != sender {
				t.Errorf("sender %+v", from)
			}
		})
	}
	if s := i.Stats(); s.Requests != 4 || s.Facts != 4 || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
}

func TestHTTPIsServedInBothForms(t *testing.T) {
	i, h := intake(t, Options{})
	r := logsOf("claude-code", "tool_result", "session.id", "s", "tool_use_id", "c", "success", true)
	for _, c := range []struct {
		name   string
		header map[string]string
		body   []byte
		answer string
	}{
		{"protobuf", map[string]string{"Content-Type": typeProtobuf}, asProtobuf(t, r), ""},
		{"protobuf, gzip", map[string]string{"Content-Type": typeProtobuf, "Content-Encoding": "gzip"}, zipped(t, asProtobuf(t, r)), ""},
		{"JSON", map[string]string{"Content-Type": "application/json; charset=utf-8"}, asJSON(t, r), "{}"},
		{"JSON, gzip", map[string]string{"Content-Type": typeJSON, "Content-Encoding": "GZIP"}, zipped(t, asJSON(t, r)), "{}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(h.all())
			if code, answer := post(t, i.url(Logs), c.header, c.body); code != 200 || answer != c.answer {
				t.Errorf("answer %d %q", code, answer)
			}
			if got := h.all()[before:]; len(got) != 1 || got[0].Call != "c" || got[0].Success != record.SuccessOK {
				t.Errorf("%+v", got)
			}
		})
	}
	// The body of an HTTP request may be an empty message.
	if code, _ := post(t, i.url(Metrics), map[string]string{"Content-Type": typeProtobuf}, nil); code != 200 {
		t.Errorf("an empty request is answered %d", code)
	}
}

func TestLogsAndMetricsOverGRPCAreServed(t *testing.T) {
	i, h := intake(t, Options{})
	cc, err := grpc.NewClient(i.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if _, err := plogotlp.NewGRPCClient(cc).Export(t.Context(), logsOf("claude-code", "tool_result", "tool_use_id", "c")); err != nil {
		t.Error(err)
	}
	if _, err := pmetricotlp.NewGRPCClient(cc).Export(t.Context(), metricsRequest()); err != nil {
		t.Error(err)
	}
	if got := h.all(); len(got) != 1 || got[0].Call != "c" {
		t.Errorf("%+v", got)
	}
}

func metricsRequest() pmetricotlp.ExportRequest {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr(keyService, "claude-code")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("tokens")
	m.SetEmptySum().DataPoints().AppendEmpty().SetIntValue(1 << 60)
	return pmetricotlp.NewExportRequestFromMetrics(md)
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOnlyLoopbackIsListenedOnUnlessTold(t *testing.T) {
	for addr, says := range map[string]string{
		"0.0.0.0:0":       "other hosts",
		":4318":           "other hosts",
		"[::]:0":          "other hosts",
		"192.0.2.1:4318":  "other hosts",
		"example.com:1":   "IP address",
		"127.0.0.1":       "HOST:PORT",
		"127.0.0.1:70000": "listen",
	} {
		if _, err := Listen(Options{Listen: addr}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := Listen(Options{}); err == nil {
		t.Error("nothing to listen on is no error")
	}
	i, _ := intake(t, Options{Listen: "0.0.0.0:0", Expose: true})
	if _, err := Listen(Options{Listen: i.Addr().String(), Expose: true}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a taken port: %v", err)
	}
	intake(t, Options{Listen: "localhost:0"})
}

func TestASocketThatAKilledSensorLeftIsReplacedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Unix: file}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	path := filepath.Join(dir, "new", "intake.sock")
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Unix: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a served socket: %v", err)
	}
	_ = l.UnixListener.Close() // as if killed
	intake(t, Options{Unix: path})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
}

func TestCloseWaitsForRequestsThatAreUnderWay(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	i, err := Listen(Options{
		Listen: "127.0.0.1:0", Dialects: agents.Builtin(),
		Said: func(record.Said, Sender) { close(begun); <-release },
	})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		code, _ := post(t, i.url(Logs), map[string]string{"Content-Type": typeProtobuf}, asProtobuf(t, logsOf("claude-code", "tool_result", "tool_use_id", "c")))
		answered <- code
	}()
	<-begun
	closed := make(chan error, 1)
	go func() { closed <- i.Close(context.Background()) }()
	select {
	case <-closed:
		t.Error("closed with a request under way")
	case <-answered:
		t.Error("answered before it was read")
	default:
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if code := <-answered; code != 200 {
		t.Errorf("answer %d", code)
	}
	if i.enter() {
		t.Error("requests are taken after the end")
	}
}
