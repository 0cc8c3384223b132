// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a folded tree shows.
const (
	leastAlike  = 3 // programs of one name that are one row
	maxWrites   = 6 // rows of written files below one process; beyond them they are folded by directory
	maxWritten  = 2 // then for each verb
	foldedReads = 3
	maxHelpers  = 4 // names of programs that an agent ran for itself
)

// alike are nodes that may be one row: programs of one name that ended well, in one way.
type alike struct {
	name, note string
	replaced   bool
}

func (n *node) foldable() bool {
	return n.seen && n.ended && !n.tool && n.forkOf == nil && !n.failed && n.signal == "" && (n.replaced || n.hasCode && n.code == 0)
}

// fold makes one node of those that are alike. What stood below them stands below it.
func (d *drawing) fold(nodes []*node) []*node {
	if !d.folded {
		return nodes
	}
	groups := make(map[alike][]*node)
	for _, n := range nodes {
		if n.foldable() {
			k := alike{n.name, n.note, n.replaced}
			groups[k] = append(groups[k], n)
		}
	}
	var kept []*node
	for _, n := range nodes {
		group := groups[alike{n.name, n.note, n.replaced}]
		switch {
		case !n.foldable() || len(group) < leastAlike:
			kept = append(kept, n)
		case group[0] == n:
			kept = append(kept, d.merge(group))
		}
	}
	return kept
}

// merge makes one node of several.
func (d *drawing) merge(group []*node) *node {
	sum := *group[0]
	sum.items, sum.noise, sum.pid, sum.times = items{}, 0, 0, len(group)
	sum.shortest, sum.longest = sum.end-sum.start, sum.end-sum.start
	var below []*node
	for _, n := range group {
		if n.args != sum.args {
			sum.args = "…"
		}
		if n.cwd != sum.cwd {
			sum.cwd = ""
		}
		sum.noise += n.noise
		sum.shortest, sum.longest = min(sum.shortest, n.end-n.start), max(sum.longest, n.end-n.start)
		sum.items.merge(n.items.list)
		below = append(below, d.below[n]...)
	}
	slices.SortFunc(below, inOrder)
	d.below[&sum] = below
	return &sum
}

// merge adds copies of items, whichever process they are of.
func (l *items) merge(more []*item) {
	for _, it := range more {
		key := it.itemKey
		key.pid = 0
		if old := l.byKey[key]; old != nil {
			old.merge(it)
			continue
		}
		c := *it
		c.itemKey = key
		l.add(&c)
	}
}

// foldWrites folds by directory what was written, or in vain, where that is more than a few rows. Counts stay exact: of names where
// they are folded.
func foldWrites(own []*item) []*item {
	type bucket struct {
		class               class
		verb                uint8
		action, detail, err string
	}
	buckets := make(map[bucket][]*item)
	var kept []*item
	var order []bucket
	for _, it := range own {
		if it.class != classWrite && it.class != classFailed || it.sensitive {
			kept = append(kept, it)
			continue
		}
		b := bucket{it.class, it.verb, it.action, "", it.err}
		if it.class == classFailed {
			b.detail = it.detail
		}
		if buckets[b] == nil {
			order = append(order, b)
		}
		buckets[b] = append(buckets[b], it)
	}
	if len(own)-len(kept) <= maxWrites {
		return own
	}
	for _, b := range order {
		files := buckets[b]
		if len(files) <= maxWritten {
			kept = append(kept, files...)
			continue
		}
		for i, it := range files { // a copy that counts names
			c := *it
			c.from, c.detail = "", b.detail
			if !c.folded {
				c.count = 1
			}
			files[i] = &c
		}
		kept = append(kept, byDirectory(files, maxWritten)...)
	}
	return kept
}

// A household is what an agent did for itself: of files and connections only how many, of programs which.
type household struct {
	reads, writes, missing, connections, failed int64
	programs                                    map[string]int64
	kept                                        items   // what has a row nevertheless
	below                                       []*node // calls, other agents
}

// household gives the rows of what an agent did for itself, from its first program on, and what stands below that.
func (d *drawing) household(first *node) ([]row, []*node) {
	h := &household{programs: make(map[string]int64)}
	var visit func(n *node)
	visit = func(n *node) {
		h.take(n)
		for _, c := range d.below[n] {
			switch {
			case c.forkOf != nil:
				visit(c)
			case c.own && c.instance == first.instance:
				h.programs[c.called()]++
				if c.failed {
					h.failed++
				}
				visit(c)
			default:
				h.below = append(h.below, c)
			}
		}
	}
	visit(first)
	slices.SortFunc(h.below, inOrder)
	rows := d.items(&node{cwd: first.cwd, items: h.kept}, 0)
	if text := h.String(); text != "" {
		rows = append([]row{{head: Pad("itself", verbCells), text: text, headStyle: d.p.Dim, textStyle: d.p.Dim}}, rows...)
	}
	return rows, h.below
}

// take counts what one program did.
func (h *household) take(n *node) {
	for _, it := range n.items.list {
		switch {
		case n.forkOf == nil && it.isOfFork(n): // counted with the fork
		case it.class == classMissing:
			h.missing += it.count
		case it.class == classRead && !it.sensitive:
			h.reads += it.count
		case it.class == classWrite && !it.sensitive:
			if it.folded {
				h.writes += it.count
			} else {
				h.writes++
			}
		case it.class == classConnect && it.action != "" || it.class == classClose:
		case it.class == classFailed:
		case it.class == classConnect && !it.sensitive:
			h.connections += it.count
		default:
			h.kept.merge([]*item{it})
		}
	}
}

// String is one line, "" for nothing.
func (h *household) String() string {
	var parts []string
	add := func(n int64, text string) {
		if n > 0 {
			parts = append(parts, text)
		}
	}
	var total int64
	names := make([]string, 0, len(h.programs))
	for name, n := range h.programs {
		total += n
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(-cmp.Compare(h.programs[a], h.programs[b]), strings.Compare(a, b))
	})
	for i, name := range names {
		if n := h.programs[name]; n > 1 {
			names[i] += " ×" + strconv.FormatInt(n, 10)
		}
	}
	if len(names) > maxHelpers {
		names = append(names[:maxHelpers], "…")
	}
	programs := Count(total, "program") + " (" + strings.Join(names, ", ")
	if h.failed > 0 {
		programs += fmt.Sprintf("; %d failed", h.failed)
	}
	add(h.reads, Count(h.reads, "read"))
	add(h.writes, Count(h.writes, "file")+" written")
	add(h.missing, fmt.Sprintf("%d missing", h.missing))
	add(h.connections, Count(h.connections, "connection"))
	add(total, programs+")")
	return strings.Join(parts, ", ")
}
