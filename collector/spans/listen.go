// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Listen takes a socket that others can connect to.
func (c *Spans) Listen(h *record.Header, r *record.Listen) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	c.attribution.NotHook(&p.Process)
	a := countedEvent{kind: span.Listen, errno: r.Error, family: r.Family, protocol: uint32(r.Protocol)}
	if r.Family == unix.AF_UNIX {
		c.unixPath(h, r.Path, unixName(r.Name, h.Flags&record.UnixAbstract != 0))
		a.path = c.lineage.Names.Intern(c.lineage.Path)
	} else {
		address, _ := addressOf(r.Family, r.Addr)
		a.local = netip.AddrPortFrom(address, r.Port)
	}
	c.count(h, p, a)
}

func (c *Spans) tellListen(d *builder, a *countedEvent) {
	if a.family == unix.AF_UNIX {
		d.text(span.KeyLocalAddress, a.path)
		d.trusted(span.KeyTransport, "unix")
		d.flagIf(c.sensitive.Match([]byte(a.path)), span.KeySensitive)
		return
	}
	d.here(a.local, uint16(a.protocol))
}

// here adds the address of this side of an IP socket.
func (d *builder) here(local netip.AddrPort, protocol uint16) {
	d.trusted(span.KeyLocalAddress, local.Addr().String())
	d.int(span.KeyLocalPort, int64(local.Port()))
	d.trusted(span.KeyTransport, transport(protocol))
	if local.Addr().Is4() {
		d.trusted(span.KeyNetworkType, "ipv4")
	} else {
		d.trusted(span.KeyNetworkType, "ipv6")
	}
}

// Accept takes a connection that came in.
func (c *Spans) Accept(h *record.Header, r *record.Accept) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	c.attribution.NotHook(&p.Process)
	local, _ := addressOf(r.Family, r.Addr)
	peer, _ := addressOf(r.Family, r.Peer)
	s := c.count(h, p, countedEvent{
		kind: span.Accept, family: r.Family, protocol: uint32(r.Protocol), local: netip.AddrPortFrom(local, r.Port), peer: peer,
	})
	if s.count == 1 {
		s.peerPort = r.PeerPort
	}
	if c.closed.take(r.Cookie) {
		return
	}
	c.connections.put(&p.Sandbox.Sandbox, r.Cookie, &connection{process: p, program: p.Program, cgroup: p.Cgroup, owner: p.Owner()})
}

func (c *Spans) tellAccept(d *builder, a *countedEvent, port uint16) {
	d.here(a.local, uint16(a.protocol))
	d.trusted(span.KeyPeerAddress, a.peer.String())
	d.int(span.KeyPeerPort, int64(port))
}
