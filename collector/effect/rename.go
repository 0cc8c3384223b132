// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// within says whether a directory is x, or below it.
func (s *Scope) within(dir, x *object) bool {
	for dir != nil && dir != x && dir.at != nil {
		dir = dir.at.dir
	}
	return dir == x
}

func (s *Scope) rename(o *Op) {
	from, below := s.find(o.Old, &o.oldText, o.Sensitive)
	to, above := s.find(o.New, &o.newText, o.Sensitive)
	s.lastTo = nil // it may become another
	switch {
	case from == nil || to == nil:
		s.halfRename(o, from, to, below, above)
		return
	case from == to:
		s.existing(from, o.ID)
		return
	}
	x := s.existing(from, o.ID)
	x.dir = x.dir || o.Directory
	exchange := o.Flags&unix.RENAME_EXCHANGE != 0
	y := to.after
	if exchange || o.Replaced.Inode != 0 || y == nil && o.Existed {
		y = s.existing(to, o.Replaced)
	}
	switch {
	case x == y && !exchange: // two names of one file: rename does nothing
	case x.dir && s.within(to.dir, x) || exchange && y.dir && s.within(from.dir, y):
		// The kernel does not do so: names are not what they were.
	case exchange:
		from.after, to.after = y, x
		x.at, y.at = to, from
	default:
		s.put(to, x)
		if y != nil {
			y.dir = y.dir || x.dir // nothing else can be replaced by it
			if y.names == 0 {
				s.forget(y)
			}
		}
		if o.Flags&unix.RENAME_WHITEOUT != 0 {
			s.make(from, o)
		} else {
			s.put(from, nil)
		}
	}
	s.prune(from)
	s.prune(to)
}

// halfRename is a rename of which not both names are kept.
func (s *Scope) halfRename(o *Op, from, to *slot, below, above *object) {
	s.more++
	var made bool
	switch {
	case from != nil:
		made = s.existing(from, o.ID).made
		if made {
			s.counted[Created]++
		} else {
			s.counted[Renamed]++
			from.before = nil // it is told there
		}
		temporary := s.counted[Temporary]
		s.put(from, nil)
		s.counted[Temporary] = temporary
		s.prune(from)
	case to != nil:
		if made = s.madeHere(below); made {
			s.make(to, &Op{ID: o.ID})
			s.counted[Created]--
		} else {
			x := &object{foreign: true}
			s.identify(x, o.ID)
			s.put(to, x)
		}
		s.prune(to)
	case !s.madeHere(below) && !s.madeHere(above):
		s.counted[Renamed]++
	}
}

func (s *Scope) link(o *Op) {
	x := s.known(o.ID)
	if o.ID.Inode == 0 {
		x = nil
		if len(o.Old) == 0 || bytes.HasPrefix(o.Old, []byte("/proc/")) { // a file that has none, by its descriptor
			x = s.tmpfile
		}
	}
	if x == nil {
		if from, _ := s.find(o.Old, &o.oldText, o.Sensitive); from != nil {
			x = s.existing(from, o.ID)
		}
	}
	to, below := s.find(o.New, &o.newText, o.Sensitive)
	switch {
	case to == nil && (x != nil && x.made || s.madeHere(below)):
		s.more++
		s.counted[Created]++
	case to == nil || x == nil:
		s.more++
		s.counted[Linked]++
		if to != nil {
			s.prune(to)
		}
	case x.dir: // the kernel does not do so
		s.prune(to)
	default:
		s.put(to, x)
	}
}

// madeHere says whether a directory was made in this scope, or one above it.
func (s *Scope) madeHere(dir *object) bool {
	for dir != nil && !dir.made && dir.at != nil {
		dir = dir.at.dir
	}
	return dir != nil && dir.made
}
