// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"bytes"
	"container/list"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/names"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A connectSpan is a net.connect span that waits for its outcome.
type connectSpan struct {
	held    held
	process *lineage.Process
	program *lineage.Program
	cgroup  *lineage.Cgroup
	owner   attribution.Owner
	tid     uint32
	at      uint64 // boottime
	spot    spot
	flags   uint16 // of record.Connect
	what    record.Connect

	element *list.Element // in the process's list
	noticed bool
	isNew   bool // nobody has connected there before; with noticed
	over    bool // the process has ended

	// Once it is established, the first bytes are waited for.
	ended uint64 // boottime: when it was; 0: not yet
	first []byte // of them, so far
	known bool   // whether the first bytes have a name
	said  string // the name in them, or ""
	by    names.Source
}

func (s *connectSpan) runOut(c *Spans, at uint64) {
	c.forgetConnect(s)
	if s.ended != 0 {
		c.sendConnect(s, s.ended, result{})
		return
	}
	if s.what.Op == record.ConnectSendmsg {
		at = s.at
	}
	c.sendConnect(s, at, result{partial: true})
}

// holdOver: an outcome is waited for as long as it takes, but only for a hold after the end of the process. Then its
// sockets are closed, or are others' by now. A datagram has left, or not, by the end of a hold.
func (s *connectSpan) holdOver(c *Spans, at uint64) {
	if s.over || s.ended != 0 || s.what.Op == record.ConnectSendmsg {
		s.runOut(c, at)
		return
	}
	s.noticed = true
	d := c.out.startNotice(span.ConnectStart, &s.process.Sandbox.Sandbox, s.owner, c.connectID(s), s.spot, s.at)
	c.describeConnect(d, s)
	c.out.send()
	c.queue.holdOn(&c.queue.open, &s.held, forever)
}

// endConnects waits no longer than a hold for outcomes of the connects of a process that has ended at a time
// (boottime): the kernel closes its sockets right after.
func (c *Spans) endConnects(p *lineage.Process, at uint64) {
	if p.Pending == nil {
		return
	}
	for e := pendingOf(p).connects.Front(); e != nil; e = e.Next() {
		s := e.Value.(*connectSpan)
		s.over = true
		if s.noticed && s.ended == 0 {
			c.queue.holdOn(&c.queue.brief, &s.held, at+uint64(c.config.Hold))
		}
	}
}

func (c *Spans) forgetConnect(s *connectSpan) {
	delete(c.connects, s.key())
	pendingOf(s.process).connects.Remove(s.element)
}

// A connectKey names what an outcome is awaited of: a socket's connect, or a datagram of it that a thread sends.
type connectKey struct {
	cookie uint64
	tid    uint32 // 0: a connect
}

func (s *connectSpan) key() connectKey {
	if s.what.Op == record.ConnectSendmsg {
		return connectKey{s.what.Cookie, s.tid}
	}
	return connectKey{cookie: s.what.Cookie}
}

// A result is what a connect returned.
type result struct {
	errno   int32
	partial bool // not known
}

// Connect takes a connect, or a datagram that is sent to an address.
func (c *Spans) Connect(h *record.Header, r *record.Connect) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	c.attribution.NotHook(&p.Process)
	s := &connectSpan{process: p, program: p.Program, cgroup: p.Cgroup, owner: p.Owner(), tid: h.Tid, at: h.Time, flags: h.Flags, what: *r}
	s.spot = c.place(&p.Sandbox.Sandbox, s.owner, s.program, s.cgroup, c.serverWeight())
	c.reserve(&p.Sandbox.Sandbox, s.owner, weightOfProgram(s.program)+weightOf(s.cgroup.Path)+c.serverWeight())
	if old := c.connects[s.key()]; old != nil {
		// The socket is used again and no outcome came: it is not known.
		c.queue.runOutOf(&old.held, h.Time)
	}
	c.queue.hold(&c.queue.brief, &s.held, s, 0, h.Time+uint64(c.config.Hold))
	c.connects[s.key()] = s
	s.element = pendingOf(p).connects.PushBack(s)
}

// ConnectEnd takes the outcome of a connect.
func (c *Spans) ConnectEnd(h *record.Header, r *record.ConnectEnd) {
	key := connectKey{cookie: r.Cookie}
	if h.Flags&record.ConnectEndDatagram != 0 {
		key.tid = h.Tid
	}
	s := c.connects[key]
	if s == nil || r.Error == int32(unix.EINPROGRESS) || r.Error == int32(unix.EALREADY) {
		return // an outcome that is not awaited any more, or none yet
	}
	if s.ended != 0 {
		return
	}
	if r.Error == 0 && c.config.Names && !s.known && s.what.Protocol == unix.IPPROTO_TCP {
		if s.ended = h.Time; s.noticed { // else within the hold of its begin, so that no account goes out before
			c.queue.holdOn(&c.queue.brief, &s.held, c.clock.Now+uint64(c.config.Hold))
		}
		return
	}
	c.queue.drop(&s.held)
	c.forgetConnect(s)
	c.sendConnect(s, h.Time, result{errno: r.Error})
}

// firstBytes takes what a connection begins with: it may name the peer.
func (c *Spans) firstBytes(h *record.Header, r *record.Packet) {
	s := c.connects[connectKey{cookie: r.Cookie}]
	if s == nil || s.known {
		return // its span went out without
	}
	before, last := names.HasRecord(s.first), h.Flags&record.PacketLast != 0
	if int(r.Offset) == len(s.first) && len(s.first)+len(r.Bytes) <= names.MaxStream {
		s.first = append(s.first, r.Bytes...)
		if c.queue.grow(&s.held, len(r.Bytes)); s.held.in == nil {
			return // its span went out without
		}
	}
	if last || !before && names.HasRecord(s.first) {
		s.said, s.by = names.First(s.first)
	}
	if s.known = s.said != "" || last; !s.known {
		return
	}
	c.queue.grow(&s.held, -len(s.first))
	if s.first = nil; s.ended != 0 {
		c.queue.runOutOf(&s.held, h.Time)
	}
}

func (c *Spans) sendConnect(s *connectSpan, at uint64, how result) {
	d := c.out.start(span.Connect, &s.process.Sandbox.Sandbox, s.owner, c.connectID(s), s.spot, s.at, at)
	c.describeConnect(d, s)
	d.flagIf(s.noticed, span.KeyNoticed)
	d.flagIf(how.partial, span.KeyPartial)
	if !how.partial {
		d.returned(how.errno)
	}
	var to destination
	if a := span.Attrs(d.span.Attrs); how.errno == 0 {
		to.name = a.Text(span.KeyServerAddress)
		to.port, _ = a.Int(span.KeyServerPort)
	}
	c.out.send()
	if !how.partial && how.errno == 0 && s.what.Protocol == unix.IPPROTO_TCP {
		c.connections.put(&s.process.Sandbox.Sandbox, s.what.Cookie, &connection{
			to: to, process: s.process, program: s.program, cgroup: s.cgroup, owner: s.owner, span: span.Link{Trace: s.spot.trace, Span: c.connectID(s)},
		})
	}
}

func (c *Spans) connectID(s *connectSpan) span.ID {
	p := s.process
	return span.ConnectSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: s.program.ID.ExecID}, s.tid, s.at)
}

// describeConnect adds what is known of a connect from its begin.
func (c *Spans) describeConnect(d *builder, s *connectSpan) {
	c.out.process(s.process, s.program, s.cgroup)
	address, version := addressOf(s.what.Family, s.what.Addr)
	d.trusted(span.KeyPeerAddress, address.String())
	d.int(span.KeyPeerPort, int64(s.what.Port))
	d.trusted(span.KeyTransport, transport(s.what.Protocol))
	d.trusted(span.KeyNetworkType, version)
	if s.what.Op == record.ConnectSendmsg {
		d.trusted(span.KeyNetworkOp, "sendmsg")
	} else {
		d.trusted(span.KeyNetworkOp, "connect")
	}
	if s.flags&record.ConnectToAny != 0 && version == "ipv4" {
		d.trusted(span.KeyPeerRequested, "0.0.0.0")
	} else if s.flags&record.ConnectToAny != 0 {
		d.trusted(span.KeyPeerRequested, "::")
	}
	d.flagIf(s.flags&record.ConnectSourceRoute != 0, span.KeySourceRoute)
	c.tellServer(d, c.nameOf(s.process, address, s.said, s.by), netip.AddrPortFrom(address, s.what.Port))
	if !s.noticed || d.span.Kind == span.ConnectStart {
		server := span.Attrs(d.span.Attrs).Text(span.KeyServerAddress)
		s.isNew = c.isNew(&s.process.Sandbox.Sandbox, s.owner, destination{server, int64(s.what.Port)})
	}
	d.flagIf(s.isNew, span.KeyNewDestination)
}

func addressOf(family uint16, addr [16]byte) (netip.Addr, string) {
	a := addrOf(family, addr)
	if a.Is4() {
		return a, "ipv4"
	}
	return a, "ipv6"
}

func transport(protocol uint16) string {
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_UDPLITE:
		return "udplite"
	case unix.IPPROTO_MPTCP:
		return "mptcp"
	}
	return "ip_protocol_" + strconv.Itoa(int(protocol))
}

// UnixConnect takes a connect of a unix socket.
func (c *Spans) UnixConnect(h *record.Header, r *record.Unix) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	abstract := h.Flags&record.UnixAbstract != 0
	name := unixName(r.Name, abstract)
	c.unixPath(h, r.Path, name)
	sensitive := c.sensitive.Match(paths.Plain(c.lineage.Path, len(r.Path) > 0 && h.Flags&record.UnixUnlinked != 0))
	i := p.Program
	nameService := isNameService(c.lineage.Path)
	if nameService && len(c.config.Noise) > 0 && r.Error != 0 && !sensitive && h.Flags&(record.UnixSubmitted|record.UnixNotSure) == 0 && counts(p) {
		i.NoConnects++
		return
	}
	id := span.ConnectSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, h.Tid, h.Time)
	w := p.Owner()
	d := c.out.start(span.Connect, &p.Sandbox.Sandbox, w, id, c.place(&p.Sandbox.Sandbox, w, i, p.Cgroup, weightOf(c.lineage.Path)+weightOf(name)), h.Time, h.Time)
	c.out.process(p, i, p.Cgroup)
	address := string(c.lineage.Path)
	if abstract {
		name = append([]byte{'@'}, name...)
	}
	if address != "" {
		d.text(span.KeyPeerAddress, address)
	}
	if h.Flags&record.UnixNotSure == 0 {
		d.trusted(span.KeyTransport, "unix")
	}
	d.trusted(span.KeyNetworkOp, "connect")
	// In the tracepoint form the peer is of the socket that was behind the descriptor when the call had returned: where
	// the call asked for another name, both are told, and either may be the sensitive one.
	requested := len(name) > 0 && string(name) != address
	if requested {
		d.text(span.KeyPeerRequested, string(name))
	}
	fromUser := h.Flags&record.UnixNameFromUser != 0
	d.flagIf(fromUser && (len(r.Path) == 0 || requested), span.KeyPeerFromUser)
	d.flagIf(h.Flags&record.UnixSubmitted != 0, span.KeyPeerSubmitted)
	d.flagIf(sensitive || fromUser && c.sensitive.Match(name), span.KeySensitive)
	if h.Flags&record.UnixSubmitted == 0 {
		d.returned(r.Error)
	}
	if nameService { // nobody misses it
		d.span.Failed, d.span.Status = false, ""
	}
	c.out.send()
}

// isNameService says whether a path is that of the socket that every libc asks for names first, and does without.
func isNameService(path []byte) bool {
	return string(path) == "/var/run/nscd/socket" || string(path) == "/run/nscd/socket"
}

// unixPath writes the address of a unix socket to lineage.Path: where its file lies, or else its name.
func (c *Spans) unixPath(h *record.Header, path record.Components, name []byte) {
	c.lineage.Path = c.lineage.Path[:0]
	switch {
	case len(path) > 0:
		c.lineage.Path = paths.AppendResolved(c.lineage.Path, path, paths.Marks{
			Truncated: h.Flags&record.UnixTruncated != 0,
			Outside:   h.Flags&record.UnixOutside != 0,
			Unlinked:  h.Flags&record.UnixUnlinked != 0,
		})
	case h.Flags&record.UnixAbstract != 0:
		c.lineage.Path = append(append(c.lineage.Path, '@'), name...)
	default:
		c.lineage.Path = append(c.lineage.Path, name...)
	}
}

// unixName takes the NULs of sun_path away: before an abstract name, after a path.
func unixName(name []byte, abstract bool) []byte {
	if abstract {
		return bytes.TrimPrefix(name, []byte{0})
	}
	if i := bytes.IndexByte(name, 0); i >= 0 {
		return name[:i]
	}
	return name
}
