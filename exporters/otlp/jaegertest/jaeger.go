// SPDX-License-Identifier: Apache-2.0

// Package jaegertest runs a real Jaeger for tests and asks it what it shows. It is no part of the product.
package jaegertest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// jaegerConfig takes the addresses of OTLP/gRPC, the JSON API and the query service's own gRPC.
const jaegerConfig = `
extensions:
  jaeger_storage:
    backends:
      memory:
        memory:
          max_traces: 1000
  jaeger_query:
    storage:
      traces: memory
    http:
      endpoint: %[2]s
    grpc:
      endpoint: %[3]s
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: %[1]s
exporters:
  jaeger_storage_exporter:
    trace_storage: memory
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry:
    metrics:
      level: none
    logs:
      level: error
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [jaeger_storage_exporter]
`

// A Jaeger runs until the end of a test.
type Jaeger struct {
	OTLP string // HOST:PORT of OTLP/gRPC, without TLS
	api  string // base URL of the JSON API
}

// Start runs the Jaeger of JAEGER_BIN on free loopback ports.
func Start(t testing.TB) *Jaeger {
	t.Helper()
	bin := os.Getenv("JAEGER_BIN")
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("JAEGER_BIN does not name a Jaeger v2 binary: run `make jaeger` and set it")
		}
		t.Skip("JAEGER_BIN does not name a Jaeger v2 binary: `make jaeger` builds one")
	}
	// The ports are free for a moment only; another process may take one before Jaeger does.
	for range 3 {
		var addrs [3]string
		var listeners []net.Listener
		for i := range addrs {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addrs[i] = l.Addr().String()
			listeners = append(listeners, l)
		}
		for _, l := range listeners {
			_ = l.Close()
		}
		path := filepath.Join(t.TempDir(), "jaeger.yaml")
		if err := os.WriteFile(path, fmt.Appendf(nil, jaegerConfig, addrs[0], addrs[1], addrs[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		cmd := exec.Command(bin, "--config", path)
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(exited)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-exited
			if t.Failed() {
				t.Logf("Jaeger said:\n%s", log.String())
			}
		})
		j := &Jaeger{OTLP: addrs[0], api: "http://" + addrs[1]}
		ready := poll(t, exited, func() bool {
			_, err := get(j.api + "/api/services")
			return err == nil
		})
		if ready {
			return j
		}
	}
	t.Fatal("Jaeger did not start")
	return nil
}

// poll asks until done says so; false when stop is closed before. Jaeger gives no sign that could be waited for.
func poll(t testing.TB, stop <-chan struct{}, done func() bool) bool {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-stop:
			return false
		case <-deadline:
			t.Fatal("not within a minute")
		}
	}
	return true
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url) //nolint:gosec // of the Jaeger that was started here
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// Span is one of the answer to /api/traces/ID.
type Span struct {
	SpanID        string `json:"spanID"`
	OperationName string `json:"operationName"`
	References    []struct {
		RefType string `json:"refType"`
		TraceID string `json:"traceID"`
		SpanID  string `json:"spanID"`
	} `json:"references"`
	Duration uint64 `json:"duration"`
	Tags     []struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	} `json:"tags"`
	Warnings []string `json:"warnings"`
}

// Tag is the text of a tag, "" if there is none.
func (s *Span) Tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// Parent is the id of the span that it stands under, in hex.
func (s *Span) Parent() string {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" {
			return r.SpanID
		}
	}
	return ""
}

// Trace is what Jaeger shows of the trace once it has so many spans.
func (j *Jaeger) Trace(t testing.TB, trace [16]byte, spans int) []Span {
	t.Helper()
	return j.TraceWhen(t, trace, func(got ptrace.Traces) bool { return got.SpanCount() >= spans })
}

// TraceWhen is what Jaeger shows of the trace once enough is true of what it has.
func (j *Jaeger) TraceWhen(t testing.TB, trace [16]byte, enough func(ptrace.Traces) bool) []Span {
	t.Helper()
	j.Wait(t, trace, enough)
	body, err := get(j.api + "/api/traces/" + hex.EncodeToString(trace[:]))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data []struct {
			Spans []Span `json:"spans"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 1 {
		t.Fatalf("Jaeger shows %d traces, want 1", len(answer.Data))
	}
	return answer.Data[0].Spans
}

// Search gives the ids of the traces, in hex and sorted, that a search of the last days finds for a service: those with a
// span that has all the tags and, with longer, lasts at least so long, as in 5s.
func (j *Jaeger) Search(t testing.TB, service string, tags map[string]string, longer string) (traces []string) {
	t.Helper()
	text, err := json.Marshal(tags)
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{
		"service": {service}, "tags": {string(text)}, "limit": {"1000"},
		"start": {"0"}, "end": {strconv.FormatInt(time.Now().Add(time.Hour).UnixMicro(), 10)},
	}
	if longer != "" {
		query.Set("minDuration", longer)
	}
	body, err := get(j.api + "/api/traces?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data []struct {
			TraceID string `json:"traceID"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	for _, trace := range answer.Data {
		traces = append(traces, trace.TraceID)
	}
	slices.Sort(traces)
	return traces
}

// Wait waits until enough is true of what Jaeger has of the trace. It asks for the raw spans: for all others
// Jaeger adds its warnings to what its memory holds (GetTraces of internal/storage/v2/memory gives no copy), so a look
// at half a trace would leave warnings of missing parents for ever.
func (j *Jaeger) Wait(t testing.TB, trace [16]byte, enough func(ptrace.Traces) bool) {
	t.Helper()
	var d ptrace.JSONUnmarshaler
	poll(t, nil, func() bool {
		body, err := get(j.api + "/api/v3/traces/" + hex.EncodeToString(trace[:]) + "?raw_traces=true")
		if err != nil {
			return false // none of it is there yet
		}
		var answer struct {
			Result json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		got, err := d.UnmarshalTraces(answer.Result)
		if err != nil {
			t.Fatal(err)
		}
		return enough(got)
	})
}
