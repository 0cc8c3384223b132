// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
)

// A file of the model. Its number is never used again, unlike its inode.
type file struct {
	number, inode uint64
	dir, special  bool
	content       int
	opened        bool // for writing
	mode, owner   uint64
	times         int
	links         int
	named         bool
}

type entry struct {
	dir  *file
	name string
}

// A model is a file system.
type model struct {
	root    *file
	entries map[entry]*file
	inodes  map[uint64]bool
	numbers uint64
}

func newModel() *model {
	m := &model{entries: map[entry]*file{}, inodes: map[uint64]bool{}}
	m.root = m.make(true)
	return m
}

// make uses the lowest inode that is free, as file systems do.
func (m *model) make(dir bool) *file {
	m.numbers++
	f := &file{number: m.numbers, dir: dir, mode: 0o644}
	for f.inode = 1; m.inodes[f.inode]; f.inode++ {
	}
	m.inodes[f.inode] = true
	return f
}

func (m *model) set(e entry, f *file) {
	if old := m.entries[e]; old != nil {
		if old.links--; old.links == 0 {
			delete(m.inodes, old.inode)
		}
	}
	if f == nil {
		delete(m.entries, e)
		return
	}
	f.links++
	f.named = true
	m.entries[e] = f
}

func (m *model) path(e entry) string {
	if e.dir == m.root {
		return "/" + e.name
	}
	for up, f := range m.entries {
		if f == e.dir {
			return m.path(up) + "/" + e.name
		}
	}
	return "gone"
}

func (m *model) below(dir, f *file) bool {
	for dir != f && dir != m.root {
		for up, x := range m.entries {
			if x == dir {
				dir = up.dir
				break
			}
		}
	}
	return dir == f
}

func (m *model) empty(f *file) bool {
	for e := range m.entries {
		if e.dir == f {
			return false
		}
	}
	return true
}

// A snapshot is what is there at a moment.
type snapshot struct {
	paths map[entry]string
	files map[entry]file // as they were
	of    map[entry]*file
}

func (m *model) snapshot() *snapshot {
	s := &snapshot{map[entry]string{}, map[entry]file{}, map[entry]*file{}}
	for e, f := range m.entries {
		s.paths[e], s.files[e], s.of[e] = m.path(e), *f, f
	}
	return s
}

// differ tells what is different, by the definitions of docs/design/effect.md.
func differ(before, after *snapshot) (changes []Change) {
	was := map[*file]file{}
	for e, f := range before.of {
		was[f] = before.files[e]
	}
	add := func(c Class, f *file, name, from string) {
		if f.dir {
			name += "/"
		}
		changes = append(changes, Change{c, name, from})
	}
	marks := func(f *file, name string) {
		old := was[f]
		switch {
		case f.content != old.content:
			add(Modified, f, name, "")
		case f.opened:
			add(OpenedForWriting, f, name, "")
		}
		if f.mode != old.mode {
			add(Mode, f, name, "")
		}
		if f.owner != old.owner {
			add(Owner, f, name, "")
		}
		if f.times != old.times {
			add(Attributes, f, name, "")
		}
	}
	lost, got := map[*file][]entry{}, map[*file][]entry{}
	for e, b := range before.of {
		a := after.of[e]
		switch {
		case a == b:
			marks(a, after.paths[e])
			continue
		case a != nil:
			if _, older := was[a]; older {
				got[a] = append(got[a], e)
				add(Replaced, a, after.paths[e], "")
			} else if a.dir || b.dir || a.special {
				add(Replaced, a, after.paths[e], "")
			} else {
				add(Modified, a, after.paths[e], "")
			}
		}
		lost[b] = append(lost[b], e)
	}
	for e, a := range after.of {
		if before.of[e] != nil {
			continue
		}
		if _, older := was[a]; older {
			got[a] = append(got[a], e)
		} else {
			add(Created, a, after.paths[e], "")
		}
	}
	for f := range was {
		g, l := got[f], lost[f]
		slices.SortFunc(g, func(a, b entry) int { return strings.Compare(after.paths[a], after.paths[b]) })
		slices.SortFunc(l, func(a, b entry) int {
			return cmp.Or(compareBool(after.of[a] != nil, after.of[b] != nil),
				strings.Compare(after.paths[a], after.paths[b]), strings.Compare(before.paths[a], before.paths[b]))
		})
		for n, e := range g {
			if n < len(l) {
				add(Renamed, f, after.paths[e], before.paths[l[n]])
				marks(f, after.paths[e])
			} else {
				add(Linked, f, after.paths[e], "")
			}
		}
		for _, e := range l[min(len(g), len(l)):] {
			if after.of[e] == nil {
				add(Deleted, f, before.paths[e], "")
			}
		}
	}
	return changes
}

// program does random operations and tells them.
type program struct {
	*rand.Rand
	*model
	byName bool
	told   func(*Op)
	log    []string
	top    *file // it stays below
	made   []*file
}

func (p *program) entry() entry {
	dirs := []*file{p.top}
	for _, f := range p.entries {
		if f.dir && f != p.top && p.below(f, p.top) {
			dirs = append(dirs, f)
		}
	}
	slices.SortFunc(dirs, func(a, b *file) int { return cmp.Compare(a.number, b.number) })
	return entry{dirs[p.IntN(len(dirs))], string(rune('a' + p.IntN(4)))}
}

func (p *program) make(dir bool) *file {
	f := p.model.make(dir)
	p.made = append(p.made, f)
	return f
}

// temporary is how many files it has made that had a name and have none.
func (p *program) temporary() (n int) {
	for _, f := range p.made {
		if f.named && f.links == 0 {
			n++
		}
	}
	return n
}

func (p *program) id(f *file) ID {
	if f == nil || p.byName {
		return ID{}
	}
	return ID{1, f.inode}
}

func (p *program) do(o *Op, what string) {
	o.ByName, o.Directory = p.byName, o.Directory && !p.byName // as the kernel side tells it
	p.log = append(p.log, fmt.Sprint(what, " ", string(o.Old), " ", string(o.New)))
	p.told(o)
}

func (p *program) step() {
	e := p.entry()
	f := p.entries[e]
	name := []byte(p.path(e))
	switch op := p.IntN(13); {
	case op < 3: // open
		o := &Op{Op: Open, New: name}
		switch {
		case f == nil:
			f = p.make(false)
			p.set(e, f)
			o.Created = true
		case f.dir || f.special:
			return
		case p.IntN(2) == 0:
			o.Truncated = true
			f.content++
		}
		f.opened = true
		o.ID = ID{1, f.inode}
		p.do(o, "open")
	case op == 3 && f == nil:
		f = p.make(true)
		p.set(e, f)
		p.do(&Op{Op: record.ChangeMkdir, New: name, ID: p.id(f), Directory: true}, "mkdir")
	case op == 4 && f == nil:
		f = p.make(false)
		f.special = true
		p.set(e, f)
		p.do(&Op{Op: record.ChangeMknod, New: name, ID: p.id(f), Mode: unix.S_IFIFO}, "mknod")
	case op == 5 && f == nil && !p.byName: // O_TMPFILE and linkat
		f = p.make(false)
		p.do(&Op{Op: Open, New: []byte("/#1"), ID: ID{1, f.inode}, Nameless: true}, "tmpfile")
		p.set(e, f)
		p.do(&Op{Op: record.ChangeLink, Old: []byte("/#1"), New: name, ID: p.id(f)}, "link")
	case op == 6 && f != nil && (!f.dir || p.empty(f)):
		o := &Op{Op: record.ChangeUnlink, New: name, ID: p.id(f), Directory: f.dir, Nlink: uint32(f.links)}
		if f.dir {
			o.Op = record.ChangeRmdir
		}
		p.set(e, nil)
		p.do(o, "unlink")
	case op == 7 && f != nil:
		o := &Op{Op: record.ChangeChmod, New: name, ID: p.id(f), Before: f.mode, After: uint64(0o600 + p.IntN(2)), Directory: f.dir}
		f.mode = o.After
		p.do(o, "chmod")
	case op == 8 && f != nil:
		o := &Op{Op: record.ChangeChown, New: name, ID: p.id(f), Before: f.owner, After: 0xffffffff<<32 | uint64(p.IntN(2)), Directory: f.dir}
		f.owner = o.After & 0xffffffff
		p.do(o, "chown")
	case op == 9 && f != nil && !f.dir:
		to := p.entry()
		if p.entries[to] != nil {
			return
		}
		o := &Op{Op: record.ChangeLink, Old: name, New: []byte(p.path(to)), ID: p.id(f)}
		p.set(to, f)
		p.do(o, "link")
	case op == 10 && f != nil && !f.special:
		f.times++
		p.do(&Op{Op: record.ChangeUtimes, New: name, ID: p.id(f), Directory: f.dir}, "utimes")
	case op > 10 && f != nil:
		p.rename(e, f)
	}
}

func (p *program) rename(e entry, f *file) {
	to := p.entry()
	g := p.entries[to]
	o := &Op{Op: record.ChangeRename, Old: []byte(p.path(e)), New: []byte(p.path(to)), ID: p.id(f), Replaced: p.id(g), Directory: f.dir, Existed: p.byName && g != nil}
	if f.dir && p.below(to.dir, f) || f == g && f.dir {
		return
	}
	if g != nil && p.IntN(3) == 0 {
		if g.dir && p.below(e.dir, g) {
			return
		}
		o.Flags = unix.RENAME_EXCHANGE
		p.entries[e], p.entries[to] = g, f
		p.do(o, "exchange")
		return
	}
	if g != nil && (f.dir != g.dir || g.dir && !p.empty(g)) {
		return
	}
	if f != g {
		p.set(to, f)
		p.set(e, nil)
		if p.IntN(8) == 0 {
			o.Flags = unix.RENAME_WHITEOUT
			w := p.make(false)
			w.special = true
			p.set(e, w)
		}
	}
	p.do(o, "rename")
}

func TestRandomProgramsAreToldAsTheirTreesDiffer(t *testing.T) {
	for _, byName := range []bool{false, true} {
		for seed := range uint64(2000) {
			m := newModel()
			p := &program{Rand: rand.New(rand.NewPCG(seed, 1)), model: m, top: m.root, byName: byName, told: func(*Op) {}}
			for range p.IntN(40) {
				p.step()
			}
			before := m.begin()
			p.log, p.made = nil, nil
			s := scope(1000)
			p.told = s.Do
			for range p.IntN(60) {
				p.step()
			}
			compareNet(t, p, s, differ(before, m.snapshot()))
		}
	}
}

// Two programs that have nothing to do with one another do so in turns; what one deletes, gives inodes to the other.
func TestRandomProgramsAtOneTimeAreToldApart(t *testing.T) {
	for seed := range uint64(1000) {
		m := newModel()
		r := rand.New(rand.NewPCG(seed, 3))
		all, both := scope(1000), make([]*program, 2)
		for i := range both {
			top := m.make(true)
			m.set(entry{m.root, string(rune('x' + i))}, top)
			both[i] = &program{Rand: r, model: m, top: top, told: func(*Op) {}}
			for range r.IntN(20) {
				both[i].step()
			}
			both[i].made = nil
		}
		before := m.begin()
		scopes := []*Scope{scope(1000), scope(1000)}
		for i, p := range both {
			p.log = nil
			p.told = func(o *Op) { scopes[i].Do(o); all.Do(o) }
		}
		for range r.IntN(100) {
			both[r.IntN(2)].step()
		}
		want := differ(before, m.snapshot())
		for i, p := range both {
			compareNet(t, p, scopes[i], slices.DeleteFunc(slices.Clone(want), func(c Change) bool { return c.Name[1] != byte('x'+i) }))
		}
		p := &program{made: append(both[0].made, both[1].made...), log: append(both[0].log, both[1].log...)}
		compareNet(t, p, all, want)
	}
}

// begin is a snapshot of what is there before a scope begins. Links from before are seen only by who knows their other
// names.
func (m *model) begin() *snapshot {
	var several []entry
	for e, f := range m.entries {
		if f.links > 1 {
			several = append(several, e)
		}
		f.opened = false
	}
	for _, e := range several {
		m.set(e, nil)
	}
	return m.snapshot()
}

func compareNet(t *testing.T, p *program, s *Scope, want []Change) {
	t.Helper()
	got := s.Net()
	if got.Counts[Temporary] != p.temporary() || got.More > 0 || got.ByName != (p.byName && len(p.log) > 0) {
		t.Errorf("%+v, %d temporary", got, p.temporary())
	}
	for _, list := range [][]Change{got.Changes, want} {
		for i := range list { // of what was exchanged, and by name of most, it is not known whether it is a directory
			list[i].Name = strings.TrimSuffix(list[i].Name, "/")
		}
		slices.SortFunc(list, compare)
	}
	if !slices.Equal(got.Changes, want) {
		t.Fatalf("by name %v:\n%s\nsays %v\nwant %v", p.byName, strings.Join(p.log, "\n"), got.Changes, want)
	}
}

func compare(a, b Change) int {
	return cmp.Or(cmp.Compare(a.Class, b.Class), strings.Compare(a.Name, b.Name), strings.Compare(a.From, b.From))
}
