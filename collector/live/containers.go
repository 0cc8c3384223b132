// SPDX-License-Identifier: Apache-2.0

package live

import (
	"path"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// selects says whether a cgroup is watched: by a glob, or because it is or lies in a container.
func (f *Feed) selects(cg string) bool {
	if f.o.Globs.Selects(cg) {
		return true
	}
	if !f.o.Containers || f.o.Except != "" && (cg == f.o.Except || strings.HasPrefix(cg, f.o.Except+"/")) {
		return false
	}
	_, ok := container.FromCgroup(cg)
	return ok
}

// sandbox is the topmost cgroup of the sandbox that a selected one lies in.
func (f *Feed) sandbox(cg string) string {
	if !f.o.Globs.Selects(cg) {
		ref, _ := container.FromCgroup(cg)
		return ref.Root
	}
	for above := path.Dir(cg); f.o.Globs.Selects(above); above = path.Dir(above) {
		cg = above
	}
	return cg
}

// leads says whether something below the cgroup may be watched. Containers may be anywhere.
func (f *Feed) leads(cg string) bool { return f.o.Containers || f.o.Globs.Leads(cg) }

// mayBeNone remembers a cgroup that is watched only because it is a container's, and says whether it is one.
func (f *Feed) mayBeNone(id uint64, cg string) bool {
	if !f.o.Containers || f.o.Globs.Selects(cg) {
		return false
	}
	ref, ok := container.FromCgroup(cg)
	if ok && len(f.undecided) < maxWatched {
		f.undecided[ref.ID] = append(f.undecided[ref.ID], id)
	}
	return ok
}

// heed ends the watch of a container that is no sandbox.
func (f *Feed) heed(raw []byte) {
	// Not into the event of the kernel's record at hand.
	if len(f.undecided) == 0 || f.word.Decode(raw) != nil || f.word.Header.Type != record.TypeContainer {
		return
	}
	c := &f.word.Container
	cgroups := f.undecided[c.ID]
	delete(f.undecided, c.ID)
	if f.o.Chosen != nil && f.o.Chosen(c) {
		for _, id := range cgroups {
			f.settle(id, "of container "+c.ID)
		}
		return
	}
	for _, id := range cgroups {
		f.unwatch(id, "of container "+c.ID)
	}
	// An agent in it is one outside of all sandboxes now.
	f.moved = f.moved || f.o.Knows != nil
}

// gone forgets a container whose cgroup was removed.
func (f *Feed) gone(cg string) {
	if ref, ok := container.FromCgroup(cg); ok && ref.Root == cg {
		delete(f.undecided, ref.ID)
	}
}
