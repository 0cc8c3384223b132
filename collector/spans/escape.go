// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/span"
)

// SendEscape tells that a process is now outside its sandbox's cgroups. It stays the sandbox's all the same.
func (c *Spans) SendEscape(p *lineage.Process, at uint64, tid uint32, e lineage.Escape) {
	i := p.Program
	id := span.EscapeSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: e.ExecID}, tid, at)
	w := p.Owner()
	d := c.out.start(span.Escape, &p.Sandbox.Sandbox, w, id, c.place(&p.Sandbox.Sandbox, w, i, p.Cgroup, weightOf(e.From)+weightOf(e.To)), at, at)
	c.out.process(p, i, p.Cgroup)
	d.text(span.KeyCgroupFrom, e.From)
	if e.To != "" {
		d.text(span.KeyCgroupTo, e.To)
	}
	d.int(span.KeyMoverPID, int64(e.Mover))
	c.out.send()
}
