// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"fmt"
	"math/bits"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Socket takes the making of an unusual socket, or a connect of a vsock one.
func (c *Spans) Socket(h *record.Header, r *record.Socket) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	if r.Op == record.SocketConnect {
		c.sendVsock(h, r, p)
		return
	}
	a := countedEvent{kind: span.Socket, op: r.Op, errno: r.Error, family: r.Family, sockType: r.Type, protocol: r.Protocol}
	if r.Family == unix.AF_INET && r.Type == unix.SOCK_PACKET {
		a.family = unix.AF_PACKET // the kernel takes it so, since 2.1.68
	}
	c.count(h, p, a)
}

func (c *Spans) tellSocket(d *builder, a *countedEvent) {
	family, kind := socketFamily(a.family), socketType(a.sockType)
	d.trusted(span.KeySocketFamily, family)
	d.trusted(span.KeySocketType, kind)
	if protocol := socketProtocol(a); protocol != "" {
		d.trusted(span.KeySocketProtocol, protocol)
	}
}

func socketFamily(n uint16) string {
	switch n {
	case unix.AF_INET:
		return "inet"
	case unix.AF_INET6:
		return "inet6"
	case unix.AF_PACKET:
		return "packet"
	case unix.AF_VSOCK:
		return "vsock"
	case unix.AF_ALG:
		return "alg"
	case unix.AF_BLUETOOTH:
		return "bluetooth"
	case unix.AF_XDP:
		return "xdp"
	case unix.AF_CAN:
		return "can"
	case unix.AF_TIPC:
		return "tipc"
	case unix.AF_KEY:
		return "key"
	case unix.AF_RDS:
		return "rds"
	case unix.AF_SMC:
		return "smc"
	case unix.AF_PPPOX:
		return "pppox"
	case unix.AF_NFC:
		return "nfc"
	case unix.AF_QIPCRTR:
		return "qipcrtr"
	}
	return "family_" + strconv.Itoa(int(n))
}

func socketType(n uint16) string {
	switch n {
	case unix.SOCK_STREAM:
		return "stream"
	case unix.SOCK_DGRAM:
		return "dgram"
	case unix.SOCK_RAW:
		return "raw"
	case unix.SOCK_RDM:
		return "rdm"
	case unix.SOCK_SEQPACKET:
		return "seqpacket"
	case unix.SOCK_DCCP:
		return "dccp"
	case unix.SOCK_PACKET:
		return "packet"
	}
	return "type_" + strconv.Itoa(int(n))
}

// socketProtocol means something else in every family.
func socketProtocol(a *countedEvent) string {
	switch {
	case a.protocol == 0:
		return ""
	case a.family == unix.AF_PACKET:
		return fmt.Sprintf("0x%04x", bits.ReverseBytes16(uint16(a.protocol)))
	case (a.family == unix.AF_INET || a.family == unix.AF_INET6) && a.protocol <= 0xffff:
		return transport(uint16(a.protocol))
	}
	return strconv.FormatUint(uint64(a.protocol), 10)
}

// sendVsock tells of a connect of a vsock socket when the call has returned.
func (c *Spans) sendVsock(h *record.Header, r *record.Socket, p *lineage.Process) {
	i, w := p.Program, p.Owner()
	id := span.ConnectSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, h.Tid, h.Time)
	d := c.out.start(span.Connect, &p.Sandbox.Sandbox, w, id, c.place(&p.Sandbox.Sandbox, w, i, p.Cgroup, 0), h.Time, h.Time)
	c.out.process(p, i, p.Cgroup)
	address := strconv.FormatUint(uint64(r.CID), 10)
	d.trusted(span.KeyPeerAddress, address)
	d.int(span.KeyPeerPort, int64(r.Port))
	d.trusted(span.KeyTransport, "vsock")
	d.trusted(span.KeyNetworkOp, "connect")
	d.flagIf(h.Flags&record.SocketAddressFromUser != 0, span.KeyPeerFromUser)
	switch r.Error {
	case int32(unix.EINPROGRESS), int32(unix.EALREADY):
		d.flag(span.KeyPartial) // a non-blocking one: how it ends is not seen
	default:
		d.returned(r.Error)
	}
	c.out.send()
}
