// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/effect"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of what is kept of the names that are changed: of one program, of a call, session or sandbox, of all; and which
// part of that one sandbox may have, with all that is in it.
const (
	maxProgramNames = 512
	maxScopeNames   = 4096
	maxAllNames     = 1 << 17
	maxAllBytes     = 64 << 20
	sandboxPart     = 8
)

// Bounds of the names on a span: of a class, and the bytes of all.
const (
	maxClassNames    = 10
	programNameBytes = 1 << 10
	scopeNameBytes   = 4 << 10
)

// effectWeight is about what the numbers and keys of a net effect take on a span.
const effectWeight = 512

// maxAround is to how many calls and agents an operation is told, from the inside out, and what they are within.
const maxAround = 4

// A net is what a program, call, agent or sandbox changes.
type net struct {
	scope *effect.Scope // nil: nothing so far
	first uint64        // boottime of the first change
}

// A sandboxTold is what is done in a sandbox by whoever is no agent's, and bounds what is kept of all that is done in it.
type sandboxTold struct {
	net
	total   effect.Total
	account account
	hosts   room

	workspace workspace // of who is no agent's

	held    held // with over
	sandbox *lineage.Sandbox
	end     spot
	ended   uint64 // boottime
	over    bool
	told    bool // with over: nothing is added any more
}

// toldOf is what is kept of a sandbox.
func (c *Spans) toldOf(sb *attribution.Sandbox) *sandboxTold {
	s, known := sb.Pending.(*sandboxTold)
	if !known {
		s = &sandboxTold{
			total: effect.Total{Names: maxAllNames / sandboxPart, Bytes: maxAllBytes / sandboxPart, Within: &c.effects.total},
			hosts: room{left: maxSandboxHosts, within: &c.accounts.room},
		}
		s.account.room = &s.hosts
		sb.Pending = s
	}
	return s
}

// effects keeps what is changed.
type effects struct {
	spans *Spans
	total effect.Total
	seen  effect.Seen
	op    effect.Op // scratch
}

// opened takes an open. name is resolved, or as asked for.
func (c *effects) opened(h *record.Header, r *record.Open, p *lineage.Process, w attribution.Owner, name []byte, to access, resolved, sensitive bool) {
	place := p.Sandbox.Number()
	if !to.writes() {
		if r.Error == 0 && resolved || r.Error == int32(unix.ENOENT) {
			c.seen.Set(place, name, r.Error == 0)
		}
		return
	}
	if h.Flags&(record.OpenPseudo|record.OpenOnProc) != 0 || r.Error != 0 || !lasts(name) {
		return
	}
	if p.Program.Known == notable.Wrapper && notable.BelowNewRoot(name) {
		return
	}
	const nameless = 0o20000000 // of O_TMPFILE what it shares on all architectures
	c.op = effect.Op{
		Op: effect.Open, New: name, ID: effect.ID{Dev: r.Dev, Inode: r.Inode}, Sensitive: sensitive,
		Created: to == accessCreate, Truncated: r.Flags&unix.O_TRUNC != 0, ByName: !resolved,
	}
	if h.Flags&record.OpenUnlinked != 0 {
		if c.op.Nameless = r.Flags&nameless != 0; !c.op.Nameless {
			return // it has no name that could be told
		}
	}
	c.do(h, p, w, h.Flags&record.OpenSubmitted != 0)
	if h.Flags&record.OpenSubmitted == 0 {
		c.seen.Set(place, name, !c.op.Nameless)
	}
}

// changed takes a change; from and to are its names as paths.
func (c *effects) changed(h *record.Header, r *record.Change, p *lineage.Process, w attribution.Owner, from, to string, sensitive bool) {
	if r.Error != 0 || r.Op >= record.ChangeMount || h.Flags&record.ChangeUnlinked != 0 || !lasts(to) {
		return
	}
	if p.Program.Known == notable.Wrapper && notable.BelowNewRoot(to) {
		return
	}
	place := p.Sandbox.Number()
	c.op = effect.Op{
		Op: r.Op, Flags: r.Flags, Old: []byte(from), New: []byte(to),
		ID: effect.ID{Dev: r.Dev, Inode: r.Inode}, Replaced: effect.ID{Dev: r.Dev, Inode: r.Replaced},
		Nlink: r.Nlink, Mode: r.Mode, Before: r.Before, After: r.After,
		Directory: h.Flags&record.ChangeDirectory != 0, Sensitive: sensitive,
		ByName: r.Inode == 0,
	}
	if r.Op == record.ChangeRename {
		c.op.Existed = r.Inode == 0 && c.seen.Is(place, c.op.New)
	}
	unsure := h.Flags&(record.ChangeSubmitted|record.ChangeNotSure) != 0
	c.do(h, p, w, unsure)
	switch {
	case unsure:
	case r.Op == record.ChangeUnlink || r.Op == record.ChangeRmdir:
		c.seen.Set(place, c.op.New, false)
	case r.Op == record.ChangeRename:
		c.seen.Set(place, c.op.New, true)
		c.seen.Set(place, c.op.Old, r.Flags&unix.RENAME_EXCHANGE != 0)
	}
}

// lasts says whether a path is one of a file, also where it is seen while a sandbox of an agent (bwrap) is set up: the
// devices and process files that are made there are none.
func lasts[T string | []byte](name T) bool {
	for _, root := range []string{"(unreachable)", "/newroot", "/oldroot"} {
		if len(name) > len(root) && string(name[:len(root)]) == root {
			name = name[len(root):]
		}
	}
	return isFile(name)
}

// isFile says whether a path is one of a file: not of a device, nor of what the kernel shows as files.
func isFile[T string | []byte](name T) bool {
	for _, dir := range []string{"/proc/", "/sys/", "/dev/"} {
		if len(name) > len(dir) && string(name[:len(dir)]) == dir {
			const shm = "/dev/shm/"
			return len(name) > len(shm) && string(name[:len(shm)]) == shm
		}
	}
	return len(name) > 0
}

// do tells the operation at hand to whose it is: the program, and calls and agents, or the sandbox without an agent.
func (c *effects) do(h *record.Header, p *lineage.Process, w attribution.Owner, unsure bool) {
	sb := c.spans.toldOf(&p.Sandbox.Sandbox)
	total := &sb.total
	if i := p.Program; i.Span != (span.ID{}) && !i.Ended {
		n, known := i.Pending.(*net)
		if !known {
			n = &net{}
			i.Pending = n
			if i.Exec != nil { // else its process.exit has it
				c.spans.slicer.Grow(p.Sandbox.TracesOf(i.Owner), i.Trace, weightOfNet(i))
			}
		}
		c.tell(n, h, total, maxProgramNames, unsure)
	}
	nobodys := w.Agent == nil
	for told, n := (*agentStory)(nil), 0; n < maxAround && w.Agent != nil; n++ {
		if w.Call != nil && !w.Call.Life.Left && p.Program.Known != notable.Wrapper { // what a wrapper does is its agent's
			if s, waits := w.Call.Pending.(*callStory); waits {
				c.tell(&s.net, h, total, maxScopeNames, unsure)
			}
		}
		if s := storyOf(w); s != nil && !s.told && s != told {
			c.tell(&s.net, h, total, maxScopeNames, unsure)
			told = s
		}
		w = w.Within()
	}
	if nobodys {
		c.tell(&sb.net, h, total, maxScopeNames, unsure)
	}
}

func (c *effects) tell(n *net, h *record.Header, total *effect.Total, limit int, unsure bool) {
	if n.scope == nil {
		n.scope, n.first = effect.NewScope(total, limit), h.Time
	}
	if unsure {
		n.scope.Unsure()
		return
	}
	n.scope.Do(&c.op)
}

// drop forgets what was changed.
func (n *net) drop() {
	if n.scope != nil {
		n.scope.Close()
		n.scope = nil
	}
}

// ForgetProgram forgets what a program has changed.
func (c *Spans) ForgetProgram(i *lineage.Program) {
	if n, known := i.Pending.(*net); known {
		n.drop()
		i.Pending = nil
	}
}

var classKeys = [effect.Classes]struct{ count, names string }{
	effect.Created:          {span.KeyFilesCreated, span.KeyFilesCreatedNames},
	effect.Modified:         {span.KeyFilesModified, span.KeyFilesModifiedNames},
	effect.OpenedForWriting: {span.KeyFilesOpened, span.KeyFilesOpenedNames},
	effect.Replaced:         {span.KeyFilesReplaced, span.KeyFilesReplacedNames},
	effect.Deleted:          {span.KeyFilesDeleted, span.KeyFilesDeletedNames},
	effect.Renamed:          {span.KeyFilesRenamed, span.KeyFilesRenamedNames},
	effect.Linked:           {span.KeyFilesLinked, span.KeyFilesLinkedNames},
	effect.Mode:             {span.KeyFilesMode, span.KeyFilesModeNames},
	effect.Owner:            {span.KeyFilesOwner, span.KeyFilesOwnerNames},
	effect.Attributes:       {span.KeyFilesAttributes, span.KeyFilesAttributesNames},
	effect.Temporary:        {span.KeyFilesTemporary, ""},
}

// addNet adds what was changed in the end, and forgets it. bytes are those of all names at most. It gives the numbers,
// and some names of each class.
func (c *Spans) addNet(d *builder, n *net, bytes int, workspace string) (sum changes) {
	if n.scope == nil {
		return sum
	}
	all := n.scope.Net()
	n.drop()
	sum.counts = all.Counts
	list := func(key string, names []string) {
		for i := range names {
			names[i] = d.valid(names[i])
		}
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringsAttr, List: names})
	}
	rank := func(name string) int {
		switch {
		case c.isSensitiveChange(name):
			return 0
		case workspace != "" && strings.HasPrefix(name, strings.TrimSuffix(workspace, "/")+"/"):
			return 1
		}
		return 2
	}
	for class, key := range classKeys {
		if all.Counts[class] == 0 {
			continue
		}
		d.int(key.count, int64(all.Counts[class]))
		names, from := all.Names(effect.Class(class), maxClassNames, bytes, rank, weightOf[string])
		if len(names) == 0 {
			continue
		}
		for _, list := range [...][]string{names, from} {
			for _, name := range list {
				bytes -= weightOf(name)
			}
		}
		list(key.names, names)
		sum.names[class] = names
		if class == int(effect.Renamed) {
			list(span.KeyFilesRenamedFrom, from)
		}
	}
	if all.More > 0 {
		d.int(span.KeyFilesMore, int64(all.More))
	}
	if all.Unsure > 0 {
		d.int(span.KeyFilesUnsure, int64(all.Unsure))
	}
	d.flagIf(all.ByName && !all.Empty(), span.KeyFilesByName)
	return sum
}

// changes are the numbers of a net effect, and some names of each class.
type changes struct {
	counts effect.Counts
	names  [effect.Classes][]string
}

// weightOfNet is what the span of a program's end takes for what that has changed.
func weightOfNet(i *lineage.Program) int {
	if i.Pending == nil {
		return 0
	}
	return effectWeight + programNameBytes
}

// addProgramNet adds what a program has changed, when that has ended.
func (c *Spans) addProgramNet(d *builder, i *lineage.Program) {
	if n, known := i.Pending.(*net); known {
		c.addNet(d, n, programNameBytes, "")
		i.Pending = nil
	}
}

// SandboxOver has what was done in a sandbox by whoever is no agent's told, if there is anything: nothing runs there any
// more.
func (c *Spans) SandboxOver(sb *lineage.Sandbox) {
	c.endNames(sb)
	if s := c.toldOf(&sb.Sandbox); !s.over {
		s.over = true
		c.endSandbox(s, sb)
		c.queue.hold(&c.queue.rows, &s.held, s, 0, c.clock.Now+uint64(c.config.Hold))
	}
}

func (c *Spans) endSandbox(s *sandboxTold, sb *lineage.Sandbox) {
	s.sandbox, s.ended = sb, c.clock.Now
	s.end = c.place(&sb.Sandbox, attribution.Owner{}, sb.Root, nil, effectWeight+scopeNameBytes+accountWeight)
}

// runOut sends sandbox.end.
func (s *sandboxTold) runOut(c *Spans, _ uint64) {
	s.told = s.over
	if !s.account.did() && s.net.scope == nil {
		s.account.drop()
		return
	}
	sb := s.sandbox
	first := s.net.first
	if began := s.account.first - c.clock.Offset; s.net.scope == nil || s.account.first != 0 && began < first {
		first = began
	}
	d := c.out.start(span.SandboxEnd, &sb.Sandbox, attribution.Owner{}, span.SandboxEndSpan(sb.ID, s.ended), s.end, first, s.ended)
	sum := c.addNet(d, &s.net, scopeNameBytes, s.workspace.path)
	c.addAccount(d, &s.account, accountLists)
	d.trusted(span.KeySessionSummary, summaryOf(&s.account, &sum, s.workspace.path, tail{}))
	s.account.drop()
	d.flagIf(first < c.resumed, span.KeyCountPartial)
	d.flagIf(!s.over, span.KeyPartial)
	c.out.send()
}

// SendSandboxes tells what was done so far in all sandboxes: nobody will be told of more.
func (c *Spans) SendSandboxes() {
	for e := c.lineage.Sandboxes.Front(); e != nil; e = e.Next() {
		sb := e.Value.(*lineage.Sandbox)
		if s := c.toldOf(&sb.Sandbox); s.account.did() || s.net.scope != nil {
			c.endSandbox(s, sb)
			s.runOut(c, c.clock.Now)
		}
	}
}
