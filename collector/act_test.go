// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"math/bits"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func TestSockets(t *testing.T) {
	for _, c := range []struct {
		name   string
		socket record.Socket
		want   map[string]any
		failed bool
	}{
		{"raw", record.Socket{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMP},
			map[string]any{span.KeySocketFamily: "inet", span.KeySocketType: "raw", span.KeySocketProtocol: "icmp", span.KeyErrorType: nil, span.KeyCount: 1}, false},
		{"raw, over IPv6", record.Socket{Family: unix.AF_INET6, Type: unix.SOCK_RAW, Protocol: 255},
			map[string]any{span.KeySocketFamily: "inet6", span.KeySocketProtocol: "ip_protocol_255"}, false},
		{"packet, with a protocol in network order", record.Socket{Family: unix.AF_PACKET, Type: unix.SOCK_DGRAM, Protocol: uint32(bits.ReverseBytes16(unix.ETH_P_IPV6))},
			map[string]any{span.KeySocketFamily: "packet", span.KeySocketType: "dgram", span.KeySocketProtocol: "0x86dd"}, false},
		{"packet, by its name of old", record.Socket{Family: unix.AF_INET, Type: unix.SOCK_PACKET},
			map[string]any{span.KeySocketFamily: "packet", span.KeySocketType: "packet", span.KeySocketProtocol: nil}, false},
		{"a family of another kind", record.Socket{Family: unix.AF_BLUETOOTH, Type: unix.SOCK_SEQPACKET, Protocol: 3},
			map[string]any{span.KeySocketFamily: "bluetooth", span.KeySocketType: "seqpacket", span.KeySocketProtocol: "3"}, false},
		{"numbers without names", record.Socket{Family: 999, Type: 9, Protocol: 1 << 31},
			map[string]any{span.KeySocketFamily: "family_999", span.KeySocketType: "type_9", span.KeySocketProtocol: "2147483648"}, false},
		{"a protocol of the internet beyond all names", record.Socket{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: 1 << 20},
			map[string]any{span.KeySocketProtocol: "1048576"}, false},
		{"a refusal", record.Socket{Family: unix.AF_INET, Type: unix.SOCK_RAW, Error: int32(unix.EPERM)}, map[string]any{span.KeyErrorType: "EPERM"}, true},
		{"a family that the kernel lacks is an error but no failure", record.Socket{Family: unix.AF_ALG, Type: unix.SOCK_SEQPACKET, Error: int32(unix.EAFNOSUPPORT)},
			map[string]any{span.KeySocketFamily: "alg", span.KeyErrorType: "EAFNOSUPPORT"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			c.socket.Op = record.SocketMake
			w.act(10, c.socket)
			at := w.now
			w.exit(10, 0)
			s := w.only(span.Socket)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.ID != span.SocketSpan(boot, image1(10, 1), 10, at) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestVsockConnects(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  uint16
		errno  unix.Errno
		want   map[string]any
		failed bool
	}{
		{"connected", 0, 0, map[string]any{
			span.KeyTransport: "vsock", span.KeyPeerAddress: "2", span.KeyPeerPort: 5000, span.KeyNetworkOp: "connect",
			span.KeyErrorType: nil, span.KeyPartial: nil, span.KeyPeerFromUser: nil,
		}, false},
		{"refused", 0, unix.ECONNRESET, map[string]any{span.KeyErrorType: "ECONNRESET"}, true},
		{"not known yet, of a non-blocking one", 0, unix.EINPROGRESS, map[string]any{span.KeyPartial: true, span.KeyErrorType: nil}, false},
		{"an address from user memory is the caller's word", record.SocketAddressFromUser, 0, map[string]any{span.KeyPeerFromUser: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			h := w.header(10)
			h.Flags = c.flags
			w.raw(rt.Record(h, record.Socket{Op: record.SocketConnect, Family: unix.AF_VSOCK, CID: 2, Port: 5000, Error: int32(c.errno)}))
			s := w.only(span.Connect)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.ID != span.ConnectSpan(boot, image1(10, 1), 10, h.Time) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestNamespaces(t *testing.T) {
	const all = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWTIME | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
	for _, c := range []struct {
		name   string
		record record.Namespace
		op     string
		types  []string
		errno  any
		failed bool
	}{
		{"unshare", record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWUSER | unix.CLONE_NEWNET}, "unshare", []string{"net", "user"}, nil, false},
		{"setns", record.Namespace{Op: record.NamespaceSetns, Types: all}, "setns", []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}, nil, false},
		{"clone", record.Namespace{Op: record.NamespaceClone, Types: unix.CLONE_NEWPID}, "clone", []string{"pid"}, nil, false},
		{"a refusal", record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWNS, Error: int32(unix.EPERM)}, "unshare", []string{"mnt"}, "EPERM", true},
		{"a descriptor that is no namespace's", record.Namespace{Op: record.NamespaceSetns, Error: int32(unix.EINVAL)}, "setns", nil, "EINVAL", false},
		{"an operation of a newer kernel side", record.Namespace{Op: 99, Types: 1 << 31}, "unknown", nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			w.act(10, c.record)
			at := w.now
			w.exit(10, 0)
			s := w.only(span.Namespace)
			wants(t, s, map[string]any{span.KeyNamespaceOp: c.op, span.KeyErrorType: c.errno, span.KeyCount: 1})
			types, _ := get(s, span.KeyNamespaceTypes).([]string)
			if !slices.Equal(types, c.types) || s.Failed != c.failed || s.ID != span.NamespaceSpan(boot, image1(10, 1), 10, at) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestAccessToAnotherProcess(t *testing.T) {
	reach := func(flags uint16, r record.Access) func(*world) { return func(w *world) { w.reach(10, flags, r) } }
	for _, c := range []struct {
		name   string
		do     func(*world)
		want   map[string]any
		failed bool
	}{
		{"of the same sandbox", reach(0, record.Access{Op: record.AccessAttach, TargetTgid: 20, TargetStart: start(20), TargetCgroup: one}),
			map[string]any{span.KeyAccessOp: "ptrace_attach", span.KeyAccessPID: 20, span.KeyAccessExe: "/bin/neighbour", span.KeyAccessOutside: nil}, false},
		{"of another sandbox", reach(0, record.Access{Op: record.AccessSeize, TargetTgid: 30, TargetStart: start(30), TargetCgroup: two}),
			map[string]any{span.KeyAccessOp: "ptrace_seize", span.KeyAccessExe: "/bin/stranger", span.KeyAccessOutside: true}, false},
		{"of no sandbox", reach(record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 1, TargetStart: 1, TargetCgroup: outside, Exe: rt.Path("/sbin/init")}),
			map[string]any{span.KeyAccessOp: "process_vm_readv", span.KeyAccessPID: 1, span.KeyAccessExe: "/sbin/init", span.KeyAccessOutside: true}, false},
		{"of no sandbox, whose program is deleted", reach(record.AccessOutside|record.AccessExeUnlinked, record.Access{Op: record.AccessGetfd, TargetTgid: 1, TargetStart: 1, Exe: rt.Path("/x")}),
			map[string]any{span.KeyAccessOp: "pidfd_getfd", span.KeyAccessExe: "/x (deleted)"}, false},
		{"of no sandbox, without a program: of the kernel", reach(record.AccessOutside, record.Access{Op: record.AccessWrite, TargetTgid: 2, TargetStart: 1, Error: int32(unix.EPERM)}),
			map[string]any{span.KeyAccessOp: "process_vm_writev", span.KeyAccessExe: nil, span.KeyErrorType: "EPERM", span.KeyAccessOutside: true}, true},
		{"whose fork was lost, in the same sandbox", reach(0, record.Access{Op: record.AccessProc, TargetTgid: 40, TargetStart: 1, TargetCgroup: oneInside}),
			map[string]any{span.KeyAccessOp: "proc", span.KeyAccessExe: nil, span.KeyAccessOutside: nil}, false},
		{"whose fork was lost, in another sandbox", reach(0, record.Access{Op: 99, TargetTgid: 40, TargetStart: 1, TargetCgroup: two}),
			map[string]any{span.KeyAccessOp: "other", span.KeyAccessOutside: true}, false},
		{"with the pid of an older one", reach(record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 20, TargetStart: start(20) + 1}),
			map[string]any{span.KeyAccessPID: 20, span.KeyAccessExe: nil, span.KeyAccessOutside: true}, false},
		{"of a target that is not known", reach(record.AccessTargetUnknown, record.Access{Op: record.AccessGetfd}),
			map[string]any{span.KeyAccessOp: "pidfd_getfd", span.KeyAccessPID: nil, span.KeyAccessExe: nil, span.KeyAccessOutside: nil}, false},
		{"that is not there in time", reach(0, record.Access{Op: record.AccessRead, TargetTgid: 20, TargetStart: start(20), Error: int32(unix.ESRCH)}),
			map[string]any{span.KeyErrorType: "ESRCH"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			w.begin(20, one)
			w.exec(20, "/bin/neighbour", "n")
			w.begin(30, two)
			w.exec(30, "/bin/stranger", "s")
			c.do(w)
			at := w.now
			w.exit(10, 0)
			s := w.only(span.Access)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.ID != span.AccessSpan(boot, image1(10, 1), 10, at) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestRepeatsOfAnActAreCounted(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	socket := record.Socket{Op: record.SocketMake, Family: unix.AF_INET, Type: unix.SOCK_RAW}
	w.act(10, socket)
	first := w.now
	w.act(10, socket)
	w.act(10, socket)
	last := w.now
	socket.Error = int32(unix.EPERM)
	w.act(10, socket) // another outcome
	w.act(10, record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWUTS})
	w.act(10, record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWUTS})
	w.act(10, record.Namespace{Op: record.NamespaceSetns, Types: unix.CLONE_NEWUTS}) // another operation
	for pid := range uint32(2) {
		w.reach(10, record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 100 + pid, TargetStart: 1}) // other targets
		w.reach(10, record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 100 + pid, TargetStart: 1})
	}
	w.exit(10, 0)
	for kind, want := range map[span.Kind][]int{span.Socket: {3, 1}, span.Namespace: {2, 1}, span.Access: {2, 2}} {
		list := w.of(kind)
		if len(list) != len(want) {
			t.Fatalf("spans %s", show(list))
		}
		for n := range want {
			wants(t, list[n], map[string]any{span.KeyCount: want[n]})
		}
	}
	if s := w.of(span.Socket)[0]; s.Start != wallStart+first-bootStart || s.End != s.Start+1000 || get(s, span.KeyLast) != wallText(last) {
		t.Errorf("span %s", show([]span.Span{s}))
	}
}

func TestActsGoOutWhenTheirHoldEndsOrTheirProgramDoes(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	unshare := record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWUTS}
	w.act(10, unshare)
	w.tick(3 * time.Second)
	w.only(span.Namespace)
	w.act(10, unshare)
	w.exec(10, "/bin/y", "y")
	w.act(10, unshare)
	w.exit(10, 0)
	list := w.of(span.Namespace)
	if len(list) != 3 || list[0].Parent != list[1].Parent || list[1].Parent == list[2].Parent || list[0].ID == list[1].ID {
		t.Errorf("spans %s", show(list))
	}
	if st := w.c.Stats(); st.Held != 0 || w.c.Stats().Repeats != 0 {
		t.Errorf("left over: %d held, %d acts", st.Held, w.c.Stats().Repeats)
	}
}

func TestActsOfAFloodAreBounded(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxPending = 100 })
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	const targets = 1000
	for pid := range uint32(targets) {
		w.reach(10, record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 1000 + pid, TargetStart: 1})
		if n := w.c.Stats().Repeats; n > 100 {
			t.Fatalf("%d are held", n)
		}
	}
	w.exit(10, 0)
	if n := len(w.of(span.Access)); n != targets {
		t.Errorf("%d spans of %d", n, targets)
	}
}
