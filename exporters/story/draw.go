// SPDX-License-Identifier: Apache-2.0

package story

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

const (
	defaultWidth = 100
	leastWidth   = 40
	narrow       = 72 // below this width a call has no time
	outcomeCells = 13
	tookCells    = 8
	labelCells   = 9
	gap          = "  "
	maxFirst     = 6  // notable lines of an agent
	maxLines     = 3  // of what a call or an agent did
	maxNotable   = 3  // of these, sentences about what is notable in a call
	maxNames     = 3  // of each kind of change
	maxName      = 36 // columns of a path: several stand in one line
	maxHosts     = 6
	maxDepth     = 4 // of agents in agents that are indented
)

type style func(string) string

// A part is a text that is safe to print.
type part struct {
	text  string
	style style
}

// A drawing draws one story.
type drawing struct {
	*Story
	w     *bufio.Writer
	p     terminal.Palette
	width int
	zone  *time.Location
}

// Render draws what came so far. It may be called again when more spans have come.
func (t *Story) Render(w io.Writer) error {
	d := &drawing{Story: t, w: bufio.NewWriter(w), p: terminal.Palette(t.o.Color), width: cmp.Or(t.o.Width, defaultWidth), zone: t.o.Zone}
	d.width = max(d.width, leastWidth)
	if d.zone == nil {
		d.zone = time.Local
	}
	roots := t.arrange()
	blank := false
	for _, g := range t.sandboxes {
		if len(t.agents) == 0 || g.matters() {
			roots = append(roots, g)
		}
	}
	for _, g := range roots {
		if blank {
			d.print()
		}
		blank = true
		d.agent(g, "", 0)
	}
	if t.beyond > 0 {
		d.print(part{terminal.Count(int64(t.beyond), "more agent"), d.p.Yellow})
	}
	return d.w.Flush()
}

// matters says whether what is no agent's did more than start programs and read: what starts an agent does that.
func (g *agent) matters() bool {
	for _, x := range g.account {
		switch {
		case x.Key == span.KeyFilesRead || x.Key == span.KeyFilesByName || x.Key == span.KeyFilesTemporary:
		case strings.HasPrefix(x.Key, "sheetbend.files.") || x.Key == span.KeyHosts || x.Key == span.KeyNotables || x.Key == span.KeyLost:
			return true
		}
	}
	return false
}

// arrange puts calls in order and agents below the call, or else the agent, that they were started in.
func (t *Story) arrange() (roots []*agent) {
	above := make(map[span.ID]*agent)
	for _, g := range t.agents {
		clear(g.nested)
		slices.SortStableFunc(g.calls, func(a, b *call) int {
			return cmp.Or(cmp.Compare(a.start, b.start), slices.Compare(a.id[:], b.id[:]))
		})
		above[g.id] = g
		for _, c := range g.calls {
			above[c.id] = g
		}
	}
	delete(above, span.ID{})
	for _, g := range t.agents {
		if outer := above[g.above]; outer != nil && !below(outer, g, above) {
			outer.nested[g.above] = append(outer.nested[g.above], g)
		} else {
			roots = append(roots, g)
		}
	}
	return roots
}

// below says whether one is started in the other, however far up.
func below(g, outer *agent, above map[span.ID]*agent) bool {
	for range maxAgents {
		if g == nil || g == outer {
			return g != nil
		}
		g = above[g.above]
	}
	return true
}

// print prints parts one after the other.
func (d *drawing) print(parts ...part) {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(d.styled(p))
	}
	line := strings.TrimRight(b.String(), " ")
	if d.o.ASCII {
		line = terminal.ASCII(line)
	}
	_, _ = d.w.WriteString(line + "\n") // the writer keeps the error for Flush
}

func (d *drawing) styled(p part) string {
	if p.style == nil {
		return p.text
	}
	return p.style(p.text)
}

// plain is a text from spans, safe to print.
func (d *drawing) plain(s string) string { return d.ascii(terminal.Escape(s)) }

// ascii has a text in the characters that it is printed in, so that its width is known.
func (d *drawing) ascii(s string) string {
	if d.o.ASCII {
		return terminal.ASCII(s)
	}
	return s
}

// wrap prints parts with dots between, behind a prefix, on at most so many lines; those below the first begin with rest.
func (d *drawing) wrap(first, rest part, parts []part, lines int) {
	if len(parts) == 0 {
		return
	}
	dot := part{d.ascii(" · "), d.p.Dim}
	room := max(d.width-terminal.Cells(first.text), leastWidth/2)
	line, used := []part{first}, 0
	for i, p := range parts {
		p.text = d.ascii(p.text)
		more := ""
		if left := len(parts) - i - 1; lines == 1 && left > 0 {
			more = d.ascii(fmt.Sprintf(" · … and %d more", left))
		}
		n := terminal.Cells(p.text)
		switch {
		case used == 0:
		case used+len(" · ")-1+n+terminal.Cells(more) <= room:
			line = append(line, dot)
			used += terminal.Cells(dot.text)
		case lines == 1:
			line = append(line, part{d.ascii(fmt.Sprintf(" · … and %d more", len(parts)-i)), d.p.Dim})
			d.print(line...)
			return
		default:
			d.print(line...)
			line, used = []part{rest}, 0
			lines--
		}
		p.text = terminal.Cut(p.text, room-used)
		line = append(line, p)
		used += terminal.Cells(p.text)
	}
	d.print(line...)
}

// agent draws one, and those that were started in it.
func (d *drawing) agent(g *agent, indent string, depth int) {
	w := d.where[g.sandbox]
	if w == nil {
		w = &sandbox{}
	}
	directory := cmp.Or(g.account.Text(span.KeyWorkspace), w.directory)
	name := d.namer(directory)
	d.heading(g, w, directory, indent)
	label := func(s string) part { return part{indent + terminal.Pad(s, labelCells) + gap, d.p.Dim} }
	empty := part{indent + strings.Repeat(" ", labelCells) + gap, nil}
	if changed := d.changed(g.account, name); len(changed) > 0 {
		d.wrap(label("changed"), empty, changed, maxLines)
	}
	if hosts := d.hosts(g.account, maxHosts); len(hosts) > 0 {
		d.wrap(label("hosts"), empty, hosts, maxLines-1)
	}
	switch runs := d.stillRuns(g); {
	case g.account.Is(span.KeyPartial):
		if len(runs) == 0 {
			runs = []part{{"something of it", d.p.Yellow}}
		}
		d.wrap(label("runs on"), empty, runs, maxLines)
	case !g.over:
		text := "something of it still runs, or the sensor was stopped before its end"
		d.wrap(label("no end"), empty, append([]part{{text, d.p.Yellow}}, runs...), maxLines)
	}
	d.first(g, label, empty)
	if len(g.calls) > 0 {
		d.print(part{indent, nil})
	}
	numbers := len(strconv.Itoa(len(g.calls)))
	for i, c := range g.calls {
		d.call(g, c, directory, indent, terminal.PadFront(strconv.Itoa(i+1), max(numbers, 2)))
		d.below(g, c.id, indent, depth)
	}
	if g.beyond > 0 {
		text := fmt.Sprintf("… and %s without a line here", terminal.Count(int64(g.beyond), "more call"))
		if g.wrong > 0 {
			text += fmt.Sprintf(", %d of them failed", g.wrong)
		}
		d.print(part{indent + d.ascii(text), d.p.Yellow})
	}
	d.below(g, g.id, indent, depth)
}

// below draws the agents that were started in a call, or by an agent itself.
func (d *drawing) below(g *agent, id span.ID, indent string, depth int) {
	for _, n := range g.nested[id] {
		if depth < maxDepth {
			indent := indent + d.ascii("    │ ")
			d.print(part{indent, nil})
			d.agent(n, indent, depth+1)
		} else {
			d.agent(n, indent, depth+1)
		}
	}
}

// heading says who, where, when, how many calls, and what was lost.
func (d *drawing) heading(g *agent, w *sandbox, directory, indent string) {
	parts := []part{{d.plain(cmp.Or(g.name, "sandbox")), d.p.Bold}}
	if g.id == (span.ID{}) && g.calls == nil && d.Agents() > 0 {
		parts[0].text += " (in no agent)"
	}
	if directory != "" {
		parts = append(parts, part{d.home(directory), nil})
	}
	parts = append(parts, part{d.when(g), nil})
	if g.session != "" {
		parts = append(parts, part{"session " + terminal.Quote(d.plain(g.session)), d.p.Dim})
	}
	lead := part{indent, nil}
	d.wrap(lead, lead, parts, maxLines)
	d.wrap(lead, lead, slices.Concat(d.counts(g), []part{d.lost(g, w)}, d.sums(g)), maxLines)
}

// when is from when to when, with the time zone in which all times are told.
func (d *drawing) when(g *agent) string {
	at := time.Unix(0, int64(g.start)).In(d.zone)
	text := at.Format("2006-01-02 15:04:05")
	if !g.over {
		return d.ascii("since " + text + at.Format(" MST"))
	}
	end := time.Unix(0, int64(g.end)).In(d.zone)
	form := "15:04:05"
	if end.Format(time.DateOnly) != at.Format(time.DateOnly) {
		form = "2006-01-02 15:04:05"
	}
	return d.ascii(text + "–" + end.Format(form+" MST") + ", " + terminal.Duration(g.end-g.start))
}

// counts are how many calls an agent made, and how they came out; while its account has not come, those that are here.
func (d *drawing) counts(g *agent) (parts []part) {
	calls, known := g.account.Int(span.KeyCalls)
	failed, _ := g.account.Int(span.KeyCallsFailed)
	denied, _ := g.account.Int(span.KeyCallsDenied)
	if !known {
		calls, failed = int64(len(g.calls)+g.beyond), int64(g.wrong)
		for _, c := range g.calls {
			if c.failed {
				failed++
			}
			if c.denied() {
				denied++
			}
		}
	}
	switch {
	case calls > 0:
		parts = append(parts, part{terminal.Count(calls, "call"), nil})
	case g.id != (span.ID{}):
		parts = append(parts, part{"no calls", nil})
	}
	if failed > 0 {
		parts = append(parts, part{fmt.Sprintf("%d failed", failed), d.p.Alarm})
	}
	if denied > 0 {
		parts = append(parts, part{fmt.Sprintf("%d denied", denied), d.p.Yellow})
	}
	return parts
}

// sums are the numbers of what was done.
func (d *drawing) sums(g *agent) (parts []part) {
	a := g.account
	if n, _ := a.Int(span.KeyPrograms); n > 0 {
		text := terminal.Count(n, "program")
		if failed, _ := a.Int(span.KeyProgramsFailed); failed > 0 {
			text += fmt.Sprintf(" (%d failed)", failed)
		}
		parts = append(parts, part{text, nil})
	}
	if n, _ := a.Int(span.KeyFilesRead); n > 0 {
		parts = append(parts, part{terminal.Count(n, "read"), nil})
	}
	if n, _ := a.Int(span.KeyFilesRefused); n > 0 {
		parts = append(parts, part{fmt.Sprintf("%d refused", n), d.p.Red})
	}
	if n, _ := a.Int(span.KeySumCPU); n > 0 {
		text := "CPU " + terminal.Duration(uint64(n))
		if peak, _ := a.Int(span.KeySumMemory); peak > 0 {
			text += ", at most " + terminal.Size(peak) + " of memory"
		}
		parts = append(parts, part{text, nil})
	}
	if a.Is(span.KeyCountPartial) {
		parts = append(parts, part{"the sensor was started again meanwhile: there may be more", d.p.Yellow})
	}
	return parts
}

// lost says how many records were lost, of the agent, or while its account has not come of its sandbox.
func (d *drawing) lost(g *agent, w *sandbox) part {
	n, _ := g.account.Int(span.KeyLost)
	if g.account == nil {
		n = w.lost
	}
	if n == 0 {
		return part{"nothing lost", d.p.Dim}
	}
	text := "LOST " + terminal.Count(n, "record")
	if len(w.causes) > 0 {
		text += " (" + strings.ReplaceAll(d.plain(strings.Join(w.causes, ", ")), "_", " ") + ")"
	}
	return part{text + ": not all is told here", d.p.Alarm}
}

// namer makes paths short and safe to print: seen from a directory, and from the home of who looks.
func (d *drawing) namer(directory string) func(string) string {
	return func(file string) string {
		short := terminal.Relative(directory, file)
		if short == file {
			return d.home(file)
		}
		return d.ascii(terminal.Name(strings.TrimPrefix(short, "./")))
	}
}

// home makes a path safe to print, seen from the home of who looks.
func (d *drawing) home(file string) string {
	if short := terminal.Relative(d.o.Home, file); short != file {
		file = "~" + strings.TrimPrefix(short, ".")
	}
	return d.ascii(terminal.Name(file))
}

func (c *call) denied() bool {
	return c.account.Is(span.KeyApprovalViolated) || span.Outcome(c.account.Text(span.KeyOutcome)) == span.Refused
}

// outcome is how a call ended.
func (d *drawing) outcome(c *call) part {
	a := c.account
	signal := a.Text(span.KeyCallExitSignal)
	code, coded := a.Int(span.KeyCallExitCode)
	switch {
	case a.Is(span.KeyApprovalViolated):
		return part{"DENIED, RAN", d.p.Alarm}
	case c.denied():
		return part{"denied", d.p.Yellow}
	case a.Is(span.KeyPartial):
		return part{"not over", d.p.Yellow}
	case a.Is(span.KeyCallOOM):
		return part{"out of memory", d.p.Alarm}
	case signal != "":
		return part{d.plain(signal), d.p.Alarm}
	case coded && code != 0:
		return part{fmt.Sprintf("exit %d", code), d.p.Alarm}
	case c.failed:
		return part{"failed", d.p.Alarm}
	case span.Outcome(a.Text(span.KeyOutcome)) == span.OK:
		return part{"ok", d.p.Dim}
	}
	return part{}
}

// title is a title of a call, with paths seen from a directory where they stand alone.
func (d *drawing) title(s, directory string) string {
	if len(directory) > 1 {
		s = strings.ReplaceAll(s, " "+directory+"/", " ./")
	}
	return d.plain(s)
}

// call draws a call: its row, and what it did.
func (d *drawing) call(g *agent, c *call, directory, indent, number string) {
	name := d.namer(directory)
	lead := indent + number + gap
	if d.width >= narrow {
		lead += time.Unix(0, int64(c.start)).In(d.zone).Format(time.TimeOnly) + gap
	}
	title := d.title(cmp.Or(c.account.Text(span.KeyCallTitle), c.account.Text(span.KeyToolName), "unknown"), directory)
	if c.session != g.session && c.account.Text(span.KeyParentSession) != "" {
		title = d.ascii("└ ") + title // a subagent's
	}
	outcome := d.outcome(c)
	outcome.text = terminal.Cut(outcome.text, outcomeCells)
	room := max(d.width-terminal.Cells(lead)-outcomeCells-tookCells-2*len(gap), leastWidth/4)
	title = terminal.Pad(terminal.Cut(title, room), room)
	took := ""
	if c.end-c.start > 1000 { // else a point in time
		took = d.ascii(terminal.Duration(c.end - c.start))
	}
	took = terminal.PadFront(took, tookCells)
	d.print(part{lead, d.p.Dim}, part{title, d.p.Bold}, part{gap, nil},
		part{took, d.p.Dim}, part{gap, nil}, outcome)

	rest := part{strings.Repeat(" ", max(0, terminal.Cells(lead)-terminal.Cells(indent))), nil}
	rest.text = indent + rest.text
	for _, p := range d.notables(c.account) {
		p.text = terminal.Cut(p.text, d.width-terminal.Cells(rest.text))
		d.print(rest, p)
	}
	parts := d.changed(c.account, name)
	parts = append(parts, d.hosts(c.account, maxNames)...)
	parts = append(parts, d.left(c.account)...)
	if n, _ := c.account.Int(span.KeyFilesRefused); n > 0 {
		parts = append(parts, part{fmt.Sprintf("%d refused", n), d.p.Red})
	}
	d.wrap(rest, rest, parts, maxLines-1)
}
