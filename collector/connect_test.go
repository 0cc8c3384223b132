// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func to(address string, protocol uint16) record.Connect {
	ap := netip.MustParseAddrPort(address)
	r := record.Connect{Cookie: 5, Protocol: protocol, Port: ap.Port(), Op: record.ConnectCall, Family: unix.AF_INET}
	if ap.Addr().Is4() {
		a := ap.Addr().As4()
		copy(r.Addr[:], a[:])
	} else {
		r.Family, r.Addr = unix.AF_INET6, ap.Addr().As16()
	}
	return r
}

func (w *world) connect(pid uint32, r record.Connect) {
	w.t.Helper()
	w.raw(rt.Record(w.header(pid), r))
}

func (w *world) connectEnd(pid uint32, errno unix.Errno) {
	w.t.Helper()
	w.raw(rt.Record(w.header(pid), record.ConnectEnd{Cookie: 5, Error: int32(errno)}))
}

func TestConnects(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(w *world)
		want   map[string]any
		failed bool
		lasts  uint64
	}{
		{"established",
			func(w *world) {
				w.connect(10, to("10.1.2.3:443", unix.IPPROTO_TCP))
				w.now += 20 * ms
				w.connectEnd(10, 0)
			},
			map[string]any{
				span.KeyPeerAddress: "10.1.2.3", span.KeyPeerPort: 443, span.KeyTransport: "tcp", span.KeyNetworkType: "ipv4",
				span.KeyNetworkOp: "connect", span.KeyErrorType: nil, span.KeyPartial: nil, span.KeyExecutableName: "curl",
			}, false, 21 * ms},
		{"refused",
			func(w *world) {
				w.connect(10, to("127.0.0.1:1", unix.IPPROTO_TCP))
				w.connectEnd(10, unix.ECONNREFUSED)
			},
			map[string]any{span.KeyErrorType: "ECONNREFUSED"}, true, ms},
		{"given up before an outcome",
			func(w *world) { w.connect(10, to("127.0.0.1:1", unix.IPPROTO_TCP)); w.connectEnd(10, unix.ECANCELED) },
			map[string]any{span.KeyErrorType: "ECANCELED"}, false, ms},
		{"in progress is no outcome",
			func(w *world) {
				w.connect(10, to("127.0.0.1:1", unix.IPPROTO_TCP))
				w.connectEnd(10, unix.EINPROGRESS)
				w.connectEnd(10, 0)
			},
			map[string]any{span.KeyErrorType: nil, span.KeyPartial: nil}, false, 2 * ms},
		{"with an outcome after the hold",
			func(w *world) {
				w.connect(10, to("10.255.255.1:80", unix.IPPROTO_TCP))
				w.tick(3 * time.Second)
				w.connectEnd(10, unix.ETIMEDOUT)
			},
			map[string]any{span.KeyNoticed: true, span.KeyPartial: nil, span.KeyErrorType: "ETIMEDOUT"}, true, 3001 * ms},
		{"after the process is gone",
			func(w *world) {
				w.connect(10, to("127.0.0.1:1", unix.IPPROTO_TCP))
				w.exit(10, 0)
				w.connectEnd(10, 0)
			},
			map[string]any{span.KeyPID: 10, span.KeyExecutableName: "curl"}, false, 2 * ms},
		{"IPv6",
			func(w *world) { w.connect(10, to("[2001:db8::1]:443", unix.IPPROTO_TCP)); w.connectEnd(10, 0) },
			map[string]any{span.KeyPeerAddress: "2001:db8::1", span.KeyNetworkType: "ipv6"}, false, ms},
		{"IPv4 in IPv6 is IPv4",
			func(w *world) {
				w.connect(10, to("[::ffff:10.0.0.1]:443", unix.IPPROTO_TCP))
				w.connectEnd(10, 0)
			},
			map[string]any{span.KeyPeerAddress: "10.0.0.1", span.KeyNetworkType: "ipv4"}, false, ms},
		{"UDP",
			func(w *world) { w.connect(10, to("10.0.0.1:53", unix.IPPROTO_UDP)); w.connectEnd(10, 0) },
			map[string]any{span.KeyTransport: "udp", span.KeyNetworkOp: "connect"}, false, ms},
		{"a datagram to a new destination is a point",
			func(w *world) {
				r := to("10.0.0.1:53", unix.IPPROTO_UDP)
				r.Op = record.ConnectSendmsg
				w.connect(10, r)
				w.tick(3 * time.Second)
			},
			map[string]any{span.KeyTransport: "udp", span.KeyNetworkOp: "sendmsg", span.KeyPartial: true}, false, 1000},
		{"another protocol",
			func(w *world) { w.connect(10, to("10.0.0.1:0", 47)); w.connectEnd(10, 0) },
			map[string]any{span.KeyTransport: "ip_protocol_47"}, false, ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/curl", "curl")
			at := w.now + ms
			c.do(w)
			s := w.only(span.Connect)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.End-s.Start != c.lasts {
				t.Errorf("failed %v, lasts %d", s.Failed, s.End-s.Start)
			}
			if s.Parent != span.ExecSpan(boot, image1(10, 1)) || s.ID != span.ConnectSpan(boot, image1(10, 1), 10, at) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}

func TestSocketConnectedAgainWithoutAnOutcome(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.connect(10, to("10.0.0.1:1", unix.IPPROTO_UDP))
	w.connect(10, to("10.0.0.2:2", unix.IPPROTO_UDP))
	w.connectEnd(10, 0)
	list := w.of(span.Connect)
	if len(list) != 2 {
		t.Fatalf("spans %s", show(list))
	}
	wants(t, list[0], map[string]any{span.KeyPeerPort: 1, span.KeyPartial: true})
	wants(t, list[1], map[string]any{span.KeyPeerPort: 2, span.KeyPartial: nil})
}

func TestASourceRouteIsTold(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	h := w.header(10)
	h.Flags = record.ConnectSourceRoute
	datagram := to("10.0.0.1:1", unix.IPPROTO_UDP)
	datagram.Op = record.ConnectSendmsg
	w.raw(rt.Record(h, datagram))
	w.tick(3 * time.Second)
	wants(t, w.only(span.Connect), map[string]any{span.KeyPeerAddress: "10.0.0.1", span.KeySourceRoute: true})
}

func TestUnixConnects(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  uint16
		unix   record.Unix
		want   map[string]any
		failed bool
	}{
		{"by the peer's own path", 0, record.Unix{Path: rt.Path("/run/docker.sock"), Name: []byte("/tmp/link.sock\x00")},
			map[string]any{
				span.KeyPeerAddress: "/run/docker.sock", span.KeyTransport: "unix", span.KeyPeerRequested: "/tmp/link.sock", span.KeySensitive: true,
				span.KeyNetworkType: nil, span.KeyPeerPort: nil, span.KeyNetworkOp: "connect",
			}, false},
		{"abstract", record.UnixAbstract, record.Unix{Name: []byte("\x00dbus-x")}, map[string]any{span.KeyPeerAddress: "@dbus-x"}, false},
		{"abstract without the leading NUL", record.UnixAbstract, record.Unix{Name: []byte("dbus-x")}, map[string]any{span.KeyPeerAddress: "@dbus-x"}, false},
		{"refused", 0, record.Unix{Name: []byte("/run/x.sock"), Error: int32(unix.ECONNREFUSED)},
			map[string]any{span.KeyPeerAddress: "/run/x.sock", span.KeyErrorType: "ECONNREFUSED", span.KeyPeerRequested: nil}, true},
		{"another peer than was asked for", record.UnixNameFromUser, record.Unix{Path: rt.Path("/tmp/harmless"), Name: []byte("/run/docker.sock\x00")},
			map[string]any{span.KeyPeerAddress: "/tmp/harmless", span.KeyPeerRequested: "/run/docker.sock", span.KeyPeerFromUser: true, span.KeySensitive: true}, false},
		{"a peer with a path, and an abstract name asked for", record.UnixNameFromUser | record.UnixAbstract, record.Unix{Path: rt.Path("/tmp/harmless"), Name: []byte("\x00secret")},
			map[string]any{span.KeyPeerAddress: "/tmp/harmless", span.KeyPeerRequested: "@secret", span.KeyPeerFromUser: true, span.KeySensitive: nil}, false},
		{"the peer that was asked for", record.UnixNameFromUser, record.Unix{Path: rt.Path("/run/docker.sock"), Name: []byte("/run/docker.sock\x00garbage")},
			map[string]any{span.KeyPeerAddress: "/run/docker.sock", span.KeyPeerRequested: nil, span.KeyPeerFromUser: nil, span.KeySensitive: true}, false},
		{"something that nobody can tell", record.UnixNameFromUser | record.UnixNotSure, record.Unix{},
			map[string]any{span.KeyPeerAddress: nil, span.KeyTransport: nil, span.KeyNetworkOp: "connect", span.KeyPeerFromUser: true}, false},
		{"a peer whose socket has no name any more", record.UnixNameFromUser | record.UnixUnlinked, record.Unix{Path: rt.Path("/run/docker.sock"), Name: []byte("/proc/self/fd/3\x00")},
			map[string]any{span.KeyPeerAddress: "/run/docker.sock (deleted)", span.KeySensitive: true}, false},
		{"a socket whose own name ends so", 0, record.Unix{Path: rt.Path("/run/docker.sock (deleted)")}, map[string]any{span.KeySensitive: nil}, false},
		{"not there", 0, record.Unix{Name: []byte("/run/x.sock"), Error: int32(unix.ENOENT)}, map[string]any{span.KeyErrorType: "ENOENT"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/x", "x")
			h := w.header(10)
			h.Flags = c.flags
			w.raw(rt.Record(h, c.unix))
			s := w.only(span.Connect)
			wants(t, s, c.want)
			if s.Failed != c.failed || s.End-s.Start != 1000 || s.Parent != span.ExecSpan(boot, image1(10, 1)) {
				t.Errorf("span %s", show([]span.Span{s}))
			}
		})
	}
}
