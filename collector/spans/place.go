// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A spot is where a span stands: the record that begins the span decides that.
type spot struct {
	trace  span.TraceID
	parent span.Link // perhaps in another trace; zero: none
	top    span.ID   // of a call: what stands for it in the trace
	above  span.ID   // the span of parent's program, where parent stands in for that
}

// baseWeight is what a span takes in a trace besides its texts, in encoded bytes: keys, numbers and ids.
const baseWeight = 1100

// weightOf is what a text takes. What is no UTF-8 may grow to the double when it is repaired.
func weightOf[T string | []byte](s T) int {
	if len(s) > 0 && !utf8.ValidString(string(s)) {
		return 2 * len(s)
	}
	return len(s)
}

// place finds the spot of a span of a program, which is nil if it is of none; bytes are those of its own texts.
func (c *Spans) place(sb *attribution.Sandbox, w attribution.Owner, i *lineage.Program, bytes int) spot {
	bytes += baseWeight + len(sb.SessionOf(w).SessionName) + len(sb.ID)
	if i != nil {
		bytes += i.Weight
	}
	if outer := w.Within(); outer.Agent != nil {
		bytes += len(sb.SessionOf(outer).SessionName) + len(sb.SessionOf(w.Outermost()).SessionName)
		if outer.Call != nil {
			bytes += 2 * len(outer.Call.ID)
		}
	}
	t, k := sb.TracesOf(w), w.Call
	if k != nil {
		bytes += len(k.ID) + len(k.Tool)
	}
	at := spot{trace: c.slicer.Place(t, bytes)}
	switch {
	case k == nil:
	case k.Links.Top.Trace == at.trace:
		at.top = k.Links.Top.Span
	default:
		at.top = span.ToolSpan(t.Instance(), t.Call(), t.Number+1)
		if !t.Rooted {
			t.Rooted = true
			c.sendCallStandIn(k, at)
		}
	}
	if i != nil {
		at.parent, at.above = c.under(sb, w, i, at), i.Span
	}
	return at
}

// reserve keeps room beside a span that was placed for its notice: that goes out at a tick, which may have thousands.
func (c *Spans) reserve(sb *attribution.Sandbox, w attribution.Owner, bytes int) {
	c.slicer.Place(sb.TracesOf(w), baseWeight+bytes)
}

// under is what the span of a program's doing stands under: the program's span or, where that is in an earlier slice of
// the same traces, what stands for it in this one.
func (c *Spans) under(sb *attribution.Sandbox, w attribution.Owner, i *lineage.Program, at spot) span.Link {
	own := span.Link{Trace: i.Trace, Span: i.Span}
	if i.Span == (span.ID{}) || i.Trace == at.trace || sb.TracesOf(i.Owner) != sb.TracesOf(w) {
		return own
	}
	id := span.StandInSpan(c.config.BootID, i.ID, at.trace)
	if i.StandIn != at.trace {
		i.StandIn = at.trace
		c.slicer.Place(sb.TracesOf(w), baseWeight+i.Weight)
		d := c.out.start(span.Exec, sb, w, id, spot{at.trace, own, at.top, i.Span}, i.Start, i.Start)
		d.process(i.ID.Tgid, c.wallTime(i.ID.Start), i, nil)
		c.out.displayName("exec", i.Name)
		d.standIn()
		c.out.send()
	}
	return span.Link{Trace: at.trace, Span: id}
}

// sendCallStandIn sends what stands for a call in another trace than that of its first span.
func (c *Spans) sendCallStandIn(k *attribution.Call, at spot) {
	c.slicer.Place(&k.Traces, baseWeight)
	w := attribution.Owner{Agent: k.Agent, Call: k}
	d := c.out.start(span.Tool, k.Agent.Sandbox, w, at.top, spot{trace: at.trace}, k.Life.Began, k.Life.Began)
	d.span.Links = append(d.span.Links, topOf(k))
	d.text(span.KeyGenAIToolName, cmp.Or(k.Tool, "unknown"))
	d.text(span.KeyOperationName, "execute_tool")
	d.text(span.KeyGenAIAgentName, k.Agent.Name)
	d.standIn()
	c.out.send()
}

// standIn says that the span stands for another one.
func (d *builder) standIn() {
	d.span.StandIn = true
	d.flag(span.KeyStandIn)
}

// weightOfExec is what the texts of the start of a program take, but for those that each span of it has.
func weightOfExec(x *lineage.ExecStart) int {
	args := 3 * min(weightOf(x.Args), maxArgBytes) // in the list, on the command line and its quotes
	return args + weightOf(x.Filename) + weightOf(x.Cwd)
}

// PlaceProgram finds the spot of the span of a program that starts below another one, if that is known; again, when it
// turns out to be another owner's.
func (c *Spans) PlaceProgram(x *lineage.ExecStart, before *lineage.Program) {
	i := x.Program
	c.command(x, before)
	if before != nil && before.Span == (span.ID{}) {
		before = nil
	}
	weight := weightOfExec(x) + i.Weight
	at := c.place(&x.Process.Sandbox.Sandbox, i.Owner, before, weight)
	c.reserve(&x.Process.Sandbox.Sandbox, i.Owner, weight)
	i.Trace, x.Top = at.trace, at.top
	if before != nil {
		x.Parent, x.Above = at.parent, at.above
	}
}
