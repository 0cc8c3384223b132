// SPDX-License-Identifier: Apache-2.0

package layout1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

// samples are the records of a capture of version 1, one of each kind, in layout 1.
func samples(t testing.TB) (raws [][]byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "capture", "testdata", "1.capture"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b)
		raws = append(raws, b[4:4+n])
		b = b[4+n:]
	}
	return raws
}

func TestWhatIsMalformedStaysSo(t *testing.T) {
	malformed := func(what string, raw []byte) {
		t.Helper()
		var e record.Event
		err := e.Decode(Append(nil, raw))
		if !errors.Is(err, record.ErrMalformed) || len(raw) >= headerSize && e.Header.Type != record.TypeOf(raw) {
			t.Fatalf("%s: %s, %v", what, e.Header.Type, err)
		}
	}
	for _, raw := range samples(t) {
		for n := range raw {
			malformed("cut", raw[:n])
			said := bytes.Clone(raw)
			binary.LittleEndian.PutUint32(said[sizeAt:], uint32(n))
			malformed("cut by its own size", said)
		}
		raw = bytes.Clone(raw)
		raw[typeAt] = 99
		malformed("unknown", raw)
	}
}

func FuzzAppend(f *testing.F) {
	for _, raw := range samples(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := Append([]byte("before"), raw)
		rest, kept := bytes.CutPrefix(out, []byte("before"))
		if !kept || len(rest) > len(raw) {
			t.Fatalf("%d bytes of %d", len(out), len(raw))
		}
		var e record.Event
		_ = e.Decode(rest)
		if len(raw) >= headerSize && e.Header.Type != record.TypeOf(raw) {
			t.Fatalf("%s became %s", record.TypeOf(raw), e.Header.Type)
		}
	})
}
