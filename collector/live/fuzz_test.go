// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

const stat = "2230 (a) b (sh)) S 2229 2230 2229 34816 2230 4194304 1 0 0 0 0 0 0 0 20 0 1 0 123456 2596864 1 18446744073709551615 1 1 1\n"

func FuzzParseStart(f *testing.F) {
	f.Add([]byte(stat))
	f.Add([]byte("1 ("))
	f.Fuzz(func(t *testing.T, text []byte) {
		ticks, err := parseStart(text)
		if err != nil {
			return
		}
		// What a process calls itself stands before the last parenthesis, and decides nothing.
		end := bytes.LastIndexByte(text, ')')
		if again, err := parseStart(append([]byte("1 (x) 1 2 "), text[end:]...)); err != nil || again != ticks {
			t.Fatalf("%d, with another name %d (%v)", ticks, again, err)
		}
	})
}

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
