// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/names"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of what is known of names.
const (
	maxKnown      = 4096  // addresses of a sandbox; the one that was neither learned nor used for longest is forgotten
	maxKnownTotal = 32768 // of all
	maxNamesOf    = 8     // names of one address
	maxResolvers  = 64    // addresses from which a sandbox answers; with more of them nothing is believed
	maxStreams    = 256   // of lookups, each of up to names.MaxStream bytes
	maxTold       = 16    // addresses of an answer that a span tells
)

// A lookup is a query that waits for its answer.
type lookup struct {
	held    held
	process *lineage.Process
	header  record.Header // of the query
	key     lookupKey
	server  netip.AddrPort
}

type lookupKey struct {
	cookie   uint64
	question names.Question
}

func (l *lookup) runOut(c *Spans, _ uint64) {
	delete(c.lookups, l.key)
	c.tellLookup(l, dnsEvent{noAnswer: true}, nil, 0)
}

// dnsEvent is what a dns.lookup span tells, but for time and addresses.
type dnsEvent struct {
	name     string
	kind     uint16
	code     uint16
	server   netip.AddrPort
	stream   bool
	noAnswer bool
	cut      bool
	claimed  bool
}

// resolvers are the addresses from which processes of a sandbox answer lookups themselves.
type resolvers struct {
	at   []netip.Addr
	many bool
}

type streamKey struct {
	cookie uint64
	out    bool
}

// Packet takes bytes of a socket that may name its peer.
func (c *Spans) Packet(h *record.Header, r *record.Packet) {
	switch {
	case h.Flags&record.PacketAnswers != 0:
		c.answersItself(h, r)
	case r.What == record.PacketFirst:
		c.firstBytes(h, r)
	case r.What == record.PacketDNS && h.Flags&record.PacketStream != 0:
		key := streamKey{r.Cookie, h.Flags&record.PacketOut != 0}
		b := c.streams.add(key, r)
		for message, rest, ok := names.NextMessage(b); ok; message, rest, ok = names.NextMessage(rest) {
			c.dnsMessage(h, r, message)
			c.streams.left(key, rest)
		}
	case r.What == record.PacketDNS && len(r.Bytes) == int(r.Size):
		c.dnsMessage(h, r, r.Bytes)
	default:
		c.stats.BadLookups++
	}
}

// answersItself: what is asked there a process of the sandbox answers.
func (c *Spans) answersItself(h *record.Header, r *record.Packet) {
	var sb *attribution.Sandbox
	if p := c.lineage.Processes[h.Tgid]; p != nil && p.Start == h.Start {
		sb = &p.Sandbox.Sandbox
	} else if g := c.lineage.Cgroups[h.Cgroup]; g != nil {
		sb = &g.Sandbox.Sandbox
	} else {
		return
	}
	own := &c.knownOf(sb).resolvers
	a := addrOf(r.Family, r.Addr)
	if own.many || slices.Contains(own.at, a) {
		return
	}
	own.at, own.many = append(own.at, a), len(own.at) >= maxResolvers
}

func (c *Spans) dnsMessage(h *record.Header, r *record.Packet, b []byte) {
	m, err := names.ParseDNS(b)
	if err != nil || m.Response != (h.Flags&record.PacketOut == 0) {
		c.stats.BadLookups++
		return
	}
	key := lookupKey{r.Cookie, m.Question}
	l := c.lookups[key]
	server := netip.AddrPortFrom(addrOf(r.Family, r.Peer), r.PeerPort)
	if !m.Response {
		p := c.lineage.Processes[h.Tgid]
		if l != nil || p == nil || p.Start != h.Start {
			return // asked once more, or late
		}
		l = &lookup{process: p, header: *h, key: key, server: server}
		c.queue.hold(&c.queue.brief, &l.held, l, len(m.Name), h.Time+uint64(c.config.Hold))
		c.lookups[key] = l
		return
	}
	if l == nil || l.server != server {
		c.stats.UnaskedAnswers++
		return
	}
	c.queue.drop(&l.held)
	delete(c.lookups, key)
	known := c.knownOf(&l.process.Sandbox.Sandbox)
	own := &known.resolvers
	claimed := h.Flags&record.PacketForeign != 0 || own.many || slices.Contains(own.at, server.Addr())
	for _, a := range m.Addresses {
		c.learn(known, a, l.process.Tgid, claimed, m.Name)
	}
	c.tellLookup(l, dnsEvent{code: m.Code, cut: m.Truncated, claimed: claimed}, m.Addresses, h.Time)
}

func (c *Spans) tellLookup(l *lookup, e dnsEvent, addresses []netip.Addr, until uint64) {
	e.name, e.kind, e.server = l.key.question.Name, l.key.question.Type, l.server
	e.stream = l.header.Flags&record.PacketStream != 0
	s := c.count(&l.header, l.process, countedEvent{kind: span.Lookup, dns: e})
	if s.count == 1 {
		s.until = until
	}
	for _, a := range addresses {
		if text := a.String(); len(s.answers) < maxTold && !slices.Contains(s.answers, text) {
			s.answers = append(s.answers, text)
		}
	}
}

func (c *Spans) tellAnswer(d *builder, s *countedSpan) {
	e := &s.key.event.dns
	c.out.displayName("lookup", e.name)
	d.text(span.KeyDNSName, e.name)
	d.trusted(span.KeyDNSType, typeName(e.kind))
	d.trusted(span.KeyPeerAddress, e.server.Addr().String())
	d.int(span.KeyPeerPort, int64(e.server.Port()))
	d.trusted(span.KeyTransport, map[bool]string{false: "udp", true: "tcp"}[e.stream])
	if len(s.answers) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyDNSAnswers, Kind: span.StringsAttr, List: s.answers})
	}
	d.flagIf(e.noAnswer || e.cut, span.KeyPartial)
	d.flagIf(e.claimed, span.KeyDNSClaimed)
	if e.noAnswer {
		return
	}
	code := codeName(e.code)
	d.trusted(span.KeyDNSCode, code)
	switch dnsmessage.RCode(e.code) {
	case dnsmessage.RCodeSuccess:
		d.outcome(span.OK)
		return
	case dnsmessage.RCodeNameError:
		d.outcome(span.Missing)
	case dnsmessage.RCodeRefused:
		d.outcome(span.Refused)
		d.fail(code)
	default:
		d.outcome(span.Failed)
	}
	d.trusted(span.KeyErrorType, code)
}

// typeName is as the standards have it: "A", "AAAA", "HTTPS", and "TYPE1234" of one without a name here.
func typeName(n uint16) string {
	if name, ok := strings.CutPrefix(dnsmessage.Type(n).String(), "Type"); ok {
		return name
	}
	return fmt.Sprintf("TYPE%d", n)
}

func codeName(n uint16) string {
	if int(n) < len(codeNames) {
		return codeNames[n]
	}
	return fmt.Sprintf("RCODE%d", n)
}

var codeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

func addrOf(family uint16, b [16]byte) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// known is what is known of the names of addresses in a sandbox.
type known struct {
	entries   map[knownKey]*knownName
	order     list.List // of *knownName, the last used at the back
	resolvers resolvers
}

type knownKey struct {
	address netip.Addr
	tgid    uint32 // who asked; 0: anybody in the sandbox
	claimed bool   // a process of the sandbox may have answered
}

type knownName struct {
	key        knownKey
	of         *known
	names      []string // the last one learned at the back
	own, total *list.Element
}

func (c *Spans) knownOf(sb *attribution.Sandbox) *known {
	if sb.Names == nil {
		sb.Names = &known{entries: map[knownKey]*knownName{}}
	}
	return sb.Names.(*known)
}

// learn keeps a name for an address: for who asked, and for the others.
func (c *Spans) learn(k *known, a netip.Addr, tgid uint32, claimed bool, name string) {
	for _, key := range []knownKey{{a, tgid, claimed}, {a, 0, claimed}} {
		e := k.entries[key]
		if e == nil {
			if len(k.entries) >= 2*maxKnown {
				c.forgetName(k.order.Front().Value.(*knownName))
			}
			if c.knownTotal.Len() >= 2*maxKnownTotal {
				c.forgetName(c.knownTotal.Front().Value.(*knownName))
			}
			e = &knownName{key: key, of: k}
			e.own, e.total = k.order.PushBack(e), c.knownTotal.PushBack(e)
			k.entries[key] = e
		}
		c.usedName(e)
		if i := slices.Index(e.names, name); i >= 0 {
			e.names = slices.Delete(e.names, i, i+1)
		} else if len(e.names) >= maxNamesOf {
			e.names = slices.Delete(e.names, 0, 1)
		}
		e.names = append(e.names, name)
	}
}

func (c *Spans) usedName(e *knownName) {
	e.of.order.MoveToBack(e.own)
	c.knownTotal.MoveToBack(e.total)
}

func (c *Spans) forgetName(e *knownName) {
	delete(e.of.entries, e.key)
	e.of.order.Remove(e.own)
	c.knownTotal.Remove(e.total)
}

// A serverName is what is known of the name of a peer.
type serverName struct {
	name    string       // from outside of the sandbox; "": none
	claimed string       // what the sandbox says, if that is another; "": nothing
	source  names.Source // of name, or else of claimed
}

// nameOf finds the name of an address as a process may have learned it. said is what the connection's first bytes call
// it, "" if they do not.
func (c *Spans) nameOf(p *lineage.Process, a netip.Addr, said string, by names.Source) (n serverName) {
	pick := func(list []string) string {
		if slices.Contains(list, said) {
			return said
		}
		return list[len(list)-1]
	}
	k, _ := p.Sandbox.Names.(*known)
	find := func(claimed bool) string {
		if k != nil {
			for _, key := range []knownKey{{a, p.Tgid, claimed}, {a, 0, claimed}} {
				if e := k.entries[key]; e != nil {
					c.usedName(e)
					return pick(e.names)
				}
			}
		}
		return ""
	}
	if n.name, n.source = find(false), names.DNS; n.name == "" && len(c.hosts[a]) > 0 {
		n.name, n.source = pick(c.hosts[a]), names.Hosts
	}
	if n.claimed = said; said == "" && n.name == "" {
		n.claimed, by = find(true), names.DNS
	}
	switch {
	case n.name == "" && n.claimed == "":
		n.source = ""
	case n.name == "":
		n.source = by
	case n.name == n.claimed:
		n.claimed = ""
	}
	return n
}

// tellServer says who the peer of a connection is.
func (c *Spans) tellServer(d *builder, n serverName, a netip.AddrPort) {
	if n.name != "" {
		d.text(span.KeyServerAddress, n.name)
		d.text(span.KeyPeerName, n.name)
		d.text(span.KeyPeerService, n.name)
	} else {
		d.trusted(span.KeyServerAddress, a.Addr().String())
	}
	d.int(span.KeyServerPort, int64(a.Port()))
	if n.claimed != "" {
		d.text(span.KeyServerClaimed, n.claimed)
	}
	if n.source != "" {
		d.trusted(span.KeyServerSource, string(n.source))
	}
	d.flagIf(n.name != "" && n.claimed != "", span.KeyServerDisagrees)
}

// answersWeight is what the addresses of a lookup may take in a trace.
func answersWeight(k span.Kind) int {
	if k == span.Lookup {
		return maxTold * len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	return 0
}

func hostsOf(list []config.Host) map[netip.Addr][]string {
	hosts := make(map[netip.Addr][]string)
	for _, h := range list {
		hosts[h.Address] = slices.Insert(hosts[h.Address], 0, names.Canonical(h.Name)) // the first one is the name
	}
	return hosts
}

// streams are those of lookups by TCP, as far as they were not read.
type streams struct {
	by    map[streamKey]*stream
	order list.List // of streamKey, the oldest first
}

type stream struct {
	next    uint32 // offset that comes next
	bytes   []byte
	spoiled bool // there is a gap, or too much
	element *list.Element
}

// add gives what is there of a stream with a new piece.
func (s *streams) add(key streamKey, r *record.Packet) []byte {
	t := s.by[key]
	if t == nil {
		if len(s.by) >= maxStreams {
			oldest := s.order.Front()
			s.order.Remove(oldest)
			delete(s.by, oldest.Value.(streamKey))
		}
		t = &stream{element: s.order.PushBack(key)}
		s.by[key] = t
	}
	if r.Offset < t.next {
		return nil // sent again
	}
	t.spoiled = t.spoiled || r.Offset != t.next || len(r.Bytes) != int(r.Size) || len(t.bytes)+len(r.Bytes) > names.MaxStream
	if t.spoiled {
		t.bytes = nil
		return nil
	}
	t.next += r.Size
	t.bytes = append(t.bytes, r.Bytes...)
	return t.bytes
}

// left says what is not read yet.
func (s *streams) left(key streamKey, rest []byte) { s.by[key].bytes = slices.Clone(rest) }
