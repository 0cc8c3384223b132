// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

func TestProtobufThatCameOverHTTPGoesOutOverHTTPByteForByte(t *testing.T) {
	b := newBackend(t)
	f := forwarder(t, Backend{HTTP: b.http + "/", GRPC: b.grpc, Headers: map[string]string{"X-Key": "k"}, UserAgent: "sheetbend/1"})
	i, _ := intake(t, Options{Forward: f})
	logs := logsOf("claude-code", "tool_result", "tool_use_id", "c")
	// A field that OTLP does not know has to arrive, too.
	odd := append(asProtobuf(t, logs), 0xfa, 0x07, 1, 'x')
	for _, c := range []struct {
		sig    Signal
		header map[string]string
		body   []byte
	}{
		{Logs, map[string]string{"Content-Type": typeProtobuf}, odd},
		{Logs, map[string]string{"Content-Type": typeProtobuf, "Content-Encoding": "gzip"}, zipped(t, asProtobuf(t, logs))},
		{Traces, map[string]string{"Content-Type": typeProtobuf, "Authorization": "Bearer agent"}, asProtobuf(t, tracesOf("somebody", "x"))},
		{Metrics, map[string]string{"Content-Type": typeProtobuf}, asProtobuf(t, metricsRequest())},
	} {
		if code, _ := post(t, i.url(c.sig), c.header, c.body); code != 200 {
			t.Fatalf("answer %d", code)
		}
		d := b.next(t)
		if d.path != c.sig.httpPath() || !bytes.Equal(d.body, c.body) || d.header.Get("Content-Type") != c.header["Content-Type"] ||
			d.header.Get("Content-Encoding") != c.header["Content-Encoding"] {
			t.Errorf("%s %v: %q\nwant %q", d.path, d.header, d.body, c.body)
		}
		if d.header.Get("Authorization") != "" || d.header.Get("X-Key") != "k" || d.header.Get("User-Agent") != "sheetbend/1" {
			t.Errorf("headers %v", d.header)
		}
	}
	flush(t, f)
	if s := f.Stats(); s.Sent != 4 || s.Dropped() != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatCameOverGRPCGoesOutOverGRPCInTheSameBytes(t *testing.T) {
	b := newBackend(t)
	f := forwarder(t, Backend{HTTP: b.http, GRPC: b.grpc, Headers: map[string]string{"X-Key": "k"}})
	direct := newBackend(t)
	i, _ := intake(t, Options{Forward: f})
	for _, compressor := range []string{"", "gzip"} {
		// The same exporter, once straight to a backend: what it sends apart from ids and times.
		for _, endpoint := range []string{direct.grpc, i.Addr().String()} {
			o := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(endpoint)}
			if compressor != "" {
				o = append(o, otlptracegrpc.WithCompressor(compressor))
			}
			sdkSpan(t, o...)
		}
		d, want := b.next(t), direct.next(t)
		if d.path != Traces.grpcMethod() || len(d.body) != len(want.body) || metadata.MD(d.header).Get("x-key")[0] != "k" {
			t.Errorf("%q: %s %v: %d bytes, want %d", compressor, d.path, d.header, len(d.body), len(want.body))
		}
	}
	flush(t, f)
}

func TestWithOneBackendOnlyEverythingGoesThere(t *testing.T) {
	logs, traces, metrics := logsOf("x", "y"), tracesOf("x", "y", "k", "v"), metricsRequest()
	for _, c := range []struct {
		name string
		b    func(*backend) Backend
		path func(Signal) string
	}{
		{"gRPC", func(b *backend) Backend { return Backend{GRPC: b.grpc} }, Signal.grpcMethod},
		{"HTTP", func(b *backend) Backend { return Backend{HTTP: b.http} }, Signal.httpPath},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBackend(t)
			f := forwarder(t, c.b(b))
			i, _ := intake(t, Options{Forward: f})
			isProtobuf, isJSON := map[string]string{"Content-Type": typeProtobuf}, map[string]string{"Content-Type": typeJSON}
			for _, one := range []struct {
				sig       Signal
				protobuf  []byte
				json      []byte
				sameBytes func([]byte) bool
			}{
				{Logs, asProtobuf(t, logs), asJSON(t, logs), func(got []byte) bool {
					r := plogotlp.NewExportRequest()
					return r.UnmarshalProto(got) == nil && bytes.Equal(asProtobuf(t, r), asProtobuf(t, logs))
				}},
				{Traces, asProtobuf(t, traces), asJSON(t, traces), func(got []byte) bool {
					r := ptraceotlp.NewExportRequest()
					return r.UnmarshalProto(got) == nil && bytes.Equal(asProtobuf(t, r), asProtobuf(t, traces))
				}},
				{Metrics, asProtobuf(t, metrics), asJSON(t, metrics), func(got []byte) bool {
					r := pmetricotlp.NewExportRequest()
					return r.UnmarshalProto(got) == nil && bytes.Equal(asProtobuf(t, r), asProtobuf(t, metrics))
				}},
			} {
				post(t, i.url(one.sig), isProtobuf, one.protobuf)
				if d := b.next(t); d.path != c.path(one.sig) || !bytes.Equal(d.body, one.protobuf) {
					t.Errorf("protobuf %s: %s %q", one.sig, d.path, d.body)
				}
				post(t, i.url(one.sig), isJSON, one.json)
				d := b.next(t)
				if d.path != c.path(one.sig) {
					t.Errorf("JSON %s: %s", one.sig, d.path)
				}
				if c.name == "HTTP" && d.header.Get("Content-Type") != typeProtobuf || !one.sameBytes(d.body) {
					t.Errorf("JSON %s: %q", one.sig, d.body)
				}
			}
			if c.name == "HTTP" { // what came over gRPC
				sdkSpan(t, otlptracegrpc.WithEndpoint(i.Addr().String()))
				if d := b.next(t); d.path != "/v1/traces" || d.header.Get("Content-Type") != typeProtobuf {
					t.Errorf("%s %v", d.path, d.header)
				}
			}
			flush(t, f)
		})
	}
}

func TestRefusedMessagesAreTriedAgainUnlessForGood(t *testing.T) {
	for _, c := range []struct {
		name       string
		b          func(*backend) Backend
		later, bad int
		unknown    int
	}{
		{"HTTP", func(b *backend) Backend { return Backend{HTTP: b.http} }, http.StatusServiceUnavailable, http.StatusBadRequest, http.StatusNotFound},
		{"gRPC", func(b *backend) Backend { return Backend{GRPC: b.grpc} }, int(codes.Unavailable), int(codes.InvalidArgument), int(codes.Unimplemented)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBackend(t)
			o := c.b(b)
			o.retryWait = time.Millisecond
			f := forwarder(t, o)
			b.refuse <- c.later
			b.refuse <- c.later
			f.offer(&message{signal: Traces, body: []byte{}, plain: []byte{}})
			for range 3 {
				b.next(t)
			}
			until(t, "the message", func() bool { return f.Stats().Sent == 1 })
			b.refuse <- c.bad
			f.offer(&message{signal: Traces, body: []byte{}, plain: []byte{}})
			b.next(t)
			until(t, "the message", func() bool { return f.Stats().Failed == 1 })
			b.refuse <- c.unknown
			f.offer(&message{signal: Metrics, body: []byte{}, plain: []byte{}})
			b.next(t)
			until(t, "the message", func() bool { return f.Stats().Unsupported == 1 })
			flush(t, f)
			f.offer(&message{signal: Traces})
			if s := f.Stats(); s.Shutdown != 1 || len(b.got) != 0 {
				t.Errorf("after the end: %+v, %d more requests", s, len(b.got))
			}
		})
	}
}

func TestWhileTheBackendIsAwayTheOldestIsDropped(t *testing.T) {
	l := listenLocal(t)
	addr := l.Addr().String()
	_ = l.Close() // refused from now on
	f := forwarder(t, Backend{HTTP: "http://" + addr, QueueBytes: 64 << 10})
	const offered = 200
	for range offered {
		f.offer(&message{signal: Logs, body: make([]byte, 1000), plain: make([]byte, 1000)})
	}
	s := f.Stats()
	f.mu.Lock()
	held := f.bytes
	f.mu.Unlock()
	if s.QueueFull+s.Waiting != offered || s.QueueFull == 0 || held > 64<<10 {
		t.Errorf("%+v, %d bytes", s, held)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestAForwarderNeedsAUsableBackend(t *testing.T) {
	for _, b := range []Backend{{}, {HTTP: "127.0.0.1:4318"}, {HTTP: "ftp://x"}, {HTTP: "http://user:secret@x"}, {HTTP: "http://"}} {
		if _, err := NewForwarder(b); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

func TestAMessageOfVeryManyObjectsIsNotWrittenAnew(t *testing.T) {
	b := []byte(`{"resourceSpans":[` + strings.TrimSuffix(strings.Repeat("{},", maxObjects), ",") + `]}`)
	if _, err := toProtobuf(Traces, b); err == nil {
		t.Error("it was")
	}
}
