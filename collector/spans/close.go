// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"net/netip"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// MaxConnections bounds what is known of connections that have not ended; of one sandbox an eighth is. The end of one that
// was forgotten stands under its program.
const MaxConnections = 65536

// maxClosed bounds those of which the end came before the word that they were accepted.
const maxClosed = 4096

// A connection is what the end of one needs to know of its begin.
type connection struct {
	process *lineage.Process
	program *lineage.Program
	cgroup  *lineage.Cgroup
	owner   attribution.Owner
	to      destination
	span    span.Link // its net.connect; none of an accept: which one that is counted with, a restart may not know
}

// Connected are the cookies of connections that are remembered.
func (c *Spans) Connected() map[uint64]bool {
	cookies := make(map[uint64]bool, len(c.connections.by))
	for cookie := range c.connections.by {
		cookies[cookie] = true
	}
	return cookies
}

var closeReasons = [...]string{record.CloseUnknown: "", record.CloseHere: "here", record.ClosePeer: "peer", record.CloseError: "error"}

// CloseSocket takes the end of a connection. Whoever made it may be over, or run another program by now.
func (c *Spans) CloseSocket(h *record.Header, r *record.Close) {
	if s := c.connects[connectKey{cookie: r.Cookie}]; s != nil {
		// It waits for its first bytes; or the word that it was established was lost.
		c.queue.drop(&s.held)
		c.forgetConnect(s)
		c.sendConnect(s, cmp.Or(s.ended, r.Since), result{})
	}
	c.streams.take(streamKey{r.Cookie, false})
	c.streams.take(streamKey{r.Cookie, true})
	k := c.connections.take(r.Cookie)
	if k == nil {
		p := c.lineage.Late(h)
		if p == nil {
			return
		}
		if r.Incoming {
			c.closed.put(&p.Sandbox.Sandbox, r.Cookie, true)
		}
		k = &connection{process: p, program: p.Program, cgroup: p.Cgroup, owner: p.Owner()}
	}
	sb := &k.process.Sandbox.Sandbox
	at := c.place(sb, k.owner, k.program, k.cgroup, len(k.to.name))
	if k.span.Trace == at.trace {
		at.parent = k.span
	}
	id := span.CloseSpan(c.config.BootID, span.Image{Tgid: h.Tgid, Start: h.Start, ExecID: h.ExecID}, r.Cookie, h.Time)
	d := c.out.start(span.Close, sb, k.owner, id, at, r.Since, h.Time)
	if k.span.Span != (span.ID{}) && k.span.Trace != at.trace {
		d.span.Links = append(d.span.Links, span.Ref{Link: k.span, Rel: span.ToParent})
	}
	c.out.process(k.process, k.program, k.cgroup)
	local, _ := addressOf(r.Family, r.Addr)
	peer, _ := addressOf(r.Family, r.Peer)
	d.here(netip.AddrPortFrom(local, r.Port), r.Protocol)
	d.trusted(span.KeyPeerAddress, peer.String())
	d.int(span.KeyPeerPort, int64(r.PeerPort))
	if k.to.name != "" {
		d.trusted(span.KeyServerAddress, k.to.name)
		d.int(span.KeyServerPort, k.to.port)
	}
	if r.Incoming {
		d.trusted(span.KeyNetworkOp, "accept")
	} else {
		d.trusted(span.KeyNetworkOp, "connect")
	}
	d.int(span.KeyBytesSent, int64(r.Sent))
	d.int(span.KeyBytesReceived, int64(r.Received))
	if int(r.Reason) < len(closeReasons) && r.Reason != record.CloseUnknown {
		d.trusted(span.KeyCloseReason, closeReasons[r.Reason])
	}
	d.returned(r.Error)
	c.out.send()
}
