// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"strings"
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

// place finds the spot of a span of a program in a cgroup, which are nil if it is of none; bytes are those of its own
// texts.
func (c *Spans) place(sb *attribution.Sandbox, w attribution.Owner, i *lineage.Program, g *lineage.Cgroup, bytes int) spot {
	bytes += baseWeight + weightOfOwner(sb, w)
	if i != nil {
		bytes += weightOfProgram(i)
	}
	if g != nil {
		bytes += weightOf(g.Path)
	}
	t, k := sb.TracesOf(w), w.Call
	at := spot{trace: c.slicer.Place(t, bytes)}
	switch {
	case k == nil:
		at.top = c.topOfAgent(sb, w, at)
	case k.Links.Top.Trace == at.trace:
		at.top = k.Links.Top.Span
	case k.Links.Joined && k.Sent.Noticed && k.Own().Trace == at.trace: // a notice has told of it before
		at.top = k.Own().Span
	default:
		at.top = span.ToolSpan(t.Instance(), t.Call(), t.Number+1)
		if !t.Rooted {
			t.Rooted = true
			c.sendCallStandIn(k, at)
		}
	}
	if i != nil {
		at.parent, at.above = c.under(sb, w, i, at), i.Span
		i.Below++
	}
	return at
}

// topOfAgent gives what all else in a trace of what an agent does itself stands under: its first program, or what stands
// for that. None of who marks calls for others.
func (c *Spans) topOfAgent(sb *attribution.Sandbox, w attribution.Owner, at spot) span.ID {
	if w.Agent == nil {
		return span.ID{}
	}
	s := storyOf(w)
	if s == nil || s.first == nil {
		return span.ID{}
	}
	if top := c.under(sb, w, s.first, at); top.Trace == at.trace {
		return top.Span
	}
	if s.top.Trace != at.trace { // it is of the call that a mark has put it in
		s.top = c.sendStandIn(sb, w, s.first, at)
	}
	return s.top.Span
}

// weightOfOwner is what the names of an owner take. Those that are not known yet may be when the span goes out, and take
// as much as they may.
func weightOfOwner(sb *attribution.Sandbox, w attribution.Owner) int {
	bytes := len(sb.SessionOf(w).SessionName) + len(sb.ID)
	if w.Agent != nil && w.Agent.OwnID == "" {
		bytes += attribution.MaxName
	}
	if k := w.Call; k != nil {
		bytes += max(len(k.ID), attribution.MaxName) + attribution.MaxTool
		if k.Inside != nil {
			bytes += len(k.Inside.Server)
		}
		if k.Nested {
			bytes += attribution.MaxName
		}
		if k.Thread != nil {
			bytes += 2*len(k.Thread.Parent) + len(k.Thread.Call)
		}
		if w.Left {
			bytes += max(len(k.ID), attribution.MaxName)
		}
	}
	if w.Taint != nil || w.Call != nil && w.Call.Taint != nil {
		bytes += attribution.MaxName
	}
	if outer := w.Within(); outer.Agent != nil {
		root := w.Outermost()
		bytes += len(sb.SessionOf(outer).SessionName) + len(sb.SessionOf(root).SessionName)
		for _, k := range []*attribution.Call{outer.Call, root.Call} {
			if k != nil {
				bytes += max(len(k.ID), attribution.MaxName)
			}
		}
	}
	return bytes
}

// weightOfProgram is what the texts take that each span of a program has.
func weightOfProgram(i *lineage.Program) int {
	if i.Weight == 0 {
		i.Weight = weightOf(i.Shown) + weightOf(i.Name) + weightOf(i.Parent)
	}
	return i.Weight
}

// reserve keeps room beside a span that was placed for its notice: that goes out at a tick, which may have thousands.
func (c *Spans) reserve(sb *attribution.Sandbox, w attribution.Owner, bytes int) {
	c.slicer.Place(sb.TracesOf(w), baseWeight+weightOfOwner(sb, w)+bytes)
}

// under is what the span of a program's doing stands under: the program's span or, where that is in an earlier slice of
// the same traces, what stands for it in this one.
func (c *Spans) under(sb *attribution.Sandbox, w attribution.Owner, i *lineage.Program, at spot) span.Link {
	own := span.Link{Trace: i.Trace, Span: i.Span}
	if i.Span == (span.ID{}) || i.Trace == at.trace || sb.TracesOf(i.Owner) != sb.TracesOf(w) {
		return own
	}
	if i.StandIn.Trace != at.trace {
		i.StandIn = c.sendStandIn(sb, w, i, at)
	}
	return i.StandIn
}

// sendStandIn sends what stands for a program in another trace than its own.
func (c *Spans) sendStandIn(sb *attribution.Sandbox, w attribution.Owner, i *lineage.Program, at spot) span.Link {
	is := span.Link{Trace: at.trace, Span: span.StandInSpan(c.config.BootID, i.ID, at.trace)}
	c.slicer.Place(sb.TracesOf(w), baseWeight+weightOfProgram(i)+weightOfOwner(sb, w))
	own := span.Link{Trace: i.Trace, Span: i.Span}
	i.Below++ // it is led to
	d := c.out.start(span.Exec, sb, w, is.Span, spot{at.trace, own, at.top, i.Span}, i.Start, i.Start)
	d.process(i.ID.Tgid, c.wallTime(i.ID.Start), i, nil)
	d.standIn()
	c.out.send()
	return is
}

// sendCallStandIn sends what stands for a call in another trace than that of its first span.
func (c *Spans) sendCallStandIn(k *attribution.Call, at spot) {
	w := attribution.Owner{Agent: k.Agent, Call: k}
	c.slicer.Place(&k.Traces, baseWeight+weightOfOwner(k.Agent.Sandbox, w))
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

// weightOfExec is what the texts of the start of a program take, but for those that each span of it has: of the
// arguments in the list, and on the command line with its quotes.
func weightOfExec(x *lineage.ExecStart) int {
	args, n := weightOf(x.Args), min(strings.Count(x.Args, "\x00"), maxArgs)
	bytes := min(args+n*argCost, maxArgBytes) + min(4*args+3*n, MaxCommandLine)
	bytes += 2*weightOf(x.Filename) + weightOf(x.Cwd) + weightOf(x.Cgroup.Path)
	if d := x.Denied; d != nil {
		bytes += weightOf(d.Session) + weightOf(d.Call) + weightOf(d.Traceparent)
	}
	return bytes
}

// PlaceProgram finds the spot of the span of a program that starts below another one, if that is known; again, when it
// turns out to be another owner's. Then it stays where it is if its notice or something under it is there.
func (c *Spans) PlaceProgram(x *lineage.ExecStart, before *lineage.Program) {
	i := x.Program
	c.command(x, before)
	if a := x.Process.Agent; a != nil && a.First == i.ID {
		if s := storyOf(attribution.Owner{Agent: a}); s != nil {
			s.first = nil // nothing is above it
			defer func() { s.first = i }()
		}
	}
	if i.Below > 0 || x.Noticed {
		return
	}
	if before != nil && before.Span == (span.ID{}) {
		before = nil
	}
	weight := weightOfExec(x) + weightOfProgram(i)
	at := c.place(&x.Process.Sandbox.Sandbox, i.Owner, before, nil, weight+weightOfNet(i))
	c.reserve(&x.Process.Sandbox.Sandbox, i.Owner, weight)
	i.Trace, x.Top = at.trace, at.top
	if sb := x.Process.Sandbox; before == nil && i.Owner.Agent == nil && sb.Root == nil {
		sb.Root = i
		c.toldOf(&sb.Sandbox).workspace = workspaceAt(x.Cwd)
	}
	if before != nil {
		x.Parent, x.Above = at.parent, at.above
	}
}
