// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"slices"

	"github.com/sheetbend/sheetbend/collector/span"
)

// arrange hangs every node under its parent, all in the order of their start, and gives what stands below each one;
// the roots stand below nil.
func (se *session) arrange() map[*node][]*node {
	type fork struct {
		of  *node
		pid int64
	}
	forks := make(map[fork]*node)
	nodes := slices.Clone(se.order)
	for _, n := range se.order {
		for _, it := range n.items.list {
			if !it.isOfFork(n) {
				continue
			}
			f := forks[fork{n, it.pid}]
			if f == nil {
				f = &node{forkOf: n, seen: true, name: n.name, hint: n.hint, cwd: n.cwd, pid: it.pid, start: it.start}
				forks[fork{n, it.pid}] = f
				nodes = append(nodes, f)
			}
			f.items.list = append(f.items.list, it)
		}
	}
	slices.SortFunc(nodes, inOrder)
	agents := se.agents(nodes)
	below := span.Hang(nodes, func(n *node) *node {
		parent := se.nodes[n.parent]
		switch {
		case n.forkOf != nil:
			return n.forkOf
		case agents[n] != nil:
			return agents[n]
		case n.parent == (span.ID{}) || parent == nil:
			return nil
		}
		// Started by a forked child of that program, if it did something itself.
		if f := forks[fork{parent, n.parentPID}]; f != nil && n.pid != parent.pid {
			return f
		}
		return parent
	})
	cutRings(nodes, below)
	return below
}

// agents gives for tool calls the process that made them: the parent of the call's first process. A call's own span
// says only the session.
func (se *session) agents(nodes []*node) map[*node]*node {
	if se.calls == 0 {
		return nil
	}
	agents, byPID := make(map[*node]*node), make(map[int64]*node)
	for _, n := range nodes { // in order of start: the last one that started before the call counts
		if call := se.nodes[n.parent]; call != nil && call.tool && agents[call] == nil && n.parentPID != 0 {
			agents[call] = byPID[n.parentPID]
		}
		if !n.tool && n.forkOf == nil && n.pid != 0 {
			byPID[n.pid] = n
		}
	}
	return agents
}

// cutRings makes the first node of each ring of parents a root: no root leads to them otherwise.
func cutRings(nodes []*node, below map[*node][]*node) {
	reached := make(map[*node]bool, len(nodes))
	var reach func(*node)
	reach = func(n *node) {
		reached[n] = true
		below[n] = slices.DeleteFunc(below[n], func(c *node) bool {
			again := reached[c]
			if !again {
				reach(c)
			}
			return again
		})
	}
	reach(nil)
	for _, n := range nodes {
		if !reached[n] {
			below[nil] = append(below[nil], n)
			reach(n)
		}
	}
}

// inOrder sorts by start; what follows makes a drawing independent of the order in which spans came.
func inOrder(a, b *node) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid), slices.Compare(a.id[:], b.id[:]))
}
