// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/enrich/container"
)

// watchPrefix begins the name of a cgroup that was made for a user's command; the user's id and a random number follow.
const watchPrefix = "sheetbend-watch-"

// rootWatches is where the cgroups are of those who are in the root cgroup, as without systemd. In that one's directory
// nobody may write without the right to write everywhere, which the sensor gives up.
const rootWatches = "/sheetbend-watches"

// placeAtRoot makes it where the first process of the host says that users may be in the root cgroup.
func placeAtRoot(m cgroup.Mount) error {
	if first, err := m.Of(1); err != nil || first != "/" {
		return nil //nolint:nilerr // nobody is there, or a process that this one cannot see
	}
	return m.Create(rootWatches)
}

// maxLooked bounds the directories in which a start looks for cgroups of a sensor that was killed.
const maxLooked = 1 << 16

// askedCgroups are those that users have watched. They may be used by several goroutines.
type askedCgroups struct {
	mu    sync.RWMutex
	paths map[string]bool
}

// findAsked finds those that a sensor before has made. What only has such a name is a user's own.
func findAsked(m cgroup.Mount) *askedCgroups {
	a := &askedCgroups{paths: map[string]bool{}}
	next := []string{"/"}
	for looked := 0; len(next) > 0 && looked < maxLooked && len(a.paths) < maxWatches; looked++ {
		cg := next[len(next)-1]
		next = next[:len(next)-1]
		if _, is := container.FromCgroup(cg); is {
			continue // none is made there, and its root could make what looks like one
		}
		if _, ok := watchOf(cg); ok {
			if owner, err := m.Owner(cg); err == nil && owner == uint32(os.Geteuid()) {
				a.add(cg)
			}
			continue
		}
		names, _ := m.Children(cg)
		for _, name := range names {
			next = append(next, path.Join(cg, name))
		}
	}
	return a
}

// watchOf is the user for whom a cgroup was made, by its name.
func watchOf(cg string) (uid uint32, ok bool) {
	rest, ok := strings.CutPrefix(path.Base(cg), watchPrefix)
	id, random, cut := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), ok && cut && len(random) == 12 && err == nil
}

func (a *askedCgroups) add(cg string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths[cg] = true
}

func (a *askedCgroups) remove(cg string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.paths, cg)
}

func (a *askedCgroups) list() []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.paths))
}

func (a *askedCgroups) has(cg string) bool { return a.of(cg) != "" }

// of is the one at or above a cgroup; "": there is none, or nobody may have any.
func (a *askedCgroups) of(cg string) string {
	if a == nil {
		return ""
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for ; len(a.paths) > 0 && cg != "/" && cg != "."; cg = path.Dir(cg) {
		if a.paths[cg] {
			return cg
		}
	}
	return ""
}
