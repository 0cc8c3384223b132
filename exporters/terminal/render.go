// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Rows of one kind below one process: beyond maxReads reads are shown by directory, the rest is
// only counted. Writes, refusals and whatever is sensitive are never folded or counted away.
const (
	maxReads    = 10
	maxMissing  = 4
	maxConnects = 100
	maxActs     = 100 // of sockets, namespaces, accesses: each
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
	d := &drawing{w: bufio.NewWriter(w), p: palette(t.o.Color), width: t.o.Width, cut: t.o.Width > 0}
	if d.width <= 0 {
		d.width = defaultWidth
	}
	d.width = max(d.width, leastWidth)
	d.right = gapCells + durationCells + gapCells + outcomeCells
	if d.width >= narrow {
		d.pids = true
		d.right += gapCells + pidCells
	}
	for i, se := range t.sessions {
		if i > 0 {
			d.print("")
		}
		d.session(se)
	}
	if t.beyond > 0 {
		d.print("")
		more := fmt.Sprintf("… and %d more", t.beyond)
		if t.missed > 0 {
			more += fmt.Sprintf(", %d of them sensitive, escapes or losses", t.missed)
		}
		d.print(d.p.yellow(more + " (use --output)"))
	}
	return d.w.Flush()
}

type drawing struct {
	w     *bufio.Writer
	p     palette
	width int
	right int  // columns of the right side with the gap before it
	pids  bool // the right side has a column for pids
	cut   bool // rows do not go beyond width; else only commands are shortened
}

func (d *drawing) print(line string) {
	_, _ = d.w.WriteString(line + "\n") // the writer keeps the error for Flush
}

func (d *drawing) session(se *session) {
	roots := se.arrange()
	d.header(se)
	slices.SortFunc(se.loss.list, byClass)
	for _, it := range se.loss.list {
		d.print(d.p.alarm(d.fit(escape(it.text))))
	}
	d.print("")
	for _, n := range roots {
		d.node(n, "", "", "")
	}
	// What arrange made for drawing goes, so that the next drawing starts from the spans alone.
	for _, n := range se.order {
		n.children, n.agent, n.drawn = nil, nil, false
	}
}

// arrange hangs every node under its parent and returns the roots, all in the order of their start.
func (se *session) arrange() []*node {
	nodes := slices.Clone(se.order)
	forks := make(map[*node]map[int64]*node)
	for _, n := range se.order {
		for _, it := range n.items.list {
			if it.pid == 0 || n.pid == 0 || it.pid == n.pid || forks[n][it.pid] != nil {
				continue
			}
			f := &node{forked: true, seen: true, name: n.name, hint: n.hint, cwd: n.cwd, pid: it.pid, start: it.start}
			if forks[n] == nil {
				forks[n] = make(map[int64]*node)
			}
			forks[n][it.pid] = f
			n.children = append(n.children, f)
			nodes = append(nodes, f)
		}
	}
	slices.SortFunc(nodes, inOrder)
	se.placeCalls(nodes)
	var roots []*node
	for _, n := range nodes {
		if n.forked {
			continue
		}
		parent := se.nodes[n.parent]
		if n.tool && n.agent != nil {
			parent = n.agent
			parent.children = append(parent.children, n)
			continue
		}
		if n.parent == (span.ID{}) || parent == nil || parent == n {
			roots = append(roots, n)
			continue
		}
		// Started by a forked child of that program, if it did something itself.
		if f := forks[parent][n.parentPID]; f != nil && n.pid != parent.pid {
			parent = f
		}
		parent.children = append(parent.children, n)
	}
	for parent, of := range forks {
		for _, it := range parent.items.list {
			if f := of[it.pid]; f != nil {
				f.items.list = append(f.items.list, it)
			}
		}
	}
	for _, n := range nodes {
		slices.SortFunc(n.children, inOrder)
	}
	// Parents that name each other in a ring hang nowhere: cut the ring at its first node.
	for _, r := range roots {
		r.reach()
	}
	for _, n := range nodes {
		if !n.drawn {
			roots = append(roots, n)
			n.reach()
		}
	}
	return roots
}

// placeCalls finds for each tool call the process that made it: the parent of the call's first
// process. Its span says only the session.
func (se *session) placeCalls(nodes []*node) {
	if se.calls == 0 {
		return
	}
	byPID := make(map[int64]*node)
	for _, n := range nodes { // in order of start: the last one that started before the call counts
		if call := se.nodes[n.parent]; call != nil && call.tool && call.agent == nil && n.parentPID != 0 {
			call.agent = byPID[n.parentPID]
		}
		if !n.tool && !n.forked && n.pid != 0 {
			byPID[n.pid] = n
		}
	}
}

// reach marks n and all below it, and drops children that were marked before.
func (n *node) reach() {
	n.drawn = true
	n.children = slices.DeleteFunc(n.children, func(c *node) bool {
		if c.drawn {
			return true
		}
		c.reach()
		return false
	})
}

// inOrder sorts by start; what follows makes a drawing independent of the order in which spans came.
func inOrder(a, b *node) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid), slices.Compare(a.id[:], b.id[:]))
}

// byClass is inOrder for rows below a process. Whatever is sensitive comes before the other files.
func byClass(a, b *item) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.class, b.class), cmp.Compare(a.start, b.start), strings.Compare(a.word, b.word), strings.Compare(a.text, b.text), strings.Compare(a.err, b.err))
}

func (it *item) rank() int {
	switch {
	case it.class <= classEscape:
		return 0
	case it.sensitive && it.class != classConnect:
		return 1
	}
	return 2
}

func (d *drawing) header(se *session) {
	var processes, failed, running, noise int64
	seen := make(map[itemKey]bool) // files once each, whichever process used them
	var written, read, refused, connections, refusedConnections, escapes, outside int64
	for _, n := range se.order {
		noise += n.noise
		if !n.tool && !n.replaced { // a replaced program's process goes on as another node
			processes++
			switch {
			case n.seen && !n.ended:
				running++
			case n.failed:
				failed++
			}
		}
		for _, it := range n.items.list {
			switch it.class {
			case classEscape:
				escapes += it.count
				continue
			case classConnect:
				connections += it.count
				if it.failed {
					refusedConnections += it.count
				}
				continue
			case classOutside:
				outside += it.count
				continue
			case classMissing, classFailed, classAccess, classNamespace, classSocket:
				continue
			}
			k := itemKey{class: it.class, text: it.text, folded: it.folded}
			if seen[k] {
				continue
			}
			seen[k] = true
			switch it.class {
			case classWrite:
				written++
			case classRefused:
				refused++
			default:
				if it.folded {
					read += it.count
				} else {
					read++
				}
			}
		}
	}
	var title []string
	if se.agent != "" {
		title = append(title, d.p.bold(d.fit(escape(se.agent))))
	}
	title = append(title, d.fit("session "+Quote(clip(se.id, maxPath))), duration(se.end-se.start))
	d.facts(title)

	var facts []string
	if se.calls > 0 {
		facts = append(facts, count(se.calls, "call"))
	}
	all := d.also(count(processes, "process"), failed, "failed", d.p.red)
	if running > 0 {
		all += d.p.yellow(fmt.Sprintf(", %d still running", running))
	}
	facts = append(facts, all)
	files := fmt.Sprintf("%s written, %d read", count(written, "file"), read)
	if refused > 0 {
		files += ", " + d.p.red(fmt.Sprintf("%d refused", refused))
	}
	facts = append(facts, files)
	if connections > 0 {
		facts = append(facts, d.also(count(connections, "connection"), refusedConnections, "failed", d.p.red))
	}
	if escapes > 0 {
		facts = append(facts, d.p.alarm(count(escapes, "escape")))
	}
	if outside > 0 {
		facts = append(facts, d.p.alarm(count(outside, "access")+" outside"))
	}
	if noise > 0 {
		facts = append(facts, d.p.dim(count(noise, "noise read")+" not listed"))
	}
	d.facts(facts)
}

// facts prints parts with dots between them, on as many lines as they need.
func (d *drawing) facts(parts []string) {
	const gap = " · "
	line, used := "", 0
	for _, part := range parts {
		n := cells(unstyled(part))
		switch {
		case used == 0:
			line, used = part, n
		case d.cut && used+cells(gap)+n > d.width:
			d.print(line)
			line, used = part, n
		default:
			line, used = line+d.p.dim(gap)+part, used+cells(gap)+n
		}
	}
	d.print(line)
}

func (d *drawing) fit(s string) string {
	if d.cut {
		return cut(s, d.width)
	}
	return s
}

func (d *drawing) also(text string, n int64, what string, style func(string) string) string {
	if n == 0 {
		return text
	}
	return text + " (" + style(fmt.Sprintf("%d %s", n, what)) + ")"
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

	headStyle, textStyle, outcomeStyle func(string) string
}

func (d *drawing) row(r row) {
	for _, style := range []*func(string) string{&r.headStyle, &r.textStyle, &r.outcomeStyle} {
		if *style == nil {
			*style = d.p.plain
		}
	}
	hasRight := r.pid != 0 || r.duration != "" || r.outcome != ""
	room := d.width - cells(r.prefix)
	if hasRight {
		room -= d.right
	}
	head, text, tail := r.head, r.text, r.tail
	if d.cut || !r.front {
		head = cut(head, room)
		tail = cut(tail, room-cells(head))
		left := max(0, room-cells(head)-cells(tail))
		if r.front {
			text = cutFront(text, left)
		} else {
			text = cut(text, left)
		}
	}
	line := d.p.dim(r.prefix) + r.headStyle(head) + r.textStyle(text) + r.textStyle(tail)
	if hasRight {
		used := cells(head) + cells(text) + cells(tail)
		right := ""
		if d.pids {
			pid := ""
			if r.pid != 0 {
				pid = strconv.FormatInt(r.pid, 10)
			}
			right = strings.Repeat(" ", gapCells) + padFront(pid, pidCells)
		}
		right += strings.Repeat(" ", gapCells) + padFront(r.duration, durationCells)
		line += strings.Repeat(" ", max(0, room-used)) + d.p.dim(right)
		if d.cut {
			r.outcome = cut(r.outcome, outcomeCells)
		}
		if r.outcome != "" {
			line += strings.Repeat(" ", gapCells) + r.outcomeStyle(r.outcome)
		}
	}
	d.print(strings.TrimRight(line, " "))
}

// node draws n and all below it: first is the prefix of its own row, rest that of the rows below it.
func (d *drawing) node(n *node, prefix, first, rest string) {
	// A program that only started another in its place (env, a wrapper) shares the row of that one.
	via, noise := "", n.noise
	for n.replaced && len(n.items.list) == 0 && len(n.children) == 1 && n.children[0].pid == n.pid && cells(via) < d.width/4 {
		via += n.name + " → "
		n = n.children[0]
		noise += n.noise
	}
	r := d.process(prefix+first, n)
	r.head = via + r.head
	d.row(r)

	below := prefix + rest
	lines := d.items(n, noise)
	for i, r := range lines {
		r.prefix = below + "├─ "
		if i == len(lines)-1 && len(n.children) == 0 {
			r.prefix = below + "└─ "
		}
		d.row(r)
	}
	// Deep trees stop moving right where a third of the row is left for them.
	deep := cells(below) > (d.width-d.right)*2/3-3
	for i, c := range n.children {
		switch {
		case deep:
			d.node(c, below, "» ", "")
		case i == len(n.children)-1:
			d.node(c, below, "└─ ", "   ")
		default:
			d.node(c, below, "├─ ", "│  ")
		}
	}
}

func (d *drawing) process(prefix string, n *node) row {
	r := row{prefix: prefix, head: n.name, pid: n.pid, headStyle: d.p.bold, outcomeStyle: d.p.dim}
	if n.args != "" {
		r.text = " " + n.args
	}
	if n.note != "" {
		r.tail = " [" + n.note + "]"
	}
	switch {
	case n.forked:
		r.head = n.title()
		r.tail = " [forked]"
		return r
	case !n.seen:
		r.head = n.title()
		r.tail = " [start not seen]"
	case n.tool:
		r.headStyle = d.p.cyan
	case r.head == "":
		r.head = "?"
	}
	if n.ended && n.end >= n.start {
		r.duration = duration(n.end - n.start)
	}
	switch {
	case n.tool:
		if n.failed {
			r.outcome, r.outcomeStyle = "failed", d.p.alarm
		}
		r.textStyle = d.p.cyan
	case !n.ended:
		if n.seen {
			r.outcome, r.outcomeStyle = "still running", d.p.yellow
		}
	case n.replaced:
		r.outcome = "exec"
	case n.signal != "":
		r.outcome, r.outcomeStyle = n.signal, d.p.alarm
	case n.hasCode:
		r.outcome = "exit " + strconv.FormatInt(n.code, 10)
		if n.code != 0 {
			r.outcomeStyle = d.p.alarm
		}
	}
	return r
}

// title is the name of a node that has no span of its own.
func (n *node) title() string {
	switch {
	case n.name != "":
		return n.name
	case n.hint != "":
		return escape(base(n.hint))
	}
	return "process"
}

// items gives the rows below a process, by class, each class in the order of time.
func (d *drawing) items(n *node, noise int64) []row {
	var own, reads []*item
	for _, it := range n.items.list {
		switch {
		case !n.forked && it.pid != 0 && n.pid != 0 && it.pid != n.pid: // of a forked child, which has its own row
		case it.class == classRead:
			reads = append(reads, it)
		default:
			own = append(own, it)
		}
	}
	own = append(own, byDirectory(reads, maxReads)...)
	slices.SortFunc(own, byClass)

	var rows []row
	var shown, hidden [classConnect + 1]int64
	limits := [classConnect + 1]int64{classRead: maxReads, classMissing: maxMissing, classConnect: maxConnects,
		classOutside: maxActs, classAccess: maxActs, classNamespace: maxActs, classSocket: maxActs}
	counted := func(n int64, what string) {
		if n > 0 {
			rows = append(rows, row{head: fmt.Sprintf("+%d %s", n, what), headStyle: d.p.dim})
		}
	}
	acts := func() {
		counted(hidden[classOutside], "more accesses outside")
		counted(hidden[classAccess], "more accesses")
		counted(hidden[classNamespace], "more namespaces")
		counted(hidden[classSocket], "more sockets")
		hidden[classOutside], hidden[classAccess], hidden[classNamespace], hidden[classSocket] = 0, 0, 0, 0
	}
	files := func() { // stands between the files and the connections
		counted(hidden[classRead], "more reads")
		counted(hidden[classMissing], "more names that do not exist")
		if len(own) > 0 { // without other rows the sum in the heading is enough
			counted(noise, "loader, library and locale "+word(noise, "read"))
		}
	}
	for _, it := range own {
		if it.class > classSocket {
			acts()
		}
		if it.class == classConnect && shown[classConnect] == 0 {
			files()
		}
		if limit := limits[it.class]; limit > 0 && !it.sensitive && shown[it.class] >= limit {
			hidden[it.class] += it.count
			continue
		}
		if !it.sensitive || it.class == classConnect {
			shown[it.class]++
		}
		rows = append(rows, d.item(n, it))
	}
	acts()
	if shown[classConnect] == 0 {
		files()
	}
	counted(hidden[classConnect], "more connections")
	return rows
}

// byDirectory folds reads into their directories until at most limit are left, the deepest first. What stays
// alone in its directory stays as it is.
func byDirectory(reads []*item, limit int) []*item {
	type place struct {
		dir string // what the item counts to so far: at first itself
		*item
	}
	places := make([]place, len(reads))
	deepest := 0
	for i, it := range reads {
		places[i] = place{strings.TrimSuffix(it.text, "/"), it}
		deepest = max(deepest, depth(places[i].dir))
	}
	for ; len(places) > limit && deepest > 1; deepest-- {
		at := make(map[string]int)
		kept := places[:0]
		for _, p := range places {
			if depth(p.dir) == deepest {
				p.dir = p.dir[:strings.LastIndexByte(p.dir, '/')]
			}
			i, found := at[p.dir]
			if !found {
				at[p.dir] = len(kept)
				kept = append(kept, p)
				continue
			}
			sum := *kept[i].item
			sum.text, sum.folded, sum.verb = p.dir+"/", true, verbRead
			sum.count += p.count
			sum.start = min(sum.start, p.start)
			kept[i].item = &sum
		}
		places = kept
	}
	left := make([]*item, len(places))
	for i, p := range places {
		left[i] = p.item
	}
	return left
}

// depth counts the components of a path.
func depth(file string) int { return strings.Count(file, "/") }

func (d *drawing) item(n *node, it *item) row {
	verb, text := describe(it, n.cwd)
	r := row{head: pad(verb, verbCells), text: text, front: it.class != classConnect, outcome: it.err, headStyle: d.p.dim}
	switch {
	case it.folded:
		r.tail = " (" + count(it.count, "read") + ")"
	case it.count > 1:
		r.tail = " ×" + strconv.FormatInt(it.count, 10)
	}
	switch it.class {
	case classLoss, classEscape:
		r.head, r.text, r.front = escape(it.text), "", false
		r.headStyle = d.p.alarm
	case classOutside:
		r.headStyle, r.textStyle, r.outcomeStyle, r.front = d.p.alarm, d.p.alarm, d.p.red, false
	case classAccess, classNamespace, classSocket:
		r.headStyle, r.outcomeStyle, r.front = d.p.yellow, d.p.yellow, false
		if it.failed {
			r.outcomeStyle = d.p.red
		}
	case classWrite:
		r.headStyle = d.p.green
	case classRefused:
		r.headStyle, r.outcomeStyle = d.p.red, d.p.red
	case classSensitive:
		r.headStyle, r.textStyle = d.p.yellow, d.p.yellow
	case classRead, classMissing:
		r.textStyle, r.outcomeStyle = d.p.dim, d.p.dim
	case classConnect:
		r.headStyle = d.p.cyan
		r.outcomeStyle = d.p.red
		var between string
		r.duration, between, r.outcome = latency(it)
		r.tail += between
		if !it.failed {
			r.outcomeStyle = d.p.yellow
		}
	}
	if it.sensitive && it.class != classSensitive {
		r.tail += " [sensitive]"
	}
	return r
}

// latency is the duration and the outcome of a connection, and where several are one row, the shortest and the longest.
// A point in time has none.
func latency(it *item) (took, between, outcome string) {
	switch {
	case it.pending:
		return "", "", "no answer"
	case it.longest <= 1000:
	case it.count == 1:
		took = duration(it.longest)
	case duration(it.shortest) == duration(it.longest):
		between = " (" + duration(it.longest) + ")"
	default:
		between = " (" + duration(it.shortest) + "–" + duration(it.longest) + ")"
	}
	return took, between, it.err
}

// describe is what happened, as a verb and its object.
func describe(it *item, cwd string) (verb, object string) {
	object = escape(relative(cwd, it.text))
	switch it.class {
	case classOutside, classAccess, classNamespace, classSocket:
		return it.word, it.text
	case classWrite:
		verb = [...]string{verbWrite: "write", verbTruncate: "truncate", verbCreate: "create"}[it.verb]
	case classRefused:
		verb = "refused"
	case classFailed:
		verb = "failed"
	case classSensitive:
		verb = "read"
		object += " [sensitive]"
	case classMissing:
		verb = "missing"
	case classConnect:
		verb = "connect"
	case classRead:
		verb = "read"
		if it.verb == verbPath {
			verb = "path"
		}
	}
	return verb, object
}
