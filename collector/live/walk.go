// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/record"
)

const (
	// maxDepth bounds the walk through existing cgroups.
	maxDepth = 128
	// maxWatched bounds the directories that are watched in one walk.
	maxWatched = 65536
	// dirsPerTurn is how many directories are walked through before the ring is read again.
	dirsPerTurn = 256
)

// A walk watches existing cgroups: root and those below it. Only root has to be watched for it to succeed: what is
// below was made by others, who could keep a sensor from starting otherwise. What cannot be watched there is reported
// as lost.
type walk struct {
	root    string
	matched []bool  // globs that selected something; nil: not asked
	next    []entry // directories that are known and not entered, the next one last
	begun   bool
	watched int
	passed  uint64 // that could not be watched
	err     error  // of the first of them
	done    func() // called at the end; nil: nothing is to be done
}

// An entry is a directory that a walk comes to.
type entry struct {
	cgroup string
	parent uint64 // id of the directory that it was found in
	depth  int
}

func newWalk(root string) *walk { return &walk{root: root, next: []entry{{cgroup: root}}} }

func (w *walk) pass(err error) {
	if w.passed++; w.err == nil {
		w.err = err
	}
}

// walkLater has a walk done in turns, the first one now if no other walk is under way.
func (f *Feed) walkLater(w *walk) {
	if slices.ContainsFunc(f.walks, func(has *walk) bool { return has.root == w.root && !has.begun }) {
		return // that one sees what this one would
	}
	if f.walks = append(f.walks, w); len(f.walks) == 1 {
		f.walkTurn()
	}
}

// walkTurn goes on with the first of the walks.
func (f *Feed) walkTurn() {
	if len(f.walks) == 0 {
		return
	}
	w := f.walks[0]
	later := w.begun
	err := w.step(f, dirsPerTurn)
	if err == nil && len(w.next) > 0 {
		return
	}
	f.walks = slices.Delete(f.walks, 0, 1)
	if err != nil {
		f.o.Log.Warn("cannot look for cgroups that the kernel did not report", "below", w.root, "err", err)
	}
	if later {
		f.askAgain()
	}
	if w.done != nil {
		w.done()
	}
}

// step enters some directories; at the end of the walk it reports those that could not be watched. An error is one of
// the root, and ends the walk.
func (w *walk) step(f *Feed, dirs int) error {
	w.begun = true
	for ; dirs > 0 && len(w.next) > 0; dirs-- {
		e := w.next[len(w.next)-1]
		w.next = w.next[:len(w.next)-1]
		if err := w.enter(f, e); err != nil {
			if e.depth == 0 {
				return err
			}
			w.pass(err)
		}
	}
	if len(w.next) == 0 && w.passed > 0 {
		f.o.Log.Warn("some cgroups are not watched: remove them, make the selectors narrower or limits.cgroups "+
			"higher, and start the sensor again",
			"cgroups", w.passed, "first_err", w.err)
		loss := record.Loss{
			Kind: record.TypeCgroup, Cause: record.CauseUnwatched, Count: w.passed, From: f.tick, To: f.tick,
		}
		f.out = record.AppendLoss(f.out[:0], record.Header{}, loss)
		f.emit(f.out)
	}
	return nil
}

// enter watches one directory and lists those below it. It is watched before it is listed: one that is made in between
// is inherited by the kernel side, listed, or both, and being reported twice does no harm.
func (w *walk) enter(f *Feed, e entry) error {
	cg := e.cgroup
	asked := f.o.Asked != nil && f.o.Asked(cg) // it has its budget, and is known, from who had it watched
	selected, leads := !asked && f.o.selects(cg), f.o.leads(cg)
	if !selected && !leads && !asked {
		return nil
	}
	if e.depth > maxDepth {
		return fmt.Errorf("cgroup %.100s…: more than %d levels deep", cg, maxDepth)
	}
	if w.watched++; w.watched > maxWatched {
		return fmt.Errorf("the selectors concern more than %d cgroups", maxWatched)
	}
	id, err := f.o.Hierarchy.ID(cg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.depth > 0 {
		if above, err := f.o.Hierarchy.ID(path.Dir(cg)); err != nil || above != e.parent {
			return nil // made anew since it was listed, as its parent was: the kernel side reports both
		}
	}
	flags := bpf.WatchChildren
	if selected || asked {
		flags |= bpf.WatchTasks
		if selected && f.mayBeNone(id, cg) {
			flags |= bpf.WatchProvisional
		}
	}
	if err := f.o.Source.Watch(id, flags); err != nil {
		return fmt.Errorf("watch cgroup %s: %w", cg, err)
	}
	if selected {
		f.within(id, cg)
	}
	// Removed before it was watched: no RMDIR will come that takes the entry away.
	if now, err := f.o.Hierarchy.ID(cg); err != nil || now != id {
		f.unwatch(id, cg)
		return nil
	}
	if selected {
		w.found(f, e, id)
	}
	children, err := f.o.Hierarchy.Children(cg)
	if err != nil {
		w.pass(err)
	}
	for _, c := range slices.Backward(children) {
		w.next = append(w.next, entry{path.Join(cg, c), id, e.depth + 1})
	}
	return nil
}

// found reports a selected directory.
func (w *walk) found(f *Feed, e entry, id uint64) {
	if w.matched != nil {
		for i, g := range f.o.Globs {
			w.matched[i] = w.matched[i] || g.Selects(e.cgroup)
		}
		if f.o.Globs.Selects(e.cgroup) && !f.o.Globs.Selects(path.Dir(e.cgroup)) {
			f.stats.Sandboxes++
		}
	}
	f.out = record.AppendCgroup(f.out[:0], f.tick, id, e.parent, e.cgroup)
	f.emit(f.out)
	f.limit(id, e.cgroup, false)
	f.seen(f.tick, e.cgroup)
}

// decide takes or narrows the watch of a new directory. The kernel side watches every one that is made below a
// watched directory, because it knows no globs; the collector ignores what happens in those
// that no glob selects.
func (f *Feed) decide(at, id uint64, cg string) {
	switch {
	case f.o.Asked != nil && f.o.Asked(cg): // what is below has the watch and the budget of the directory above
	case f.o.selects(cg):
		f.within(id, cg) // the kernel side may have the directory above as the sandbox
		if !f.mayBeNone(id, cg) {
			f.confirm(id, cg)
		}
		f.limit(id, cg, true)
		f.seen(at, cg)
	case f.o.leads(cg):
		if cg == f.o.Except {
			f.isOwn(at)
		}
		if err := f.o.Source.Watch(id, bpf.WatchChildren); err != nil {
			f.o.Log.Warn("cannot narrow the watch of a cgroup: its processes cost a little more",
				"cgroup", cg, "err", err)
		}
	default:
		f.unwatch(id, cg)
	}
}

// within has the kernel side know the sandbox in which a cgroup lies.
func (f *Feed) within(id uint64, cg string) {
	sandbox, root := id, f.o.sandbox(cg)
	if root != cg {
		var err error
		if sandbox, err = f.o.Hierarchy.ID(root); err != nil {
			return // it is gone, with all that is in it
		}
	}
	if err := f.o.Source.Within(id, sandbox); err != nil {
		f.o.Log.Warn("cannot say in which sandbox a cgroup lies: it has a budget of its own", "cgroup", cg, "err", err)
	}
}

// confirm has the kernel side know that the watch of a directory stays.
func (f *Feed) confirm(id uint64, cg string) {
	if err := f.o.Source.Watch(id, bpf.WatchTasks|bpf.WatchChildren); err != nil {
		f.o.Log.Warn("cannot confirm the watch of a cgroup: its processes cost a little more", "cgroup", cg, "err", err)
	}
}

func (f *Feed) seen(at uint64, cg string) {
	if f.o.Seen != nil {
		f.o.Seen(at, cg)
	}
}

func (f *Feed) unwatch(id uint64, cg string) {
	f.unlimit(f.tick, id)
	if err := f.o.Source.Unwatch(id); err != nil {
		f.o.Log.Warn("cannot end the watch of a cgroup: its processes cost a little more", "cgroup", cg, "err", err)
	}
}
