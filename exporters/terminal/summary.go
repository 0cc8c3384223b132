// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"

	"github.com/sheetbend/sheetbend/collector/span"
)

// summary counts what one sandbox did. A file counts once, whichever processes used it.
type summary struct {
	processes, failed, running     int64
	written, deleted               int64 // files
	read, refused                  int64
	connections, failedConnections int64
	escapes, outside, noise        int64
}

func (se *session) summary() (s summary) {
	seen := make(map[itemKey]bool)
	for _, n := range se.order {
		s.noise += n.noise
		if !n.tool && !n.replaced { // a replaced program's process goes on as another node
			s.processes++
			switch {
			case n.seen && !n.ended:
				s.running++
			case n.failed:
				s.failed++
			}
		}
		for _, it := range n.items.list {
			s.item(it, seen)
		}
	}
	return s
}

func (s *summary) item(it *item, seen map[itemKey]bool) {
	switch it.class {
	case classEscape:
		s.escapes += it.count
		return
	case classConnect:
		if it.action != "" { // a lookup
			return
		}
		s.connections += it.count
		if it.failed {
			s.failedConnections += it.count
		}
		return
	case classOutside:
		s.outside += it.count
		return
	case classMissing, classFailed, classAccess, classNamespace, classProgram, classSocket, classClose:
		return
	}
	k := itemKey{class: it.class, text: it.text, folded: it.folded, deleted: it.deleted}
	if seen[k] {
		return
	}
	seen[k] = true
	switch {
	case it.deleted:
		s.deleted += it.count
	case it.class == classWrite && it.folded:
		s.written += it.count
	case it.class == classWrite:
		s.written++
	case it.class == classRefused:
		s.refused++
	case it.folded:
		s.read += it.count
	default:
		s.read++
	}
}

func (d *drawing) header(se *session) {
	var title []string
	if se.agent != "" {
		title = append(title, d.p.Bold(d.fit(Escape(se.agent))))
	}
	d.parts(append(title, d.fit("session "+Quote(span.Clip(se.id, maxPath))), Duration(se.end-se.start)))

	if d.brief {
		return
	}
	var parts []string
	add := func(n int64, style func(string) string, text string) {
		if n > 0 {
			parts = append(parts, style(text))
		}
	}
	s := se.summary()
	add(se.calls, d.p.Plain, Count(se.calls, "call"))
	processes := d.also(Count(s.processes, "process"), s.failed, "failed")
	if s.running > 0 {
		processes += d.p.Yellow(fmt.Sprintf(", %d still running", s.running))
	}
	files := Count(s.written, "file") + " written, "
	if s.deleted > 0 {
		files += fmt.Sprintf("%d deleted, ", s.deleted)
	}
	files += fmt.Sprintf("%d read", s.read)
	if s.refused > 0 {
		files += ", " + d.p.Red(fmt.Sprintf("%d refused", s.refused))
	}
	parts = append(parts, processes, files)
	add(s.connections, d.p.Plain, d.also(Count(s.connections, "connection"), s.failedConnections, "failed"))
	add(s.escapes, d.p.Alarm, Count(s.escapes, "escape"))
	add(s.outside, d.p.Alarm, Count(s.outside, "access")+" outside")
	add(s.noise, d.p.Dim, Count(s.noise, "noise read")+" not listed")
	d.parts(parts)
}

// parts prints them with dots between, on as many lines as they need.
func (d *drawing) parts(parts []string) {
	const gap = " · "
	line, used := "", 0
	for _, part := range parts {
		n := Cells(unstyled(part))
		switch {
		case used == 0:
			line, used = part, n
		case d.cut && used+Cells(gap)+n > d.width:
			d.print(line)
			line, used = part, n
		default:
			line, used = line+d.p.Dim(gap)+part, used+Cells(gap)+n
		}
	}
	d.print(line)
}

func (d *drawing) also(text string, n int64, what string) string {
	if n == 0 {
		return text
	}
	return text + " (" + d.p.Red(fmt.Sprintf("%d %s", n, what)) + ")"
}
