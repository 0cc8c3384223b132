// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// ExecFailed takes an exec that was refused. Of one whose file is not there only the program that wanted it has a count:
// whoever looks for a program in one directory after the other makes many of these.
func (c *Spans) ExecFailed(h *record.Header, r *record.ExecFailed) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	p.Refused = true
	i := p.Program
	if outcomeOf(span.ExecRefused, unix.Errno(r.Error)) == span.Missing && i.Span != (span.ID{}) && !i.Ended {
		i.ExecsMissing++
		return
	}
	if len(r.Name) == 0 && h.Flags&record.OpenBase != 0 { // by its descriptor
		c.lineage.Path = paths.AppendResolved(c.lineage.Path[:0], r.Path, paths.OpenMarks(h.Flags))
	} else {
		c.lineage.Path = paths.AppendRequested(c.lineage.Path[:0], r.Path, h.Flags, r.Name)
	}
	const told = record.OpenNameMissing | record.OpenNameTruncated | record.OpenTruncated | record.OpenOutside
	asked := c.lineage.Names.Intern(c.lineage.Path)
	c.count(h, p, countedEvent{kind: span.ExecRefused, errno: r.Error, path: asked, flags: h.Flags & told})
}

func (c *Spans) tellRefused(d *builder, a *countedEvent) {
	if a.path != "" {
		d.text(span.KeyRequestedExecutable, a.path)
	}
	d.flagIf(a.flags&record.OpenNameMissing != 0, span.KeyFileNameMissing)
	d.flagIf(a.flags&record.OpenNameTruncated != 0, span.KeyFileNameTruncated)
	d.flagIf(a.flags&record.OpenTruncated != 0, span.KeyFilePathTruncated)
	d.flagIf(a.flags&record.OpenOutside != 0, span.KeyFilePathOutside)
}
