// SPDX-License-Identifier: Apache-2.0

package story

import (
	"fmt"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// changed is what was changed in the end.
func (d *drawing) changed(a span.Attrs, name func(string) string) (parts []part) {
	for _, e := range terminal.Effects(a, name, maxNames) {
		for i := range e.Names {
			if len(e.Names) > 1 {
				e.Names[i] = terminal.CutFront(e.Names[i], maxName)
			}
		}
		p := part{e.Verb + " " + strings.Join(e.Names, ", "), nil}
		switch more := e.Count - int64(len(e.Names)); {
		case e.OneDirectory():
			p.text += fmt.Sprintf(" (%d names)", e.Count)
		case len(e.Names) == 0:
			p.text = fmt.Sprintf("%d %s", e.Count, e.Verb)
		case more > 0: // the number first: it is not cut off
			p.text = fmt.Sprintf("%d %s: %s, …", e.Count, e.Verb, strings.Join(e.Names, ", "))
		}
		if e.Verb == "deleted" || e.Verb == "replaced" {
			p.style = d.p.Yellow
		}
		parts = append(parts, p)
	}
	return parts
}

// hosts are those that it connected to, and how much went over.
func (d *drawing) hosts(a span.Attrs, most int) (parts []part) {
	names, bytes := a.List(span.KeyHostNames), a.List(span.KeyHostBytes)
	in, _ := a.Int(span.KeySumReceived)
	out, _ := a.Int(span.KeySumSent)
	for i, h := range names[:min(len(names), most)] {
		text := d.ascii("→ ") + d.plain(h)
		if i < len(bytes) {
			var over, back int64
			if _, err := fmt.Sscan(bytes[i], &back, &over); err == nil && over+back > 0 {
				text += " (" + traffic(back, over) + ")"
				in, out = in-back, out-over
			}
		}
		parts = append(parts, part{text, d.p.Cyan})
	}
	if n, _ := a.Int(span.KeyHosts); n > int64(len(parts)) {
		text := terminal.Count(n, "host")
		if len(parts) > 0 {
			text = fmt.Sprintf("and %d more", n-int64(len(parts)))
		}
		parts = append(parts, part{text, d.p.Cyan})
	}
	if in+out > 0 {
		text := traffic(max(in, 0), max(out, 0))
		if len(bytes) > 0 {
			text = "elsewhere " + text
		}
		parts = append(parts, part{text, nil})
	}
	return parts
}

func traffic(in, out int64) string { return terminal.Size(in) + " in, " + terminal.Size(out) + " out" }

// left is what a call left running, and where that listens.
func (d *drawing) left(a span.Attrs) (parts []part) {
	n, _ := a.Int(span.KeyCallLeft)
	programs, listens := a.List(span.KeyLeftPrograms), a.List(span.KeyLeftListens)
	if n > 0 {
		text := fmt.Sprintf("left running: %d", n)
		if len(programs) > 0 {
			text = "left running: " + d.plain(strings.Join(programs, ", "))
			if more := n - int64(len(programs)); more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
		}
		parts = append(parts, part{text, d.p.Yellow})
	}
	if len(listens) > 0 {
		parts = append(parts, part{"listens at " + d.plain(strings.Join(listens, ", ")), d.p.Yellow})
	}
	return parts
}

// stillRuns is what the calls of an agent that is not over have left.
func (d *drawing) stillRuns(g *agent) (parts []part) {
	for _, c := range g.calls {
		parts = append(parts, d.left(c.account)...)
	}
	return parts
}
