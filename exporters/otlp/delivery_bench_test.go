// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/sheetbend/sheetbend/collector/span"
)

// BenchmarkDelivery encodes and sends batches of the same 512 spans by turns with a Sender and with the SDK's exporter
// of that protocol, to a server on loopback that reads them and decodes nothing.
func BenchmarkDelivery(b *testing.B) {
	for name, start := range map[string]func(*testing.B, bool) (Endpoint, otlptrace.Client){"gRPC": nullGRPC, "HTTP": nullHTTP} {
		for _, compression := range []string{None, Gzip} {
			b.Run(name+"/"+compression, func(b *testing.B) {
				endpoint, client := start(b, compression == Gzip)
				sdk, err := otlptrace.New(b.Context(), client)
				if err != nil {
					b.Fatal(err)
				}
				defer sdk.Shutdown(context.Background())
				sender := startSender(b, SenderConfig{Endpoint: endpoint, Compression: compression})
				defer sender.Close()
				resource := &span.Resource{Attrs: []span.Attr{str("service.name", "codex")}}
				ours, theirs := make([]*span.Span, 512), make([]sdktrace.ReadOnlySpan, 512)
				for i := range ours {
					ours[i] = typicalSpan(i, resource)
					theirs[i] = ofSDK(ours[i])
				}
				e := NewEncoder("1.0.0", Limits{Spans: len(ours)}, func(batch Batch) {
					if _, err := sender.Send(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				})
				var us, them time.Duration
				for b.Loop() {
					began := time.Now()
					for _, s := range ours {
						e.Span(s)
					}
					us += time.Since(began)
					began = time.Now()
					if err := sdk.ExportSpans(b.Context(), theirs); err != nil {
						b.Fatal(err)
					}
					them += time.Since(began)
				}
				n := float64(b.N * len(ours))
				b.ReportMetric(n/us.Seconds(), "spans/s")
				b.ReportMetric(n/them.Seconds(), "spans/s-SDK")
				b.ReportMetric(them.Seconds()/us.Seconds(), "SDK/ours")
			})
		}
	}
}

func nullGRPC(b *testing.B, zip bool) (Endpoint, otlptrace.Client) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(nil); err != nil {
			return err
		}
		return stream.SendMsg(nil)
	}))
	go func() { _ = s.Serve(l) }()
	b.Cleanup(s.Stop)
	o := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(l.Addr().String()), otlptracegrpc.WithInsecure()}
	if zip {
		o = append(o, otlptracegrpc.WithCompressor(Gzip))
	}
	return plain(l.Addr().String()), otlptracegrpc.NewClient(o...)
}

func nullHTTP(b *testing.B, zip bool) (Endpoint, otlptrace.Client) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(s.Close)
	e, _, err := FindEndpoint(s.URL, HTTP, func(string) string { return "" })
	if err != nil {
		b.Fatal(err)
	}
	o := []otlptracehttp.Option{otlptracehttp.WithEndpoint(e.Target), otlptracehttp.WithInsecure()}
	if zip {
		o = append(o, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	return e, otlptracehttp.NewClient(o...)
}

// ofSDK is a span with the same content in the SDK's form.
func ofSDK(s *span.Span) sdktrace.ReadOnlySpan {
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	stub := tracetest.SpanStub{
		Name: s.Name, StartTime: at(int64(s.Start)), EndTime: at(int64(s.End)), SpanKind: trace.SpanKindInternal,
		SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(s.Trace), SpanID: trace.SpanID(s.ID)}),
		Parent:      trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(s.Trace), SpanID: trace.SpanID(s.Parent)}),
	}
	for _, a := range s.Attrs {
		switch a.Kind {
		case span.StringAttr:
			stub.Attributes = append(stub.Attributes, attribute.String(a.Key, a.Str))
		case span.BoolAttr:
			stub.Attributes = append(stub.Attributes, attribute.Bool(a.Key, a.Int != 0))
		default:
			stub.Attributes = append(stub.Attributes, attribute.Int64(a.Key, a.Int))
		}
	}
	return stub.Snapshot()
}
