// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"testing"
)

func FuzzReadFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02sx\x00\x00\x00\x0ee{\"others\":12}"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01?\x7f\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		taken := 0
		_, err := ReadFrames(bytes.NewReader(in), func(traces []byte) error {
			taken += len(traces)
			return nil
		})
		if taken > len(in) || err == nil && !bytes.Contains(in, []byte("e")) {
			t.Fatalf("%d of %d bytes, %v", taken, len(in), err)
		}
	})
}
