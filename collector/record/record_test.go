// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

func header(t record.Type) record.Header {
	return record.Header{Type: t, Flags: 2, Time: 4, Cgroup: 5, Start: 6, ExecID: 7, Tgid: 8, Tid: 9}
}

func TestEveryRecordIsReadBack(t *testing.T) {
	missing := map[record.Type]bool{}
	for _, n := range record.Types() {
		missing[n] = true
	}
	for _, sample := range rt.Samples() {
		delete(missing, sample.Header.Type)
		var e record.Event
		if err := e.Decode(append(slices.Clone(sample.Raw), "beyond the size"...)); err != nil {
			t.Fatalf("%s: %v", sample.Header.Type, err)
		}
		if e.Header != sample.Header {
			t.Errorf("header %+v, want %+v", e.Header, sample.Header)
		}
		if got := rt.Body(&e, sample.Body); !reflect.DeepEqual(got, sample.Body) {
			t.Errorf("%s %+v, want %+v", sample.Header.Type, got, sample.Body)
		}
	}
	for n := range missing {
		t.Errorf("%s has no sample", n)
	}
}

func TestEveryCutOfARecordIsMalformed(t *testing.T) {
	for _, sample := range rt.Samples() {
		for n := range sample.Raw {
			var e record.Event
			if err := e.Decode(sample.Raw[:n]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("%s cut to %d of %d bytes: %v", sample.Header.Type, n, len(sample.Raw), err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	long := rt.Record(header(0), record.Open{Name: []byte("abc")})
	long[74] = 4
	size := rt.Record(header(0), record.Exit{})
	size[4] = 47
	negative := rt.Record(header(0), record.Open{Error: -1})
	exe := rt.Record(header(0), record.Access{Exe: rt.Path("/e")})
	exe[74]++
	text := append(record.AppendMark(nil, 1, 2, 3, record.Mark{}), make([]byte, 2000)...)
	binary.LittleEndian.PutUint32(text[4:], uint32(len(text)))
	binary.LittleEndian.PutUint16(text[88:], record.MaxText+1)
	for name, raw := range map[string][]byte{
		"nothing":                        nil,
		"a length beyond the record":     long,
		"a size smaller than the header": size,
		"an unknown type":                rt.Record(header(999), record.Exit{}),
		"a negative errno":               negative,
		"a negative errno of a socket":   rt.Record(header(0), record.Socket{Error: -1}),
		"a negative errno of unshare":    rt.Record(header(0), record.Namespace{Error: -1}),
		"a negative errno of ptrace":     rt.Record(header(0), record.Access{Error: -1}),
		"an executable beyond the end":   exe,
		"a string beyond the bound":      text,
		"a piece of 4 GiB":               rt.Record(header(record.TypeExecArgs), record.Exit{CPU: 0xffffffff << 32}),
	} {
		var e record.Event
		if err := e.Decode(raw); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsTooLongForARecordIsCut(t *testing.T) {
	var e record.Event
	decode := func(raw []byte) {
		t.Helper()
		e = record.Event{}
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		if int(e.Header.Size) != len(raw) {
			t.Errorf("size %d of %d", e.Header.Size, len(raw))
		}
	}
	decode(record.AppendCmdline(nil, header(0), 3, make([]byte, 1<<20)))
	if len(e.Cmdline.Args) != record.MaxCmdline {
		t.Errorf("%d bytes", len(e.Cmdline.Args))
	}
	long := record.Container{Name: "n", Labels: []record.Pair{{Key: "a", Value: strings.Repeat("x", 1<<20)}, {Key: "b", Value: "c"}}, Annotations: make([]record.Pair, 1000)}
	decode(record.AppendContainer(nil, 5, long))
	if c := e.Container; c.Name != "n" || len(c.Labels) != 1 || c.Labels[0].Key != "b" || len(c.Annotations) != record.MaxPairs {
		t.Errorf("%+v", e.Container)
	}
	decode(record.AppendMark(nil, 1, 2, 3, record.Mark{Tool: strings.Repeat("x", 1<<20), Traceparent: "t"}))
	if len(e.Mark.Tool) != record.MaxText || e.Mark.Traceparent != "t" {
		t.Errorf("%d bytes, then %q", len(e.Mark.Tool), e.Mark.Traceparent)
	}
}

func TestComponents(t *testing.T) {
	for _, p := range []string{"/", "/a", "/a/b/c"} {
		if got := string(rt.Path(p).AppendPath(nil)); got != p {
			t.Errorf("%q became %q", p, got)
		}
	}
	if got := string(record.Components("b\x00a").AppendPath([]byte("x"))); got != "x/a/b" {
		t.Errorf("without a last NUL: %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, sample := range rt.Samples() {
		f.Add(sample.Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e record.Event
		if err := e.Decode(raw); err != nil {
			if !errors.Is(err, record.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		for _, c := range []record.Components{e.Exec.Exe, e.Open.Path, e.Unix.Path, e.Process.Cwd, e.Access.Exe} {
			if p := c.AppendPath(nil); len(p) == 0 || p[0] != '/' || len(p) > len(c)+1 {
				t.Fatalf("%q became %q", c, p)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	raw := rt.Record(header(0), record.Open{Inode: 1, Path: rt.Path("/a/b"), Name: []byte("b")})
	var e record.Event
	for b.Loop() {
		if err := e.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}
