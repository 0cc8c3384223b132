// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
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
		"nothing in it": {batch: otlp.Batch{Signal: otlp.Traces}},
		"logs":          {batch: otlp.Batch{Signal: otlp.Logs, Spans: 3, Resources: [][]byte{{1}, {2, 3}}}},
		"passed on":     {batch: otlp.Batch{Signal: otlp.Metrics, PassedOn: true, Spans: 1, Resources: [][]byte{{1}}}},
		"long texts":    {to: strings.Repeat("t", 10_000), reason: strings.Repeat("r", 100_000), batch: someBatch(2)},
	} {
		got, err := decodeEntry(e.encode(nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.created != e.created || got.batch.Spans != e.batch.Spans || kindOf(got.batch) != kindOf(e.batch) || !strings.HasPrefix(e.to, got.to) || !strings.HasPrefix(e.reason, got.reason) ||
			len(got.to) > maxText || len(got.reason) > maxText || !bytes.Equal(got.batch.AppendRequest(nil), e.batch.AppendRequest(nil)) {
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
	f.Add([]byte(magic + "1"))
	f.Add((&entry{batch: otlp.Batch{Signal: otlp.Metrics, PassedOn: true}}).encode(nil))
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
		for _, r := range got.batch.Resources {
			size += len(r)
		}
		if size > len(data) || len(got.to) > maxText || len(got.reason) > maxText {
			t.Fatalf("%d bytes gave %d", len(data), size)
		}
		again, err := decodeEntry(got.encode(nil))
		if err != nil || again.to != got.to || again.reason != got.reason || !bytes.Equal(again.batch.AppendRequest(nil), got.batch.AppendRequest(nil)) {
			t.Fatalf("%v: %+v, then %+v", err, got, again)
		}
	})
}

// A dead letter is a file that anybody who is root may have put there.
func FuzzDeadLetters(f *testing.F) {
	e := entry{created: 42, to: "http://b:4317", reason: "no", batch: someBatch(1)}
	f.Add("a"+deadEnd(e.to), e.encode(nil))
	f.Add("../b", []byte(magic+"1"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		dir := t.TempDir()
		file := deadFile(dir, deadName, name)
		if filepath.Dir(file) != filepath.Join(dir, deadName) {
			t.Fatalf("%q is the file %q", name, file)
		}
		if err := os.Mkdir(filepath.Join(dir, deadName), 0o700); err != nil {
			t.Fatal(err)
		}
		if os.WriteFile(file, data, 0o600) != nil {
			return // no name of a file
		}
		_, bad := decodeEntry(data)
		letters, err := DeadLetters(dir)
		if (err != nil) != (bad != nil) || (len(letters) == 1) != (bad == nil) {
			t.Fatalf("%d letters, %v, of a file of which is said %v", len(letters), err, bad)
		}
		for _, l := range letters {
			if err := Drop(dir, l.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The page outlives the process that wrote it, and may have been written by another version, or halfway.
func FuzzCrashCounters(f *testing.F) {
	words := func(w ...uint64) (b []byte) {
		for _, v := range w {
			b = binary.NativeEndian.AppendUint64(b, v)
		}
		return b
	}
	f.Add(words(crashMagic, 2, 1, 5, 1, hashed("b"), 4, 0, 10, 7))
	f.Add(words(crashMagic, 1<<63, 1, 5, 1<<62))
	f.Fuzz(func(t *testing.T, page []byte) {
		file := filepath.Join(t.TempDir(), "t.tally")
		if err := os.WriteFile(file, append(page, make([]byte, max(0, crashPageSize-len(page)))...), 0o600); err != nil {
			t.Fatal(err)
		}
		tally, left, found, err := openCrashCounters(file)
		if err != nil {
			t.Fatal(err)
		}
		defer tally.close()
		if left.n > uint64(len(left.lanes)) || !found && left.n > 0 {
			t.Fatalf("%+v", left)
		}
		*tally.next() = left
		tally.save()
		if again := tally.load(); !reflect.DeepEqual(again, left) {
			t.Fatalf("%+v, then %+v", left, again)
		}
	})
}
