// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/sheetbend/sheetbend/collector/notable"
)

// maxLines bounds the sentences of an account: there is room for one of each kind.
const maxLines = notable.Kinds

// A note is a sentence about something notable.
type note struct {
	kind, gravity int
	text          string
}

// notes are what was notable: how often each kind was, and what was gravest.
type notes struct {
	counts [notable.Kinds]int64
	lines  []note // gravest first, and of what is equally grave what came first
}

// add counts an event and keeps its sentence, if none like it is kept. Where there is no room the least grave goes, but
// not the gravest of its kind: so a flood, however grave, hides none of another kind.
func (n *notes) add(e notable.Event) {
	line := note{e.Kind(), e.Gravity(), e.Sentence}
	n.counts[line.kind]++
	if slices.ContainsFunc(n.lines, func(l note) bool { return l.kind == line.kind && l.text == line.text }) {
		return
	}
	at, _ := slices.BinarySearchFunc(n.lines, line, func(l, to note) int {
		return cmp.Or(cmp.Compare(to.gravity, l.gravity), -1) // behind its equals
	})
	if n.lines = slices.Insert(n.lines, at, line); len(n.lines) <= maxLines {
		return
	}
	for i := len(n.lines) - 1; i >= 0; i-- {
		if slices.IndexFunc(n.lines, func(l note) bool { return l.kind == n.lines[i].kind }) < i {
			n.lines = slices.Delete(n.lines, i, i+1)
			return
		}
	}
}

// texts are the sentences, gravest first.
func (n *notes) texts() []string {
	texts := make([]string, 0, maxLines)
	for _, l := range n.lines {
		texts = append(texts, l.text)
	}
	return texts
}

// sums gives how many there were, and of each kind, as "secret 2", in the order of their lines.
func (n *notes) sums() (all int64, kinds []string) {
	for _, l := range n.lines {
		if name := notable.Names()[l.kind] + " " + strconv.FormatInt(n.counts[l.kind], 10); !slices.Contains(kinds, name) {
			all, kinds = all+n.counts[l.kind], append(kinds, name)
		}
	}
	return all, kinds
}

// besides is the gravest sentence that no number of an account tells; "": there is none.
func (n *notes) besides() string {
	for _, l := range n.lines {
		switch notable.Names()[l.kind] {
		case notable.Secret, notable.Outside, notable.Listen, notable.Destination, notable.OOM, notable.Loss:
		default:
			return l.text
		}
	}
	return ""
}
