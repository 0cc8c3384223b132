// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
)

func TestWhatIsAcceptedIsForwardedInTheSameBytesWhateverItCameIn(t *testing.T) {
	b := newBehind()
	i, _ := intake(t, Options{Forward: b.take})
	again := func(r interface{ UnmarshalProto([]byte) error }, got []byte) exportRequest {
		if err := r.UnmarshalProto(got); err != nil {
			t.Error(err)
		}
		out, _ := r.(exportRequest)
		return out
	}
	for _, c := range []struct {
		signal Signal
		is     exportRequest
		empty  interface{ UnmarshalProto([]byte) error }
	}{
		{Logs, logsOf("claude-code", "tool_result", "tool_use_id", "c"), plogotlp.NewExportRequest()},
		{Traces, tracesOf("x", "y", "k", "v"), ptraceotlp.NewExportRequest()},
		{Metrics, metricsRequest(), pmetricotlp.NewExportRequest()},
	} {
		// A field that OTLP does not know has to arrive, too.
		want := append(asProtobuf(t, c.is), 0xfa, 0x07, 1, 'x')
		for _, sent := range []struct {
			header map[string]string
			body   []byte
		}{
			{map[string]string{"Content-Type": typeProtobuf, "Authorization": "Bearer agent"}, want},
			{map[string]string{"Content-Type": typeProtobuf, "Content-Encoding": "gzip"}, zipped(t, want)},
		} {
			if code, _ := post(t, i.url(c.signal), sent.header, sent.body); code != 200 {
				t.Fatalf("answer %d", code)
			}
			if f := b.next(t); f.signal != c.signal || !bytes.Equal(f.body, want) {
				t.Errorf("%s: %q\nwant %q", f.signal, f.body, want)
			}
		}
		post(t, i.url(c.signal), map[string]string{"Content-Type": typeJSON}, asJSON(t, c.is))
		if f := b.next(t); f.signal != c.signal || !bytes.Equal(asProtobuf(t, again(c.empty, f.body)), asProtobuf(t, c.is)) {
			t.Errorf("JSON %s: %q", f.signal, f.body)
		}
	}
}

func TestWhatCameOverGRPCIsForwardedUncompressed(t *testing.T) {
	b := newBehind()
	i, _ := intake(t, Options{Forward: b.take})
	for _, compressor := range []string{"", "gzip"} {
		o := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(i.Addr().String())}
		if compressor != "" {
			o = append(o, otlptracegrpc.WithCompressor(compressor))
		}
		sdkSpan(t, o...)
		r := ptraceotlp.NewExportRequest()
		if f := b.next(t); f.signal != Traces || r.UnmarshalProto(f.body) != nil || r.Traces().SpanCount() != 1 {
			t.Errorf("%q: %s %q", compressor, f.signal, f.body)
		}
	}
}

func TestAMessageOfVeryManyObjectsIsNotWrittenAnew(t *testing.T) {
	b := []byte(`{"resourceSpans":[` + strings.TrimSuffix(strings.Repeat("{},", maxObjects), ",") + `]}`)
	if _, err := toProtobuf(Traces, b); err == nil {
		t.Error("it was")
	}
}
