// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

func header(t record.Type) record.Header {
	return record.Header{Type: t, Flags: 2, Time: 4, Cgroup: 5, Start: 6, ExecID: 7, Tgid: 8, Tid: 9}
}

// bodies has one of each kernel record, with every field different.
func bodies() map[record.Type]any {
	return map[record.Type]any{
		record.TypeFork: record.Fork{ChildStart: 1, ChildCgroup: 2, ChildTgid: 3, ChildVpid: 4, ParentTgid: 5, UID: 6, Comm: []byte("sh")},
		record.TypeExec: record.Exec{
			ParentStart: 1, Inode: 2, ParentTgid: 3, OldTid: 4, UID: 5, EUID: 6, GID: 7, EGID: 8, Vpid: 9, Dev: 10, Argc: 11, ArgsSize: 12, EnvSize: 13, Mode: 14,
			Comm: []byte("cc"), Exe: rt.Path("/bin/cc"), Cwd: rt.Path("/w"), Filename: []byte("./cc"), Env: []byte("A=b\x00"), Args: rt.Args("cc", "-v"),
		},
		record.TypeExecArgs:     record.ExecArgs{Offset: 1, Args: []byte("abc")},
		record.TypeExit:         record.Exit{CPU: 1, User: 2, System: 3, PeakRSS: 4, Status: 5},
		record.TypeOpen:         record.Open{Inode: 1, Error: 2, Flags: 3, Dev: 4, Mode: 5, Path: rt.Path("/a/b"), Name: []byte("b")},
		record.TypeConnect:      record.Connect{Cookie: 1, Addr: [16]byte{15: 2}, Family: 3, Protocol: 4, Port: 5, Op: 6},
		record.TypeConnectEnd:   record.ConnectEnd{Cookie: 1, Error: 2, Source: 3},
		record.TypeUnix:         record.Unix{Error: 1, SockType: 2, Path: rt.Path("/s"), Name: []byte("s")},
		record.TypeCgroupMkdir:  record.Cgroup{ID: 1, Parent: 2, Path: []byte("/a")},
		record.TypeCgroupRmdir:  record.Cgroup{ID: 1, Parent: 2, Path: []byte("/a")},
		record.TypeCgroupAttach: record.Attach{ParentStart: 1, ParentTgid: 2, MoverTgid: 3, Vpid: 4, UID: 5, Watched: true, Comm: []byte("x"), Path: []byte("/a")},
		record.TypeProcess:      record.Process{ParentStart: 1, Inode: 2, ParentTgid: 3, UID: 4, Vpid: 5, Dev: 6, Comm: []byte("y"), Exe: rt.Path("/e"), Cwd: rt.Path("/c")},
		record.TypeSocket:       record.Socket{Error: 1, Protocol: 2, Family: 3, Type: 4, Op: 5, CID: 6, Port: 7},
		record.TypeNamespace:    record.Namespace{Types: 1, Error: 2, Op: 3},
		record.TypeAccess:       record.Access{TargetStart: 1, TargetCgroup: 2, TargetTgid: 3, Error: 4, Op: 5, Exe: rt.Path("/e")},
	}
}

// body gives the field of the event that its type names.
func body(e *record.Event) any {
	switch e.Header.Type {
	case record.TypeCgroupMkdir, record.TypeCgroupRmdir, record.TypeCgroup:
		return e.Cgroup
	case record.TypeCgroupAttach:
		return e.Attach
	}
	name := e.Header.Type.String()
	parts := strings.Split(name, "_")
	for n := range parts {
		parts[n] = strings.ToUpper(parts[n][:1]) + parts[n][1:]
	}
	return reflect.ValueOf(e).Elem().FieldByName(strings.Join(parts, "")).Interface()
}

func TestEveryKernelRecordIsReadBack(t *testing.T) {
	for kind, want := range bodies() {
		t.Run(kind.String(), func(t *testing.T) {
			raw := rt.Record(header(kind), want)
			var e record.Event
			if err := e.Decode(append(raw, "beyond the size"...)); err != nil {
				t.Fatal(err)
			}
			h := header(kind)
			h.Size = uint32(len(raw))
			if e.Header != h {
				t.Errorf("header %+v, want %+v", e.Header, h)
			}
			if got := body(&e); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestEveryCutOfARecordIsMalformed(t *testing.T) {
	records := map[record.Type][]byte{
		record.TypeMark: record.AppendMark(nil, 1, 2, 3, mark),
		record.TypeSaid: record.AppendSaid(nil, 1, 2, 3, said),

		record.TypeContainer: record.AppendContainer(nil, 1, box),
	}
	for kind, b := range bodies() {
		records[kind] = rt.Record(header(kind), b)
	}
	for kind, raw := range records {
		for n := range raw {
			var e record.Event
			if err := e.Decode(raw[:n]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("%s cut to %d of %d bytes: %v", kind, n, len(raw), err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	long := rt.Record(header(0), record.Open{Name: []byte("abc")})
	long[72] = 4
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

func TestUserSpaceRecordsAreReadBack(t *testing.T) {
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
	decode(record.AppendClock(nil, 5, -6))
	if e.Header.Type != record.TypeClock || e.Header.Time != 5 || e.Clock.Wall != -6 {
		t.Errorf("%+v %+v", e.Header, e.Clock)
	}
	decode(record.AppendTick(nil, 5))
	if e.Header.Type != record.TypeTick || e.Header.Time != 5 {
		t.Errorf("%+v", e.Header)
	}
	loss := record.Loss{Kind: record.TypeOpen, Cause: record.CauseMissed, Count: 7, From: 8, To: 9}
	decode(record.AppendLoss(nil, record.Header{Cgroup: 6}, loss))
	if e.Header.Type != record.TypeLoss || e.Header.Cgroup != 6 || e.Header.Time != 9 || e.Loss != loss {
		t.Errorf("%+v %+v", e.Header, e.Loss)
	}
	decode(record.AppendCgroup(nil, 5, 6, 7, "/a/b"))
	if e.Header.Type != record.TypeCgroup || e.Header.Time != 5 || e.Cgroup.ID != 6 || e.Cgroup.Parent != 7 || string(e.Cgroup.Path) != "/a/b" {
		t.Errorf("%+v %+v", e.Header, e.Cgroup)
	}
	decode(record.AppendCmdline(nil, header(record.TypeProcess), 3, []byte("a\x00b\x00")))
	if e.Header.Type != record.TypeCmdline || e.Header.Tgid != 8 || e.Header.Start != 6 || e.Cmdline.Argc != 3 || string(e.Cmdline.Args) != "a\x00b\x00" {
		t.Errorf("%+v %+v", e.Header, e.Cmdline)
	}
	decode(record.AppendCmdline(nil, header(0), 3, make([]byte, 1<<20)))
	if len(e.Cmdline.Args) != record.MaxCmdline {
		t.Errorf("%d bytes", len(e.Cmdline.Args))
	}
	decode(record.AppendMark(nil, 5, 8, 6, mark))
	if h := e.Header; h.Type != record.TypeMark || h.Time != 5 || h.Tgid != 8 || h.Start != 6 || e.Mark != mark {
		t.Errorf("%+v %+v", e.Header, e.Mark)
	}
	decode(record.AppendSaid([]byte("before")[:0], 5, 8, 6, said))
	if h := e.Header; h.Type != record.TypeSaid || h.Time != 5 || h.Tgid != 8 || h.Start != 6 || e.Said != said {
		t.Errorf("%+v %+v", e.Header, e.Said)
	}
	decode(record.AppendContainer([]byte("before")[:0], 5, box))
	if e.Header.Type != record.TypeContainer || e.Header.Time != 5 || !reflect.DeepEqual(e.Container, box) {
		t.Errorf("%+v %+v", e.Header, e.Container)
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

var (
	mark = record.Mark{
		Op: record.MarkEnd, TargetTgid: 1, TargetStart: 2, Cgroup: 3, UID: 4, PeerCgroup: 5,
		Source: record.SourceHook, Agent: "claude-code", Session: "s", Call: "c", Tool: "Bash", Traceparent: "00-",
	}
	said = record.Said{
		Kind: record.SaidDecision, Trace: [16]byte{1, 15: 2}, Span: [8]byte{3, 7: 4}, TraceFlags: 1, Success: record.SuccessFailed,
		Agent: "codex", Session: "s", Call: "c", Tool: "shell", Decision: record.Denied, Source: "user", Detail: "d", UID: 1000,
	}
	box = record.Container{
		ID: "i", Runtime: "r", Name: "n", Image: "m", Tag: "t", Pod: "p", PodUID: "u", Namespace: "s", PodPart: "q", Handler: "h",
		Labels: []record.Pair{{Key: "a", Value: "b"}, {Key: "c"}}, Annotations: []record.Pair{{Value: "d"}},
	}
)

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
	for kind, b := range bodies() {
		f.Add(rt.Record(header(kind), b))
	}
	f.Add(record.AppendClock(nil, 1, 2))
	f.Add(record.AppendTick(nil, 1))
	f.Add(record.AppendLoss(nil, record.Header{Cgroup: 1}, record.Loss{}))
	f.Add(record.AppendCgroup(nil, 1, 2, 3, "/a"))
	f.Add(record.AppendCmdline(nil, record.Header{}, 1, []byte("a")))
	f.Add(record.AppendMark(nil, 1, 2, 3, mark))
	f.Add(record.AppendSaid(nil, 1, 2, 3, said))
	f.Add(record.AppendContainer(nil, 1, box))
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
	raw := rt.Record(header(0), bodies()[record.TypeOpen])
	var e record.Event
	for b.Loop() {
		if err := e.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}
