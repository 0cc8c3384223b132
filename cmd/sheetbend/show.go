// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/story"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// shown is what the commands that show a session share.
type shown struct {
	socket  string
	display display
	all     bool // of tree: nothing is folded
}

func (o *shown) flags(cmd *cobra.Command, draws bool) {
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "`PATH` of one sensor's socket (default: all that are found)")
	if draws {
		o.display.flags(f)
	}
}

func (o *shown) source(cmd *cobra.Command, name string) (source, error) {
	if err := o.display.check(); err != nil {
		return source{}, err
	}
	by, err := caller()
	if err != nil {
		return source{}, &exitError{exitUsage, err}
	}
	return source{ctx: cmd.Context(), socket: o.socket, name: name, who: by}, nil
}

const sessionHelp = `
SESSION is an id as sheetbend sessions lists it, or its beginning if no other has that; or a file: a
capture, a recording, or spans that --output has written. A file is what has a / in its name (./spans),
or ends in .capture, .cap, .json, .jsonl, .gz or .zst; - is standard input.
A sensor keeps sessions for a week, and within 512 MiB for all users, unless it is configured otherwise
(recorder).`

func newStory() *cobra.Command {
	var o shown
	cmd := &cobra.Command{
		Use:   "story [SESSION]",
		Short: "Tell in a screen what an agent did",
		Long: `Tell what an agent did: its sums, and a line or two for each tool call. Without SESSION it is the last
one of yours that the sensor has recorded.
` + sessionHelp,
		Example: `  sheetbend story
  sheetbend story 01a0f5c2
  sheetbend story spans.jsonl`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("story takes one session or file, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.source(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			t := story.New(o.display.story(os.Stdout, os.Getenv, s.who.home))
			err = s.spans(t)
			if err != nil && t.Calls() == 0 {
				return err
			}
			return errors.Join(t.Render(os.Stdout), err)
		},
	}
	o.flags(cmd, true)
	return cmd
}

func newTree() *cobra.Command {
	var o shown
	cmd := &cobra.Command{
		Use:   "tree SESSION [CALL]",
		Short: "Print a session, or one of its tool calls, as a tree",
		Long: `Print the processes, files and connections of a session as a tree; of one tool call only, by its id, the
beginning of that, or its number in the session.
` + sessionHelp + `
Of a session that is not recorded it is what the sensor remembers while it is live, as sheetbend session
prints it.

Programs of one name that ended well are one row, files are folded by directory, and what an agent does
for itself is a line; --all folds nothing.`,
		Example: `  sheetbend tree 01a0f5c2
  sheetbend tree 01a0f5c2 3
  sheetbend tree agent.capture`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError("tree needs a session or a file, and takes one call")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.source(cmd, args[0])
			if err != nil {
				return err
			}
			return o.tree(s, args[1:])
		},
	}
	o.flags(cmd, true)
	cmd.Flags().BoolVar(&o.all, "all", false, "fold nothing")
	return cmd
}

func (o *shown) tree(s source, call []string) error {
	draw := o.display.terminal(os.Stdout, os.Getenv)
	draw.Fold = !o.all
	tree := terminal.NewTree(draw)
	var sink span.Sink = tree
	if len(call) > 0 {
		one := &oneCall{Sink: tree, id: call[0]}
		if s.name != "-" { // which is read once
			if err := s.spans(&one.calls); err != nil && len(one.calls.list) == 0 && !errors.Is(err, errNoSession) {
				return err
			}
			one.id = one.calls.find(one.id)
		}
		defer func() { one.calls = callList{} }()
		sink = one
	}
	err := s.spans(sink)
	if len(call) == 0 && err != nil && !s.isFile() {
		// What is not recorded may be live.
		if live, liveErr := findSession(s.ctx, s.socket, s.name); liveErr == nil && len(live.Roots) > 0 {
			return drawSession(os.Stdout, live, o.display.color)
		}
	}
	if one, ok := sink.(*oneCall); ok && one.spans == 0 && err == nil {
		return fmt.Errorf("there is no call %s in %s", one.id, s.name)
	}
	if errors.Is(err, errNoSession) {
		return err
	}
	return errors.Join(tree.Render(os.Stdout), err)
}

// oneCall lets through what is of a call.
type oneCall struct {
	span.Sink
	calls callList
	id    string
	spans int
}

// Span implements span.Sink.
func (o *oneCall) Span(s *span.Span) {
	a := span.Attrs(s.Attrs)
	for _, key := range []string{span.KeyCallID, span.KeyCallContext} {
		if id := a.Text(key); id != "" && strings.HasPrefix(id, o.id) {
			o.spans++
			o.Sink.Span(s)
			return
		}
	}
}

// callList has the calls of a session.
type callList struct {
	list []callBegan
}

type callBegan struct {
	id string
	at uint64
}

// maxCalls bounds it.
const maxCalls = 100_000

// Span implements span.Sink.
func (c *callList) Span(s *span.Span) {
	if s.Kind != span.SessionCall || len(c.list) >= maxCalls {
		return
	}
	a := span.Attrs(s.Attrs)
	c.list = append(c.list, callBegan{cmp.Or(a.Text(span.KeyCallID), a.Text(span.KeyCallContext)), s.Start})
}

// Flush implements span.Sink.
func (*callList) Flush() {}

// find gives the id of a call by its number, in the order in which they began; any other text is an id.
func (c *callList) find(text string) string {
	n, err := strconv.Atoi(text)
	known := slices.ContainsFunc(c.list, func(k callBegan) bool { return k.id == text })
	if err != nil || known || n < 1 || n > len(c.list) {
		return text
	}
	slices.SortStableFunc(c.list, func(a, b callBegan) int { return cmp.Compare(a.at, b.at) })
	return c.list[n-1].id
}

func newExport() *cobra.Command {
	var o shown
	cmd := &cobra.Command{
		Use:   "export SESSION",
		Short: "Print the spans of a session as OTLP JSON lines",
		Long: `Print all spans of a session as OTLP JSON, one ExportTraceServiceRequest a line: the format of --output,
which collectors read.
` + sessionHelp,
		Example: `  sheetbend export 01a0f5c2 >session.jsonl`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("export needs one session or file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.source(cmd, args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			var decode ptrace.ProtoUnmarshaler
			var encode ptrace.JSONMarshaler
			err = s.messages(func(message []byte) error {
				traces, err := decode.UnmarshalTraces(message)
				if err != nil {
					return err
				}
				line, err := encode.MarshalTraces(traces)
				if err != nil {
					return err
				}
				_, err = out.Write(append(line, '\n'))
				return err
			})
			return errors.Join(err, out.Flush())
		},
	}
	o.flags(cmd, false)
	return cmd
}
