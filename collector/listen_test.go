// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

func addr(text string) (a [16]byte, family uint16) {
	ip := netip.MustParseAddr(text)
	if ip.Is4() {
		b := ip.As4()
		copy(a[:], b[:])
		return a, unix.AF_INET
	}
	return ip.As16(), unix.AF_INET6
}

func (w *world) listen(pid uint32, address string, port uint16, errno unix.Errno) {
	a, family := addr(address)
	w.act(pid, record.Listen{Cookie: 1, Addr: a, Family: family, Protocol: unix.IPPROTO_TCP, Port: port, Error: int32(errno)})
}

// accept takes a connection that has the port of its peer as its cookie.
func (w *world) accept(pid uint32, peer string, port, peerPort uint16) {
	a, family := addr(peer)
	w.act(pid, record.Accept{Cookie: uint64(peerPort), Addr: a, Peer: a, Family: family, Protocol: unix.IPPROTO_TCP, Port: port, PeerPort: peerPort})
}

func (w *world) closed(pid uint32, cookie uint64, r record.Close) {
	h := w.header(pid)
	r.Cookie, r.Since, r.Protocol = cookie, h.Time-ms/2, unix.IPPROTO_TCP
	if r.Family == 0 {
		r.Peer, r.Family = addr("10.0.0.9")
	}
	w.raw(rt.Record(h, r))
}

func TestListeningAndWhoConnects(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.listen(10, "::", 80, 0)
	w.listen(10, "::", 80, 0)
	w.listen(10, "0.0.0.0", 80, unix.EADDRINUSE)
	h := w.header(10)
	h.Flags = record.UnixAbstract
	w.raw(rt.Record(h, record.Listen{Family: unix.AF_UNIX, Name: []byte("\x00x")}))
	w.act(10, record.Listen{Family: unix.AF_UNIX, Path: rt.Path("/run/docker.sock"), Name: []byte("docker.sock")})
	for port := range uint16(3) {
		w.accept(10, "10.0.0.9", 80, 100+port)
	}
	w.accept(10, "::ffff:10.0.0.8", 80, 200)
	w.tick(3 * time.Second)
	listens := w.of(span.Listen)
	if len(listens) != 4 {
		t.Fatalf("spans %s", show(listens))
	}
	wants(t, listens[0], map[string]any{
		span.KeyLocalAddress: "::", span.KeyLocalPort: 80, span.KeyTransport: "tcp", span.KeyNetworkType: "ipv6", span.KeyCount: 2, span.KeyOutcome: "ok",
	})
	wants(t, listens[1], map[string]any{span.KeyLocalAddress: "0.0.0.0", span.KeyErrorType: "EADDRINUSE", span.KeyOutcome: "failed"})
	wants(t, listens[2], map[string]any{span.KeyLocalAddress: "@x", span.KeyTransport: "unix", span.KeyLocalPort: nil})
	wants(t, listens[3], map[string]any{span.KeyLocalAddress: "/run/docker.sock", span.KeySensitive: true})
	accepts := w.of(span.Accept)
	if len(accepts) != 2 {
		t.Fatalf("spans %s", show(accepts))
	}
	wants(t, accepts[0], map[string]any{
		span.KeyPeerAddress: "10.0.0.9", span.KeyPeerPort: 100, span.KeyLocalPort: 80, span.KeyCount: 3, span.KeyTransport: "tcp", span.KeyPID: 10,
	})
	wants(t, accepts[1], map[string]any{span.KeyPeerAddress: "10.0.0.8", span.KeyNetworkType: "ipv4", span.KeyCount: 1})
}

func TestTheEndOfAConnectionStandsBelowItsBegin(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.connect(10, to("10.0.0.9:443", unix.IPPROTO_TCP))
	w.connectEnd(10, 0)
	w.accept(10, "10.0.0.9", 80, 100)
	w.accept(10, "10.0.0.9", 80, 101)
	w.exec(10, "/bin/other", "other")
	w.exit(10, 0)
	w.tick(3 * time.Second)
	w.closed(10, 5, record.Close{Sent: 70, Received: 1 << 33, PeerPort: 443, Reason: record.CloseHere})
	w.closed(10, 101, record.Close{PeerPort: 101, Port: 80, Reason: record.CloseError, Error: int32(unix.ECONNRESET), Incoming: true})
	w.closed(10, 100, record.Close{PeerPort: 100, Port: 80, Reason: record.ClosePeer, Incoming: true})
	list := w.of(span.Close)
	if len(list) != 3 {
		t.Fatalf("spans %s", show(list))
	}
	server := w.of(span.Exec)[0]
	for n, below := range []span.Span{w.only(span.Connect), server, server} { // an accept is counted with others
		if list[n].Parent != below.ID || list[n].Trace != below.Trace || get(list[n], span.KeyExecutableName) != "server" || list[n].End-list[n].Start != ms/2 {
			t.Errorf("not below %s: %s", below.Name, show(list[n:n+1]))
		}
	}
	wants(t, list[0], map[string]any{
		span.KeyBytesSent: 70, span.KeyBytesReceived: 1 << 33, span.KeyCloseReason: "here", span.KeyNetworkOp: "connect", span.KeyOutcome: "ok",
		span.KeyPeerAddress: "10.0.0.9", span.KeyPeerPort: 443,
	})
	wants(t, list[1], map[string]any{span.KeyCloseReason: "error", span.KeyErrorType: "ECONNRESET", span.KeyOutcome: "failed", span.KeyNetworkOp: "accept"})
	wants(t, list[2], map[string]any{span.KeyCloseReason: "peer", span.KeyPeerPort: 100})
}

// TestTheEndOfAConnectionInALaterTrace keeps its program there, and links to its begin.
func TestTheEndOfAConnectionInALaterTrace(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.MaxSpansPerTrace = 20 })
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.connect(10, to("10.0.0.9:443", unix.IPPROTO_TCP))
	w.connectEnd(10, 0)
	for range 30 {
		w.connect(10, to("10.0.0.9:1", unix.IPPROTO_UDP))
	}
	w.closed(10, 5, record.Close{})
	s, begin := w.only(span.Close), w.of(span.Connect)[0]
	if s.Trace == begin.Trace || s.Parent == (span.ID{}) || len(s.Links) != 1 || s.Links[0].Link != (span.Link{Trace: begin.Trace, Span: begin.ID}) {
		t.Errorf("%s with links %v", show([]span.Span{s}), s.Links)
	}
}

// TestTheEndOfAConnectionThatIsNotKnown: the sensor was started later, or the word of its begin was lost.
func TestTheEndOfAConnectionThatIsNotKnown(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.exec(10, "/bin/other", "other")
	h := w.header(10)
	h.ExecID--
	w.raw(rt.Record(h, record.Close{Cookie: 7, Since: h.Time - ms, Family: unix.AF_INET}))
	s := w.only(span.Close)
	if s.Parent != w.only(span.Exec).Parent && get(s, span.KeyExecutableName) != "other" {
		t.Errorf("%s", show([]span.Span{s}))
	}
	w.connect(10, to("10.0.0.9:443", unix.IPPROTO_TCP))
	w.closed(10, 5, record.Close{})
	wants(t, w.only(span.Connect), map[string]any{span.KeyOutcome: "ok", span.KeyPartial: nil})
	if s := w.of(span.Close)[1]; s.Parent != w.only(span.Connect).ID {
		t.Errorf("%s", show([]span.Span{s}))
	}
	h.Tgid, h.Start = 999, start(999)
	w.raw(rt.Record(h, record.Close{Cookie: 8, Since: h.Time, Family: unix.AF_INET})) // of nobody
	if n := len(w.of(span.Close)); n != 2 {
		t.Errorf("%d ends are told", n)
	}
}

func TestDatagramsThatDidNotLeave(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	send := func(to record.Connect, tid uint32) {
		to.Op = record.ConnectSendmsg
		h := w.header(10)
		h.Tid = tid
		w.raw(rt.Record(h, to))
	}
	end := func(tid uint32, errno unix.Errno) {
		h := w.header(10)
		h.Tid, h.Flags = tid, record.ConnectEndDatagram
		w.raw(rt.Record(h, record.ConnectEnd{Cookie: 5, Error: int32(errno)}))
	}
	// Two threads use one socket, which is connected meanwhile.
	w.connect(10, to("10.0.0.3:3", unix.IPPROTO_UDP))
	send(to("10.0.0.1:1", unix.IPPROTO_UDP), 11)
	send(to("10.0.0.2:2", unix.IPPROTO_UDP), 12)
	end(12, unix.EPERM)
	end(11, unix.ENETUNREACH)
	w.connectEnd(10, 0)
	send(to("10.0.0.4:4", unix.IPPROTO_UDP), 11)
	w.tick(3 * time.Second)
	list := w.of(span.Connect)
	if len(list) != 4 {
		t.Fatalf("spans %s", show(list))
	}
	wants(t, list[0], map[string]any{span.KeyPeerPort: 2, span.KeyErrorType: "EPERM", span.KeyOutcome: "refused"})
	wants(t, list[1], map[string]any{span.KeyPeerPort: 1, span.KeyErrorType: "ENETUNREACH", span.KeyOutcome: "failed"})
	wants(t, list[2], map[string]any{span.KeyPeerPort: 3, span.KeyOutcome: "ok", span.KeyNetworkOp: "connect"})
	// No word came: whether it left is not known.
	wants(t, list[3], map[string]any{span.KeyPeerPort: 4, span.KeyOutcome: nil, span.KeyPartial: true, span.KeyNoticed: nil})
	if s := list[3]; s.End-s.Start != 1000 || len(w.of(span.ConnectStart)) != 0 {
		t.Errorf("a datagram is a point, without a notice: %s", show(list[3:]))
	}
}

func TestTheAddressOfAllZerosIsThisHost(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	for _, address := range []string{"127.0.0.1:1", "[::1]:1"} {
		h := w.header(10)
		h.Flags = record.ConnectToAny
		w.raw(rt.Record(h, to(address, unix.IPPROTO_TCP)))
		w.connectEnd(10, 0)
	}
	list := w.of(span.Connect)
	wants(t, list[0], map[string]any{span.KeyPeerAddress: "127.0.0.1", span.KeyPeerRequested: "0.0.0.0"})
	wants(t, list[1], map[string]any{span.KeyPeerAddress: "::1", span.KeyPeerRequested: "::"})
}

// TestOneSandboxTakesTheConnectionsOfNoOther, and what has ended before it was accepted is not kept.
func TestOneSandboxTakesTheConnectionsOfNoOther(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/server", "server")
	w.begin(11, two)
	w.exec(11, "/bin/curl", "curl")
	w.closed(10, 50, record.Close{Incoming: true})
	w.accept(10, "10.0.0.9", 80, 50)
	if n := w.c.Stats().Connections; n != 0 {
		t.Errorf("%d connections are kept", n)
	}
	w.connect(11, to("10.0.0.9:443", unix.IPPROTO_TCP))
	w.connectEnd(11, 0)
	for n := range uint64(70000) {
		a, family := addr("10.0.0.9")
		w.act(10, record.Accept{Cookie: 1000 + n, Addr: a, Peer: a, Family: family, Protocol: unix.IPPROTO_TCP, Port: 80, PeerPort: 100})
	}
	w.closed(11, 5, record.Close{})
	if s := w.of(span.Close)[1]; s.Parent != w.only(span.Connect).ID {
		t.Errorf("%s", show([]span.Span{s}))
	}
}
