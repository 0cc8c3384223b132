// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"bytes"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
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
}

func (s *connectSpan) runOut(c *Spans, at uint64) {
	delete(c.connects, s.what.Cookie)
	c.sendConnect(s, at, result{partial: true})
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
	s.spot = c.place(&p.Sandbox.Sandbox, s.owner, s.program, 0)
	if r.Op == record.ConnectSendmsg {
		c.sendConnect(s, h.Time, result{})
		return
	}
	if old := c.connects[r.Cookie]; old != nil {
		// The socket is used again and no outcome came: it is not known.
		c.queue.drop(&old.held)
		c.sendConnect(old, h.Time, result{partial: true})
	}
	c.queue.hold(&c.queue.brief, &s.held, s, 0, h.Time+uint64(c.config.Hold))
	c.connects[r.Cookie] = s
}

// ConnectEnd takes the outcome of a connect.
func (c *Spans) ConnectEnd(h *record.Header, r *record.ConnectEnd) {
	s := c.connects[r.Cookie]
	if s == nil || r.Error == int32(unix.EINPROGRESS) || r.Error == int32(unix.EALREADY) {
		return // an outcome after the hold, or none yet
	}
	delete(c.connects, r.Cookie)
	c.queue.drop(&s.held)
	c.sendConnect(s, h.Time, result{errno: r.Error})
}

func (c *Spans) sendConnect(s *connectSpan, at uint64, how result) {
	p, i := s.process, s.program
	id := span.ConnectSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, s.tid, s.at)
	d := c.out.start(span.Connect, &p.Sandbox.Sandbox, s.owner, id, s.spot, s.at, at)
	c.out.process(p, i, s.cgroup)
	address, version := addressOf(&s.what)
	if c.config.ReadableNames {
		c.out.displayName("connect", netip.AddrPortFrom(address, s.what.Port).String())
	}
	d.trusted(span.KeyPeerAddress, address.String())
	d.int(span.KeyPeerPort, int64(s.what.Port))
	d.trusted(span.KeyTransport, transport(s.what.Protocol))
	d.trusted(span.KeyNetworkType, version)
	if s.what.Op == record.ConnectSendmsg {
		d.trusted(span.KeyNetworkOp, "sendmsg")
	} else {
		d.trusted(span.KeyNetworkOp, "connect")
	}
	d.flagIf(s.flags&record.ConnectSourceRoute != 0, span.KeySourceRoute)
	d.flagIf(how.partial, span.KeyPartial)
	if !how.partial && s.what.Op != record.ConnectSendmsg { // of a datagram the attempt is seen
		d.returned(how.errno)
	}
	c.out.send()
}

func addressOf(r *record.Connect) (netip.Addr, string) {
	if r.Family == unix.AF_INET6 {
		a := netip.AddrFrom16(r.Addr).Unmap()
		if a.Is4() {
			return a, "ipv4"
		}
		return a, "ipv6"
	}
	return netip.AddrFrom4([4]byte(r.Addr[:4])), "ipv4"
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
	c.lineage.Path = c.lineage.Path[:0]
	switch {
	case len(r.Path) > 0:
		c.lineage.Path = paths.AppendResolved(c.lineage.Path, r.Path, paths.Marks{
			Truncated: h.Flags&record.UnixTruncated != 0,
			Outside:   h.Flags&record.UnixOutside != 0,
			Unlinked:  h.Flags&record.UnixUnlinked != 0,
		})
	case abstract:
		c.lineage.Path = append(append(c.lineage.Path, '@'), name...)
	default:
		c.lineage.Path = append(c.lineage.Path, name...)
	}
	sensitive := c.sensitive.Match(paths.Plain(c.lineage.Path, len(r.Path) > 0 && h.Flags&record.UnixUnlinked != 0))
	i := p.Program
	id := span.ConnectSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, h.Tid, h.Time)
	w := p.Owner()
	d := c.out.start(span.Connect, &p.Sandbox.Sandbox, w, id, c.place(&p.Sandbox.Sandbox, w, i, weightOf(c.lineage.Path)+weightOf(name)), h.Time, h.Time)
	c.out.process(p, i, p.Cgroup)
	address := string(c.lineage.Path)
	if abstract {
		name = append([]byte{'@'}, name...)
	}
	c.out.displayName("connect", address)
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
	c.out.send()
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
