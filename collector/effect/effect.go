// SPDX-License-Identifier: Apache-2.0

// Package effect computes what somebody has changed in the end: the net effect of operations on files. A Scope takes
// the operations of a program, a call or a session in their order, and says what differs from when it began; what was
// made and is gone again is only counted. Rules are in docs/design/effect.md. It is deterministic and used by one
// goroutine.
package effect

import (
	"bytes"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Open is the value of Op.Op for an open that may write. The others are those of record.Change.
const Open = 0

// ID tells a file apart, whatever its names. Without an inode it is not known.
type ID struct {
	Dev   uint32
	Inode uint64
}

// An Op is an operation that succeeded. Names are paths; one that begins with no slash is below nothing that is known.
type Op struct {
	Op       uint16
	Flags    uint32 // RENAME_*
	New, Old []byte // as of record.Change
	ID       ID     // of what is changed, or was made
	Replaced ID     // what had the new name before a rename
	Nlink    uint32 // names of it before; 0: not known
	Mode     uint16 // mknod: S_IFMT

	Before, After uint64 // as of record.Change

	Created   bool // Open: it made the file
	Nameless  bool // Open: the file has no name: O_TMPFILE
	Truncated bool // Open: O_TRUNC
	Directory bool // what is changed is one
	Existed   bool // something had the new name of a rename before, as an open has told
	ByName    bool // what is changed is known by the name that the caller gave, and not by its inode
	Sensitive bool // one of the names is

	newText, oldText string // the names, once a scope keeps some of them
}

// An object is a file or directory that the scope has touched, or a directory on the way.
type object struct {
	id      ID
	made    bool // in this scope
	foreign bool // by somebody else, since the scope had this name last
	dir     bool
	special bool // a device, or the like
	written bool
	opened  bool       // for writing
	attrs   bool       // an xattr or a time was set
	mode    *attribute // nil: not set
	owner   *attribute
	top     byte  // of the roots: how names there begin
	names   int   // slots that have it now
	at      *slot // the last that got it; nil: none, or the root
	home    *slot // the first
}

// An attribute is a number that was set: what it was at first, and is now.
type attribute struct{ first, last uint64 }

// A slot is a name in a directory. It goes with the directory when that is renamed.
type slot struct {
	dir           *object
	name          string
	before, after *object // nil: nothing
	own           object  // the first that it had, in one piece of memory with it
	gone          bool    // it is in no table
}

type slotKey struct {
	dir  *object
	name string
}

// Bytes that a name takes besides its text, about: a slot, an object, their places in maps, and the rest of a path whose
// memory it shares.
const nameBytes = 256 + sharedBytes

// sharedBytes is how long a path is at most whose names share its memory.
const sharedBytes = 128

// objectBytes are those of an object that is known by its inode, as it may have no name any more.
const objectBytes = 128

// A room has the names and inodes of a scope. It is used again by another one: most scopes are of a program that changes
// a file or two and ends.
type room struct {
	slots   table[slotKey, *slot]
	objects table[ID, *object]
	first   [12]slot // the first that were made
	made    int

	lastDir []byte   // the directory of the last name, with its slash: what removes it has another
	endings []ending // scratch
}

const roomBytes = int(unsafe.Sizeof(room{}))

var rooms = sync.Pool{New: func() any { return new(room) }}

func (r *room) clear() {
	r.slots.clear()
	r.objects.clear()
	clear(r.first[:r.made])
	r.made = 0
	if clear(r.endings[:cap(r.endings)]); cap(r.endings) > 2*len(r.first) {
		r.endings = nil
	}
}

// reserve is how many more sensitive names a scope keeps.
const reserve = 64

// A Scope is what was done by one program, in one call, or in one session.
type Scope struct {
	total        *Total
	limit        int
	root, nobody object  // the parents of absolute and other names
	room         *room   // nil: nothing is known
	tmpfile      *object // the last O_TMPFILE
	names, bytes int

	lastTo  *object // room.lastDir; nil: none
	counted Counts  // beyond the names that are kept, and Temporary
	more    int
	unsure  int
	byName  bool
}

// NewScope makes a scope that keeps so many names, directories on their way included.
func NewScope(total *Total, limit int) *Scope {
	return &Scope{total: total, limit: limit, root: object{top: '/'}, nobody: object{top: '.'}}
}

// Close gives back what the scope takes of the total. It is not used after.
func (s *Scope) Close() {
	s.take(-s.names, -s.bytes)
	if s.room != nil {
		s.room.clear()
		rooms.Put(s.room)
		s.room = nil
	}
}

// hasRoom says whether there is room for so many bytes, and for the first of them.
func (s *Scope) hasRoom(size int, sensitive bool) bool {
	if s.room == nil {
		size += roomBytes
	}
	if !s.total.room(size, sensitive) {
		return false
	}
	if s.room == nil {
		s.room = rooms.Get().(*room)
		s.take(0, roomBytes)
	}
	return true
}

// Unsure counts an operation of which nobody knows whether it succeeded.
func (s *Scope) Unsure() { s.unsure++ }

// Do takes an operation.
func (s *Scope) Do(o *Op) {
	s.byName = s.byName || o.ByName
	switch o.Op {
	case record.ChangeRename:
		s.rename(o)
		return
	case record.ChangeLink:
		s.link(o)
		return
	}
	if o.Nameless {
		if s.tmpfile = (&object{made: true}); s.hasRoom(0, false) && s.room.objects.len() < s.limit {
			s.identify(s.tmpfile, o.ID)
		}
		return
	}
	sl, below := s.find(o.New, &o.newText, o.Sensitive)
	if sl == nil {
		s.uncounted(o, below)
		return
	}
	switch o.Op {
	case Open:
		if o.Created {
			s.make(sl, o)
			break
		}
		x := s.existing(sl, o.ID)
		x.opened, x.written = true, x.written || o.Truncated
	case record.ChangeMkdir, record.ChangeMknod, record.ChangeSymlink:
		s.make(sl, o)
	case record.ChangeUnlink, record.ChangeRmdir:
		x := s.existing(sl, o.ID)
		x.dir = x.dir || o.Op == record.ChangeRmdir
		s.put(sl, nil)
		if x.names == 0 && o.Nlink <= 1 {
			s.forget(x)
		}
	default:
		s.existing(sl, o.ID).change(o)
	}
	s.prune(sl)
}

// change keeps what was done to what has a name.
func (x *object) change(o *Op) {
	x.dir = x.dir || o.Directory
	switch o.Op {
	case record.ChangeTruncate:
		x.written = x.written || o.Before != o.After || o.Before == record.ChangeUnknown
	case record.ChangeChmod:
		x.mode = x.mode.change(o.Before, o.After, 0o7777)
	case record.ChangeChown:
		after := o.After
		for _, half := range []uint64{0xffffffff, 0xffffffff << 32} {
			if after&half == half && o.Before != record.ChangeUnknown {
				after = after&^half | o.Before&half
			}
		}
		x.owner = x.owner.change(o.Before, after, record.ChangeUnknown)
	case record.ChangeSetxattr, record.ChangeRemovexattr, record.ChangeUtimes:
		x.attrs = true
	}
}

func (a *attribute) change(before, after, mask uint64) *attribute {
	if before != record.ChangeUnknown {
		before &= mask
	}
	if a == nil {
		a = &attribute{first: before}
	}
	a.last = after & mask
	return a
}

func (a *attribute) changed() bool { return a != nil && a.first != a.last }

// find gives the slot of a name: nil if there is no room for it, and then the nearest directory above that is known.
// text is the name, too, or to be made of it.
func (s *Scope) find(name []byte, text *string, sensitive bool) (sl *slot, below *object) {
	end := bytes.LastIndexByte(name, '/') + 1
	if len(name) == end {
		return nil, &s.nobody // no name, or the root
	}
	if s.lastTo != nil && bytes.Equal(name[:end], s.room.lastDir) {
		return s.at(s.lastTo, name, text, end, len(name), sensitive)
	}
	dir := &s.nobody
	if name[0] == '/' {
		dir = &s.root
	}
	for at := 0; at < end; {
		i := at + bytes.IndexByte(name[at:], '/')
		if i > at {
			if sl, below = s.at(dir, name, text, at, i, sensitive); sl == nil {
				return nil, below
			}
			dir = s.existing(sl, ID{})
			dir.dir = true
		}
		at = i + 1
	}
	if s.room != nil {
		s.room.lastDir, s.lastTo = append(s.room.lastDir[:0], name[:end]...), dir
	}
	return s.at(dir, name, text, end, len(name), sensitive)
}

// at gives the slot of a name in a directory; it is a piece of a path.
func (s *Scope) at(dir *object, path []byte, text *string, from, to int, sensitive bool) (sl *slot, below *object) {
	name := path[from:to]
	if s.room != nil {
		if sl = s.room.slots.get(slotKey{dir, string(name)}); sl != nil {
			return sl, nil
		}
	}
	limit := s.limit
	if sensitive {
		limit += reserve
	}
	size := len(name) + nameBytes
	if s.names >= limit || !s.hasRoom(size, sensitive) {
		return nil, dir
	}
	if r := s.room; r.made < len(r.first) {
		sl = &r.first[r.made]
		r.made++
	} else {
		sl = &slot{}
	}
	sl.dir = dir
	switch {
	case len(path) > sharedBytes:
		sl.name = string(name)
	case *text == "":
		*text = string(path)
		fallthrough
	default:
		sl.name = (*text)[from:to]
	}
	s.room.slots.set(slotKey{dir, sl.name}, sl)
	s.take(1, size)
	return sl, nil
}

// prune forgets a name that there was not and is not. Nothing but a slot that was not used yet is so otherwise.
func (s *Scope) prune(sl *slot) {
	if sl.before == nil && sl.after == nil && !sl.gone {
		sl.gone = true
		s.room.slots.delete(slotKey{sl.dir, sl.name})
		s.take(-1, -len(sl.name)-nameBytes)
	}
}

// put has a name stand for an object, or for none.
func (s *Scope) put(sl *slot, x *object) {
	old := sl.after
	if sl.after = x; x != nil {
		if x.home == nil {
			x.home = sl
		}
		x.at = sl
		x.names++
	}
	if old == nil {
		return
	}
	if old.at == sl && old != x {
		old.at = nil
	}
	if old.names--; old.names > 0 {
		return
	}
	if old.made {
		s.counted[Temporary]++
	}
	if s.room.objects.len() > s.limit { // it may have other names, but there are too many of these
		s.forget(old)
	}
}

// forget has the inode stand for no object any more: it may be another file's next.
func (s *Scope) forget(x *object) {
	if s.known(x.id) == x {
		s.room.objects.delete(x.id)
		s.take(0, -objectBytes)
	}
}

// known gives what an inode stands for, or nil.
func (s *Scope) known(id ID) *object {
	if s.room == nil {
		return nil
	}
	return s.room.objects.get(id)
}

// identify has an inode stand for an object. One that is not known stands for none.
func (s *Scope) identify(x *object, id ID) {
	if id.Inode == 0 {
		return
	}
	s.forget(x)
	x.id = id
	if s.known(id) == nil {
		if !s.hasRoom(objectBytes, false) {
			return
		}
		s.take(0, objectBytes)
	}
	s.room.objects.set(id, x)
}

// object gives a new one for a slot.
func (sl *slot) object() *object {
	if sl.own.home != nil {
		return &object{}
	}
	return &sl.own
}

// make puts something new at a name. What had it before has lost it, whoever did that.
func (s *Scope) make(sl *slot, o *Op) {
	format := o.Mode & unix.S_IFMT
	x := sl.object()
	x.made, x.dir = true, o.Op == record.ChangeMkdir
	x.special = o.Op == record.ChangeMknod && format != unix.S_IFREG && format != 0
	if o.Op == record.ChangeRename { // a whiteout
		x.special = true
	} else {
		s.identify(x, o.ID)
	}
	s.put(sl, x)
}

// existing gives what has a name, as an operation on it shows: that one, or what somebody else has put there.
func (s *Scope) existing(sl *slot, id ID) *object {
	x := sl.after
	if x != nil && (id.Inode == 0 || x.id == id) {
		return x
	}
	known := s.known(id)
	if id.Inode == 0 || known != nil && known.dir { // a directory has one name: another is that of a mount
		known = nil
		if x == nil {
			id = ID{}
		}
	}
	switch {
	case x == nil:
		fresh := sl.before == nil
		if x = known; x == nil {
			x = sl.object()
			x.foreign = !fresh
			s.identify(x, id)
			if x.made = fresh && s.counted[Created] > 0 && s.madeHere(sl.dir); x.made { // there was no room for it
				s.counted[Created]--
			}
		}
		if fresh && (!x.made || x == known) {
			sl.before = x
		}
		s.put(sl, x)
	case known != nil && known != x:
		if sl.before == x {
			sl.before = known
		}
		s.put(sl, known)
		x = known
	default:
		s.identify(x, id)
	}
	return x
}

// uncounted counts an operation on a name that is not kept. Below a directory that was made here nothing is older.
func (s *Scope) uncounted(o *Op, below *object) {
	s.more++
	made := s.madeHere(below)
	switch o.Op {
	case Open:
		if o.Created {
			s.counted[Created]++
		}
	case record.ChangeMkdir, record.ChangeMknod, record.ChangeSymlink:
		s.counted[Created]++
	case record.ChangeUnlink, record.ChangeRmdir:
		if made {
			s.counted[Created]--
			s.counted[Temporary]++
		} else {
			s.counted[Deleted]++
		}
	}
}
