// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"

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
	if len(r.Name) == 0 && h.Flags&record.OpenBase != 0 { // by its descriptor
		c.lineage.Path = paths.AppendResolved(c.lineage.Path[:0], r.Path, paths.OpenMarks(h.Flags))
	} else {
		c.lineage.Path = paths.AppendRequested(c.lineage.Path[:0], r.Path, h.Flags, r.Name)
	}
	asked := c.lineage.Names.Intern(c.lineage.Path)
	i, outcome := p.Program, outcomeOf(span.ExecRefused, unix.Errno(r.Error))
	if outcome == span.Missing {
		pendingOf(p).search.tried(asked, nil, true)
		if i.Span != (span.ID{}) && !i.Ended {
			i.ExecsMissing++
			return
		}
	}
	p.Told = true
	const told = record.OpenNameMissing | record.OpenNameTruncated | record.OpenTruncated | record.OpenOutside
	s := c.count(h, p, countedEvent{kind: span.ExecRefused, errno: r.Error, path: asked, flags: h.Flags & told})
	if outcome == span.Refused {
		pendingOf(p).search.tried(asked, s, false)
	}
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

// A search is what a process has tried to run under one name, in one directory after the other: as execvp does, which
// goes on where a directory may not be entered, or a file not be run.
type search struct {
	name, dir string
	refused   *countedSpan // the last one that was
	missing   bool         // it was not in another directory
}

// tried is told of each attempt to run a file: refused is the span of one that was refused. Of what was refused only that
// which ends a search is no part of one, and not even that where the file was looked for elsewhere, too.
func (s *search) tried(file string, refused *countedSpan, missing bool) {
	dir, name := path.Split(file)
	if name != s.name || dir == s.dir {
		*s = search{name: name}
	}
	s.dir, s.missing = dir, s.missing || missing
	if s.refused != nil {
		s.refused.search = true
	}
	if s.refused = refused; refused != nil {
		refused.search = s.missing
	}
}

// found is told of the program that a process runs: if that was looked for, the search is over.
func (s *search) found(file string) {
	if s.name != "" && path.Base(file) == s.name && s.refused != nil && path.Dir(file) != path.Clean(s.dir) {
		s.refused.search = true
	}
	*s = search{}
}
