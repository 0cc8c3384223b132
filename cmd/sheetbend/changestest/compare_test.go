// SPDX-License-Identifier: Apache-2.0

package changestest

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/effect"
)

var classNames = [effect.Classes]string{
	effect.Created: "created", effect.Modified: "modified", effect.OpenedForWriting: "opened for writing",
	effect.Replaced: "replaced", effect.Deleted: "deleted", effect.Renamed: "renamed", effect.Linked: "linked",
	effect.Mode: "mode", effect.Owner: "owner", effect.Attributes: "attributes",
}

// A comparison holds what is told against two snapshots.
type comparison struct {
	before, after *tree
	told          map[string][]effect.Class // by the name; a deleted one by that of before
	from          map[string]string

	differences []string
	// Opened for writing, and changed or not; set to what it was: a mode, owner, time or attribute.
	opened, unopened, set int
	taken                 map[string]bool // see told
	unseen                int             // of these: what had the name is not told
	checked               int             // names that differ
}

func compare(root string, before, after *tree, net *effect.Net, taken map[string]bool) *comparison {
	c := &comparison{before: before, after: after, told: map[string][]effect.Class{}, from: map[string]string{}, taken: taken}
	for _, x := range net.Changes {
		if strings.HasPrefix(x.Name, root+"/") || strings.HasPrefix(x.From, root+"/") {
			name := strings.TrimSuffix(x.Name, "/")
			c.told[name] = append(c.told[name], x.Class)
			if x.Class == effect.Renamed {
				c.from[name] = x.From
			}
		}
	}
	c.everyChange()
	for _, x := range net.Changes {
		if strings.HasPrefix(x.Name, root+"/") {
			c.nothingElse(x)
		}
	}
	slices.Sort(c.differences)
	return c
}

func (c *comparison) differs(format string, args ...any) {
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

func clean(path string) string { return strings.TrimSuffix(path, "/") }

// wants says that one of the classes must be told of a name.
func (c *comparison) wants(path string, classes ...effect.Class) {
	c.checked++
	for _, class := range classes {
		if slices.Contains(c.told[clean(path)], class) {
			return
		}
	}
	if c.taken[clean(path)] {
		c.unseen++
		return
	}
	c.differs("%q is %s, and told as %s", path, named(classes), named(c.told[clean(path)]))
}

func named(classes []effect.Class) string {
	if len(classes) == 0 {
		return "nothing"
	}
	var names []string
	for _, class := range classes {
		names = append(names, classNames[class])
	}
	return strings.Join(names, " or ")
}

// everyChange is told.
func (c *comparison) everyChange() {
	for at, a := range c.after.slots {
		b := c.before.slots[at]
		switch {
		case b == nil && c.before.names[a.identity] == nil:
			c.wants(a.path, effect.Created)
		case b == nil:
			c.wants(a.path, effect.Renamed, effect.Linked)
		case b.identity == a.identity:
			c.same(b, a)
		case c.before.names[a.identity] == nil:
			c.wants(a.path, effect.Modified, effect.Replaced)
		default:
			c.wants(a.path, effect.Renamed, effect.Linked)
			c.wants(a.path, effect.Replaced)
		}
	}
	for at, b := range c.before.slots {
		// One that was renamed is told by its new name, and one that was overwritten by that of the other.
		if c.after.slots[at] == nil && c.after.names[b.identity] == nil {
			path := b.path
			if dirs := c.after.names[at.dir]; len(dirs) > 0 && c.taken[dirs[0].path+at.name] { // in a directory that was renamed
				path = dirs[0].path + at.name
			}
			c.wants(path, effect.Deleted)
		}
		if names := c.after.names[b.identity]; c.after.slots[at] == nil && len(names) > 0 &&
			!slices.ContainsFunc(names, func(a *entry) bool { return c.from[clean(a.path)] == clean(b.path) }) {
			c.wants(b.path, effect.Deleted)
		}
	}
}

// same is of a file that has the same name.
func (c *comparison) same(b, a *entry) {
	if b.content != a.content || b.size != a.size && !a.isDir() {
		c.wants(a.path, effect.Modified, effect.OpenedForWriting)
	}
	if b.modified != a.modified && !a.isDir() {
		c.wants(a.path, effect.Modified, effect.OpenedForWriting, effect.Attributes)
	}
	if b.mode != a.mode {
		c.wants(a.path, effect.Mode)
	}
	if b.uid != a.uid || b.gid != a.gid {
		c.wants(a.path, effect.Owner)
	}
}

// nothingElse is told than what is so.
func (c *comparison) nothingElse(x effect.Change) {
	name := clean(x.Name)
	b, a := c.before.paths[name], c.after.paths[name]
	if x.Class != effect.Deleted && a == nil {
		c.differs("%q is told as %s, and not there", x.Name, classNames[x.Class])
		return
	}
	// The tracepoint form does not know of everything that it is a directory.
	if a != nil && x.Class != effect.Deleted && strings.HasSuffix(x.Name, "/") && !a.isDir() {
		c.differs("%q is told as %s, and no directory", x.Name, classNames[x.Class])
	}
	// Of a file that was renamed, what it was before.
	was := b
	if a != nil {
		for _, e := range c.before.names[a.identity] {
			was = e
		}
	}
	holds := true
	switch x.Class {
	case effect.Created:
		holds = c.before.names[a.identity] == nil
	case effect.Modified:
		holds = was == nil || was.identity != a.identity || was.content != a.content || was.modified != a.modified
	case effect.OpenedForWriting:
		if was == nil || was.content != a.content || was.modified != a.modified {
			c.opened++
		} else {
			c.unopened++
		}
	case effect.Replaced:
		holds = b != nil && b.identity != a.identity
	case effect.Deleted:
		holds = b != nil && (a == nil || a.identity != b.identity)
	case effect.Renamed:
		old := c.before.paths[clean(x.From)]
		holds = old != nil && old.identity == a.identity
	case effect.Linked:
		holds = c.before.names[a.identity] != nil
	case effect.Mode, effect.Owner, effect.Attributes:
		differs := was == nil || was.mode&unix.S_IFMT != a.mode&unix.S_IFMT || x.Class == effect.Mode && was.mode != a.mode ||
			x.Class == effect.Owner && (was.uid != a.uid || was.gid != a.gid) || x.Class == effect.Attributes && was.modified != a.modified
		// The kernel's time of the last such change says whether there was one.
		if !differs {
			c.set++
		}
		holds = differs || was.changed != a.changed
	}
	if !holds {
		c.differs("%q is told as %s, and is not", x.Name, classNames[x.Class])
	}
}
