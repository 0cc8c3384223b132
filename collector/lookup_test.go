// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

const resolver = "10.0.0.53:53"

// named is a world in which packets come.
func named(t testing.TB, change ...func(*config.Config)) *world {
	w := newWorld(t, append([]func(*config.Config){func(c *config.Config) { c.Names = true }}, change...)...)
	w.begin(10, one)
	w.exec(10, "/bin/curl", "curl")
	return w
}

// packet sends a packet of the socket 7, of which this side is 10.9.9.9:40000.
func (w *world) packet(pid uint32, flags uint16, peer string, r record.Packet) {
	w.t.Helper()
	ap := netip.MustParseAddrPort(peer)
	r.Family, r.Addr = unix.AF_INET, [16]byte{10, 9, 9, 9}
	if a := ap.Addr(); a.Is4() {
		b := a.As4()
		copy(r.Peer[:], b[:])
	} else {
		r.Family, r.Peer, r.Addr = unix.AF_INET6, a.As16(), [16]byte{15: 9}
	}
	r.Cookie, r.PeerPort = cmp.Or(r.Cookie, 7), ap.Port()
	if r.Port == 0 {
		r.Port = 40000
	}
	if r.Size == 0 {
		r.Size = uint32(len(r.Bytes))
	}
	h := w.header(pid)
	h.Flags = flags
	w.raw(rt.Record(h, r))
}

// dns makes a message: the question, and the answers as "owner TYPE value".
func dns(t testing.TB, id uint16, response bool, kind dnsmessage.Type, name string, answers ...string) []byte {
	t.Helper()
	h := dnsmessage.Header{ID: id, Response: response}
	if len(answers) == 1 && answers[0] == "NXDOMAIN" {
		h.RCode, answers = dnsmessage.RCodeNameError, nil
	}
	if len(answers) > 0 && answers[0] == "cut" {
		h.Truncated, answers = true, answers[1:]
	}
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET},
	}}
	for _, text := range answers {
		f := strings.Fields(text)
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(f[0]), Class: dnsmessage.ClassINET}}
		switch f[1] {
		case "A":
			r.Body = &dnsmessage.AResource{A: netip.MustParseAddr(f[2]).As4()}
		case "AAAA":
			r.Body = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(f[2]).As16()}
		case "CNAME":
			r.Body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[2])}
		case "TXT":
			r.Body = &dnsmessage.TXTResource{TXT: f[2:]}
		case "HTTPS":
			hint := netip.MustParseAddr(f[2]).As4()
			r.Body = &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{
				Priority: 1, Target: dnsmessage.MustNewName("."),
				Params: []dnsmessage.SVCParam{{Key: dnsmessage.SVCParamIPv4Hint, Value: hint[:]}},
			}}
		}
		m.Answers = append(m.Answers, r)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) ask(pid uint32, id uint16, name string) {
	w.packet(pid, record.PacketOut, resolver, record.Packet{What: record.PacketDNS, Bytes: dns(w.t, id, false, dnsmessage.TypeA, name)})
}

func (w *world) answer(pid uint32, id uint16, name string, answers ...string) {
	w.packet(pid, 0, resolver, record.Packet{What: record.PacketDNS, Bytes: dns(w.t, id, true, dnsmessage.TypeA, name, answers...)})
}

func (w *world) resolve(pid uint32, name string, answers ...string) {
	w.ask(pid, 1, name)
	w.answer(pid, 1, name, answers...)
}

// connected connects, and sends what a connection begins with in pieces.
func (w *world) connected(pid uint32, address string, first ...[]byte) {
	w.connect(pid, to(address, unix.IPPROTO_TCP))
	w.connectEnd(pid, 0)
	offset := 0
	for n, b := range first {
		flags := uint16(record.PacketOut | record.PacketStream)
		if n == len(first)-1 {
			flags |= record.PacketLast
		}
		w.packet(pid, flags, address, record.Packet{What: record.PacketFirst, Cookie: 5, Offset: uint32(offset), Bytes: b})
		offset += len(b)
	}
}

// clientHello is what a client sends that wants a server of this name.
func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		_ = tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
	}()
	b := make([]byte, 5)
	if _, err := readFull(ours, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b[3:]))...)
	if _, err := readFull(ours, b[5:]); err != nil {
		t.Fatal(err)
	}
	return b
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	return n, err
}

func TestNamesOfPeers(t *testing.T) {
	const a = "192.0.2.7"
	hello := clientHello(t, "api.example.com")
	get := []byte("GET /secret HTTP/1.1\r\nHost: web.example.com:8080\r\nCookie: secr")
	own := func(w *world, address string) {
		b := netip.MustParseAddr(address).As4()
		h := w.header(11)
		h.Flags, h.Tgid, h.Start = record.PacketOut|record.PacketAnswers, 0, 0 // only the cgroup is known
		r := record.Packet{What: record.PacketDNS, Family: unix.AF_INET, Port: 53}
		copy(r.Addr[:], b[:])
		w.raw(rt.Record(h, r))
	}
	// name, source, claimed, disagrees; name "": the address
	type want struct {
		name, source, claimed string
		disagrees             bool
	}
	for _, c := range []struct {
		name string
		do   func(w *world)
		want want
	}{
		{"nothing is known", func(w *world) { w.connected(10, a+":443", nil) }, want{}},
		{"by DNS", func(w *world) {
			w.resolve(10, "API.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"by an alias of an alias: the name that was asked for", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. CNAME x.cdn.net.", "x.cdn.net. CNAME y.cdn.net.", "y.cdn.net. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"an address of a name that is no alias", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A 192.0.2.8", "bank.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"aliases in a circle", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. CNAME b.com.", "b.com. CNAME api.example.com.", "b.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"by a hint", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. HTTPS "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"IPv6", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. AAAA 2001:db8::7")
			w.connected(10, "[2001:db8::7]:443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"IPv4 in IPv6", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, "[::ffff:"+a+"]:443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"asked by another process of the sandbox", func(w *world) {
			w.begin(11, one)
			w.resolve(11, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"what it asked itself goes before what others asked since", func(w *world) {
			w.begin(11, one)
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.resolve(11, "other.example.com.", "other.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"asked in another sandbox", func(w *world) {
			w.begin(11, two)
			w.resolve(11, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer that nobody asked for", func(w *world) {
			w.answer(10, 1, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer with another id", func(w *world) {
			w.ask(10, 2, "api.example.com.")
			w.answer(10, 1, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer to another question", func(w *world) {
			w.ask(10, 1, "evil.com.")
			w.answer(10, 1, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer from another server", func(w *world) {
			w.ask(10, 1, "api.example.com.")
			w.packet(10, 0, "10.0.0.66:53", record.Packet{
				What: record.PacketDNS, Bytes: dns(t, 1, true, dnsmessage.TypeA, "api.example.com.", "api.example.com. A "+a),
			})
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer twice: the second is not asked for", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A 192.0.2.1")
			w.answer(10, 1, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer that was cut", func(w *world) {
			w.resolve(10, "api.example.com.", "cut", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{}},
		{"an answer that is longer than what was sent of it", func(w *world) {
			w.ask(10, 1, "api.example.com.")
			b := dns(t, 1, true, dnsmessage.TypeA, "api.example.com.", "api.example.com. A "+a)
			w.packet(10, 0, resolver, record.Packet{What: record.PacketDNS, Bytes: b, Size: 9000})
			w.connected(10, a+":443", nil)
		}, want{}},
		{"a name that points at itself", func(w *world) {
			w.ask(10, 1, "api.example.com.")
			b := dns(t, 1, true, dnsmessage.TypeA, "api.example.com.", "api.example.com. A "+a)
			i := bytes.LastIndex(b, []byte{0xc0, 12})
			b[i+1] = byte(i)
			w.packet(10, 0, resolver, record.Packet{What: record.PacketDNS, Bytes: b})
			w.connected(10, a+":443", nil)
		}, want{}},
		{"by TCP, in pieces", func(w *world) {
			for _, m := range []struct {
				flags uint16
				b     []byte
			}{
				{record.PacketOut, dns(t, 1, false, dnsmessage.TypeA, "api.example.com.")},
				{0, dns(t, 1, true, dnsmessage.TypeA, "api.example.com.", "api.example.com. A "+a)},
			} {
				b := append(binary.BigEndian.AppendUint16(nil, uint16(len(m.b))), m.b...)
				for i := 0; i < len(b); i += 30 {
					w.packet(10, m.flags|record.PacketStream, resolver, record.Packet{
						What: record.PacketDNS, Offset: uint32(i), Bytes: b[i:min(i+30, len(b))],
					})
				}
			}
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"the sandbox answers from there", func(w *world) {
			own(w, "10.0.0.53")
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{claimed: "api.example.com", source: "dns"}},
		{"the sandbox answers from somewhere else", func(w *world) {
			own(w, "10.0.0.54")
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
		{"the sandbox answers from everywhere", func(w *world) {
			for n := range 70 {
				own(w, fmt.Sprintf("10.1.0.%d", n))
			}
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{claimed: "api.example.com", source: "dns"}},
		{"in a network namespace of its own", func(w *world) {
			w.ask(10, 1, "api.example.com.")
			w.packet(10, record.PacketForeign, resolver, record.Packet{
				What: record.PacketDNS, Bytes: dns(t, 1, true, dnsmessage.TypeA, "api.example.com.", "api.example.com. A "+a),
			})
			w.connected(10, a+":443", nil)
		}, want{claimed: "api.example.com", source: "dns"}},
		{"by the host's file", func(w *world) { w.connected(10, "192.0.2.99:443", nil) }, want{name: "box.lan", source: "hosts"}},
		{"by TLS", func(w *world) { w.connected(10, a+":443", hello) }, want{claimed: "api.example.com", source: "tls"}},
		{"by TLS, in pieces", func(w *world) { w.connected(10, a+":8443", hello[:3], hello[3:200], hello[200:]) },
			want{claimed: "api.example.com", source: "tls"}},
		{"TLS without a name", func(w *world) { w.connected(10, a+":443", clientHello(t, "")) }, want{}},
		{"TLS of which a piece is missing", func(w *world) { w.connected(10, a+":443", hello[:100], hello[200:]) }, want{}},
		{"by HTTP", func(w *world) { w.connected(10, a+":8080", get) }, want{claimed: "web.example.com", source: "http"}},
		{"TLS says the same as DNS", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.connected(10, a+":443", hello)
		}, want{name: "api.example.com", source: "dns"}},
		{"TLS says something else than DNS", func(w *world) {
			w.resolve(10, "evil.com.", "evil.com. A "+a)
			w.connected(10, a+":443", hello)
		}, want{"evil.com", "dns", "api.example.com", true}},
		{"TLS says which of several names it is", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			w.resolve(10, "www.example.com.", "www.example.com. A "+a)
			w.connected(10, a+":443", hello)
		}, want{name: "api.example.com", source: "dns"}},
		{"what the sandbox itself answers does not replace what came from outside", func(w *world) {
			w.resolve(10, "api.example.com.", "api.example.com. A "+a)
			own(w, "10.0.0.53")
			w.resolve(10, "bank.com.", "bank.com. A "+a)
			w.connected(10, a+":443", nil)
		}, want{name: "api.example.com", source: "dns"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := named(t, func(c *config.Config) {
				c.Hosts = []config.Host{{Address: netip.MustParseAddr("192.0.2.99"), Name: "Box.lan"}, {Address: netip.MustParseAddr("192.0.2.99"), Name: "alias"}}
			})
			c.do(w)
			s := w.only(span.Connect)
			address := text(s, span.KeyPeerAddress)
			if c.want.name != "" {
				address = c.want.name
			}
			opt := func(s string) any {
				if s == "" {
					return nil
				}
				return s
			}
			var disagrees any
			if c.want.disagrees {
				disagrees = true
			}
			wants(t, s, map[string]any{
				span.KeyServerAddress: address, span.KeyServerSource: opt(c.want.source), span.KeyServerClaimed: opt(c.want.claimed),
				span.KeyServerDisagrees: disagrees, span.KeyPeerName: opt(c.want.name), span.KeyPeerService: opt(c.want.name),
			})
		})
	}
}

func text(s span.Span, key string) string { text, _ := get(s, key).(string); return text }

func TestLookups(t *testing.T) {
	w := named(t)
	w.ask(10, 1, "a.com.")
	at := w.now
	w.now += 30 * ms
	w.answer(10, 1, "a.com.", "a.com. A 192.0.2.1", "a.com. A 192.0.2.2", "a.com. TXT x")
	took := w.now - at
	for range 2 { // repeats, of which one has another address
		w.resolve(10, "A.com.", "a.com. A 192.0.2.3")
	}
	w.resolve(10, "none.com.", "NXDOMAIN")
	w.ask(10, 9, "silent.com.")
	w.tick(5 * time.Second)
	list := w.of(span.Lookup)
	if len(list) != 3 {
		t.Fatalf("%s", show(list))
	}
	by := map[string]span.Span{}
	for _, s := range list {
		by[text(s, span.KeyDNSName)] = s
	}
	s := by["a.com"]
	wants(t, s, map[string]any{
		span.KeyCount: 3, span.KeyDNSAnswers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, span.KeyDNSType: "A", span.KeyDNSCode: "NOERROR",
		span.KeyPeerAddress: "10.0.0.53", span.KeyPeerPort: 53, span.KeyTransport: "udp", span.KeyOutcome: "ok", span.KeyDNSClaimed: nil,
	})
	if s.End-s.Start != took || s.ID != span.LookupSpan(boot, image1(10, 1), 10, at, 1, 1, "a.com") || s.Parent != span.ExecSpan(boot, image1(10, 1)) {
		t.Errorf("lasts %d: %s", s.End-s.Start, show([]span.Span{s}))
	}
	wants(t, by["none.com"], map[string]any{span.KeyDNSCode: "NXDOMAIN", span.KeyOutcome: "missing", span.KeyErrorType: "NXDOMAIN", span.KeyDNSAnswers: nil})
	wants(t, by["silent.com"], map[string]any{span.KeyPartial: true, span.KeyOutcome: nil, span.KeyDNSCode: nil})
	w.answer(10, 9, "silent.com.", "silent.com. A 192.0.2.9")
	w.packet(10, 0, resolver, record.Packet{What: record.PacketDNS, Bytes: []byte("no DNS")})
	if s := w.c.Stats(); s.UnaskedAnswers != 1 || s.BadLookups != 1 {
		t.Errorf("%+v", s)
	}
}

// TestTheFirstBytesAreAwaitedForAHold: a connection on which nothing is sent has its span all the same.
func TestTheFirstBytesAreAwaitedForAHold(t *testing.T) {
	w := named(t)
	w.connect(10, to("192.0.2.7:22", unix.IPPROTO_TCP))
	w.connectEnd(10, 0)
	end := w.now
	w.tick(time.Second)
	if list := w.of(span.Connect); len(list) != 0 {
		t.Errorf("sent before: %s", show(list))
	}
	w.tick(2 * time.Second)
	s := w.only(span.Connect)
	wants(t, s, map[string]any{span.KeyServerAddress: "192.0.2.7", span.KeyServerPort: 22, span.KeyPartial: nil, span.KeyNoticed: nil, span.KeyOutcome: "ok"})
	if s.End-s.Start != end-(s.Start-wallStart+bootStart) {
		t.Errorf("lasts %d", s.End-s.Start)
	}
	if n := w.c.Stats().Connects; n != 0 {
		t.Errorf("%d are held", n)
	}
}

// TestNamesAreBounded: a sandbox that learns many addresses forgets its own, not those of others.
func TestNamesAreBounded(t *testing.T) {
	w := named(t)
	w.begin(11, two)
	w.resolve(11, "mine.com.", "mine.com. A 192.0.2.7")
	w.resolve(10, "first.com.", "first.com. A 192.0.2.7")
	for n := range 5000 {
		w.resolve(10, "x.com.", fmt.Sprintf("x.com. A 10.%d.%d.%d", n>>16, n>>8&255, n&255))
	}
	w.connected(10, "192.0.2.7:443", nil)
	w.connected(11, "192.0.2.7:443", nil)
	list := w.of(span.Connect)
	if len(list) != 2 {
		t.Fatal(show(list))
	}
	wants(t, list[0], map[string]any{span.KeyServerAddress: "192.0.2.7"})
	wants(t, list[1], map[string]any{span.KeyServerAddress: "mine.com"})
}

// queries sends all of them in one segment of a connection.
func (w *world) queries(pid uint32, cookie uint64, flags uint16, messages ...[]byte) {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	w.packet(pid, flags|record.PacketStream, resolver, record.Packet{What: record.PacketDNS, Cookie: cookie, Bytes: b})
}

func TestQueriesInOneSegmentAreSpansOfTheirOwn(t *testing.T) {
	w := named(t)
	w.queries(10, 7, record.PacketOut, dns(t, 1, false, dnsmessage.TypeA, "a.com."), dns(t, 2, false, dnsmessage.TypeAAAA, "a.com."),
		dns(t, 3, false, dnsmessage.TypeA, "b.com."), dns(t, 4, false, dnsmessage.TypeA, "a.com."))
	w.queries(10, 7, 0, dns(t, 1, true, dnsmessage.TypeA, "a.com.", "NXDOMAIN"), dns(t, 4, true, dnsmessage.TypeA, "a.com.", "a.com. A 192.0.2.1"))
	w.tick(5 * time.Second)
	if list := w.of(span.Lookup); len(list) != 4 {
		t.Errorf("%s", show(list))
	}
	w.exit(10, 0)
	w.follows(100)
}

// TestALookupIsWhosTheQueryWas: whoever asks, and runs another program or ends before the answer, is told all the same.
func TestALookupIsWhosTheQueryWas(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Names = true })
	w.codex(10)
	w.call(10, 11, "call_1")
	w.ask(11, 1, "exec.com.")
	w.ask(11, 2, "silent.com.")
	w.start(11, "/bin/cat", false)
	w.ask(11, 4, "exec.com.")
	for _, id := range []uint16{4, 1} {
		w.answer(11, id, "exec.com.", "exec.com. A 192.0.2.1")
	}
	w.ask(11, 3, "exit.com.")
	w.exit(11, 0)
	w.answer(10, 3, "exit.com.", "exit.com. A 192.0.2.1")
	w.tick(5 * time.Second)
	programs := map[string]int{}
	for _, s := range w.of(span.Lookup) {
		wants(t, s, map[string]any{span.KeyCallID: "call_1", span.KeyAttribution: "call_id", span.KeyCount: 1})
		programs[text(s, span.KeyDNSName)+" "+text(s, span.KeyExecutableName)]++
	}
	if got := fmt.Sprint(programs); got != "map[exec.com bash:1 exec.com cat:1 exit.com cat:1 silent.com bash:1]" {
		t.Errorf("%s: %s", got, show(w.of(span.Lookup)))
	}
}

// TestUnansweredQueriesFillTracesAsTheyCome, and not one at the end of the hold.
func TestUnansweredQueriesFillTracesAsTheyCome(t *testing.T) {
	w := named(t, func(c *config.Config) { c.MaxSpansPerTrace = 20 })
	for n := range 1000 {
		w.ask(10, 1, fmt.Sprintf("n%d.com.", n))
	}
	w.tick(5 * time.Second)
	if n := len(w.of(span.Lookup)); n != 1000 {
		t.Errorf("%d lookups", n)
	}
	w.exit(10, 0)
	w.follows(20 + 3)
}

// TestClaimedNamesPushOutNoOthers: what a sandbox answers itself costs it none of the names from outside.
func TestClaimedNamesPushOutNoOthers(t *testing.T) {
	w := named(t)
	w.resolve(10, "true.com.", "true.com. A 192.0.2.7")
	for n := range 5000 {
		w.ask(10, 1, "x.com.")
		w.packet(10, record.PacketForeign, resolver, record.Packet{
			What: record.PacketDNS, Bytes: dns(t, 1, true, dnsmessage.TypeA, "x.com.", fmt.Sprintf("x.com. A 10.%d.%d.%d", n>>16, n>>8&255, n&255)),
		})
	}
	w.connected(10, "192.0.2.7:443", nil)
	wants(t, w.only(span.Connect), map[string]any{span.KeyServerAddress: "true.com"})
	// A sandbox that is gone has no names: a hold later, as the spans of its last connections do without an end.
	w.connect(10, to("192.0.2.7:444", unix.IPPROTO_TCP))
	w.exit(10, 0)
	w.removed(one, "/agents/one")
	w.tick(5 * time.Second)
	wants(t, w.of(span.Connect)[1], map[string]any{span.KeyServerAddress: "true.com", span.KeyPartial: true})
	if n := w.c.Stats().Names; n != 0 {
		t.Errorf("%d names are left", n)
	}
}

// TestStreamsAreBounded: a sandbox with many connections to resolvers has only its own not read, and that is counted.
func TestStreamsAreBounded(t *testing.T) {
	w := named(t)
	w.begin(11, two)
	w.exec(11, "/bin/dig", "dig")
	query := dns(t, 1, false, dnsmessage.TypeA, "a.com.")
	b := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	piece := func(pid uint32, cookie uint64, from, to int) {
		w.packet(pid, record.PacketOut|record.PacketStream, resolver, record.Packet{What: record.PacketDNS, Cookie: cookie, Offset: uint32(from), Bytes: b[from:to]})
	}
	piece(11, 1, 0, 9)
	for n := range uint64(600) {
		piece(10, 100+n, 0, 9)
	}
	piece(11, 1, 9, len(b))
	piece(10, 100, 9, len(b))
	w.tick(5 * time.Second)
	wants(t, w.only(span.Lookup), map[string]any{span.KeyPID: 11})
	if n := w.c.Stats().BadLookups; n != 1 {
		t.Errorf("%d bad ones", n)
	}
}

// TestFirstBytesAreHeldBytes: they are counted while they are held.
func TestFirstBytesAreHeldBytes(t *testing.T) {
	w := named(t)
	before := w.c.Stats().HeldBytes
	w.connect(10, to("192.0.2.7:443", unix.IPPROTO_TCP))
	first := func(from, to int, flags uint16) {
		w.packet(10, record.PacketOut|record.PacketStream|flags, "192.0.2.7:443", record.Packet{
			What: record.PacketFirst, Cookie: 5, Offset: uint32(from), Bytes: append([]byte{22, 3, 1, 9, 9}, make([]byte, 2000)...)[from:to],
		})
	}
	first(0, 1000, 0)
	if n := w.c.Stats().HeldBytes - before; n != 1000 {
		t.Errorf("%d bytes are held", n)
	}
	first(1000, 1500, record.PacketLast)
	if n := w.c.Stats().HeldBytes - before; n != 0 {
		t.Errorf("%d bytes are held when they were read", n)
	}
}

// TestALookupOfWhatTurnsOutToBeACommandIsTheCalls: the query came when the shell might still have been a hook.
func TestALookupOfWhatTurnsOutToBeACommandIsTheCalls(t *testing.T) {
	w := newWorld(t, withSelf, func(c *config.Config) { c.Names = true })
	w.agentAt(10, "/usr/bin/opencode")
	w.shellFor(10, 11, "/bin/bash", "/usr/bin/sheetbend hook x")
	w.ask(11, 1, "a.com.")
	w.open(11, "/home/u/.ssh/id_rsa")
	w.answer(11, 1, "a.com.", "a.com. A 192.0.2.1")
	w.c.Close()
	call := get(w.opened("/home/u/.ssh/id_rsa"), span.KeyCallID)
	s := w.only(span.Lookup)
	if get(s, span.KeyCallID) != call || call == nil {
		t.Errorf("%v: %s", call, show([]span.Span{s}))
	}
}
