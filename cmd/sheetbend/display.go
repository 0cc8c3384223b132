// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/story"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// leastWidth is what a drawing needs.
const leastWidth = 40

// display are the flags of what draws on a terminal.
type display struct {
	color string // auto, always, never
	width int    // 0: as wide as COLUMNS says, else the terminal
	ascii bool
}

func (d *display) flags(f *pflag.FlagSet) {
	f.StringVar(&d.color, "color", "auto", "colour: auto (on a terminal, without NO_COLOR), always or never")
	f.IntVar(&d.width, "width", 0, "`COLUMNS` that are drawn on (default: COLUMNS of the environment, else the terminal's)")
	f.BoolVar(&d.ascii, "ascii", false, "draw with ASCII characters only, as where the locale has no UTF-8")
}

func (d *display) check() error {
	switch d.color {
	case "", "auto", "always", "never":
	default:
		return usageError("--color %s: not one of auto, always, never", d.color)
	}
	if d.width != 0 && d.width < leastWidth {
		return usageError("--width %d: less than %d", d.width, leastWidth)
	}
	return nil
}

// terminal is how to draw on a file.
func (d *display) terminal(to *os.File, getenv func(string) string) terminal.Options {
	o := terminal.Options{Width: d.width, Color: colored(to, d.color, getenv), ASCII: d.ascii || !hasUTF8(getenv)}
	if n, err := strconv.Atoi(getenv("COLUMNS")); o.Width == 0 && err == nil && n >= leastWidth {
		o.Width = n
	}
	if o.Width == 0 {
		o.Width = width(to)
	}
	return o
}

// story is the same for a story; home is that of who looks.
func (d *display) story(to *os.File, getenv func(string) string, home string) story.Options {
	t := d.terminal(to, getenv)
	return story.Options{Width: t.Width, Color: t.Color, ASCII: t.ASCII, Home: home}
}

// hasUTF8 says whether the locale of the environment has UTF-8; so has the one of who names none.
func hasUTF8(getenv func(string) string) bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := getenv(key); locale != "" {
			locale = strings.ToUpper(locale)
			return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
		}
	}
	return true
}

// width is 0 for what is no terminal.
func width(f *os.File) int {
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

func colored(f *os.File, when string, getenv func(string) string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	// https://no-color.org: any value that is not empty.
	return term.IsTerminal(int(f.Fd())) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// An ending is the span.Sink of what is drawn when all is over: the story, and the tree if it is asked for or there is no
// agent.
type ending struct {
	story *story.Story
	tree  *terminal.Tree // nil when it is not to be drawn
	asked bool
}

// newEnding draws the tree if it is asked for, or there is no agent.
func newEnding(o story.Options, tree terminal.Options, asked bool) *ending {
	return &ending{story.New(o), terminal.NewTree(tree), asked}
}

// Span implements span.Sink.
func (e *ending) Span(s *span.Span) {
	e.story.Span(s)
	if !e.asked && e.story.Agents() > 0 {
		e.tree = nil
	}
	if e.tree != nil {
		e.tree.Span(s)
	}
}

// Flush implements span.Sink.
func (*ending) Flush() {}

func (e *ending) render(w io.Writer) error {
	if err := e.story.Render(w); err != nil || e.tree == nil {
		return err
	}
	if e.story.Agents()+e.story.Sandboxes() > 0 {
		e.tree.BelowStory()
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return e.tree.Render(w)
}
