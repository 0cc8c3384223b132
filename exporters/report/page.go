// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// The parts of the page. Programs and lines are arrays, as there are many: of programs story, call, parent, command,
// executable, directory, pid, start, length, flags, ending and the other attributes; of lines story, call, program, verb,
// object, error, pid, first, last, longest, count, flags and the other attributes. Story, call, parent and program are
// indices, -1 without one; verbs and keys of attributes are indices of Words. Times are ns since Base, lengths ns, or
// -1 where the end is not known.
type page struct {
	Version string     `json:"version"`
	Base    string     `json:"base"` // ns since the epoch
	Left    left       `json:"left"`
	Words   []string   `json:"words"`
	Stories []pageWho  `json:"stories"`
	Calls   []pageCall `json:"calls"`
	Nodes   [][]any    `json:"nodes"`
	Lines   [][]any    `json:"lines"`
}

type pageWho struct {
	ID      string         `json:"id"`
	Session string         `json:"session"`
	Sandbox string         `json:"sandbox"`
	Agent   string         `json:"agent"`
	Parent  string         `json:"parent"`
	Start   int64          `json:"start"`
	Length  int64          `json:"length"`
	Over    bool           `json:"over"`
	Facts   map[string]any `json:"facts"`
	Where   map[string]any `json:"where"`
}

type pageCall struct {
	Story  int            `json:"story"`
	ID     string         `json:"id"`
	Start  int64          `json:"start"`
	Length int64          `json:"length"`
	Failed bool           `json:"failed"`
	Status string         `json:"status"`
	Facts  map[string]any `json:"facts"`
}

// Write writes the file. It can be called once: it puts in order what came.
func (r *Report) Write(w io.Writer) error {
	p := r.page()
	data, err := json.Marshal(p) // which escapes <, > and &
	if err != nil {
		return err
	}
	title := "Sheetbend report"
	if len(r.stories) > 0 {
		title = p.Stories[0].Agent + " · " + p.Stories[0].Session + " · " + title
	}
	b := bufio.NewWriter(w)
	fill := strings.NewReplacer( // of one pass: what is filled in is not looked at again
		"{{title}}", html.EscapeString(strings.TrimPrefix(title, " · ")),
		"{{style-hash}}", hash(pageCSS), "{{script-hash}}", hash(pageJS),
		"{{style}}", pageCSS, "{{script}}", pageJS, "{{data}}", string(data))
	if _, err := fill.WriteString(b, pageHTML); err != nil {
		return err
	}
	return b.Flush()
}

// Empty says whether no span has come.
func (r *Report) Empty() bool { return len(r.stories) == 0 }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// words numbers strings that come often.
type table struct {
	list []string
	byID map[string]int
}

func (t *table) of(s string) int {
	i, ok := t.byID[s]
	if !ok {
		i = len(t.list)
		t.list, t.byID[s] = append(t.list, visible(s)), i
	}
	return i
}

func (r *Report) page() page {
	slices.SortStableFunc(r.stories, func(a, b *story) int {
		return cmp.Or(-cmp.Compare(min(len(a.calls), 1), min(len(b.calls), 1)), cmp.Compare(a.start, b.start), cmp.Compare(a.id, b.id))
	})
	slices.SortStableFunc(r.order, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid), slices.Compare(a.id[:], b.id[:]))
	})
	slices.SortStableFunc(r.rows, func(a, b *line) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.verb, b.verb), cmp.Compare(a.object, b.object))
	})
	base := ^uint64(0)
	for _, st := range r.stories {
		base = min(base, st.start, cmp.Or(st.began, st.start))
		for _, c := range st.calls {
			base = min(base, c.start)
		}
	}
	if len(r.stories) == 0 {
		base = 0
	}
	since := func(t uint64) int64 { return int64(t - base) }
	p := page{
		Version: visible(r.version), Base: strconv.FormatUint(base, 10), Left: r.left,
		Stories: []pageWho{}, Calls: []pageCall{}, Nodes: [][]any{}, Lines: [][]any{},
	}
	stories := make(map[*story]int, len(r.stories))
	for i, st := range r.stories {
		stories[st] = i
		start := cmp.Or(st.began, st.start)
		p.Stories = append(p.Stories, pageWho{
			ID: visible(st.id), Session: visible(st.session), Sandbox: visible(st.sandbox), Agent: visible(st.agent),
			Parent: visible(st.parent), Start: since(start), Length: since(st.end) - since(start), Over: st.over,
			Facts: st.facts.visible(), Where: st.where.visible(),
		})
		slices.SortStableFunc(st.calls, func(a, b *call) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id))
		})
		for _, c := range st.calls {
			c.index = len(p.Calls)
			length := since(c.end) - since(c.start)
			if !c.over {
				length = -1
			}
			p.Calls = append(p.Calls, pageCall{
				Story: i, ID: visible(c.id), Start: since(c.start), Length: length, Failed: c.failed,
				Status: visible(c.status), Facts: c.facts.visible(),
			})
		}
	}
	t := table{byID: make(map[string]int)}
	find := r.finder()
	for i, n := range r.order {
		n.index = i
	}
	parents, places := r.parents(), r.places()
	for _, n := range r.order {
		if n.at.story == nil {
			n.at = places[n.id]
		}
		parent := -1
		if up := parents[n]; up != nil {
			parent = up.index
		}
		length := int64(-1)
		if n.ended {
			length = since(n.end) - since(n.start)
		}
		p.Nodes = append(p.Nodes, []any{
			stories[n.at.story], find(n.at, n.parent, n.start), parent, visible(n.command), visible(n.exe), visible(n.cwd), n.pid,
			since(max(n.start, base)), length, n.flags, visible(n.ending), n.more.flat(&t),
		})
	}
	for _, l := range r.rows {
		owner := -1
		if n := r.nodes[l.owner]; n != nil {
			owner = n.index
		}
		p.Lines = append(p.Lines, []any{
			stories[l.at.story], find(l.at, l.owner, l.start), owner, t.of(l.verb), visible(l.object), visible(l.err), l.pid,
			since(l.start), since(l.last), l.longest, l.count, l.flags, l.more.flat(&t),
		})
	}
	p.Words = t.list
	return p
}

// finder gives for whatever was done the index of its call, -1 without one.
func (r *Report) finder() func(at place, above span.ID, start uint64) int {
	byDetail := make(map[span.ID]*call)
	type known struct {
		*story
		name string
	}
	named := make(map[known][]*call)
	for _, st := range r.stories {
		for _, c := range st.calls {
			if c.detail != (span.ID{}) {
				byDetail[c.detail] = c
			}
			for _, name := range []string{c.id, c.ctx} {
				if name != "" {
					named[known{st, name}] = append(named[known{st, name}], c)
				}
			}
		}
	}
	return func(at place, above span.ID, start uint64) int {
		for _, name := range []string{at.id, at.ctx} {
			calls := named[known{at.story, name}]
			if name == "" || len(calls) == 0 {
				continue
			}
			// Of several calls of one id the last that had begun.
			i, exact := slices.BinarySearchFunc(calls, start, func(c *call, t uint64) int { return cmp.Compare(c.start, t) })
			if !exact {
				i--
			}
			return calls[max(i, 0)].index
		}
		for range maxDepth {
			if c := byDetail[above]; c != nil {
				return c.index
			}
			n := r.nodes[above]
			if n == nil {
				break
			}
			above = n.parent
		}
		return -1
	}
}

// maxDepth is how far up a line's program is looked for.
const maxDepth = 1000

// places are those of what stands below programs of which no span of their own came.
func (r *Report) places() map[span.ID]place {
	at := make(map[span.ID]place)
	for _, l := range r.rows {
		at[l.owner] = l.at
	}
	for _, n := range r.order {
		if n.at.story != nil {
			at[n.parent] = n.at
		}
	}
	return at
}

// parents gives what programs stand below; a ring, which only a collision of ids makes, is cut.
func (r *Report) parents() map[*node]*node {
	up := make(map[*node]*node, len(r.order))
	for _, n := range r.order {
		p := r.nodes[n.parent]
		for above, depth := p, 0; above != nil; above, depth = up[above], depth+1 {
			if above == n || depth > maxDepth {
				p = nil
				break
			}
		}
		if p != nil {
			up[n] = p
		}
	}
	return up
}

// flat is a list of keys, by number, and values.
func (f facts) flat(t *table) []any {
	list := make([]any, 0, 2*len(f))
	for _, key := range slices.Sorted(maps.Keys(f)) {
		list = append(list, t.of(key), visibleValue(f[key]))
	}
	return list
}

func (f facts) visible() map[string]any {
	out := make(map[string]any, len(f))
	for key, v := range f {
		out[visible(key)] = visibleValue(v)
	}
	return out
}

func visibleValue(v any) any {
	switch v := v.(type) {
	case string:
		return visible(v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = visible(s)
		}
		return list
	}
	return v
}
