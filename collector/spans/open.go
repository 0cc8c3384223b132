// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"container/list"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// access says what an open was for. Of several that hold, the last of this list is said.
type access uint8

const (
	accessRead access = iota
	accessWrite
	accessReadWrite
	accessTruncate
	accessCreate // the open made the file
	accessPathOnly
)

func (a access) String() string {
	return [...]string{"read", "write", "read_write", "truncate", "create", "path_only"}[a]
}

// writes says whether the file is there to be changed by it, or was.
func (a access) writes() bool { return a != accessRead && a != accessPathOnly }

// A capture may come from another architecture: only flags are read whose values are the same on all that are
// supported.
func accessOf(h *record.Header, r *record.Open) access {
	switch {
	case r.Flags&unix.O_PATH != 0:
		return accessPathOnly
	case h.Flags&record.OpenCreated != 0:
		return accessCreate
	case r.Flags&unix.O_TRUNC != 0:
		return accessTruncate
	}
	switch r.Flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return accessRead
	case unix.O_WRONLY:
		return accessWrite
	}
	return accessReadWrite
}

// An openKey says which opens are repeats of one another: those of one process that differ in nothing
// that the span tells, but for time, thread and the words of the request.
type openKey struct {
	process *lineage.Process // nil: of all processes of the call
	path    string
	inode   uint64
	dev     uint32
	errno   int32
	flags   uint16 // of the record
	access  access
	folded  bool
	outside bool // of the workspace, and written

	call     *attribution.Call // whose it is, and what the call was said to touch
	declared attribution.Declared
}

// An openSpan is a file.open span that counts repeats until its hold runs out.
type openSpan struct {
	held    held
	key     openKey
	process *lineage.Process // of the first
	program *lineage.Program
	cgroup  *lineage.Cgroup
	owner   attribution.Owner
	spot    spot

	first, last uint64 // boottime
	tid         uint32 // of the first
	count       uint64
	requested   string // of the first; "" when it is the path
	sensitive   bool
	resolved    bool     // the path is the kernel's, not made of the request
	named       bool     // a tool has named it
	in          *folds   // folded: where it is found
	names       []string // folded: of the first files
	programs    []string // folded, of all processes of a call: those that read first
	mixed       bool     // the same: they run as several users

	next, prev *openSpan // of the same process
}

// pending is what is held of a process.
type pending struct {
	created string // process.creation.time, of a process that has had a span

	opens    openList
	counted  []*countedSpan // oldest first
	changes  []*changeSpan  // oldest first
	connects list.List      // of *connectSpan
	lookups  list.List      // of *lookup, oldest first
	memory   memoryCheck    // by the last access

	folded  folds          // reads, and looking for what is missing
	made    folds          // files that were created; at most config.Fold.Creates of them are held one by one
	missing map[uint64]int // files that are not there, by a hash of the directory, in a window of the hold
	looked  uint64         // its number since boot
	search  search
}

func pendingOf(p *lineage.Process) *pending {
	if p.Pending == nil {
		p.Pending = &pending{}
	}
	return p.Pending.(*pending)
}

// openList has the held opens of one process, oldest first.
type openList struct {
	first, last *openSpan
}

func (l *openList) push(s *openSpan) {
	s.prev, s.next = l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
}

func (l *openList) remove(s *openSpan) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.next, s.prev = nil, nil
}

func (c *files) open(h *record.Header, r *record.Open) {
	p := c.spans.lineage.Actor(h)
	if p == nil {
		return
	}
	requested := r.Name
	// The descriptor of a success may be closed again before the kernel's program looks: then
	// the request is all there is, as for a refusal.
	resolved := r.Error == 0 && h.Flags&(record.OpenBase|record.OpenSubmitted) == 0 && (r.Inode != 0 || len(r.Path) > 0)
	if resolved {
		c.spans.lineage.Path = paths.AppendResolved(c.spans.lineage.Path[:0], r.Path, paths.OpenMarks(h.Flags))
	} else {
		c.spans.lineage.Path = paths.AppendRequested(c.spans.lineage.Path[:0], r.Path, h.Flags, r.Name)
	}
	if string(requested) == string(c.spans.lineage.Path) {
		requested = nil
	}
	to := accessOf(h, r)
	name := paths.Plain(c.spans.lineage.Path, resolved && h.Flags&record.OpenUnlinked != 0)
	sensitive := c.spans.sensitive.Match(name)
	if resolved && to.writes() && h.Flags&record.OpenOnProc != 0 && path.Base(string(name)) == "mem" {
		c.spans.memoryOpened(h, p, name)
	}
	if p.Hook != nil && (sensitive || p.Hook.Ran) {
		c.spans.attribution.NotHook(&p.Process) // no shell does so on the way to a hook, or after it
	}
	var whose attribution.Whose
	byFile := p.ByFile(to.writes())
	if byFile {
		whose = c.spans.attribution.OwnerOfFile(&p.Process, &attribution.Touch{
			Path: string(name), Requested: string(requested), Write: to.writes(), Sensitive: sensitive,
			Failed: r.Error != 0, File: h.Flags&(record.OpenPseudo|record.OpenOnProc) == 0 && isFile(name),
		})
	}
	read := resolved && !to.writes() && !sensitive
	if whose.Declared == 0 && !sensitive && c.isNoise(h, r, p, name, to, resolved) {
		p.Program.Noise++
		return
	}
	if !byFile {
		whose.Owner = p.Owner()
	}
	c.spans.effects.opened(h, r, p, whose.Owner, name, to, resolved, sensitive)
	// Who looks at all processes meets some that have no memory: of these there is nothing to be read.
	nothing := r.Error == int32(unix.ESRCH)
	missing := !to.writes() && (!sensitive || nothing) && !whose.Named && h.Flags&record.OpenSubmitted == 0 &&
		r.Error != 0 && outcomeOf(span.Open, unix.Errno(r.Error)) == span.Missing
	if missing && c.isMissing(h, r, p, &whose, name, to) {
		return
	}
	const nowhere = record.OpenSubmitted | record.OpenUnlinked | record.OpenPseudo | record.OpenOnProc
	key := openKey{
		process: p, inode: r.Inode, dev: r.Dev, errno: r.Error,
		flags: h.Flags, access: to, call: whose.Owner.Call, declared: whose.Declared,
		outside: to.writes() && r.Error == 0 && h.Flags&nowhere == 0 && c.spans.isOutside(&p.Sandbox.Sandbox, whose.Owner, string(name)),
	}
	// The key is written out so that the compiler looks the path up without a copy.
	if s := c.opens[openKey{
		process: p, path: string(c.spans.lineage.Path), inode: r.Inode, dev: r.Dev, errno: r.Error, flags: h.Flags, access: to,
		call: key.call, declared: key.declared, outside: key.outside,
	}]; s != nil {
		if s.owner == whose.Owner {
			s.count++
			s.last = max(s.last, h.Time)
			return
		}
		c.spans.queue.runOutOf(&s.held, 0)
	}
	switch {
	case whose.Named || sensitive:
	case read && c.foldsRead(h, p, &whose, name, to):
		return
	case to.writes() && resolved && !key.outside && h.Flags&notIn == 0 && c.foldsWrite(h, p, &whose, name, to):
		return
	}
	key.path = string(c.spans.lineage.Path)
	s := c.newOpen(h, p, whose.Owner, key)
	s.sensitive = sensitive
	s.resolved, s.named = resolved, whose.Named
	s.requested = string(requested)
	c.keep(s, len(key.path)+len(s.requested), weightOf(key.path)+weightOf(s.requested))
}

// keep counts repeats of an open until its window ends. bytes are of its texts, weight what these take when encoded.
func (c *files) keep(s *openSpan, bytes, weight int) {
	p, i, g := s.process, s.program, s.cgroup
	if s.key.process == nil {
		i, g = nil, nil
	}
	s.spot = c.spans.place(&p.Sandbox.Sandbox, s.owner, i, g, weight)
	c.spans.queue.holdRepeats(&s.held, s, p, bytes, s.first)
	c.opens[s.key] = s
	if s.key.process != nil {
		pendingOf(p).opens.push(s)
	}
}

// counts says whether there is a span yet to tell what is only counted.
func counts(p *lineage.Process) bool { return p.Program.Span != (span.ID{}) && !p.Program.Ended }

// isNoise says whether an open is one to be counted only: a read of what every program reads, or an open of a device
// without content. A name can be anything's: whoever has a mount namespace of his own can put any file where the list
// has a library, and whoever has another root a directory of his own. On the host root decides; so root is the owner,
// or the kernel itself.
func (c *files) isNoise(h *record.Header, r *record.Open, p *lineage.Process, path []byte, to access, resolved bool) bool {
	if h.Flags&record.OpenForeign != 0 || !counts(p) {
		return false
	}
	roots := resolved && (r.UID == 0 || h.Flags&record.OpenOnProc != 0)
	switch {
	case to == accessCreate || to == accessPathOnly || h.Flags&record.OpenSubmitted != 0:
		return false
	case to == accessRead && (roots || r.Error == int32(unix.ENOENT)):
	case isDevice(path) && (roots || r.Error == int32(unix.ENXIO)):
	default:
		return false
	}
	return c.noise.Match(c.ownProc(p, path))
}

// isDevice says whether a path is that of a device which keeps nothing of what is written, or of the terminal.
func isDevice(path []byte) bool {
	switch string(path) {
	case "/dev/null", "/dev/zero", "/dev/full", "/dev/tty":
		return true
	}
	return false
}

// ownProc writes the process's own directory of /proc as /proc/self, whatever that was called in the open. Not by the
// pid of a pid namespace of its own: where there is noise /proc is the host's, and 1 there another process.
func (c *files) ownProc(p *lineage.Process, path []byte) []byte {
	const proc = "/proc/"
	if len(path) <= len(proc) || string(path[:len(proc)]) != proc {
		return path
	}
	end := len(proc)
	var pid uint64
	for end < len(path) && '0' <= path[end] && path[end] <= '9' && pid < 1<<32 {
		pid = pid*10 + uint64(path[end]-'0')
		end++
	}
	if end == len(proc) || end < len(path) && path[end] != '/' || pid != uint64(p.Tgid) {
		return path
	}
	c.spans.text = append(c.spans.text[:0], "/proc/self"...)
	c.spans.text = append(c.spans.text, path[end:]...)
	return c.spans.text
}

func (c *files) newOpen(h *record.Header, p *lineage.Process, w attribution.Owner, key openKey) *openSpan {
	var s *openSpan
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
	} else {
		s = new(openSpan)
	}
	*s = openSpan{key: key, process: p, program: p.Program, cgroup: p.Cgroup, owner: w, first: h.Time, last: h.Time, tid: h.Tid, count: 1}
	return s
}

// maxFreeOpens bounds the memory kept for the next opens.
const maxFreeOpens = 4096

// flushOpens sends all held opens of a process.
func (c *files) flushOpens(p *lineage.Process) {
	pending := pendingOf(p)
	for s := pending.opens.first; s != nil; s = pending.opens.first {
		c.spans.queue.runOutOf(&s.held, 0)
	}
}

func (s *openSpan) runOut(c *Spans, _ uint64) {
	c.files.sendOpen(s)
	c.files.forget(s)
}

// forget takes a span that is in no queue any more out of where it is found.
func (c *files) forget(s *openSpan) {
	delete(c.opens, s.key)
	if s.key.process != nil {
		pendingOf(s.key.process).opens.remove(s)
	}
	if s.in != nil {
		s.in.remove(s)
	}
	if len(c.free) < maxFreeOpens {
		*s = openSpan{}
		c.free = append(c.free, s)
	}
}

func (c *files) sendOpen(s *openSpan) {
	p, i, flags := s.process, s.program, s.key.flags
	id := span.OpenSpan(c.spans.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID}, s.tid, s.first)
	d := c.spans.out.start(span.Open, &p.Sandbox.Sandbox, s.owner, id, s.spot, s.first, s.first)
	if s.key.process != nil {
		c.spans.out.process(p, i, s.cgroup)
	} else if d.span.OfProgram = true; !s.mixed {
		d.span.User = i.User
	}
	if s.key.path != "" {
		d.text(span.KeyFilePath, s.key.path)
	}
	d.trusted(span.KeyFileAccess, s.key.access.String())
	d.flagIf(s.key.access.writes(), span.KeyFileWrite)
	d.flagIf(s.key.outside, span.KeyOutside)
	d.declared(s.key.declared)
	if flags&record.OpenSubmitted == 0 {
		d.returned(s.key.errno)
	}
	c.spans.repeated(d, s.count, s.last)
	if s.key.folded {
		d.folded(s.names)
		if len(s.programs) > 0 {
			d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyFoldedPrograms, Kind: span.StringsAttr, List: s.programs})
		}
		c.spans.out.send()
		return
	}
	if s.requested != "" {
		d.text(span.KeyFileRequested, s.requested)
	}
	asked := s.requested != "" || !s.resolved
	d.flagIf(asked && flags&record.OpenNameFromUser != 0, span.KeyFileNameFromUser)
	d.flagIf(asked && flags&record.OpenNameTruncated != 0, span.KeyFileNameTruncated)
	d.flagIf(flags&record.OpenNameMissing != 0, span.KeyFileNameMissing)
	d.flagIf(s.sensitive, span.KeySensitive)
	d.flagIf(flags&record.OpenTruncated != 0, span.KeyFilePathTruncated)
	d.flagIf(flags&record.OpenOutside != 0, span.KeyFilePathOutside)
	d.flagIf(flags&record.OpenSubmitted != 0, span.KeyFileSubmitted)
	if s.resolved {
		d.trusted(span.KeyFileInode, strconv.FormatUint(s.key.inode, 10))
		d.flagIf(flags&record.OpenUnlinked != 0, span.KeyFileDeleted)
	} else {
		d.flag(span.KeyFilePathUnresolved)
	}
	c.spans.out.send()
}
