// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

// answer is of a.com, with an alias, an address and a hint.
func answer(t testing.TB) []byte {
	name := dnsmessage.MustNewName
	head := func(n string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name(n), Class: dnsmessage.ClassINET}
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: name("a.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: head("a.com."), Body: &dnsmessage.CNAMEResource{CNAME: name("b.com.")}},
			{Header: head("b.com."), Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
			{Header: head("b.com."), Body: &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{
				Priority: 1, Target: name("."), Params: []dnsmessage.SVCParam{{Key: dnsmessage.SVCParamIPv6Hint, Value: make([]byte, 33)}},
			}}},
		},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzDNS(f *testing.F) {
	whole := answer(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(slices.Clone(whole), whole...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseDNS(b)
		if len(m.Name) > 255*4 || len(m.Addresses) > maxRecords*len(b)/4 || err == nil && m.Name != Canonical(m.Name) {
			t.Fatalf("%+v, %v", m, err)
		}
		for _, a := range m.Addresses {
			if !a.IsValid() || a.Is4In6() {
				t.Fatal(a)
			}
		}
		for rest, ok := b, true; ok; {
			before := len(rest)
			if _, rest, ok = NextMessage(rest); ok && len(rest) >= before {
				t.Fatal("nothing was taken")
			}
		}
	})
}

func FuzzFirst(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.com:80\r\nCookie: a"))
	f.Add([]byte("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"))
	f.Add(append([]byte{22, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3}, make([]byte, 74)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, source := First(b)
		if len(name) > 255*3 || (name == "") != (source == "") {
			t.Fatalf("%q by %q", name, source)
		}
		raw := rt.Record(record.Header{}, record.Packet{What: record.PacketFirst, Size: uint32(len(b)), Bytes: b})
		var e record.Event
		if err := e.Decode(Redact(slices.Clone(raw))); err != nil {
			t.Fatal(err)
		}
		again, by := First(e.Packet.Bytes)
		if again != name || by != source {
			t.Fatalf("%q by %q, redacted %q by %q", name, source, again, by)
		}
	})
}

// TestOfARequestOnlyTheHostIsKept: what a connection sends first can be secret, and a capture has it as it was.
func TestOfARequestOnlyTheHostIsKept(t *testing.T) {
	for _, text := range []string{
		"GET /a?token=secret HTTP/1.1\r\nHost: A.com:8080\r\nAuthorization: secret\r\nCookie: secr",
		"POST /secret HTTP/1.1\r\nAuthorization: secret\r\nHost: a.com\r\n\r\nsecret",
		"GET http://user:secret@a.com/ HTTP/1.1\r\nHost: secret.com\r\n\r\n",
		"GET /secret HTTP/1.1\r\nAuthorization: secret\r\nHost: a.co",
		"AUTH secret",
	} {
		in := rt.Record(record.Header{Time: 5}, record.Packet{What: record.PacketFirst, Cookie: 3, Size: uint32(len(text)), Bytes: []byte(text)})
		raw := Redact(slices.Clone(in))
		var e record.Event
		if err := e.Decode(raw); err != nil || e.Packet.Cookie != 3 || int(e.Packet.Size) != len(text) {
			t.Errorf("%q: %+v, %v", text, e.Packet, err)
		}
		if bytes.Contains(raw, []byte("secret")) {
			t.Errorf("%q leaves %q", text, e.Packet.Bytes)
		}
		want := "a.com"
		if !strings.Contains(text, "a.com\r") && !strings.Contains(text, "A.com:") && !strings.Contains(text, "@a.com/") {
			want = ""
		}
		if got, _ := First(e.Packet.Bytes); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	other := rt.Record(record.Header{}, record.Packet{What: record.PacketDNS, Size: 6, Bytes: []byte("secret")})
	if !bytes.Equal(Redact(slices.Clone(other)), other) {
		t.Error("a lookup is changed")
	}
}

func TestOnlyLettersOfASCIIHaveTwoCases(t *testing.T) {
	if got := Canonical("ban\u212A.COM."); got != "ban\u212A.com" { // the sign for kelvin, of which k is the small letter
		t.Errorf("%q", got)
	}
}

func TestTheHostsFile(t *testing.T) {
	got := ParseHosts(strings.NewReader("127.0.0.1 localhost\n# 10.0.0.1 no\n::1 x\n  10.0.0.2\tA.lan  a # b\nfe80::1%eth0 zone\n::ffff:10.0.0.3 six\n10.0.0.4\nno 10\n"))
	at := netip.MustParseAddr
	want := []config.Host{{Address: at("10.0.0.2"), Name: "A.lan"}, {Address: at("10.0.0.2"), Name: "a"}, {Address: at("fe80::1"), Name: "zone"}, {Address: at("10.0.0.3"), Name: "six"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
