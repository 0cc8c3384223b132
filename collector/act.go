// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An act is what a net.socket, process.namespace or process.access span tells, but for time and thread. Acts
// of one process that are equal are repeats of one another.
type act struct {
	kind  span.Kind
	op    uint16
	errno int32

	family, sockType uint16 // net.socket
	protocol         uint32

	types uint32 // process.namespace

	target     uint32 // process.access
	start      uint64 // of the target
	executable string // as /proc shows it
	program    string // its name
	outside    bool
}

type actKey struct {
	process *process
	act     act
}

// An actSpan counts repeats until its hold runs out.
type actSpan struct {
	held  held
	key   actKey
	image *image
	group *group
	whose whose

	first, last uint64 // boottime
	tid         uint32 // of the first
	count       uint64
}

func (c *spans) act(h *record.Header, p *process, a act) {
	key := actKey{p, a}
	if s := c.acts[key]; s != nil {
		s.count++
		s.last = max(s.last, h.Time)
		return
	}
	if c.slicer.resumes.joined {
		return
	}
	s := &actSpan{key: key, image: p.image, group: p.group, whose: p.whose(), first: h.Time, last: h.Time, tid: h.Tid, count: 1}
	c.hold(&s.held, s, len(a.executable))
	c.acts[key] = s
	pending := pendingOf(p)
	pending.acts = append(pending.acts, s)
}

// flush sends what counts repeats of a process.
func (c *spans) flush(p *process) {
	if p.pending == nil {
		return
	}
	c.flushOpens(p)
	for pending := pendingOf(p); len(pending.acts) > 0; {
		s := pending.acts[0]
		c.held.remove(&s.held)
		s.runOut(c)
	}
}

func (s *actSpan) runOut(c *spans) {
	c.sendAct(s)
	delete(c.acts, s.key)
	p := pendingOf(s.key.process)
	if n := slices.Index(p.acts, s); n == 0 { // as all are held equally long
		p.acts[0] = nil
		p.acts = p.acts[1:]
	} else if n > 0 {
		p.acts = slices.Delete(p.acts, n, n+1)
	}
}

func (c *spans) sendAct(s *actSpan) {
	p, i, a := s.key.process, s.image, &s.key.act
	of := span.Image{Tgid: p.tgid, Start: p.start, ExecID: i.id.ExecID}
	var id span.ID
	switch a.kind {
	case span.Socket:
		id = span.SocketSpan(c.config.BootID, of, s.tid, s.first)
	case span.Namespace:
		id = span.NamespaceSpan(c.config.BootID, of, s.tid, s.first)
	default:
		id = span.AccessSpan(c.config.BootID, of, s.tid, s.first)
	}
	to := s.last
	if s.count > 1 {
		to++
	}
	d := c.start(a.kind, &p.sandbox.aSandbox, s.whose, id, c.place(&p.sandbox.aSandbox, s.whose), s.first, to, span.Link{Trace: i.trace, Span: i.span})
	d.process(p.tgid, i, s.group)
	switch a.kind {
	case span.Socket:
		c.tellSocket(d, a)
	case span.Namespace:
		c.tellNamespace(d, a)
	default:
		c.tellAccess(d, a)
	}
	d.int(span.KeyCount, int64(s.count))
	if a.errno != 0 {
		d.errno(a.errno, refusesAct)
	}
	c.send()
}

// refusesAct: what the kernel does not have, or calls that are wrong, fail without being forbidden.
func refusesAct(e unix.Errno) bool { return e == unix.EPERM || e == unix.EACCES }
