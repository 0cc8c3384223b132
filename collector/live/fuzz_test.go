// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

func FuzzScanArgs(f *testing.F) {
	f.Add([]byte("sh\x00-c\x00echo\x00"))
	f.Add([]byte("title without an end"))
	f.Add(bytes.Repeat([]byte("a\x00"), record.MaxCmdline))
	f.Fuzz(func(t *testing.T, text []byte) {
		args, argc, err := scanArgs(bytes.NewReader(text))
		if err != nil || len(args) > record.MaxCmdline || !bytes.HasPrefix(text, args) || int(argc) > bytes.Count(text, []byte{0})+1 {
			t.Fatalf("%d bytes, %d arguments, %v", len(args), argc, err)
		}
		var e record.Event
		if err := e.Decode(record.AppendCmdline(nil, record.Header{}, argc, args)); err != nil {
			t.Fatal(err)
		}
	})
}
