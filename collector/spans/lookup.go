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
	maxKnown        = 4096  // addresses of a sandbox; the one that was neither learned nor used for longest is forgotten
	maxKnownTotal   = 32768 // of all
	maxNamesOf      = 8     // names of one address
	maxResolvers    = 64    // addresses from which a sandbox answers; with more of them nothing is believed
	maxStreams      = 64    // of lookups, of a sandbox, each of up to names.MaxStream bytes
	maxStreamsTotal = 512   // of all
	maxTold         = 16    // addresses of an answer that a span tells
)

// A lookup is a query that waits for its answer. Its span has the program, the owner and the spot of then.
type lookup struct {
	held    held
	key     lookupKey
	span    *countedSpan
	element *list.Element // in the process's list
}

type lookupKey struct {
	cookie   uint64
	question names.Question
}

func (l *lookup) runOut(c *Spans, _ uint64) {
	l.span.key.event.dns.noAnswer = true
	c.tellLookup(l, nil, 0)
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

	program *lineage.Program // an answer may come when another one runs
	owner   attribution.Owner
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
		t := c.streams.get(key)
		if t == nil {
			t = &stream{}
			c.streams.put(c.sandboxOf(h), key, t)
		}
		if !t.add(r) {
			c.stats.BadLookups++
			return
		}
		message, rest, ok := names.NextMessage(t.bytes)
		for ; ok; message, rest, ok = names.NextMessage(rest) {
			c.dnsMessage(h, r, message)
		}
		t.bytes = append([]byte(nil), rest...)
	case r.What == record.PacketDNS && len(r.Bytes) == int(r.Size):
		c.dnsMessage(h, r, r.Bytes)
	default:
		c.stats.BadLookups++
	}
}

// sandboxOf is the one of a packet's socket. Nil: it is not known.
func (c *Spans) sandboxOf(h *record.Header) *attribution.Sandbox {
	if p := c.lineage.Processes[h.Tgid]; p != nil && p.Start == h.Start {
		return &p.Sandbox.Sandbox
	}
	if g := c.lineage.Cgroups[h.Cgroup]; g != nil {
		return &g.Sandbox.Sandbox
	}
	return nil
}

// answersItself: what is asked there a process of the sandbox answers.
func (c *Spans) answersItself(h *record.Header, r *record.Packet) {
	sb := c.sandboxOf(h)
	if sb == nil {
		return
	}
	own := resolversOf(sb)
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
		e := dnsEvent{name: m.Name, kind: m.Type, server: server, stream: h.Flags&record.PacketStream != 0, program: p.Program, owner: p.Owner()}
		l = &lookup{key: key, span: c.newCounted(h, p, countedEvent{kind: span.Lookup, dns: e})}
		l.span.dnsID = m.ID
		c.queue.hold(&c.queue.brief, &l.held, l, len(m.Name), h.Time+uint64(c.config.Hold))
		c.lookups[key] = l
		l.element = pendingOf(p).lookups.PushBack(l)
		return
	}
	if l == nil || l.span.key.event.dns.server != server {
		c.stats.UnaskedAnswers++
		return
	}
	c.queue.drop(&l.held)
	p, e := l.span.key.process, &l.span.key.event.dns
	own := resolversOf(&p.Sandbox.Sandbox)
	e.code, e.cut = m.Code, m.Truncated
	e.claimed = h.Flags&record.PacketForeign != 0 || own.many || slices.Contains(own.at, server.Addr())
	for _, a := range m.Addresses {
		c.learn(p, a, e.claimed, m.Name)
	}
	c.tellLookup(l, m.Addresses, h.Time)
}

// tellLookup counts a lookup of which the end is known, or that there is none.
func (c *Spans) tellLookup(l *lookup, addresses []netip.Addr, until uint64) {
	delete(c.lookups, l.key)
	pendingOf(l.span.key.process).lookups.Remove(l.element)
	s := c.repeat(l.span.key, l.span.owner, l.span.first)
	if s == nil {
		s = l.span
		s.until = until
		c.keepCounted(s)
	}
	for _, a := range addresses {
		if text := a.String(); len(s.answers) < maxTold && !slices.Contains(s.answers, text) {
			s.answers = append(s.answers, text)
		}
	}
}

func (c *Spans) tellAnswer(d *builder, s *countedSpan) {
	e := &s.key.event.dns
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

// A knownKey is an address of which a sandbox knows names.
type knownKey struct {
	sandbox *attribution.Sandbox
	address netip.Addr
	tgid    uint32 // who asked; 0: anybody in the sandbox
}

// known are the names that were learned, the last one at the back: claimed ones, or those from outside.
func (c *Spans) known(claimed bool) *bounded[knownKey, []string] {
	if claimed {
		return &c.claimedNames
	}
	return &c.names
}

func resolversOf(sb *attribution.Sandbox) *resolvers {
	if sb.Names == nil {
		sb.Names = &resolvers{}
	}
	return sb.Names.(*resolvers)
}

// learn keeps a name for an address: for who asked, and for the others.
func (c *Spans) learn(p *lineage.Process, a netip.Addr, claimed bool, name string) {
	sb, known := &p.Sandbox.Sandbox, c.known(claimed)
	for _, key := range []knownKey{{sb, a, p.Tgid}, {sb, a, 0}} {
		list := known.get(key)
		if i := slices.Index(list, name); i >= 0 {
			list = slices.Delete(list, i, i+1)
		} else if len(list) >= maxNamesOf {
			list = slices.Delete(list, 0, 1)
		}
		known.put(sb, key, append(list, name))
	}
}

// oldNames are those of a sandbox that is over. They wait for a hold, as the spans of its last connections do.
type oldNames struct {
	held    held
	sandbox *attribution.Sandbox
}

func (o *oldNames) runOut(c *Spans, _ uint64) {
	c.names.forget(o.sandbox)
	c.claimedNames.forget(o.sandbox)
}

// endNames forgets what is known of names in a sandbox in which nothing runs any more.
func (c *Spans) endNames(sb *lineage.Sandbox) {
	if sb.Processes == 0 && sb.Names != nil {
		o := &oldNames{sandbox: &sb.Sandbox}
		c.queue.hold(&c.queue.brief, &o.held, o, 0, c.clock.Now+uint64(c.config.Hold))
	}
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
	sb := &p.Sandbox.Sandbox
	find := func(claimed bool) string {
		for _, key := range []knownKey{{sb, a, p.Tgid}, {sb, a, 0}} {
			if list := c.known(claimed).get(key); len(list) > 0 {
				return pick(list)
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

// serverWeight is what the names of a peer may take in a trace: three times its name, and what is claimed.
func (c *Spans) serverWeight() int {
	if c.config.Names {
		return 4 * 255
	}
	return 0
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

// A stream is one of lookups by TCP, as far as it was not read.
type stream struct {
	next    uint32 // offset that comes next
	bytes   []byte
	spoiled bool // there is a gap, or too much
}

// add takes a new piece. It reports false if the stream cannot be read any more.
func (t *stream) add(r *record.Packet) bool {
	if r.Offset < t.next {
		return true // sent again
	}
	t.spoiled = t.spoiled || r.Offset != t.next || len(r.Bytes) != int(r.Size) || len(t.bytes)+len(r.Bytes) > names.MaxStream
	if t.spoiled {
		t.bytes = nil
		return false
	}
	t.next += r.Size
	t.bytes = append(t.bytes, r.Bytes...)
	return true
}
