// SPDX-License-Identifier: Apache-2.0

package span

import "encoding/hex"

// Subject is the id of the span that s tells of: its own or, of a notice, that of the span that follows.
func (s *Span) Subject() ID {
	var id ID
	if n, err := hex.Decode(id[:], []byte(Clip(Attrs(s.Attrs).Text(KeyNoticeOf), 2*len(id)))); err != nil || n != len(id) {
		return s.ID
	}
	return id
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
