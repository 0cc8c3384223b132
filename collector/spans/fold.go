// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"hash/maphash"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
)

// Bounds of what a folded span names.
const (
	MaxFoldedNames    = 8 // names of files, of at most 255 bytes each
	maxFoldedPrograms = 8
)

// folds has the spans into which files of one process, or of one call, are counted by directory.
type folds struct {
	above  int    // names that a directory above those of the files has to have at least to be told instead; 0: there is none
	window uint64 // its number since boot
	files  int    // distinct ones in it that have spans of their own
	spans  []*openSpan
}

func (f *folds) remove(s *openSpan) {
	if i := slices.Index(f.spans, s); i >= 0 {
		f.spans = slices.Delete(f.spans, i, i+1)
	}
}

// begin goes on to the window that a time (boottime) is in. It reports whether that is a new one.
func (f *folds) begin(at, window uint64) bool {
	number := at / window // as queue.windowEnd: the same for all
	if number == f.window {
		return false
	}
	f.window, f.files = number, 0
	return true
}

// foldsRead counts a successful read of a file not read before, or one of a path only, into a span for its directory,
// when the process or its call has read too many others lately, or makes the agent's own sandbox.
func (c *files) foldsRead(h *record.Header, p *lineage.Process, whose *attribution.Whose, file []byte, to access) bool {
	conf, own := &c.spans.config.Fold, &pendingOf(p).folded
	own.begin(h.Time, uint64(conf.Window))
	key := openKey{process: p, access: to, call: whose.Owner.Call, declared: whose.Declared}
	if k := whose.Owner.Call; k != nil && p.Hook == nil && !whose.Owner.Left {
		all := filesOf(k)
		all.begin(h.Time, uint64(c.spans.config.Hold)) // a restart reads all of it
		if all.files >= conf.CallFiles || p.Program.Known == notable.Wrapper {
			key.process = nil
			return c.fold(h, p, whose, all, key, file)
		}
		all.files++
	}
	if own.files < conf.Files {
		own.files++
		return false
	}
	return c.fold(h, p, whose, own, key, file)
}

// filesOf is what is kept of the files that a call reads.
func filesOf(k *attribution.Call) *folds {
	if k.Files == nil {
		k.Files = &folds{above: 2}
	}
	return k.Files.(*folds)
}

// isMissing counts that a process looked for a file that is not there: on its program, or in a span for the directory
// where it looks for many. Where names are those of a namespace of its own, all but those have spans.
func (c *files) isMissing(h *record.Header, r *record.Open, p *lineage.Process, whose *attribution.Whose, file []byte, to access) bool {
	conf, pending := &c.spans.config.Fold, pendingOf(p)
	dir := paths.Directory(file)
	if len(dir) == 0 {
		return false
	}
	if window := h.Time / uint64(c.spans.config.Hold); window != pending.looked { // a restart reads all of it
		pending.looked = window
		clear(pending.missing)
	}
	at := maphash.Bytes(c.spans.accounts.seed, dir)
	n, known := pending.missing[at]
	if known || len(pending.missing) < conf.Directories {
		if pending.missing == nil {
			pending.missing = make(map[uint64]int)
		}
		n++
		pending.missing[at] = n
	}
	switch {
	case n >= conf.Missing:
		return c.fold(h, p, whose, &pending.folded, openKey{process: p, errno: r.Error, access: to, call: whose.Owner.Call, declared: whose.Declared}, file)
	case h.Flags&record.OpenForeign != 0 || !counts(p) || len(c.spans.config.Noise) == 0:
		return false
	}
	p.Program.Missing++
	return true
}

// maxLookedBack bounds how many spans of a process that wait are looked at for each file that it makes: who makes many
// elsewhere costs no more.
const maxLookedBack = 256

// foldsWrite counts a file that was made into a span for its directory, where the process makes many. Those before,
// which wait, go into that span, too. In trees also what is only opened for writing.
func (c *files) foldsWrite(h *record.Header, p *lineage.Process, whose *attribution.Whose, file []byte, to access) bool {
	conf, list := &c.spans.config.Fold, &pendingOf(p).made
	dir := paths.Directory(file)
	if len(dir) == 0 || !isFile(file) || to != accessCreate && !conf.Trees {
		return false
	}
	sandbox := p.Program.Known == notable.Wrapper
	key := openKey{process: p, access: to, call: whose.Owner.Call, declared: whose.Declared}
	if c.foldedIn(list, key, dir) != nil {
		return c.fold(h, p, whose, list, key, file)
	}
	var alone []*openSpan // of which this one is one too many
	looked := 0
	for s := pendingOf(p).opens.last; s != nil && looked < maxLookedBack; s, looked = s.prev, looked+1 {
		if s.mayFold(key) && s.owner == whose.Owner && (conf.Trees || isIn(s.key.path, dir)) {
			alone = append(alone, s)
		}
	}
	if len(alone) < conf.Creates && !sandbox {
		return false
	}
	type single struct {
		path        string
		first, last uint64
		tid         uint32
		count       uint64
	}
	singles := make([]single, 0, len(alone)) // to fold one may send another early
	for _, s := range slices.Backward(alone) {
		singles = append(singles, single{s.key.path, s.first, s.last, s.tid, s.count})
		c.spans.queue.drop(&s.held)
		c.forget(s)
	}
	for _, s := range singles {
		of := record.Header{Time: s.first, Tid: s.tid}
		c.fold(&of, p, whose, list, key, []byte(s.path))
		if to := c.foldedIn(list, key, paths.Directory([]byte(s.path))); to != nil {
			to.count, to.last = to.count+s.count-1, max(to.last, s.last)
		}
	}
	return c.fold(h, p, whose, list, key, file)
}

// isIn says whether a file lies in a directory itself, which ends with a slash.
func isIn(file string, dir []byte) bool {
	return len(file) > len(dir) && file[:len(dir)] == string(dir) && strings.IndexByte(file[len(dir):], '/') < 0
}

// alone says whether a change of a file is told by a span of its own, however many there are: where it lies outside of
// the workspace.
func (c *Spans) alone(p *lineage.Process, w attribution.Owner, name string) bool {
	return c.isOutside(&p.Sandbox.Sandbox, w, name)
}

// notIn are the flags of an open of what is not in the directory that its path names, as far as is known.
const notIn = record.OpenUnlinked | record.OpenTruncated | record.OpenOutside

// mayFold says whether a span of one file may go into one for its directory, by the key of that: none that would not have
// been counted there at once.
func (s *openSpan) mayFold(into openKey) bool {
	k := &s.key
	return !k.folded && k.access == into.access && k.errno == into.errno && k.call == into.call && k.declared == into.declared &&
		!k.outside && k.flags&notIn == 0 && !s.sensitive && !s.named && s.resolved
}

// treesOf is folds.above as it is configured.
func (c *files) treesOf(f *folds) int {
	if c.spans.config.Fold.Trees {
		return 1
	}
	return f.above
}

// foldedIn finds the span into which what is in a directory is counted; nil: there is none yet. In trees it is the
// nearest one above.
func (c *files) foldedIn(f *folds, key openKey, dir []byte) *openSpan {
	key.folded = true
	if c.treesOf(f) == 0 {
		key.path = string(dir)
		return c.opens[key]
	}
	var nearest *openSpan
	for _, s := range f.spans {
		at := s.key.path
		if key.path = at; s.key == key && strings.HasPrefix(string(dir), at) && (nearest == nil || len(at) > len(nearest.key.path)) {
			nearest = s
		}
	}
	return nearest
}

// fold counts what was done to a file into the span for its directory. Reads of many directories are never told as of
// one above, but in a call or in trees: there nobody would see what was read. Of too many directories the oldest goes out.
func (c *files) fold(h *record.Header, p *lineage.Process, whose *attribution.Whose, f *folds, key openKey, file []byte) bool {
	dir := paths.Directory(file)
	if len(dir) == 0 {
		return false // a pseudo file
	}
	name := file[len(dir):]
	s := c.foldedIn(f, key, dir)
	if s != nil && s.owner != whose.Owner {
		c.spans.queue.runOutOf(&s.held, 0)
		s = nil
	}
	if s == nil && c.treesOf(f) > 0 && len(f.spans) >= c.spans.config.Fold.Directories {
		s = c.widen(f, key, whose.Owner, dir)
	}
	if s != nil {
		s.count++
		s.last = max(s.last, h.Time)
		s.readBy(p)
		c.keepName(s, file[len(s.key.path):])
		return true
	}
	for len(f.spans) >= c.spans.config.Fold.Directories {
		c.spans.queue.runOutOf(&f.spans[0].held, 0)
	}
	key.folded, key.path = true, string(dir)
	s = c.newOpen(h, p, whose.Owner, key)
	s.in = f
	s.readBy(p)
	c.keep(s, len(key.path), weightOf(key.path)+2*MaxFoldedNames*unix.NAME_MAX)
	f.spans = append(f.spans, s)
	c.keepName(s, name)
	return true
}

// widen has one of the spans count for a directory above its own, which the given one is below, too. Nil: only the root
// is above any of them.
func (c *files) widen(f *folds, key openKey, w attribution.Owner, dir []byte) *openSpan {
	key.folded = true
	var nearest *openSpan
	common := 0
	for _, s := range f.spans {
		if key.path = s.key.path; s.key != key || s.owner != w {
			continue
		}
		if n := commonDirectory(s.key.path, string(dir)); n > common && strings.Count(s.key.path[:n], "/") > c.treesOf(f) {
			nearest, common = s, n
		}
	}
	if nearest == nil {
		return nil
	}
	below := strings.Clone(nearest.key.path[common:])
	c.rename(nearest, string(dir[:common]), below)
	for _, s := range slices.Clone(f.spans) {
		key.path = s.key.path
		if s == nearest || s.key != key || s.owner != w || !strings.HasPrefix(s.key.path, nearest.key.path) {
			continue
		}
		c.spans.queue.drop(&s.held)
		nearest.count, nearest.last = nearest.count+s.count, max(nearest.last, s.last)
		for _, name := range s.names {
			nearest.addName([]byte(s.key.path[common:] + name)) // for which s has had room
		}
		for _, program := range s.programs {
			nearest.addProgram(program)
		}
		nearest.mixed = nearest.mixed || s.mixed || s.program.User != nearest.program.User
		c.forget(s)
	}
	return nearest
}

// rename has a folded span be of a directory above; below is what its own is called there.
func (c *files) rename(s *openSpan, dir, below string) {
	delete(c.opens, s.key)
	s.key.path = dir
	c.opens[s.key] = s
	names := s.names
	s.names = names[:0]
	for _, name := range names {
		if len(below)+len(name) <= unix.NAME_MAX {
			s.names = append(s.names, below+name)
		}
	}
}

// keepName adds the name of a file to a folded span, if it is among the first. The span may go out by it.
func (c *files) keepName(s *openSpan, name []byte) {
	if s.addName(name) {
		c.spans.queue.grow(&s.held, len(name))
	}
}

// addName says whether the name was added.
func (s *openSpan) addName(name []byte) bool {
	if len(name) == 0 || len(name) > unix.NAME_MAX || len(s.names) >= MaxFoldedNames ||
		slices.ContainsFunc(s.names, func(known string) bool { return known == string(name) }) {
		return false
	}
	s.names = append(s.names, string(name))
	return true
}

// readBy notes a program, where it is one of several.
func (s *openSpan) readBy(p *lineage.Process) {
	if s.key.process == nil {
		s.addProgram(p.Program.Name)
		s.mixed = s.mixed || p.Program.User != s.program.User
	}
}

func (s *openSpan) addProgram(name string) {
	if name = strings.ToValidUTF8(name, "\uFFFD"); name != "" && len(s.programs) < maxFoldedPrograms && !slices.Contains(s.programs, name) {
		s.programs = append(s.programs, name)
	}
}
