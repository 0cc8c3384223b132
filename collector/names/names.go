// SPDX-License-Identifier: Apache-2.0

// Package names reads what names a peer: DNS messages, and the first bytes that a connection sends. All of it comes from
// sandboxes or from the network, and may be anything.
package names

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Bounds of what is read.
const (
	MaxStream  = 4096 // bytes of a stream
	maxRecords = 128  // of a DNS answer
	maxChain   = 16   // of aliases
)

// A Source is where a name is from: the value of sheetbend.server.name.source.
type Source string

// The sources of names.
const (
	DNS   Source = "dns"
	Hosts Source = "hosts"
	TLS   Source = "tls"
	HTTP  Source = "http"
)

// A Question is what a lookup asks; it is comparable.
type Question struct {
	ID   uint16
	Type uint16
	Name string // in small letters, without the last dot
}

// A Message is a DNS query, or the answer to one.
type Message struct {
	Question
	Response  bool
	Truncated bool   // there is more, which has to be asked for by TCP
	Code      uint16 // of a response: RCODE
	Addresses []netip.Addr
}

var errQuestions = errors.New("not one question")

// ParseDNS reads a message. Of an answer it gives the addresses that the name asked for has, also by aliases and as hints
// (SVCB, HTTPS). Records that it does not know are passed over; an answer of which a part cannot be read is an error.
func ParseDNS(b []byte) (m Message, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return m, err
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return m, err
	}
	if len(questions) != 1 || h.OpCode != 0 {
		return m, errQuestions
	}
	m = Message{
		Question: Question{ID: h.ID, Type: uint16(questions[0].Type), Name: nameOf(questions[0].Name)},
		Response: h.Response, Truncated: h.Truncated, Code: uint16(h.RCode),
	}
	if !m.Response || m.Truncated {
		return m, nil
	}
	aliases, addresses := map[string]string{}, map[string][]netip.Addr{}
	for range maxRecords {
		head, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return m, err
		}
		owner := nameOf(head.Name)
		add := func(a netip.Addr) { addresses[owner] = append(addresses[owner], a.Unmap()) }
		switch head.Type {
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return m, err
			}
			add(netip.AddrFrom4(r.A))
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return m, err
			}
			add(netip.AddrFrom16(r.AAAA))
		case dnsmessage.TypeCNAME:
			r, err := p.CNAMEResource()
			if err != nil {
				return m, err
			}
			aliases[owner] = nameOf(r.CNAME)
		case dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
			r, err := service(&p, head.Type)
			if err != nil {
				return m, err
			}
			if r.Priority == 0 {
				aliases[owner] = nameOf(r.Target)
			}
			for _, param := range r.Params {
				size := map[dnsmessage.SVCParamKey]int{dnsmessage.SVCParamIPv4Hint: 4, dnsmessage.SVCParamIPv6Hint: 16}[param.Key]
				for v := param.Value; size > 0 && len(v) >= size; v = v[size:] {
					a, _ := netip.AddrFromSlice(v[:size])
					add(a)
				}
			}
		default:
			if err := p.SkipAnswer(); err != nil {
				return m, err
			}
		}
	}
	name := m.Name
	for range maxChain {
		m.Addresses = append(m.Addresses, addresses[name]...)
		next, ok := aliases[name]
		if !ok {
			break
		}
		delete(addresses, name) // a loop gives nothing twice
		name = next
	}
	return m, nil
}

func service(p *dnsmessage.Parser, t dnsmessage.Type) (dnsmessage.SVCBResource, error) {
	if t == dnsmessage.TypeSVCB {
		return p.SVCBResource()
	}
	r, err := p.HTTPSResource()
	return r.SVCBResource, err
}

func nameOf(n dnsmessage.Name) string { return Canonical(n.String()) }

// Canonical is the form in which names are compared: only the letters of ASCII have two cases.
func Canonical(name string) string {
	b := []byte(strings.TrimRight(name, "."))
	for i, letter := range b {
		if 'A' <= letter && letter <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// NextMessage takes the first whole message off a stream of DNS. ok: there was one.
func NextMessage(stream []byte) (message, rest []byte, ok bool) {
	if len(stream) < 2 || len(stream)-2 < int(binary.BigEndian.Uint16(stream)) {
		return nil, stream, false
	}
	n := 2 + int(binary.BigEndian.Uint16(stream))
	return stream[2:n], stream[n:], true
}

// HasRecord says whether the first bytes of a connection have a whole record of TLS.
func HasRecord(b []byte) bool {
	return len(b) >= 5 && b[0] == 22 && len(b)-5 >= int(binary.BigEndian.Uint16(b[3:]))
}

// First finds the name of the server in the first bytes of a connection: that of a TLS ClientHello, or an HTTP request's
// host. "": there is none, or not all of it is there.
func First(b []byte) (string, Source) {
	var name string
	source := HTTP
	if len(b) > 0 && b[0] == 22 {
		name, source = serverName(b), TLS
	} else {
		name = host(b)
	}
	if name = Canonical(name); name == "" || len(name) > 255 || strings.ContainsFunc(name, isNoName) {
		return "", ""
	}
	return name, source
}

// isNoName says whether a character is in no name of a host, and no address.
func isNoName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:", r)
}

var errEnough = errors.New("enough")

// serverName has the standard library read a ClientHello, as a server that then breaks off.
func serverName(b []byte) (name string) {
	server := tls.Server(bytesConn{bytes.NewReader(b)}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errEnough
		},
	})
	_ = server.Handshake() // it ends with errEnough, or there is no name
	return name
}

// bytesConn is a connection from which some bytes came.
type bytesConn struct{ io.Reader }

func (bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (bytesConn) Close() error                     { return nil }
func (bytesConn) LocalAddr() net.Addr              { return nil }
func (bytesConn) RemoteAddr() net.Addr             { return nil }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }

// host reads the head of a request, of which the end may be missing.
func host(b []byte) string {
	if len(b) > MaxStream {
		b = b[:MaxStream]
	}
	whole := append(bytes.Clone(b[:bytes.LastIndexByte(b, '\n')+1]), "\r\n"...)
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(whole)))
	if err != nil {
		return ""
	}
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		return h
	}
	return strings.Trim(r.Host, "[]")
}

// Redact gives the record without what is not needed and may be secret: of an HTTP request only the host is left. What a
// connection begins with otherwise, but for a TLS ClientHello, is taken away. raw may be written over.
func Redact(raw []byte) []byte {
	if len(raw) < 2 || record.Type(binary.LittleEndian.Uint16(raw)) != record.TypePacket {
		return raw
	}
	var e record.Event
	if e.Decode(raw) != nil || e.Packet.What != record.PacketFirst || len(e.Packet.Bytes) == 0 {
		return raw
	}
	// A later piece of what is no ClientHello is never sent.
	if e.Packet.Offset > 0 || e.Packet.Bytes[0] == 22 {
		return raw
	}
	payload := ""
	if name, source := First(e.Packet.Bytes); source == HTTP {
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		payload = "GET / HTTP/1.1\r\nHost: " + name + "\r\n"
	}
	return record.SetPacketBytes(raw, payload)
}
