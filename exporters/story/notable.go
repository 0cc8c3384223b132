// SPDX-License-Identifier: Apache-2.0

package story

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// first draws what to look at first, gravest first as the account has it: all that is notable but for new destinations,
// which stand above and in their calls. While there is no account it is what the calls have.
func (d *drawing) first(g *agent, label func(string) part, rest part) {
	lines, hosts := g.account.List(span.KeyNotableLines), g.account.List(span.KeyHostNames)
	all, known := g.account.Int(span.KeyNotables)
	in := make(map[string][]string)
	for i, c := range g.calls {
		for _, line := range c.account.List(span.KeyNotableLines) {
			if in[line] = append(in[line], strconv.Itoa(i+1)); !known && len(in[line]) == 1 {
				lines = append(lines[:len(lines):len(lines)], line)
			}
		}
		if n, _ := c.account.Int(span.KeyNotables); !known {
			all += n
			hosts = append(hosts[:len(hosts):len(hosts)], c.account.List(span.KeyHostNames)...)
		}
	}
	lines, more := toldOf(lines, hosts, all, maxFirst)
	for i, line := range lines {
		lead := rest
		if i == 0 {
			lead = label("look at")
		}
		text := "[!] " + d.notable(line)
		switch calls := in[line]; len(calls) {
		case 0:
		case 1:
			text += " (call " + calls[0] + ")"
		default:
			text += d.ascii(fmt.Sprintf(" (call %s and %d more)", calls[0], len(calls)-1))
		}
		d.print(lead, part{terminal.Cut(text, d.width-terminal.Cells(lead.text)), d.p.Yellow})
	}
	if more > 0 {
		lead := rest
		if len(lines) == 0 {
			lead = label("look at")
		}
		text := fmt.Sprintf("… and %d more", more)
		if kinds := g.account.List(span.KeyNotableCounts); len(kinds) > 0 {
			text = fmt.Sprintf("… of %d: %s", all, strings.Join(kinds, ", "))
		}
		d.print(lead, part{terminal.Cut(d.plain(text), d.width-terminal.Cells(lead.text)), d.p.Yellow})
	}
}

// toldOf gives the first of notable lines that tell more than of a host that is listed, and how many of all there are
// besides.
func toldOf(lines, hosts []string, all int64, most int) (told []string, more int64) {
	for _, line := range lines {
		if !isDestination(line, hosts) {
			told = append(told, line)
		}
	}
	listed := int64(len(lines) - len(told))
	more = max(all-listed, int64(len(told)))
	told = told[:min(len(told), most)]
	return told, more - int64(len(told))
}

// isDestination says whether a notable line tells of a new destination, and nothing but that.
func isDestination(line string, hosts []string) bool {
	_, what, _ := strings.Cut(line, " ")
	host, is := strings.CutPrefix(what, "connected to ")
	return is && slices.Contains(hosts, host)
}

// notable is a notable line, shortened by the home of who looks.
func (d *drawing) notable(line string) string {
	if len(d.o.Home) > 1 {
		line = strings.ReplaceAll(line, " "+d.o.Home+"/", " ~/")
	}
	return d.plain(line)
}

// notables are the sentences about what is notable in a call.
func (d *drawing) notables(a span.Attrs) (parts []part) {
	all, _ := a.Int(span.KeyNotables)
	lines, more := toldOf(a.List(span.KeyNotableLines), a.List(span.KeyHostNames), all, maxNotable)
	for _, line := range lines {
		parts = append(parts, part{"[!] " + d.notable(line), d.p.Yellow})
	}
	if more > 0 && len(parts) > 0 {
		parts[len(parts)-1].text += d.ascii(fmt.Sprintf(" … and %d more", more))
	}
	return parts
}
