// SPDX-License-Identifier: Apache-2.0

package telemetry

import "github.com/sheetbend/sheetbend/exporters/otlp/signal"

// Signal is one of OTLP's.
type Signal = signal.Signal

// The signals.
const (
	Traces  = signal.Traces
	Logs    = signal.Logs
	Metrics = signal.Metrics
)

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
