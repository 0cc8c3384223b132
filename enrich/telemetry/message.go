// SPDX-License-Identifier: Apache-2.0

package telemetry

// Signal is one of OTLP's.
type Signal uint8

// The signals that are received.
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
func (s Signal) String() string { return signals[s].http }

func (s Signal) httpPath() string { return "/v1/" + signals[s].http }

func (s Signal) grpcMethod() string {
	return "/opentelemetry.proto.collector." + signals[s].grpc + "/Export"
}

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
	typeGRPC     = "application/grpc"

	encodingGzip = "gzip"
)

// message is one request.
type message struct {
	signal Signal
	grpc   bool
	json   bool   // the sender speaks JSON
	plain  []byte // protobuf, uncompressed
}
