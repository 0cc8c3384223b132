// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"
	"unicode"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/mask"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of a title.
const (
	maxTitle      = 70           // characters
	maxTitleBytes = 4 * maxTitle // of these
	maxTitleText  = 16 << 10     // bytes of a command that are looked at for secrets, of which the begin is shown
)

// titleOf is what a person calls a call.
func titleOf(k *attribution.Call) string {
	if k.Title != "" {
		return k.Title
	}
	text := k.Tool
	if k.Inside != nil && k.Inside.Path() != "" {
		text += " " + path.Base(k.Inside.Path())
	}
	if tool := oneLine(text); tool != "" {
		return tool
	}
	return "unknown"
}

// command takes a program that a call starts: its first one, and those that its wrappers start, say what the call is
// for. before is what the process ran until then, or its parent.
func (c *Spans) command(x *lineage.ExecStart, before *lineage.Program) {
	k := x.Program.Owner.Call
	if k == nil || k.Inside != nil { // what an MCP server starts is not what its tool was asked for
		return
	}
	s, waits := k.Pending.(*callStory)
	if !waits {
		return
	}
	switch {
	case x.CallRoot && k.First == (span.Image{}):
		k.First = span.Image{Tgid: x.Process.Tgid, Start: x.Process.Start}
	case s.wrapper == nil || s.wrapper != before:
		return
	}
	command, known := k.Agent.Wrappers().Inner(appendArgs(nil, x.Args))
	if s.wrapper = nil; !known {
		s.wrapper = x.Program
	}
	text := command.Text
	if command.Args != nil {
		args := command.Args
		if !c.config.ShowCredentials {
			mask.Args(args)
		}
		text = string(appendCommandLine(nil, args))
	} else if text = text[:min(len(text), maxTitleText)]; !c.config.ShowCredentials {
		args := []string{"sh", "-c", text}
		mask.Args(args)
		text = args[2]
	}
	if title := oneLine(text); title != "" {
		k.Title = title
	}
}

// oneLine makes a title of a text that may be anything: one line, cut, of characters that are seen. Blanks become one,
// and the end of a line is shown.
func oneLine(text string) string {
	line := make([]rune, 0, maxTitle+4)
	blank, broken := false, false
	for _, r := range text {
		if unicode.IsSpace(r) {
			blank, broken = true, broken || r == '\n'
			continue
		}
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		switch {
		case len(line) == 0:
		case broken:
			line = append(line, ' ', '↵', ' ')
		case blank:
			line = append(line, ' ')
		}
		line = append(line, r)
		if blank, broken = false, false; len(line) > maxTitle {
			return string(append(line[:maxTitle-1], '…'))
		}
	}
	return string(line)
}
