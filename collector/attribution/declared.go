// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Declared compares what was touched with what a call was said to touch.
type Declared uint8

// The values.
const (
	DeclaredNothing Declared = iota // there is nothing to compare, or it is not known yet
	Confirmed                       // declared, and touched
	Undeclared                      // touched, and not declared
	Unmet                           // declared, and not touched
)

func (d Declared) String() string { return [...]string{"", "confirmed", "undeclared", "unmet"}[d] }

// Inside is of a call that works in its agent's own process, or in an MCP server: what was said of it, and touched. The
// rules are in docs/design/attribution.md.
type Inside struct {
	Server     string // of MCP; "": the agent's own process works
	paths      []declaredPath
	undeclared bool // something was touched that was not declared
	untold     bool // more was declared than is known

	servers []*helper // that are the server, or may be
	alone   bool      // no other call of MCP was open meanwhile
}

// A declaredPath is a file or directory, cleaned.
type declaredPath struct {
	path     string
	resolved string // as the kernel calls it, if that is known and another name
	touched  bool
}

// maxDeclared bounds the declared paths of a call, maxDeclaredAtOnce those of an agent's open calls.
const (
	maxDeclared       = 64
	maxDeclaredAtOnce = 256
)

// tool says where the tool of a mark works, and readies the target for it. That is only asked of what an agent or its
// hook says of the agent as a whole.
func (at *target) tool(m *record.Mark) agents.ToolKind {
	if at.mark.agent == nil || at.who != markedByAgent && at.who != MarkedByHook {
		return agents.ToolUnknown
	}
	kind, server := at.agent.dialect.Tools.Kind(m.Tool)
	if kind != agents.ToolMCP && kind != agents.ToolInside {
		return kind
	}
	at.inside = &Inside{Server: server, untold: m.More.Get(record.MoreUntold) != ""}
	room := maxDeclaredAtOnce
	for _, k := range at.agent.inside {
		room -= len(k.Inside.paths)
	}
	room = min(room, maxDeclared)
	for key, value := range m.More.Pairs {
		switch {
		case key != record.MorePath || !path.IsAbs(value):
		case len(at.inside.paths) < room:
			at.inside.paths = append(at.inside.paths, declaredPath{path: path.Clean(value)})
		default:
			at.inside.untold = true
		}
	}
	return kind
}

// runs makes an ordinary call of one that was taken for a tool inside of the agent, but starts a command.
func (c *Marks) runs(k *Call) {
	if k.Inside == nil {
		return
	}
	marked := k.Marking.mark != nil
	if marked {
		c.served(k)
		k.Agent.inside = slices.DeleteFunc(k.Agent.inside, func(other *Call) bool { return other == k })
		k.Agent.open = append(k.Agent.open, k)
	}
	k.Inside, k.Basis = nil, byCallID
	if marked && len(k.Agent.open) > maxOpen {
		c.CloseMark(k)
	}
}

// mayAnnounce says whether an open call may be that of a command that no mark names: of a tool that the dialect does not
// know, and that names no file. A call whose end was not told is that for a while only.
func (a *agent) mayAnnounce(now uint64, retention time.Duration) bool {
	return slices.ContainsFunc(a.inside, func(k *Call) bool {
		return k.Inside.Server == "" && len(k.Inside.paths) == 0 && !k.Inside.untold && now < k.Life.Began+uint64(retention)
	})
}

// closeOld ends calls inside of an agent whose end nobody has told for long.
func (c *Marks) closeOld(a *agent) {
	for _, k := range slices.Clone(a.inside) {
		if c.table.clock.Now >= k.Life.Began+uint64(c.table.config.CallRetention) {
			c.CloseMark(k)
		}
	}
}

// A Touch is what a process does to a file.
type Touch struct {
	Path, Other string // Other: of a rename or link, its other end
	Requested   string // as the process called it, if that is another name
	Write       bool   // it changes the file, or opens it for that
	Sensitive   bool
	Failed      bool
	File        bool // none of a device, nor what the kernel shows as files
}

// A Whose says whose a touch is.
type Whose struct {
	Owner    Owner
	Declared Declared
	Named    bool // the declaration names the file itself
}

// ByFile says whether OwnerOfFile has to be asked: the file may decide. Write is that of the Touch.
func (p *Process) ByFile(write bool) bool {
	switch a := p.Agent; {
	case a == nil:
		return false
	case p.Call != nil:
		return p.Call.Inside != nil
	case len(a.inside) > 0:
		return true
	}
	return write && p.isAgent() && p.Agent.dialect.Tools.Known()
}

// isAgent is true of the agent's own program and of its forks that have run no other yet.
func (p *Process) isAgent() bool {
	return (p.Role == RoleAgent || p.Role == roleFork) && p.Agent != nil && p.Agent.dialect != nil
}

// OwnerOfFile gives the owner of what p does to a file: as Process.Owner says or, of the agent's own process and of
// what it has started since, a call that works inside of it.
func (c *Table) OwnerOfFile(p *Process, t *Touch) Whose {
	w := p.Owner()
	switch {
	case w.Call != nil && w.Call.Inside != nil:
		fit := w.Call.Inside.fit(t)
		return Whose{w, w.Call.Inside.compare(t, fit), fit == fitFile}
	case w.Call != nil || w.Ambiguous || w.Agent == nil || w.Agent != p.Agent || !p.isAgent() && p.helper == nil:
		return Whose{Owner: w}
	}
	a, own := w.Agent, p.isAgent()
	var open, best []*Call
	var how fit
	silent := false
	for _, k := range a.inside {
		if k.Inside.Server != "" || !own && p.helper.began < k.Life.Began {
			continue
		}
		open = append(open, k)
		silent = silent || len(k.Inside.paths) == 0
		if fit := k.Inside.fit(t); fit > how {
			how, best = fit, append(best[:0], k)
		} else if fit == how && fit != fitNone {
			best = append(best, k)
		}
	}
	said := DeclaredNothing
	switch {
	case len(best) > 0:
		for _, k := range best {
			said = k.Inside.compare(t, how)
		}
		if len(best) > 1 {
			return Whose{Owner{Agent: a, Ambiguous: true, Taint: w.Taint}, said, how == fitFile}
		}
		return Whose{Owner{Agent: a, Call: best[0], Taint: w.Taint}, said, how == fitFile}
	case !own || !t.File || a.isOwn(t):
	case len(open) == 0:
		if t.Write && !t.Failed {
			a.kept.add(t.Path)
		}
	case len(open) == 1 && (t.Write || t.Sensitive):
		return Whose{Owner: Owner{Agent: a, Call: open[0], Taint: w.Taint}, Declared: open[0].Inside.compare(t, fitNone)}
	case len(open) > 1 && t.Write:
		if !silent && !t.Failed {
			said = Undeclared
		}
		return Whose{Owner: Owner{Agent: a, Ambiguous: true, Taint: w.Taint}, Declared: said}
	}
	return Whose{Owner: w}
}

// fit says how well a touch is what was declared.
type fit uint8

const (
	fitNone   fit = iota
	fitBelow      // a declared directory
	fitBeside     // it is a temporary file of a declared one
	fitFile       // it is declared itself
)

func (d *Inside) fit(t *Touch) (best fit) {
	for i := range d.paths {
		best = max(best, d.paths[i].fit(t))
	}
	return best
}

func (d *declaredPath) fit(t *Touch) (best fit) {
	for _, name := range [...]string{t.Path, t.Other, t.Requested} {
		if name == "" {
			continue
		}
		for _, said := range [...]string{d.path, d.resolved} {
			switch {
			case said == "":
			case name == said:
				return fitFile
			case t.Write && isTemporaryOf(said, name):
				best = max(best, fitBeside)
			case strings.HasPrefix(name, said) && (name[len(said)] == '/' || said == "/"):
				best = max(best, fitBelow)
			default:
				// A directory that the process has open stands for one that is not known.
				switch below := belowDescriptor(name); {
				case below == "":
				case strings.HasSuffix(said, "/"+below):
					return fitFile
				case t.Write && isTemporaryOf(path.Base(said), below):
					best = max(best, fitBeside)
				}
			}
		}
	}
	return best
}

// belowDescriptor gives what follows an open directory of the process itself in a name ("/proc/self/fd/11/a": "a"); "":
// it is no such name.
func belowDescriptor(name string) string {
	rest, ok := strings.CutPrefix(name, "/proc/self/fd/")
	if !ok {
		return ""
	}
	_, below, _ := strings.Cut(rest, "/")
	return below
}

// isTemporaryOf says whether a name is one that editors give to what they write before it becomes the file: beside
// the file, and beginning with its name.
func isTemporaryOf(file, name string) bool {
	dir, base := path.Split(file)
	other, ok := strings.CutPrefix(name, dir)
	other, ok2 := strings.CutPrefix(strings.TrimPrefix(other, "."), strings.TrimPrefix(base, "."))
	return ok && ok2 && other != "" && strings.ContainsRune(".-_~#", rune(other[0])) && !strings.Contains(other, "/")
}

// compare takes what the call has touched.
func (d *Inside) compare(t *Touch, how fit) Declared {
	switch {
	case len(d.paths) == 0 || t.Failed:
		return DeclaredNothing
	case how == fitNone:
		if !d.untold && (t.Write && t.File || t.Sensitive) {
			d.undeclared = true
			return Undeclared
		}
		return DeclaredNothing
	}
	for i := range d.paths {
		said := &d.paths[i]
		fit := said.fit(t)
		said.touched = said.touched || fit == fitFile || fit == fitBelow
		// A link on the way: what comes next may go by the other name.
		switch {
		case t.Requested == "" || said.resolved != "":
		case t.Requested == said.path:
			said.resolved = t.Path
		case t.Write && isTemporaryOf(said.path, t.Requested):
			said.resolved = path.Join(path.Dir(t.Path), path.Base(said.path))
		}
	}
	return Confirmed
}

// Declared compares what a call was said to touch with all that it has touched.
func (k *Call) Declared() Declared {
	d := k.Inside
	switch {
	case d == nil || len(d.paths) == 0:
		return DeclaredNothing
	case d.undeclared:
		return Undeclared
	case !slices.ContainsFunc(d.paths, func(p declaredPath) bool { return !p.touched }):
		return Confirmed
	case k.Life.Over:
		return Unmet
	}
	return DeclaredNothing
}

// Path is the first path that was declared; "": none.
func (d *Inside) Path() string {
	if len(d.paths) == 0 {
		return ""
	}
	return d.paths[0].path
}

// kept are the files that an agent has written for itself: outside of calls. The oldest gives way.
type kept struct {
	names map[uint64]bool // hashes: a false one takes a file that nobody declared for the agent's own
	order []uint64
	next  int
}

const maxKept = 512

// keptSeed is one for all, and for good: what was kept comes out alike in each replay.
const keptSeed = 14695981039346656037

func hashOf(name string) uint64 {
	h := uint64(keptSeed) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

func (f *kept) add(name string) {
	h := hashOf(name)
	if f.names[h] {
		return
	}
	if f.names == nil {
		f.names = make(map[uint64]bool)
	}
	if len(f.order) < maxKept {
		f.order = append(f.order, h)
	} else {
		delete(f.names, f.order[f.next])
		f.order[f.next] = h
		f.next = (f.next + 1) % maxKept
	}
	f.names[h] = true
}

// isOwn says whether a file is of those that an agent keeps for itself: by its dialect, or as it has written it
// outside of calls.
func (a *agent) isOwn(t *Touch) bool {
	for _, name := range [...]string{t.Path, t.Other} {
		if name != "" && (a.kept.names[hashOf(name)] || a.dialect.Tools.Keeps(name)) {
			return true
		}
	}
	return false
}

// A helper is a program that an agent has started for itself, with all that came of it: an MCP server, a language
// server, git.
type helper struct {
	agent   *agent
	began   uint64 // boottime
	members []*Process

	server string  // of MCP, as was learnt; "": not known
	calls  []*Call // of MCP, that it serves or may serve
	acted  bool    // while the calls were open
}

// helps is told of a child of an agent when its first program was decided: one that is in no call and no hook is a
// helper.
func (c *Table) helps(p *Process, program string) {
	hook := p.runsHook || p.hookShell || p.likeCommand
	if p.Role != RoleNone || p.Call != nil || p.ambiguous || hook || p.Agent == nil || !p.Agent.dialect.Tools.Known() ||
		slices.Contains(p.Agent.dialect.Tools.Own, program) {
		return
	}
	h := &helper{agent: p.Agent, began: p.Start}
	p.Agent.helpers = append(p.Agent.helpers, h)
	h.add(p)
}

func (h *helper) add(p *Process) {
	p.helper = h
	h.members = append(h.members, p)
}

// leaveHelper is said of what belongs to somebody else from now on, or is over.
func (p *Process) leaveHelper() {
	h := p.helper
	if h == nil {
		return
	}
	p.helper = nil
	h.members = slices.DeleteFunc(h.members, func(other *Process) bool { return other == p })
	if len(h.members) == 0 {
		h.agent.helpers = slices.DeleteFunc(h.agent.helpers, func(other *helper) bool { return other == h })
	}
}

// owner gives the call that a helper serves; of two, or where another helper may be the one, nobody can say which it
// is.
func (h *helper) owner() Owner {
	h.acted = true
	if k := h.calls[0]; len(h.calls) == 1 && len(k.Inside.servers) == 1 {
		return Owner{Agent: h.agent, Call: k}
	}
	return Owner{Agent: h.agent, Ambiguous: true}
}

// serve gives a call of MCP its server: a helper that was there before. Where it is not known which one, all that are
// not known to be another may be it.
func (c *Marks) serve(k *Call) {
	d := k.Inside
	if d.Server == "" {
		return
	}
	d.alone = true
	for _, other := range k.Agent.inside {
		if other.Inside.Server != "" {
			other.Inside.alone, d.alone = false, false
		}
	}
	for _, h := range k.Agent.helpers {
		if h.server == d.Server {
			d.servers = []*helper{h}
			break
		}
		if h.server == "" {
			d.servers = append(d.servers, h)
		}
	}
	for _, h := range d.servers {
		c.flush(h)
		h.calls, h.acted = append(h.calls, k), false
	}
}

// served ends what serve began. It learns which helper the server is, where only one has done anything meanwhile and
// no other call of MCP was open.
func (c *Marks) served(k *Call) {
	d := k.Inside
	var acted *helper
	n := 0
	for _, h := range d.servers {
		c.flush(h)
		h.calls = slices.DeleteFunc(h.calls, func(other *Call) bool { return other == k })
		if h.acted {
			acted = h
			n++
		}
	}
	if d.alone && n == 1 {
		acted.server = d.Server
	}
	d.servers = nil
}

func (c *Marks) flush(h *helper) {
	for _, p := range h.members {
		c.table.Above.Flush(p)
	}
}
