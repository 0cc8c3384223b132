// SPDX-License-Identifier: Apache-2.0

// Package signal names what OTLP carries.
package signal

// Signal is one of OTLP's.
type Signal uint8

// The signals.
const (
	Traces Signal = iota + 1
	Logs
	Metrics
)

// The names of OTLP 1.11, in paths over HTTP and over gRPC.
var signals = [...]struct{ http, grpc string }{
	Traces:  {"traces", "trace.v1.TraceService"},
	Logs:    {"logs", "logs.v1.LogsService"},
	Metrics: {"metrics", "metrics.v1.MetricsService"},
}

// String is the name in paths, as in "traces".
func (s Signal) String() string {
	if int(s) >= len(signals) {
		return ""
	}
	return signals[s].http
}

// Path is where an OTLP/HTTP server takes the signal, below its base URL.
func (s Signal) Path() string { return "/v1/" + s.String() }

// Method is the signal's export method of an OTLP/gRPC server.
func (s Signal) Method() string {
	return "/opentelemetry.proto.collector." + signals[s].grpc + "/Export"
}
