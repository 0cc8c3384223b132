// SPDX-License-Identifier: Apache-2.0

package live

import (
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// selects says whether a cgroup is watched: by a glob, or because it is or lies in a container.
func (o *Options) selects(cg string) bool {
	if o.Globs.Selects(cg) {
		return true
	}
	if !o.Containers || o.Except != "" && (cg == o.Except || strings.HasPrefix(cg, o.Except+"/")) {
		return false
	}
	_, ok := container.FromCgroup(cg)
	return ok
}

// sandbox is the topmost cgroup of the sandbox that a selected one lies in.
func (o *Options) sandbox(cg string) string {
	if !o.Globs.Selects(cg) {
		ref, _ := container.FromCgroup(cg)
		return ref.Root
	}
	for above := path.Dir(cg); o.Globs.Selects(above); above = path.Dir(above) {
		cg = above
	}
	return cg
}

// leads says whether something below the cgroup may be watched. Containers may be anywhere.
func (o *Options) leads(cg string) bool { return o.Containers || o.Globs.Leads(cg) }

// mayBeNone remembers a cgroup that is watched only because it is a container's, and says whether it is one.
func (f *Feed) mayBeNone(id uint64, cg string) bool {
	if !f.o.Containers || f.o.Globs.Selects(cg) {
		return false
	}
	ref, ok := container.FromCgroup(cg)
	if ok && len(f.undecided) < maxWatched {
		u := f.undecided[ref.ID]
		f.undecided[ref.ID] = undecided{ref.Root, append(u.cgroups, id)}
	}
	return ok
}

// undecided are the cgroups of a container that are watched only because of it.
type undecided struct {
	root    string
	cgroups []uint64
}

// askAgain has Seen asked anew for the containers that are not decided. What decided on one may have come between two
// turns of a walk, before its last directories were entered.
func (f *Feed) askAgain() {
	var roots []string
	for _, u := range f.undecided {
		roots = append(roots, u.root)
	}
	slices.Sort(roots) // a map has no order, a capture should not depend on it
	for _, root := range roots {
		f.seen(f.tick, root)
	}
}

// containerEvent ends the watch of a container that is no sandbox, and begins it again when a later record makes it
// one.
func (f *Feed) containerEvent(raw []byte) {
	// Not into the event of the kernel's record at hand.
	if !f.o.Containers || record.TypeOf(raw) != record.TypeContainer || f.container.Decode(raw) != nil {
		return
	}
	c := &f.container.Container
	u, waits := f.undecided[c.ID]
	delete(f.undecided, c.ID)
	chosen := f.o.Chosen != nil && f.o.Chosen(c)
	switch {
	case chosen:
		for _, id := range u.cgroups {
			f.confirm(id, "of container "+c.ID)
		}
		if root, ok := f.declined.drop(c.ID); ok {
			f.o.Log.Debug("a container has become a sandbox", "container", c.ID)
			f.reconsider(root)
		}
	case waits:
		for _, id := range u.cgroups {
			f.unwatch(id, "of container "+c.ID)
		}
		f.declined.add(c.ID, u.root)
		f.o.Log.Debug("no selector chooses a container", "container", c.ID, "pod", c.Pod, "namespace", c.Namespace)
		// An agent in it is one outside of all sandboxes now.
		f.scans.due = f.scans.due || f.o.Knows != nil
	}
}

// reconsider watches a container that was no sandbox before its pod's labels changed, as those that are there at the
// start. What its runtime reports, which Seen asks for again, has the collector decide anew.
func (f *Feed) reconsider(root string) {
	w := newWalk(root)
	w.done = func() { f.scans.due, f.scans.adopted, f.scans.last = true, true, 0 } // at the next tick, or the end
	f.walkLater(w)
}

// isOwn has the collector forget the sensor's own container. That was made while an earlier sensor's hooks were there,
// so what its runtime did in it is among the records, and no runtime is asked. A pod's own container is never chosen.
func (f *Feed) isOwn(at uint64) {
	ref, _ := container.FromCgroup(f.o.Except)
	f.Inject(record.AppendContainer(nil, at, record.Container{ID: ref.ID, Pod: "of the sensor"}))
}

// gone forgets a container whose cgroup was removed.
func (f *Feed) gone(cg string) {
	if ref, ok := container.FromCgroup(cg); ok && ref.Root == cg {
		delete(f.undecided, ref.ID)
	}
}
