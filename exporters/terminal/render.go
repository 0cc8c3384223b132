// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Columns of the right side: pid, duration, outcome.
const (
	pidCells      = 7
	durationCells = 8
	outcomeCells  = 13
	gapCells      = 2
	narrow        = 72 // below this width the pid is left out
	verbCells     = 9
)

// Render draws one tree for each sandbox. It may be called again when more spans have come.
func (t *Tree) Render(w io.Writer) error {
	d := newDrawing(w, t.o)
	d.brief = t.brief
	if d.width >= narrow {
		d.pids = true
		d.right += gapCells + pidCells
	}
	for i, se := range t.sessions {
		if i > 0 {
			d.print("")
		}
		d.session(se)
		if !t.brief {
			d.changed(se, t.changed[se.sandbox])
		}
	}
	if t.beyond > 0 {
		d.print("")
		more := fmt.Sprintf("… and %d more", t.beyond)
		if t.missed > 0 {
			more += fmt.Sprintf(", %d of them sensitive, escapes or losses", t.missed)
		}
		d.print(d.p.Yellow(more + " (use --output)"))
	}
	return d.w.Flush()
}

type drawing struct {
	w      *bufio.Writer
	p      Palette
	width  int
	right  int  // columns of the right side with the gap before it
	pids   bool // the right side has a column for pids
	cut    bool // rows do not go beyond width; else only commands are shortened
	ascii  bool
	folded bool
	brief  bool // headings have no sums

	below map[*node][]*node // of the session at hand
}

func newDrawing(w io.Writer, o Options) *drawing {
	d := &drawing{w: bufio.NewWriter(w), p: Palette(o.Color), width: o.Width, cut: o.Width > 0, ascii: o.ASCII, folded: o.Fold}
	if d.width <= 0 {
		d.width = defaultWidth
	}
	d.width = max(d.width, leastWidth)
	d.right = gapCells + durationCells + gapCells + outcomeCells
	return d
}

func (d *drawing) print(line string) {
	if d.ascii {
		line = ASCII(line)
	}
	_, _ = d.w.WriteString(line + "\n") // the writer keeps the error for Flush
}

func (d *drawing) session(se *session) {
	d.below = se.arrange()
	d.header(se)
	slices.SortFunc(se.loss.list, byClass)
	for _, it := range se.loss.list {
		d.print(d.p.Alarm(d.fit(Escape(it.text))))
	}
	d.print("")
	for _, n := range d.fold(d.below[nil]) {
		d.node(n, nil, "", "", "")
	}
}

func (d *drawing) fit(s string) string {
	if d.ascii {
		s = ASCII(s)
	}
	if d.cut {
		return Cut(s, d.width)
	}
	return s
}

// row is one line: a prefix of tree lines, a left side that is cut to fit, and a right side.
type row struct {
	prefix   string // drawn as it is
	head     string // first part of the left side
	text     string // second part
	tail     string // third part, never cut
	front    bool   // a path: cut at its begin
	pid      int64
	duration string
	outcome  string
	done     bool // it tells of an end

	headStyle, textStyle, outcomeStyle func(string) string
}

func (d *drawing) row(r row) {
	for _, style := range []*func(string) string{&r.headStyle, &r.textStyle, &r.outcomeStyle} {
		if *style == nil {
			*style = d.p.Plain
		}
	}
	if d.ascii { // before their widths are counted
		r.head, r.text, r.tail = ASCII(r.head), ASCII(r.text), ASCII(r.tail)
		r.duration, r.outcome = ASCII(r.duration), ASCII(r.outcome)
	}
	hasRight := r.pid != 0 || r.duration != "" || r.outcome != ""
	room := d.width - Cells(r.prefix)
	if hasRight {
		room -= d.right
	}
	head, text, tail := r.head, r.text, r.tail
	if d.cut || !r.front {
		head = Cut(head, room)
		tail = Cut(tail, room-Cells(head))
		left := max(0, room-Cells(head)-Cells(tail))
		if r.front {
			text = CutFront(text, left)
		} else {
			text = Cut(text, left)
		}
	}
	line := d.p.Dim(r.prefix) + r.headStyle(head) + r.textStyle(text) + r.textStyle(tail)
	if hasRight {
		used := Cells(head) + Cells(text) + Cells(tail)
		right := ""
		if d.pids {
			pid := ""
			if r.pid != 0 {
				pid = strconv.FormatInt(r.pid, 10)
			}
			right = strings.Repeat(" ", gapCells) + PadFront(pid, pidCells)
		}
		right += strings.Repeat(" ", gapCells) + PadFront(r.duration, durationCells)
		line += strings.Repeat(" ", max(0, room-used)) + d.p.Dim(right)
		if d.cut {
			r.outcome = Cut(r.outcome, outcomeCells)
		}
		if r.outcome != "" {
			line += strings.Repeat(" ", gapCells) + r.outcomeStyle(r.outcome)
		}
	}
	d.print(strings.TrimRight(line, " "))
}

// node draws n, which stands below above, and all below it: first is the prefix of its own row, rest that of the rows below
// it.
func (d *drawing) node(n, above *node, prefix, first, rest string) {
	// A program that only started another in its place (env, a wrapper) shares the row of that one.
	via, noise := "", n.noise
	for n.replaced && len(n.items.list) == 0 && Cells(via) < d.width/4 {
		only := d.below[n]
		if len(only) != 1 || only[0].pid != n.pid {
			break
		}
		via += n.name + " → "
		n = only[0]
		noise += n.noise
	}
	r := d.process(prefix+first, n)
	r.head = via + r.head
	d.row(r)

	below := prefix + rest
	var lines []row
	children := d.below[n]
	if d.folded && n.own && (above == nil || !above.own || above.instance != n.instance) {
		lines, children = d.household(n)
	} else {
		lines = d.items(n, noise)
	}
	children = d.fold(children)
	for i, r := range lines {
		r.prefix = below + "├─ "
		if i == len(lines)-1 && len(children) == 0 {
			r.prefix = below + "└─ "
		}
		d.row(r)
	}
	// Deep trees stop moving right where a third of the row is left for them.
	deep := Cells(below) > (d.width-d.right)*2/3-3
	for i, c := range children {
		switch {
		case deep:
			d.node(c, n, below, "» ", "")
		case i == len(children)-1:
			d.node(c, n, below, "└─ ", "   ")
		default:
			d.node(c, n, below, "├─ ", "│  ")
		}
	}
}

func (d *drawing) process(prefix string, n *node) row {
	r := row{prefix: prefix, head: n.name, pid: n.pid, headStyle: d.p.Bold, outcomeStyle: d.p.Dim}
	if n.args != "" {
		r.text = " " + n.args
	}
	if n.note != "" {
		r.tail = " [" + n.note + "]"
	}
	switch {
	case n.forkOf != nil:
		r.head = n.called()
		r.tail = " [forked]"
		return r
	case !n.seen:
		r.head = n.called()
		r.tail = " [start not seen]"
	case n.tool:
		r.headStyle = d.p.Cyan
		if d.folded && n.title != "" {
			r.text = " " + n.title
		}
	case r.head == "":
		r.head = "?"
	}
	switch {
	case n.times > 0:
		r.tail += fmt.Sprintf(" ×%d", n.times)
		if Duration(n.shortest) != Duration(n.longest) {
			r.tail += " (" + Duration(n.shortest) + "–" + Duration(n.longest) + ")"
		}
	case n.ended && n.end >= n.start:
		r.duration = Duration(n.end - n.start)
	}
	switch {
	case n.tool:
		if n.failed {
			r.outcome, r.outcomeStyle = "failed", d.p.Alarm
		}
		r.textStyle = d.p.Cyan
	case !n.ended:
		if n.seen {
			r.outcome, r.outcomeStyle = "still running", d.p.Yellow
		}
	case n.replaced:
		r.outcome = "exec"
	case n.signal != "":
		r.outcome, r.outcomeStyle = n.signal, d.p.Alarm
	case n.hasCode:
		r.outcome = "exit " + strconv.FormatInt(n.code, 10)
		if n.code != 0 {
			r.outcomeStyle = d.p.Alarm
		}
	}
	return r
}

// called is the name of a node that has no span of its own.
func (n *node) called() string {
	switch {
	case n.name != "":
		return n.name
	case n.hint != "":
		return Escape(base(n.hint))
	}
	return "process"
}
