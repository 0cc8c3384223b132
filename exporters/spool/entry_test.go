// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

func someBatch(n int) (b otlp.Batch) {
	e := otlp.NewEncoder("test", otlp.Limits{Spans: n}, func(x otlp.Batch) { b = x })
	for i := range n {
		e.Span(numbered(i))
	}
	return b
}

func TestAnEntryComesBackAsItWas(t *testing.T) {
	for name, e := range map[string]entry{
		"a batch":       {created: 42, batch: someBatch(10)},
		"a dead letter": {created: -1, to: "http://b:4317", reason: "no such tenant (InvalidArgument)", batch: someBatch(1)},
		"nothing in it": {},
		"long texts":    {to: strings.Repeat("t", 10_000), reason: strings.Repeat("r", 100_000), batch: someBatch(2)},
	} {
		got, err := decodeEntry(e.encode(nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.created != e.created || got.batch.Spans != e.batch.Spans || !strings.HasPrefix(e.to, got.to) || !strings.HasPrefix(e.reason, got.reason) ||
			len(got.to) > maxText || len(got.reason) > maxText || !bytes.Equal(got.batch.AppendTracesData(nil), e.batch.AppendTracesData(nil)) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestEachChangedBitOfAnEntryIsNoticed(t *testing.T) {
	e := entry{created: 42, to: "b", reason: "r", batch: someBatch(1)}
	good := e.encode(nil)
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if _, err := decodeEntry(bad); err == nil {
				t.Fatalf("bit %d of byte %d", bit, i)
			}
		}
	}
	for n := range good {
		if _, err := decodeEntry(good[:n]); err == nil {
			t.Fatalf("cut to %d bytes", n)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := entry{created: 42, to: "http://b:4317", reason: "no", batch: someBatch(3)}
	f.Add(e.encode(nil))
	f.Add([]byte(magic))
	f.Add((&entry{}).encode(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, headErr := decodeHead(data)
		// The checksum keeps a fuzzer out: what it would find behind it is tried with the right one.
		if headErr == nil {
			data = append([]byte(nil), data...)
			seal(data)
		}
		got, err := decodeEntry(data)
		if err != nil {
			return
		}
		if headErr != nil {
			t.Fatal("an entry without a head")
		}
		size := 0
		for _, r := range got.batch.ResourceSpans {
			size += len(r)
		}
		if size > len(data) || len(got.to) > maxText || len(got.reason) > maxText {
			t.Fatalf("%d bytes gave %d", len(data), size)
		}
		again, err := decodeEntry(got.encode(nil))
		if err != nil || again.to != got.to || again.reason != got.reason || !bytes.Equal(again.batch.AppendTracesData(nil), got.batch.AppendTracesData(nil)) {
			t.Fatalf("%v: %+v, then %+v", err, got, again)
		}
	})
}
