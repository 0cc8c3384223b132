// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func FuzzEachRecord(f *testing.F) {
	whole := append(binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, 12), "body"...)
	f.Add(append(whole, whole...))
	f.Add(whole[:10])
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, stream []byte) {
		read := 0
		err := eachRecord(bytes.NewReader(stream), func(raw []byte) error {
			if len(raw) < 8 || len(raw) > MaxRecord || !bytes.HasPrefix(stream[read:], raw) {
				t.Fatalf("%d bytes at %d", len(raw), read)
			}
			read += len(raw)
			return nil
		})
		if (err == nil) != (read == len(stream)) {
			t.Fatalf("%d of %d bytes, %v", read, len(stream), err)
		}
	})
}
