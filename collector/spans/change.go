// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An operation is what sheetbend.file.operation says.
type operation struct {
	name  string
	folds bool // many of them are one span
	place bool // it changes what a path means, and no file
}

// operations is by record.Change.Op.
var operations = [...]operation{
	record.ChangeRename:      {name: "rename"},
	record.ChangeUnlink:      {name: "unlink", folds: true},
	record.ChangeRmdir:       {name: "rmdir", folds: true},
	record.ChangeMkdir:       {name: "mkdir", folds: true},
	record.ChangeMknod:       {name: "mknod"},
	record.ChangeLink:        {name: "link", folds: true},
	record.ChangeSymlink:     {name: "symlink", folds: true},
	record.ChangeTruncate:    {name: "truncate", folds: true},
	record.ChangeChmod:       {name: "chmod", folds: true},
	record.ChangeChown:       {name: "chown", folds: true},
	record.ChangeSetxattr:    {name: "setxattr", folds: true},
	record.ChangeRemovexattr: {name: "removexattr", folds: true},
	record.ChangeUtimes:      {name: "utimes", folds: true},
	record.ChangeMount:       {name: "mount", place: true},
	record.ChangeUmount:      {name: "umount", place: true},
	record.ChangeMoveMount:   {name: "move_mount", place: true},
	record.ChangePivotRoot:   {name: "pivot_root", place: true},
	record.ChangeChroot:      {name: "chroot", place: true},
}

func operationOf(r *record.Change) operation {
	switch {
	case r.Op == record.ChangeRename && r.Flags&unix.RENAME_EXCHANGE != 0:
		return operation{name: "exchange"}
	case int(r.Op) < len(operations) && r.Op != 0:
		return operations[r.Op]
	}
	return operation{name: "unknown"}
}

// A change is what one record of a change tells.
type change struct {
	time      uint64 // boottime
	tid       uint32
	flags     uint16 // of the record
	record    record.Change
	operation operation
	from, to  string // paths; from of a symlink and a mount as given
	text      string // name of an attribute, type of what is mounted
	sensitive bool
	declared  attribution.Declared
	outside   bool // of the workspace
	spot      spot
}

// A changeKey says which changes of one process may fold into one span.
type changeKey struct {
	operation string
	errno     int32
	after     uint64 // of chmod and chown; of others record.ChangeUnknown
	text      string
	call      *attribution.Call
	declared  attribution.Declared
	outside   bool
}

// A changeSpan counts changes below one directory until its hold runs out.
type changeSpan struct {
	held    held
	key     changeKey
	process *lineage.Process
	program *lineage.Program
	cgroup  *lineage.Cgroup
	owner   attribution.Owner

	dir   string // ends with a slash
	flags uint16 // of any
	last  uint64 // boottime
	count uint64
	first []change // in the order of time, at most MaxFoldedNames
}

// Change sends a file.change span, at once or as one of those below a directory.
func (c *Spans) Change(h *record.Header, r *record.Change) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	g := change{time: h.Time, tid: h.Tid, flags: h.Flags, record: *r, operation: operationOf(r)}
	c.text = appendChanged(c.text[:0], &r.New, h.Flags>>record.ChangeNewShift)
	g.to = c.lineage.Names.Intern(c.text)
	var old string
	switch {
	case r.Op == record.ChangeSymlink: // its text, which is followed from where the link is
		g.from = string(r.Old.Name)
		if old = g.from; !path.IsAbs(old) {
			old = path.Join("/", path.Dir(g.to), old)
		}
	case r.Op == record.ChangeMount && h.Flags&record.ChangeBase == 0: // need not be a path
		g.from = string(r.Old.Name)
		old = path.Join("/", g.from)
	default:
		c.text = appendChanged(c.text[:0], &r.Old, h.Flags)
		g.from = c.lineage.Names.Intern(c.text)
		old = g.from
	}
	g.text = string(r.Text)
	g.record.Old, g.record.New, g.record.Text = record.ChangedName{}, record.ChangedName{}, nil
	g.sensitive = c.isSensitiveChange(old) || c.isSensitiveChange(g.to)
	if p.Hook != nil && (g.sensitive || p.Hook.Ran) {
		c.attribution.NotHook(&p.Process) // as for an open
	}
	w := c.ownerOfChange(p, &g, old)
	g.outside = c.changesOutside(p, w, &g)
	c.effects.changed(h, r, p, w, g.from, g.to, g.sensitive)
	if c.folds(p, w, &g) {
		c.foldChange(p, w, &g)
		return
	}
	c.placeChange(p, w, &g)
	c.sendChange(p, p.Program, p.Cgroup, w, &g)
	c.out.send()
}

// changesOutside says whether a change is one of a file outside of the workspace, by a name that it has or had.
func (c *Spans) changesOutside(p *lineage.Process, w attribution.Owner, g *change) bool {
	const unsure = record.ChangeSubmitted | record.ChangeNotSure | record.ChangeUnlinked
	if g.record.Error != 0 || g.operation.place || g.flags&unsure != 0 {
		return false
	}
	sb := &p.Sandbox.Sandbox
	return c.isOutside(sb, w, g.to) || g.record.Op == record.ChangeRename && c.isOutside(sb, w, g.from)
}

// ownerOfChange gives whose a change is; old is its other name as a path.
func (c *Spans) ownerOfChange(p *lineage.Process, g *change, old string) attribution.Owner {
	if !p.ByFile(true) {
		return p.Owner()
	}
	whose := c.attribution.OwnerOfFile(&p.Process, &attribution.Touch{
		Path: g.to, Other: old, Write: true, Sensitive: g.sensitive, Failed: g.record.Error != 0, File: isFile(g.to),
	})
	g.declared = whose.Declared
	return whose.Owner
}

func (c *Spans) placeChange(p *lineage.Process, w attribution.Owner, g *change) {
	weight := weightOf(g.from) + weightOf(g.to) + weightOf(g.text)
	g.spot = c.place(&p.Sandbox.Sandbox, w, p.Program, p.Cgroup, weight)
}

// isSensitiveChange tells whether a changed name is in the sensitive list, or is a directory all of which is.
func (c *Spans) isSensitiveChange(name string) bool {
	c.text = append(append(c.text[:0], name...), '/')
	return c.sensitive.Match(c.text[:len(name)]) || c.sensitive.Match(c.text)
}

// folds says whether a change may be counted for a directory: nothing that somebody looks for by its name. Renames may
// in trees only.
func (c *Spans) folds(p *lineage.Process, w attribution.Owner, g *change) bool {
	const never = record.ChangeSubmitted | record.ChangeNotSure | record.ChangeUnlinked
	r := &g.record
	gives := r.Op == record.ChangeChmod && r.After&(unix.S_ISUID|unix.S_ISGID) != 0 || strings.HasPrefix(g.text, "security.")
	refused := outcomeOf(span.Change, unix.Errno(r.Error)) == span.Refused
	folds := g.operation.folds
	if g.operation.name == "rename" && r.Error == 0 {
		folds = c.config.Fold.Trees && !c.alone(p, w, g.from) && !c.alone(p, w, g.to)
	}
	return folds && !refused && g.flags&never == 0 && !g.sensitive && !gives && path.IsAbs(g.to)
}

// MaxChangeDirectories is for how many directories the changes of one process are counted at a time. In trees that holds
// of each operation, for config.Fold.Directories.
const MaxChangeDirectories = 16

// isFull says whether there is no room for one directory more.
func (c *Spans) isFull(pending *pending, key changeKey) bool {
	if len(pending.changes) >= MaxChangeDirectories || !c.config.Fold.Trees {
		return len(pending.changes) >= MaxChangeDirectories
	}
	same := 0
	for _, s := range pending.changes {
		if s.key == key {
			same++
		}
	}
	return same >= c.config.Fold.Directories
}

// foldChange counts a change for a directory that it is below. When there are too many directories, one becomes one
// above; only where that would be the root, the oldest goes out.
func (c *Spans) foldChange(p *lineage.Process, w attribution.Owner, g *change) {
	key := changeKey{
		operation: g.operation.name, errno: g.record.Error, after: record.ChangeUnknown, text: g.text, call: w.Call, declared: g.declared,
		outside: g.outside,
	}
	if g.record.Op == record.ChangeChmod || g.record.Op == record.ChangeChown {
		key.after = g.record.After
	}
	pending := pendingOf(p)
	dir := g.to[:strings.LastIndexByte(g.to, '/')+1]
	var s, nearest *changeSpan
	common := len("/")
	for _, other := range pending.changes {
		if other.key != key || other.owner != w {
			continue
		}
		if n := commonDirectory(other.dir, dir); n == len(other.dir) && (s == nil || n > len(s.dir)) {
			s = other
		} else if n > common {
			nearest, common = other, n
		}
	}
	if s == nil && c.isFull(pending, key) {
		if s = nearest; s != nil {
			c.widen(s, dir[:common])
		} else {
			c.queue.runOutOf(&pending.changes[0].held, 0)
		}
	}
	if s == nil {
		s = &changeSpan{key: key, process: p, program: p.Program, cgroup: p.Cgroup, owner: w, dir: dir}
		pending.changes = append(pending.changes, s)
		c.changes++
		c.queue.holdRepeats(&s.held, s, p, len(dir), g.time)
	}
	s.count++
	s.last = max(s.last, g.time)
	s.flags |= g.flags
	if len(s.first) < MaxFoldedNames {
		c.placeChange(p, w, g)
		s.first = append(s.first, *g)
		const fixed = 256 // bytes of a change
		c.queue.grow(&s.held, fixed+len(g.from)+len(g.to)+len(g.text))
	}
}

// commonDirectory is the length of the longest directory that both paths, which end with a slash, are below.
func commonDirectory(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return strings.LastIndexByte(a[:n], '/') + 1
}

// widen has a span count for a directory above its own, with what others have counted below that.
func (c *Spans) widen(s *changeSpan, dir string) {
	s.dir = strings.Clone(dir)
	for _, other := range slices.Clone(pendingOf(s.process).changes) {
		if other == s || other.key != s.key || other.owner != s.owner || !strings.HasPrefix(other.dir, dir) {
			continue
		}
		s.count, s.last, s.flags = s.count+other.count, max(s.last, other.last), s.flags|other.flags
		s.first = append(s.first, other.first...)
		bytes := other.held.bytes
		c.queue.drop(&other.held)
		c.forgetChanges(other)
		c.queue.bytes, s.held.bytes = c.queue.bytes+bytes, s.held.bytes+bytes
	}
	slices.SortStableFunc(s.first, func(a, b change) int { return cmp.Compare(a.time, b.time) })
	s.first = s.first[:min(len(s.first), MaxFoldedNames)]
}

func (c *Spans) forgetChanges(s *changeSpan) {
	pending := pendingOf(s.process)
	i := slices.Index(pending.changes, s)
	pending.changes = slices.Delete(pending.changes, i, i+1)
	c.changes--
}

// runOut sends a span for each change where they are few, and one for the directory where they are many.
func (s *changeSpan) runOut(c *Spans, _ uint64) {
	c.forgetChanges(s)
	few := len(s.first)
	if c.config.Fold.Trees && !s.key.outside {
		few = min(few, c.config.Fold.Creates)
	}
	if s.count <= uint64(few) {
		for i := range s.first {
			c.sendChange(s.process, s.program, s.cgroup, s.owner, &s.first[i])
			c.out.send()
		}
		return
	}
	all := s.first[0]
	var names []string
	for i := range s.first {
		if name := strings.TrimPrefix(s.first[i].to, s.dir); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	all.from, all.to, all.flags = "", s.dir, s.flags&^(record.ChangeDirectory|record.ChangeOpenFile)
	all.record = record.Change{Op: all.record.Op, Error: s.key.errno, Before: record.ChangeUnknown, After: s.key.after}
	d := c.sendChange(s.process, s.program, s.cgroup, s.owner, &all)
	c.repeated(d, s.count, s.last)
	d.folded(names)
	c.out.send()
}

// sendChange makes the span of a change, which the caller sends.
func (c *Spans) sendChange(p *lineage.Process, i *lineage.Program, cg *lineage.Cgroup, w attribution.Owner, g *change) *builder {
	id := span.ChangeSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, g.tid, g.time)
	d := c.out.start(span.Change, &p.Sandbox.Sandbox, w, id, g.spot, g.time, g.time)
	c.out.process(p, i, cg)
	d.change(g)
	return d
}
