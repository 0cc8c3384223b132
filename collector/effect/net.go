// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"cmp"
	"slices"
	"strings"
)

// A Class is a way in which a name differs in the end.
type Class uint8

// The classes.
const (
	Created          Class = iota
	Modified               // also: something made here has the name, and what had it does not
	OpenedForWriting       // whether something was written is not known
	Replaced               // by something older, or by what is a directory where it was none, or the other way round
	Deleted
	Renamed
	Linked // a further name of something older
	Mode
	Owner
	Attributes // xattrs, times
	Temporary  // made and gone; only counted
	Classes    = iota
)

// Counts has a number for each class.
type Counts [Classes]int

// A Change is one name that differs. A directory's ends with a slash.
type Change struct {
	Class Class
	Name  string
	From  string // Renamed: what it was called
}

// Net is what a scope has changed in the end.
type Net struct {
	Counts  Counts   // exact, unless More is above 0
	Changes []Change // by name; of names beyond the bounds there are none
	More    int      // operations on names beyond the bounds
	Unsure  int      // operations of which nobody knows whether they succeeded
	ByName  bool     // some were told by the names that callers gave
}

// Empty says whether there is nothing to tell.
func (n Net) Empty() bool { return n.Counts == Counts{} && n.More == 0 && n.Unsure == 0 }

// An ending is what became of a slot.
type ending struct {
	slot                  *slot
	before, after         *object // after: nil, too, where a directory above is gone
	beforeName, afterName string
}

// overwritten says whether this scope has put something else there.
func (e *ending) overwritten() bool { return e.after != nil && !e.others() }

// others says whether somebody else has put there what has the name.
func (e *ending) others() bool { return e.after.foreign && e.after.home == e.slot }

// moves are the names that something older has lost and got.
type moves struct{ lost, got []*ending }

// Net computes what was changed from the begin of the scope until now.
func (s *Scope) Net() Net {
	n := Net{Counts: s.counted, More: s.more, Unsure: s.unsure, ByName: s.byName}
	n.Counts[Created] = max(0, n.Counts[Created])
	endings := s.endings()
	var moved map[*object]*moves
	var order []*moves // so that nothing depends on the order of maps
	of := func(x *object) *moves {
		if moved[x] == nil {
			if moved == nil {
				moved = make(map[*object]*moves)
			}
			moved[x] = &moves{}
			order = append(order, moved[x])
		}
		return moved[x]
	}
	for i := range endings {
		e := &endings[i]
		b, a := e.before, e.after
		if a == b {
			if a != nil {
				n.marks(a, e.afterName)
			}
			continue
		}
		if b != nil {
			of(b).lost = append(of(b).lost, e)
		}
		switch {
		case a == nil:
		case a.made && b == nil:
			n.add(Created, a, e.afterName, "")
		case a.made && (a.dir || b.dir || a.special):
			n.add(Replaced, a, e.afterName, "")
		case a.made:
			n.add(Modified, a, e.afterName, "")
		case e.others():
			n.marks(a, e.afterName)
		default:
			of(a).got = append(of(a).got, e)
			if b != nil {
				n.add(Replaced, a, e.afterName, "")
			}
		}
	}
	for _, m := range order {
		n.move(m)
	}
	slices.SortFunc(n.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), strings.Compare(a.Name, b.Name), strings.Compare(a.From, b.From))
	})
	return n
}

// move tells where something older was, and is now.
func (n *Net) move(m *moves) {
	slices.SortStableFunc(m.lost, func(a, b *ending) int { return compareBool(a.overwritten(), b.overwritten()) })
	for i, e := range m.got {
		switch {
		case i < len(m.lost):
			n.add(Renamed, e.after, e.afterName, m.lost[i].beforeName)
			n.marks(e.after, e.afterName)
		case i == 0 && e.after.foreign:
			n.add(Renamed, e.after, e.afterName, pathOf(e.after.home, true))
			n.marks(e.after, e.afterName)
		default:
			n.add(Linked, e.after, e.afterName, "")
		}
	}
	for _, e := range m.lost[min(len(m.got), len(m.lost)):] {
		if !e.overwritten() {
			n.add(Deleted, e.before, e.beforeName, "")
		}
	}
}

// marks tells what was done to something older.
func (n *Net) marks(x *object, name string) {
	switch {
	case x.written || x.opened && x.made:
		n.add(Modified, x, name, "")
	case x.opened:
		n.add(OpenedForWriting, x, name, "")
	}
	for i, is := range [...]bool{x.mode.changed(), x.owner.changed(), x.attrs} {
		if is {
			n.add(Mode+Class(i), x, name, "")
		}
	}
}

func (n *Net) add(c Class, x *object, name, from string) {
	n.Counts[c]++
	if x.dir {
		name += "/"
	}
	n.Changes = append(n.Changes, Change{c, name, from})
}

// endings are the slots in the order of their names.
func (s *Scope) endings() []ending {
	if s.room == nil {
		return nil
	}
	list := s.room.endings[:0]
	s.room.slots.each(func(sl *slot) {
		if sl.before == sl.after && !sl.after.marked() {
			return
		}
		e := ending{slot: sl, before: sl.before, after: sl.after}
		if e.before != nil {
			e.beforeName = pathOf(sl, true)
		}
		if e.after != nil {
			if e.afterName = pathOf(sl, false); e.afterName == "" {
				e.after = nil
			}
		}
		list = append(list, e)
	})
	slices.SortFunc(list, func(a, b ending) int {
		return cmp.Or(strings.Compare(a.afterName, b.afterName), strings.Compare(a.beforeName, b.beforeName))
	})
	s.room.endings = list
	return list
}

func (x *object) marked() bool {
	return x != nil && (x.opened || x.written || x.attrs || x.mode != nil || x.owner != nil)
}

// pathOf is the name that a slot has now, "" if a directory above is gone, or had first.
func pathOf(sl *slot, first bool) string {
	parts := make([]string, 0, 16)
	for {
		parts = append(parts, sl.name)
		dir := sl.dir
		next := dir.at
		if first {
			next = dir.home
		}
		if next == nil {
			switch {
			case dir.top == 0:
				return ""
			case dir.top == '/':
				parts = append(parts, "")
			}
			slices.Reverse(parts)
			return strings.Join(parts, "/")
		}
		sl = next
	}
}

// Names picks the names of a class: n at most, of max bytes together as size counts them. Those of the lowest rank come
// first, then the shortest. Of names of Renamed it tells what they were called. What lies in a directory that is made or
// deleted with it is not named besides, unless its rank is 0.
func (n Net) Names(c Class, most, bytes int, rank func(string) int, size func(string) int) (names, from []string) {
	type named struct {
		Change
		rank int
	}
	var whole map[string]bool
	var few [8]named
	list := few[:0]
	for _, x := range n.Changes { // a directory comes before what is in it
		if x.Class != c {
			continue
		}
		first := rank(x.Name)
		if x.From != "" {
			first = min(first, rank(x.From))
		}
		if strings.HasSuffix(x.Name, "/") {
			if whole == nil {
				whole = make(map[string]bool)
			}
			whole[x.Name] = true
		}
		if up := strings.TrimSuffix(x.Name, "/"); first == 0 || !whole[up[:strings.LastIndexByte(up, '/')+1]] || c != Created && c != Deleted {
			list = append(list, named{x, first})
		}
	}
	slices.SortStableFunc(list, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(len(a.Name), len(b.Name)))
	})
	for _, x := range list {
		if len(names) == most {
			break
		}
		if bytes -= size(x.Name) + size(x.From); bytes < 0 {
			break
		}
		if names == nil {
			names = make([]string, 0, min(len(list), most))
		}
		if names = append(names, x.Name); c == Renamed {
			from = append(from, x.From)
		}
	}
	return names, from
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
