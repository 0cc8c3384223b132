// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// maxObjects bounds what a message becomes in memory while it is written anew: some 100 MB at worst, in
// each of the senders. 8 MiB of real telemetry have less than 200,000 objects.
const maxObjects = 1 << 18

var errObjects = errors.New("too many objects in a JSON message")

// toProtobuf writes a JSON request that walkJSON has passed as protobuf. Fields that OTLP does not know are left out.
func toProtobuf(s Signal, b []byte) (out []byte, err error) {
	// Anybody can send anything, and the library's reader of JSON is large: a mistake in it costs the message, not the sensor.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("read %s in JSON: %v", s, p)
		}
	}()
	if bytes.Count(b, []byte("{")) > maxObjects {
		return nil, errObjects
	}
	var request interface {
		UnmarshalJSON([]byte) error
		MarshalProto() ([]byte, error)
	}
	switch s {
	case Traces:
		request = ptraceotlp.NewExportRequest()
	case Logs:
		request = plogotlp.NewExportRequest()
	default:
		request = pmetricotlp.NewExportRequest()
	}
	if err := request.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("read %s in JSON: %w", s, err)
	}
	out, err = request.MarshalProto()
	if err != nil {
		return nil, fmt.Errorf("write %s as protobuf: %w", s, err)
	}
	return out, nil
}
