// SPDX-License-Identifier: Apache-2.0

package span

// Above is the id of the span that s stands under: its parent or, when that is in another trace, the one that it links
// to as its parent, else as its call. It is zero for a root.
func (s *Span) Above() ID {
	if s.Parent != (ID{}) {
		return s.Parent
	}
	for _, rel := range [...]Rel{ToParent, ToCall} {
		for _, l := range s.Links {
			if l.Rel == rel {
				return l.Span
			}
		}
	}
	return ID{}
}

// Hang gives what stands below each of the nodes, in the order of nodes; the roots stand below nil. A node that is its
// own parent is a root. Nodes that are each other's parents, which only a collision of ids could make, stand below one
// another and below no root.
func Hang[N any](nodes []*N, parent func(*N) *N) map[*N][]*N {
	below := make(map[*N][]*N, len(nodes))
	for _, n := range nodes {
		p := parent(n)
		if p == n {
			p = nil
		}
		below[p] = append(below[p], n)
	}
	return below
}
