// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
)

func scope(limit int) *Scope { return NewScope(&Total{Names: 1 << 20, Bytes: 1 << 30}, limit) }

// Operations on the files of one file system.
func created(name string, inode uint64) *Op {
	return &Op{Op: Open, New: []byte(name), ID: ID{1, inode}, Created: true}
}
func opened(name string, inode uint64) *Op {
	return &Op{Op: Open, New: []byte(name), ID: ID{1, inode}}
}
func mkdir(name string, inode uint64) *Op {
	return &Op{Op: record.ChangeMkdir, New: []byte(name), ID: ID{1, inode}, Directory: true}
}
func unlink(name string, inode uint64) *Op {
	return &Op{Op: record.ChangeUnlink, New: []byte(name), ID: ID{1, inode}}
}
func rmdir(name string) *Op { return &Op{Op: record.ChangeRmdir, New: []byte(name), Directory: true} }
func rename(from, to string, inode, replaced uint64) *Op {
	return &Op{Op: record.ChangeRename, Old: []byte(from), New: []byte(to), ID: ID{1, inode}, Replaced: ID{1, replaced}}
}
func renameDir(from, to string, inode uint64) *Op {
	o := rename(from, to, inode, 0)
	o.Directory = true
	return o
}
func link(from, to string, inode uint64) *Op {
	return &Op{Op: record.ChangeLink, Old: []byte(from), New: []byte(to), ID: ID{1, inode}}
}
func chmod(name string, inode, before, after uint64) *Op {
	return &Op{Op: record.ChangeChmod, New: []byte(name), ID: ID{1, inode}, Before: before, After: after}
}
func with(o *Op, change func(*Op)) *Op { change(o); return o }

// told writes a net effect on one line.
func told(n Net) string {
	var words []string
	for _, c := range n.Changes {
		word := [...]string{"created", "modified", "opened", "replaced", "deleted", "renamed", "linked", "mode", "owner", "attributes"}[c.Class] + " " + c.Name
		if c.From != "" {
			word += " from " + c.From
		}
		words = append(words, word)
	}
	if t := n.Counts[Temporary]; t > 0 {
		words = append(words, fmt.Sprint(t, " temporary"))
	}
	return strings.Join(words, ", ")
}

func TestNetEffects(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []*Op
		want string
	}{
		{"a file is made, written and gone", []*Op{created("/a", 1), opened("/a", 1), unlink("/a", 1)}, "1 temporary"},
		{"an older file", []*Op{opened("/a", 1)}, "opened /a"},
		{"cut", []*Op{with(opened("/a", 1), func(o *Op) { o.Truncated = true }), opened("/a", 1)}, "modified /a"},
		{"to the size that it has", []*Op{{Op: record.ChangeTruncate, New: []byte("/a"), ID: ID{1, 1}, Before: 5, After: 5}}, ""},
		{"and to another", []*Op{{Op: record.ChangeTruncate, New: []byte("/a"), ID: ID{1, 1}, Before: 5, After: 6}}, "modified /a"},
		{"atomic save", []*Op{created("/a.tmp", 2), chmod("/a.tmp", 2, 0o600, 0o644), rename("/a.tmp", "/a", 2, 1)}, "modified /a"},
		{"of a file that was not there", []*Op{created("/a.tmp", 2), rename("/a.tmp", "/a", 2, 0)}, "created /a"},
		{"by link and unlink, as git does", []*Op{created("/t", 2), link("/t", "/objects/x", 2), with(unlink("/t", 2), func(o *Op) { o.Nlink = 2 })}, "created /objects/x"},
		{"by names alone", []*Op{created("/a.tmp", 2), with(rename("/a.tmp", "/a", 0, 0), func(o *Op) { o.Existed = true })}, "modified /a"},
		{"with a backup, as vim does", []*Op{rename("/a", "/a~", 1, 0), created("/a", 2), unlink("/a~", 1)}, "modified /a"},
		{"that stays", []*Op{rename("/a", "/a~", 1, 0), created("/a", 2)}, "modified /a, renamed /a~ from /a"},
		{"an older file over another one", []*Op{rename("/a", "/b", 1, 2)}, "replaced /b, renamed /b from /a"},
		{"there and back", []*Op{rename("/a", "/b", 1, 0), rename("/b", "/c", 1, 0), rename("/c", "/a", 1, 0)}, ""},
		{"onto itself", []*Op{rename("/a", "/a", 1, 1)}, ""},
		{"onto another name of the same file", []*Op{link("/a", "/b", 1), rename("/a", "/b", 1, 1)}, "linked /b"},
		{"a swap", []*Op{with(rename("/a", "/b", 1, 2), func(o *Op) { o.Flags = unix.RENAME_EXCHANGE })}, "replaced /a, replaced /b, renamed /a from /b, renamed /b from /a"},
		{"and back", []*Op{
			with(rename("/a", "/b", 1, 2), func(o *Op) { o.Flags = unix.RENAME_EXCHANGE }),
			with(rename("/a", "/b", 2, 1), func(o *Op) { o.Flags = unix.RENAME_EXCHANGE }),
		}, ""},
		{"a whiteout", []*Op{with(rename("/a", "/b", 1, 0), func(o *Op) { o.Flags = unix.RENAME_WHITEOUT })}, "replaced /a, renamed /b from /a"},
		{"deleted", []*Op{unlink("/a", 1)}, "deleted /a"},
		{"and made again, with the same inode", []*Op{opened("/a", 1), unlink("/a", 1), created("/a", 1)}, "modified /a"},
		{"and another made with its inode", []*Op{opened("/a", 1), unlink("/a", 1), created("/b", 1), opened("/b", 1)}, "created /b, deleted /a"},
		{"and somebody else's has its inode", []*Op{with(opened("/a", 1), func(o *Op) { o.Truncated = true }), unlink("/a", 1), opened("/b", 1)}, "opened /b, deleted /a"},
		{"a directory is renamed with open files in it", []*Op{created("/d/new", 2), opened("/d/old", 3), renameDir("/d", "/e", 1), opened("/e/new", 2), with(opened("/e/old", 3), func(o *Op) { o.Truncated = true })}, "created /e/new, modified /e/old, renamed /e/ from /d"},
		{"and what is in it is gone", []*Op{renameDir("/d", "/e", 1), unlink("/e/x", 2)}, "deleted /d/x, renamed /e/ from /d"},
		{"a tree is made and gone", []*Op{mkdir("/d", 1), created("/d/a", 2), unlink("/d/a", 2), rmdir("/d")}, "2 temporary"},
		{"a tree is deleted and made again", []*Op{unlink("/d/a", 2), rmdir("/d"), mkdir("/d", 1), created("/d/a", 3)}, "created /d/a, replaced /d/, deleted /d/a"},
		{"a file without a name gets one", []*Op{with(created("/#7", 7), func(o *Op) { o.Nameless = true }), link("/#7", "/a", 7)}, "created /a"},
		{"or does not", []*Op{with(created("/#7", 7), func(o *Op) { o.Nameless = true })}, ""},
		{"by names alone", []*Op{with(created("/#7", 7), func(o *Op) { o.Nameless = true }), link("/proc/self/fd/3", "/a", 0)}, "created /a"},
		{"a mode and back", []*Op{chmod("/a", 1, 0o644, 0o600), chmod("/a", 1, 0o600, 0o644)}, ""},
		{"a mode that is not known", []*Op{chmod("/a", 1, record.ChangeUnknown, 0o644)}, "mode /a"},
		{"an owner, and the group as it is", []*Op{{Op: record.ChangeChown, New: []byte("/a"), Before: 5<<32 | 1, After: 0xffffffff<<32 | 1}}, ""},
		{"another owner", []*Op{{Op: record.ChangeChown, New: []byte("/a"), Before: 5<<32 | 1, After: 0xffffffff<<32 | 2}}, "owner /a"},
		{"times", []*Op{{Op: record.ChangeUtimes, New: []byte("/a")}}, "attributes /a"},
		{"two names of one file", []*Op{opened("/a", 1), with(opened("/b", 1), func(o *Op) { o.Truncated = true })}, "modified /a, modified /b"},
		{"somebody else replaces what is written", []*Op{opened("/a", 1), opened("/a", 2)}, "opened /a"},
		{"by another file that is known", []*Op{opened("/a", 1), opened("/b", 2), opened("/a", 2)}, "opened /a, opened /b"},
		{"or what was made here", []*Op{created("/a", 1), opened("/a", 2)}, "created /a"},
		{"or puts something where it was deleted", []*Op{unlink("/a", 1), opened("/a", 2)}, "opened /a, deleted /a"},
		{"names that begin nowhere", []*Op{unlink("a", 1), unlink("…/x/a", 2)}, "deleted a, deleted …/x/a"},
		{"a directory into itself, as no kernel does it", []*Op{mkdir("/a", 1), renameDir("/a", "/a/b/c", 1)}, "created /a/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scope(100)
			for _, o := range c.ops {
				s.Do(o)
			}
			n := s.Net()
			if got := told(n); got != c.want {
				t.Errorf("says %q, want %q", got, c.want)
			}
			counts := n.Counts
			for _, x := range n.Changes {
				counts[x.Class]--
			}
			if counts[Temporary] = 0; counts != (Counts{}) {
				t.Errorf("counts %v of %v", n.Counts, n.Changes)
			}
			if s.Close(); s.total.names != 0 || s.total.bytes != 0 {
				t.Errorf("%d names and %d bytes are left", s.total.names, s.total.bytes)
			}
		})
	}
}

// What is made and deleted below a directory that was made here is counted exactly, however much it is; so is what is
// deleted and older.
func TestTooManyNamesAreCounted(t *testing.T) {
	install := func(s *Scope, n int) {
		s.Do(mkdir("/node_modules", 1))
		for i := range n {
			s.Do(created(fmt.Sprint("/node_modules/", i), uint64(2+i)))
		}
	}
	remove := func(s *Scope, n int) {
		for i := range n {
			s.Do(unlink(fmt.Sprint("/node_modules/", i), uint64(2+i)))
		}
		s.Do(rmdir("/node_modules"))
	}
	s := scope(50)
	install(s, 1000)
	if n := s.Net(); n.Counts[Created] != 1001 || n.More != 951 {
		t.Errorf("%+v", n)
	}
	if s.names > 50 || s.total.names != s.names {
		t.Errorf("%d names", s.names)
	}
	s.Do(with(unlink("/home/.ssh/id", 5000), func(o *Op) { o.Sensitive = true }))
	remove(s, 1000)
	if n := s.Net(); told(n) != "deleted /home/.ssh/id, 1001 temporary" {
		t.Errorf("%s %+v", told(n), n)
	}
	s = scope(50)
	remove(s, 1000)
	n := s.Net()
	if n.Counts != (Counts{Deleted: 1001}) {
		t.Errorf("%+v", n)
	}
	if names, _ := n.Names(Deleted, 10, 4096, func(string) int { return 1 }, func(s string) int { return len(s) }); !slices.Equal(names, []string{"/node_modules/"}) {
		t.Errorf("names %q", names)
	}
	s = scope(50)
	for i := range 1000 {
		s.Do(created(fmt.Sprint("/tmp/", i), 9))
		s.Do(unlink(fmt.Sprint("/tmp/", i), 9))
	}
	if n := s.Net(); told(n) != "1000 temporary" || n.More > 0 {
		t.Errorf("%s %+v", told(n), n)
	}
	total := &Total{Names: 10, Bytes: 1 << 20}
	a, b := NewScope(total, 50), NewScope(total, 50)
	install(a, 20)
	install(b, 20)
	if n := b.Net(); n.Counts[Created] != 21 || n.More != 21 || total.names != 10 {
		t.Errorf("%+v", n)
	}
	a.Close()
	b.Close()
	if total.names != 0 || total.bytes != 0 {
		t.Errorf("%+v", total)
	}
}

// A name that other files have one after the other, all of which have other names, takes no more room for that.
func TestFilesWithoutTheirNamesTakeBoundedRoom(t *testing.T) {
	const limit = 50
	for what, gone := range map[string]bool{"deleted": true, "replaced by somebody else": false} {
		s := scope(limit)
		for i := range uint64(1000) {
			s.Do(created("/a", 10+i))
			s.Do(with(created("/#1", 5000+i), func(o *Op) { o.Nameless = true }))
			if gone {
				s.Do(with(unlink("/a", 10+i), func(o *Op) { o.Nlink = 2 }))
			}
		}
		if n, most := s.room.objects.len(), 2*limit+reserve; n > most || s.total.bytes < objectBytes*n {
			t.Errorf("%s: %d objects, %d bytes", what, n, s.total.bytes)
		}
		if s.Close(); s.total.bytes != 0 {
			t.Errorf("%s: %d bytes are left", what, s.total.bytes)
		}
	}
}

func TestSensitiveNamesHaveRoomOfTheirOwn(t *testing.T) {
	all := &Total{Names: 80, Bytes: 1 << 20}
	part := &Total{Names: 40, Bytes: 1 << 20, Within: all}
	var scopes []*Scope
	write := func(total *Total, name string, n int, sensitive bool) {
		s := NewScope(total, 100)
		scopes = append(scopes, s)
		for i := range n {
			s.Do(with(created(fmt.Sprint("/", name, i), uint64(1+i)), func(o *Op) { o.Sensitive = sensitive }))
		}
	}
	write(part, "a", 50, false)
	write(part, "b", 50, true)
	write(all, "c", 50, false)
	write(all, "d", 50, true)
	var kept []int
	for _, s := range scopes {
		kept = append(kept, s.names)
		s.Close()
	}
	if want := []int{40, 5, 35, 10}; !slices.Equal(kept, want) || all.names != 0 || part.names != 0 || all.bytes != 0 || part.bytes != 0 {
		t.Errorf("%d names are kept, want %d; %+v", kept, want, all)
	}
}

func TestNamesOfAClass(t *testing.T) {
	s := scope(1000)
	for _, o := range []*Op{
		mkdir("/repo/new", 1), created("/repo/new/a", 2), mkdir("/repo/new/sub", 3), created("/repo/new/sub/.env", 4),
		created("/repo/long-name", 5), created("/repo/b", 6), created("/tmp", 8), unlink("/repo/x", 7),
	} {
		s.Do(o)
	}
	rank := func(name string) int {
		switch {
		case strings.HasSuffix(name, ".env"):
			return 0
		case strings.HasPrefix(name, "/repo/"):
			return 1
		}
		return 2
	}
	length := func(name string) int { return len(name) }
	for _, c := range []struct {
		most, bytes int
		want        []string
	}{
		{10, 100, []string{"/repo/new/sub/.env", "/repo/b", "/repo/new/", "/repo/long-name", "/tmp"}},
		{2, 100, []string{"/repo/new/sub/.env", "/repo/b"}},
		{10, 40, []string{"/repo/new/sub/.env", "/repo/b", "/repo/new/"}},
		{10, 3, nil},
	} {
		if names, _ := s.Net().Names(Created, c.most, c.bytes, rank, length); !slices.Equal(names, c.want) {
			t.Errorf("%d names of %d bytes: %q, want %q", c.most, c.bytes, names, c.want)
		}
	}
}

// Two that do things at one time see each what it did.
func TestScopesHaveViewsOfTheirOwn(t *testing.T) {
	a, b := scope(100), scope(100)
	a.Do(created("/f", 1))
	b.Do(with(opened("/f", 1), func(o *Op) { o.Truncated = true }))
	b.Do(rename("/f", "/g", 1, 0))
	a.Do(opened("/g", 1))
	b.Do(created("/f", 2))
	a.Do(unlink("/f", 2))
	if got, want := told(a.Net()), "modified /g"; got != want {
		t.Errorf("a: %q, want %q", got, want)
	}
	if got, want := told(b.Net()), "modified /f, modified /g, renamed /g from /f"; got != want {
		t.Errorf("b: %q, want %q", got, want)
	}
}

// FuzzScope does whatever operations there may be, and checks that bounds hold, and that nothing depends on the order of
// maps.
func FuzzScope(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), uint64(1))
	names := []string{"", "/", "//", "a", "/a", "/b", "/a/b", "/a/c/", "/b/a/b", "(unreachable)/a", "/a/b/c/d/e/f/g/h", "/proc/self/fd/3", strings.Repeat("/x", 2047)}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		const limit = 20
		total := &Total{Names: 30, Bytes: 1 << 14}
		scopes := []*Scope{NewScope(total, limit), NewScope(&Total{Names: 30, Bytes: 1 << 14}, limit), NewScope(total, limit)}
		for _, b := range data {
			flags := r.Uint32()
			o := &Op{
				Op: uint16(b % 24), Flags: uint32(r.IntN(8)), New: []byte(names[r.IntN(len(names))]), Old: []byte(names[r.IntN(len(names))]),
				ID: ID{1, uint64(r.IntN(6))}, Replaced: ID{1, uint64(r.IntN(6))}, Nlink: uint32(r.IntN(3)), Mode: uint16(flags >> 16),
				Before: uint64(r.IntN(2)), After: uint64(r.IntN(2)),
				Created: flags&1 != 0, Nameless: flags&6 == 0, Truncated: flags&8 != 0, Directory: flags&16 != 0, Existed: flags&32 != 0, ByName: flags&64 != 0, Sensitive: flags&1920 == 0,
			}
			scopes[0].Do(o)
			scopes[1].Do(o)
			if b > 200 {
				scopes[2].Do(o)
			}
		}
		if total.names > total.Names*9/8 || total.bytes > total.Bytes*9/8 || // with the reserve of sensitive names
			scopes[0].names > limit+reserve || scopes[0].room != nil && (scopes[0].room.slots.len() != scopes[0].names || scopes[0].room.objects.len() > 2*(limit+reserve)) {
			t.Fatalf("%d names, %d bytes: %+v", total.names, total.bytes, scopes[0])
		}
		n := scopes[0].Net()
		if scopes[2].names == 0 && !reflect.DeepEqual(n, scopes[1].Net()) {
			t.Fatalf("%+v\n%+v", n, scopes[1].Net())
		}
		for c, count := range n.Counts {
			if count < 0 {
				t.Fatalf("%d of class %d", count, c)
			}
		}
		for _, s := range scopes {
			s.Close()
		}
		if total.names != 0 || total.bytes != 0 {
			t.Fatalf("%d names, %d bytes are left", total.names, total.bytes)
		}
	})
}

func BenchmarkOpenForWriting(b *testing.B) {
	s := scope(4096)
	var ops []*Op
	for i := range 1000 {
		ops = append(ops, created(fmt.Sprintf("/home/agent/project/build/%d/file%d.o", i%10, i), uint64(i+1)))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		o := ops[i%len(ops)]
		o.Created = i < len(ops)
		s.Do(o)
	}
}
