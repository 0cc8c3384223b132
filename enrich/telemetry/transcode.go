// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

const (
	// maxDepth bounds nesting: OTLP's own is 9, and values may nest below that.
	maxDepth = 100
	// maxObjects bounds what a message becomes in memory while it is written anew: some 100 MB at worst. 8 MiB of
	// real telemetry have less than 200,000 objects.
	maxObjects = 1 << 18
)

// toProtobuf writes a JSON request as protobuf: what reads it, here and behind, reads the same. Fields that OTLP
// does not know are left out. An error wraps errMalformed.
func toProtobuf(s Signal, b []byte) (out []byte, err error) {
	// Anybody can send anything, and the library's reader of JSON is large: a mistake in it costs the message, not
	// the sensor.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("%w: read %s in JSON: %v", errMalformed, s, p)
		}
	}()
	if !shallow(b) {
		return nil, fmt.Errorf("%w: JSON that nests too deep, or has too many objects", errMalformed)
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
		return nil, fmt.Errorf("%w: read %s in JSON: %w", errMalformed, s, err)
	}
	return request.MarshalProto()
}

// shallow reports whether there are no more than maxObjects objects and lists, and no value nests deeper than maxDepth.
func shallow(b []byte) bool {
	depth, objects := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth, objects = depth+1, objects+1; depth > maxDepth || objects > maxObjects {
				return false
			}
		case '}', ']':
			depth--
		}
	}
	return true
}
