// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Follow is a span.Sink that prints a line for each span when it comes: when it is complete, or when its hold ran
// out. So a program that runs long has its line after the first ones of its children, and another one for its end. What
// comes at once is in order; each line begins with its time since Begin.
type Follow struct {
	d     *drawing
	begin atomic.Uint64 // ns since 1970; 0: not known yet
	lines []line        // since the last Flush
	told  calls
}

type line struct {
	at   uint64
	draw func(begin uint64)
}

// maxLines bounds what waits to be put in order.
const maxLines = 4096

// NewFollow returns a Follow that prints to w. After a write error it is silent.
func NewFollow(w io.Writer, o Options) *Follow {
	return &Follow{d: newDrawing(w, o)}
}

// Begin sets the time that lines count from; without it, it is that of the first line.
func (f *Follow) Begin(at time.Time) { f.begin.CompareAndSwap(0, uint64(at.UnixNano())) }

// Flush implements span.Sink.
func (f *Follow) Flush() {
	slices.SortStableFunc(f.lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	if len(f.lines) > 0 {
		f.begin.CompareAndSwap(0, f.lines[0].at)
	}
	for _, l := range f.lines {
		l.draw(f.begin.Load())
	}
	clear(f.lines)
	f.lines = f.lines[:0]
	_ = f.d.w.Flush() // the writer keeps the error and does nothing from then on
}

// Span implements span.Sink.
func (f *Follow) Span(s *span.Span) {
	if s.StandIn {
		return
	}
	a := span.Attrs(s.Attrs)
	noticed := a.Is(span.KeyNoticed) // it has had its line
	if noticed && a.Is(span.KeyPartial) || a.Is(span.KeyStandIn) {
		return
	}
	pid, _ := a.Int(span.KeyPID)
	program := short(a, span.KeyExecutableName)
	number := ""
	if pid != 0 {
		number = strconv.FormatInt(pid, 10)
	}
	who := "  " + PadFront(number, pidCells) + " " + Pad(Cut(program, 12), 12) + " "
	if f.d.width < narrow {
		who = " "
	}

	d := f.d
	// A row of its own kind for a process, else that of the tree without a parent.
	var r row
	switch s.Kind {
	case span.Exec, span.Start, span.Exit:
		n := node{seen: true, start: s.Start}
		n.name, n.args = command(a)
		if s.Kind != span.Start && !a.Is(span.KeyPartial) {
			n.finish(s, a)
		}
		verb := "exec"
		if s.Kind == span.Exit || noticed {
			verb, n.args = "exit", ""
		}
		r = d.process("", &n)
		r.head, r.text = Pad(verb, verbCells), r.head+r.text
		r.headStyle, r.textStyle = d.p.Bold, d.p.Plain
	case span.Tool, span.ToolEnd, span.SessionCall:
		if s.Kind == span.Tool && a.Is(span.KeyPartial) {
			r = row{head: Pad("call", verbCells), headStyle: d.p.Cyan, text: callTitle(a)}
			break
		}
		if !f.told.isFirst(s, a) {
			return
		}
		r = d.done(s, a, f.told.ending(s, a))
	case span.ToolStart, span.Telemetry:
		r = row{head: Pad("call", verbCells), headStyle: d.p.Cyan, text: callTitle(a)}
		if s.Kind == span.Telemetry {
			r.head, r.text = Pad("report", verbCells), callName(a)
		}
	case span.Session, span.SessionEnd, span.SandboxEnd:
		r = d.story(s, a)
	default:
		it := newItem(s, a)
		if it.isNowhere() {
			return
		}
		r = d.item(&node{}, &it)
	}
	at := s.Start
	if s.Kind == span.Exit || noticed || r.done {
		at = s.End
	}
	f.add(at, who, r)
	if s.Kind == span.Exec && f.told.ended(s, a) {
		f.add(s.End, who, d.done(s, a, ending(a)))
	}
}

// add has a row wait for its turn.
func (f *Follow) add(at uint64, who string, r row) {
	r.pid = 0 // it stands on the left
	if len(f.lines) == maxLines {
		f.Flush()
	}
	f.lines = append(f.lines, line{at, func(begin uint64) {
		r.prefix = since(begin, at) + who
		f.d.row(r)
	}})
}

// story is the row of a span of an agent's story.
func (d *drawing) story(s *span.Span, a span.Attrs) row {
	r := row{headStyle: d.p.Cyan, duration: Duration(s.End - s.Start)}
	switch s.Kind {
	case span.SandboxEnd:
		r.head, r.text = "over", strings.Join(changes(a, ""), ", ")
	case span.SessionEnd:
		r.head, r.text = "over", short(a, span.KeyAgentName)
	default:
		r.head, r.text = "agent", short(a, span.KeyAgentName)
		if line := a.Text(span.KeyCommandLine); line != "" {
			r.text = Escape(span.Clip(line, maxWord))
		}
		if a.Is(span.KeyPartial) {
			r.duration = ""
		}
	}
	r.head = Pad(r.head, verbCells)
	return r
}

// since is the time from a to b in seconds; a span may have begun before the one that came first.
func since(a, b uint64) string {
	sign, ns := "+", b-a
	if b < a {
		sign, ns = "-", a-b
	}
	return fmt.Sprintf("%9s", fmt.Sprintf("%s%d.%03d", sign, ns/1e9, ns/1e6%1000))
}
