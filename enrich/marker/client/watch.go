// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The frames that follow the answer to OpWatch. Before each is its length (four bytes, big endian), its first byte
// says what it is. Others are to be skipped.
const (
	FrameSpans = 's' // a TracesData message of OTLP
	FrameEnd   = 'e' // the last one: a WatchEnd as JSON
)

// MaxFrame bounds a frame in bytes.
const MaxFrame = 1 << 20

// WatchEnd is what there is to say of a watch at its end.
type WatchEnd struct {
	Dropped uint64 `json:"dropped,omitempty"` // spans that were not sent, as the client read too slowly
	Others  uint64 `json:"others,omitempty"`  // programs that ran as other users, of which no span was sent
	Running bool   `json:"running,omitempty"` // something that the command started still runs
}

// ReadFrames hands over the spans of each frame, valid until the next, until the last frame. Any other end is an error.
func ReadFrames(r io.Reader, take func(traces []byte) error) (end WatchEnd, err error) {
	var head [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return end, fmt.Errorf("read what the sensor sees: it was cut off: %w", noEOF(err))
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > MaxFrame {
			return end, errors.New("read what the sensor sees: it sends what is no frame")
		}
		if cap(buf) < int(n) {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return end, fmt.Errorf("read what the sensor sees: it was cut off: %w", noEOF(err))
		}
		switch {
		case n == 0:
		case buf[0] == FrameSpans:
			if err := take(buf[1:]); err != nil {
				return end, err
			}
		case buf[0] == FrameEnd:
			err := json.Unmarshal(buf[1:], &end)
			return end, err
		}
	}
}
