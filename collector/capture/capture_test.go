// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

var update = flag.Bool("update", false, "write the capture of today's version in testdata anew")

func header() Header {
	return Header{Sensor: "1.2.3", Config: collector.Config{
		BootID:    "b",
		Resource:  []span.Attr{{Key: "host.name", Kind: span.StringAttr, Str: "h"}, {Key: "n", Kind: span.IntAttr, Int: 3}},
		Sandboxes: []collector.Selector{{Cgroup: "/agents/*", Session: "s", Agent: "a"}},
		Sensitive: []string{},
	}}
}

func write(t testing.TB, records ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, header())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCaptureIsReadBack(t *testing.T) {
	records := [][]byte{[]byte("one"), {}, rt.Record(record.Header{}, record.ExecArgs{Args: make([]byte, MaxRecord-56)})}
	for _, sample := range rt.Samples() {
		records = append(records, sample.Raw)
	}
	plain := write(t, records...)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(plain)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{plain, packed.Bytes()} {
		readBack(t, text, records)
	}
	r, err := NewReader(bytes.NewReader(packed.Bytes()[:packed.Len()-100]))
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("packed and cut: %v", err)
	}
}

func readBack(t *testing.T, text []byte, records [][]byte) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := header()
	want.Config = want.Config.WithDefaults()
	if !reflect.DeepEqual(r.Header(), want) {
		t.Errorf("header %+v, want %+v", r.Header(), want)
	}
	for _, record := range records {
		got, err := r.Next()
		if err != nil || !bytes.Equal(got, record) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(record))
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestEveryCutOfACaptureIsTold(t *testing.T) {
	whole := write(t, []byte("one"), []byte("two"))
	frames := len(whole) - 14
	for n := range whole {
		r, err := NewReader(bytes.NewReader(whole[:n]))
		if n < frames {
			if !errors.Is(err, ErrNoHeader) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		read := 0
		for err == nil {
			if _, err = r.Next(); err == nil {
				read++
			}
		}
		if clean := (n-frames)%7 == 0; clean != errors.Is(err, io.EOF) || clean == errors.Is(err, ErrTruncated) || read != (n-frames)/7 {
			t.Errorf("cut to %d bytes: %d records, then %v", n, read, err)
		}
	}
}

func TestWhatIsNoCapture(t *testing.T) {
	for name, s := range map[string]string{
		"something else":           "#!/bin/sh\necho\n",
		"no version":               magic + "\n{}\n",
		"version 0":                magic + "0\n{}\n",
		"a version that is none":   magic + "-1\n{}\n",
		"an endless version":       magic + strings.Repeat("1", maxHeader),
		"a header that is no JSON": magic + "1\nx\n",
		"an unknown setting":       magic + "1\n" + `{"config":{"unknown":1}}` + "\n",
		"an endless header":        magic + "1\n" + strings.Repeat("x", maxHeader+1),
	} {
		if _, err := NewReader(strings.NewReader(s)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	huge := append(write(t), binary.LittleEndian.AppendUint32(nil, MaxRecord+1)...)
	r, err := NewReader(bytes.NewReader(huge))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, ErrFormat) {
		t.Errorf("a huge record: %v", err)
	}
}

func TestACaptureOfALaterVersionIsRefused(t *testing.T) {
	later := fmt.Sprintf("%s%d\n{\"what\":\"is new\"}\n", magic, record.Layout+1)
	if _, err := NewReader(strings.NewReader(later)); !errors.Is(err, ErrLayout) || !strings.Contains(err.Error(), "or a later one") {
		t.Errorf("%v", err)
	}
}

// A capture of each version that there was is in testdata, with one record of each kind that there was then. They are
// read as what is in them. Who changes the layout of an existing record raises record.Layout, writes a package that reads
// the earlier one, and runs go test ./collector/capture -update; for a kind that is only added, -update alone is enough.
func TestCapturesOfEveryVersionAreRead(t *testing.T) {
	samples := map[record.Type]rt.Sample{}
	var raws [][]byte
	for _, s := range rt.Samples() {
		samples[s.Header.Type] = s
		raws = append(raws, s.Raw)
	}
	path := func(layout int) string { return filepath.Join("testdata", strconv.Itoa(layout)+".capture") }
	if *update {
		if err := os.WriteFile(path(record.Layout), write(t, raws...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for layout := 1; layout <= record.Layout; layout++ {
		b, err := os.ReadFile(path(layout))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if h := r.Header(); h.Sensor != "1.2.3" || h.Config.BootID != "b" || len(h.Config.Sandboxes) != 1 {
			t.Errorf("version %d: header %+v", layout, h)
		}
		read := map[record.Type]bool{}
		for {
			raw, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("version %d: %v", layout, err)
			}
			want, ok := samples[record.TypeOf(raw)]
			if !ok {
				t.Errorf("version %d: there is no sample of %s any more", layout, record.TypeOf(raw))
				continue
			}
			read[want.Header.Type] = true
			if layout < 4 {
				want = asOfLayout3(want)
			}
			if layout == record.Layout && !bytes.Equal(raw, want.Raw) {
				t.Errorf("%s is not as in the capture of its layout: an existing record that changes needs a new record.Layout",
					want.Header.Type)
			}
			var e record.Event
			if err := e.Decode(raw); err != nil {
				t.Errorf("version %d: %s: %v", layout, want.Header.Type, err)
			}
			if e.Header != want.Header || !reflect.DeepEqual(rt.Body(&e, want.Body), want.Body) {
				t.Errorf("version %d: %+v %+v, want %+v %+v", layout, e.Header, rt.Body(&e, want.Body), want.Header, want.Body)
			}
		}
		for _, kind := range record.Types() {
			if layout == record.Layout && !read[kind] {
				t.Errorf("%s is not in the capture of today's layout: for a kind that was only added, run this test with -update", kind)
			}
		}
	}
}

// asOfLayout3 takes out of a sample what layout 3 did not have.
func asOfLayout3(s rt.Sample) rt.Sample {
	switch body := s.Body.(type) {
	case record.Access:
		body.Signal = 0
		s.Body = body
	case record.Change:
		s.Header.Size -= uint32(len(body.Text))
		body.Before, body.After, body.Nlink, body.Mode, body.Text = 0, 0, 0, 0, []byte{}
		s.Body = body
	}
	return s
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestWriteErrorsStay(t *testing.T) {
	if _, err := NewWriter(&failing{}, header()); err == nil {
		t.Error("the header's error was not told")
	}
	w, err := NewWriter(&failing{after: 100_000}, header())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Record(make([]byte, MaxRecord+1)); err == nil {
		t.Error("a record that is too long was taken")
	}
	for range 3 {
		_ = w.Record(make([]byte, 300_000))
	}
	if w.Record(nil) == nil || w.Flush() == nil {
		t.Error("the error was forgotten")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, []byte("one"), []byte("two")))
	f.Add([]byte(magic + "1\n{}\n\x01\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		for err == nil {
			var record []byte
			if record, err = r.Next(); len(record) > MaxRecord {
				t.Fatalf("%d bytes", len(record))
			}
		}
	})
}
