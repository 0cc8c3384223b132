// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Change sends a file.change span for each record: none is counted as a repeat of another.
func (c *Spans) Change(h *record.Header, r *record.Change) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	c.text = appendChanged(c.text[:0], &r.Old, h.Flags)
	from := c.lineage.Names.Intern(c.text)
	c.text = appendChanged(c.text[:0], &r.New, h.Flags>>record.ChangeNewShift)
	to := c.lineage.Names.Intern(c.text)
	sensitive := c.isSensitiveChange(from) || c.isSensitiveChange(to)
	if p.Hook != nil && (sensitive || p.Hook.Ran) {
		c.attribution.NotHook(&p.Process) // as for an open
	}

	c.effects.changed(h, r, p, from, to, sensitive)
	i, w := p.Program, p.Owner()
	image := span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}
	id := span.ChangeSpan(c.config.BootID, image, h.Tid, h.Time)
	at := c.place(&p.Sandbox.Sandbox, w, i, p.Cgroup, weightOf(from)+weightOf(to))
	d := c.out.start(span.Change, &p.Sandbox.Sandbox, w, id, at, h.Time, h.Time)
	c.out.process(p, i, p.Cgroup)
	operation := changeOp(r)
	c.out.displayName(operation, path.Base(to))
	d.trusted(span.KeyFileOperation, operation)
	d.flag(span.KeyFileWrite)
	if to != "" {
		d.text(span.KeyFilePath, to)
	}
	if from != "" {
		d.text(span.KeyFileOldPath, from)
	}
	if r.Inode != 0 {
		d.trusted(span.KeyFileInode, strconv.FormatUint(r.Inode, 10))
	}
	if r.Replaced != 0 {
		d.trusted(span.KeyFileReplaced, strconv.FormatUint(r.Replaced, 10))
	}
	either := h.Flags | h.Flags>>record.ChangeNewShift
	d.flagIf(h.Flags&record.ChangeDirectory != 0, span.KeyFileDirectory)
	d.flagIf(h.Flags&record.ChangeNamesFromUser != 0, span.KeyFileNameFromUser)
	d.flagIf(h.Flags&record.ChangeNamesFromUser != 0, span.KeyFilePathUnresolved)
	d.flagIf(either&record.ChangeNameMissing != 0, span.KeyFileNameMissing)
	d.flagIf(either&record.ChangeNameTruncated != 0, span.KeyFileNameTruncated)
	d.flagIf(either&record.ChangeTruncated != 0, span.KeyFilePathTruncated)
	d.flagIf(either&record.ChangeOutside != 0, span.KeyFilePathOutside)
	d.flagIf(sensitive, span.KeySensitive)
	d.returned(r.Error)
	c.out.send()
}

// isSensitiveChange tells whether a changed name is in the sensitive list, or is a directory all of which is.
func (c *Spans) isSensitiveChange(name string) bool {
	c.text = append(append(c.text[:0], name...), '/')
	return c.sensitive.Match(c.text[:len(name)]) || c.sensitive.Match(c.text)
}

func changeOp(r *record.Change) string {
	switch {
	case r.Op != record.ChangeRename:
		return "unknown"
	case r.Flags&unix.RENAME_EXCHANGE != 0:
		return "exchange"
	}
	return "rename"
}

// appendChanged writes one side of a change; flags are those of that side.
func appendChanged(dst []byte, n *record.ChangedName, flags uint16) []byte {
	start := len(dst)
	if flags&record.ChangeBase != 0 {
		marks := paths.Marks{
			Truncated: flags&record.ChangeTruncated != 0,
			Outside:   flags&record.ChangeOutside != 0,
		}
		dst = append(paths.AppendResolved(dst, n.Dir, marks), '/')
	}
	dst = append(dst, n.Name...)
	return dst[:start+len(paths.Clean(dst[start:]))]
}
