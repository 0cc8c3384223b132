// SPDX-License-Identifier: Apache-2.0

package telemetry

// Signal is one of OTLP's.
type Signal uint8

// The signals that are taken in.
const (
	Traces Signal = iota + 1
	Logs
	Metrics
)

// The paths of OTLP 1.11, over HTTP and over gRPC.
var signals = []struct {
	signal     Signal
	http, grpc string
}{
	{Traces, "/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"},
	{Logs, "/v1/logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"},
	{Metrics, "/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"},
}

// String is the name in paths, as in "traces".
func (s Signal) String() string {
	for _, k := range signals {
		if k.signal == s {
			return k.http[len("/v1/"):]
		}
	}
	return "unknown"
}

func (s Signal) httpPath() string { return "/v1/" + s.String() }

func (s Signal) grpcMethod() string {
	for _, k := range signals {
		if k.signal == s {
			return k.grpc
		}
	}
	return ""
}

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
	typeGRPC     = "application/grpc"

	encodingGzip = "gzip"
)

// message is one request.
type message struct {
	signal   Signal
	grpc     bool
	json     bool   // the sender speaks JSON
	encoding string // "" or encodingGzip: how body is compressed
	body     []byte // protobuf as received, of gRPC without its frame; of JSON the same as plain
	plain    []byte // protobuf, uncompressed; the same as body if that was not compressed
}
