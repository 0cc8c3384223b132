// SPDX-License-Identifier: Apache-2.0

package collector

import "github.com/sheetbend/sheetbend/collector/span"

// sendEscape tells that a process is now outside its sandbox's cgroups. It stays the sandbox's all the same.
func (c *spans) sendEscape(p *process, at uint64, tid uint32, e escape) {
	i := p.image
	id := span.EscapeSpan(c.config.BootID, span.Image{Tgid: p.tgid, Start: p.start, ExecID: e.execID}, tid, at)
	w := p.whose()
	d := c.start(span.Escape, &p.sandbox.aSandbox, w, id, c.place(&p.sandbox.aSandbox, w), at, at, span.Link{Trace: i.trace, Span: i.span})
	d.process(p.tgid, i, p.group)
	c.rename("escape to", e.to)
	d.text(span.KeyCgroupFrom, e.from)
	if e.to != "" {
		d.text(span.KeyCgroupTo, e.to)
	}
	d.int(span.KeyMoverPID, int64(e.mover))
	c.send()
}
