// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// maxDepth bounds the levels of a tree: encoding/json reads no more than 10,000, people far less.
// What stands deeper goes beside the last level.
const maxDepth = 200

// List gives the sessions that a user may see, the one with the newest sign of life last: root all, others
// those whose first program was theirs.
func (v *View) List(uid uint32) []client.Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []client.Session
	for e := v.recent.Front(); e != nil; e = e.Next() {
		if se := e.Value.(*session); v.shows(se, uid) {
			out = append(out, se.summary())
		}
	}
	return out
}

// Tree gives a session with its newest spans; nil if there is none of this id that the user may see.
func (v *View) Tree(uid uint32, id string) *client.Tree {
	v.mu.Lock()
	se := v.sessions[id]
	if se == nil || !v.shows(se, uid) {
		v.mu.Unlock()
		return nil
	}
	t := &client.Tree{Session: se.summary(), Dropped: se.dropped, Roots: []client.Node{}}
	// Later spans use the memory of the attributes again: they are read under the lock.
	nodes := make([]*node, 0, se.structure.len()+se.activity.len())
	for _, q := range []*queue{&se.structure, &se.activity} {
		for i := range q.all() {
			nodes = append(nodes, v.newNode(&q.all()[i]))
		}
	}
	v.mu.Unlock()
	byID := make(map[span.ID]*node, len(nodes))
	for _, n := range nodes {
		byID[n.id] = n // instead of its notice
	}
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n.id != (span.ID{}) && byID[n.id] != n })
	slices.SortStableFunc(nodes, func(a, b *node) int { return cmp.Compare(a.start, b.start) })
	delete(byID, span.ID{})
	below := span.Hang(nodes, func(n *node) *node { return byID[n.parent] })
	t.Roots = nest(t.Roots, below, nil, 1)
	return t
}

func (v *View) shows(se *session, uid uint32) bool {
	return uid == 0 || uid == v.o.User || se.userKnown && se.user == uid
}

func (se *session) summary() client.Session {
	s := client.Session{
		ID: se.id, Agent: se.agent, Start: wall(se.start), Last: wall(se.last),
		Processes: len(se.live), Spans: se.spans,
	}
	for _, c := range se.calls {
		s.Calls = append(s.Calls, client.Call{
			ID: c.id, Context: c.context, Tool: c.tool, Attribution: c.attribution, Approval: c.approval,
			Start: wall(c.start), Last: wall(c.last), Processes: c.processes, Failed: c.failed,
		})
	}
	return s
}

func wall(ns uint64) time.Time { return time.Unix(0, int64(ns)).UTC() }

// A node is on its way into the tree.
type node struct {
	client.Node
	id, parent span.ID
	start      uint64
}

func (v *View) newNode(k *keptSpan) *node {
	return &node{id: k.id, parent: k.parent, start: k.start, Node: client.Node{
		Kind: k.kind.String(), Trace: hex.EncodeToString(k.trace[:]), Span: hex.EncodeToString(k.id[:]),
		Start: wall(k.start), End: wall(k.end), Failed: k.failed, Status: k.status,
		Attrs: v.packer.unpack(k.attrs),
	}}
}

// nest appends what stands below n, which is depth levels deep.
func nest(out []client.Node, below map[*node][]*node, n *node, depth int) []client.Node {
	for _, c := range below[n] {
		if depth == maxDepth {
			out = nest(append(out, c.Node), below, c, depth)
			continue
		}
		c.Children = nest(nil, below, c, depth+1)
		out = append(out, c.Node)
	}
	return out
}
