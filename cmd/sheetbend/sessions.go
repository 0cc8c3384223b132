// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// recently is how long a session is listed in which nothing runs any more.
const recently = 10 * time.Minute

func newSessions() *cobra.Command {
	var socket string
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the live sessions and tool calls of this host",
		Long: `List the sessions that the sensors of this host watch, and their tool calls: those in which something
runs, and those of the last ten minutes. What runs is known with a delay of two seconds. Root sees all of
them, others the sessions of their own processes.`,
		Example: `  sudo sheetbend sessions
  sudo sheetbend sessions --all --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := listSessions(cmd.Context(), socket)
			if err != nil {
				return err
			}
			if !all {
				now := time.Now()
				list = slices.DeleteFunc(list, func(s client.Session) bool { return s.Processes == 0 && now.Sub(s.Last) > recently })
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			printSessions(cmd.OutOrStdout(), list)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "list ended sessions, too, as far as they are remembered")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&socket, "socket", "", "`PATH` of one sensor's socket (default: all that are found)")
	return cmd
}

func newShowSession() *cobra.Command {
	var socket, color string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "session ID",
		Short: "Print a live session as a tree",
		Long: `Print the newest spans of a session as a tree of tool calls, processes, files and connections. The ID is as
sheetbend sessions lists it; its beginning is enough if only one session has it.`,
		Example: `  sudo sheetbend session 01a0f5c2
  sudo sheetbend session s-1 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("one session ID is needed, as sheetbend sessions lists it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, err := findSession(cmd.Context(), socket, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), tree)
			}
			return drawSession(os.Stdout, tree, color)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&color, "color", "auto", "colour in the tree: auto, always or never")
	f.StringVar(&socket, "socket", "", "`PATH` of one sensor's socket (default: all that are found)")
	return cmd
}

// listSessions asks every sensor. An error of one is told when no other answers.
func listSessions(ctx context.Context, socket string) ([]client.Session, error) {
	all := []client.Session{}
	var errs []error
	answered := false
	for _, c := range sensors(socket) {
		list, err := c.sessions(ctx)
		switch {
		case err == nil:
			answered = true
			all = append(all, list...)
		case !errors.Is(err, client.ErrAbsent):
			errs = append(errs, err)
		}
	}
	switch {
	case answered:
		return all, nil
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	}
	return nil, noSensor(socket)
}

func findSession(ctx context.Context, socket, id string) (*client.Tree, error) {
	var full []string
	var at sensor
	answered := false
	for _, c := range sensors(socket) {
		list, err := c.sessions(ctx)
		if err != nil {
			continue
		}
		answered = true
		for _, s := range list {
			if s.ID == id {
				return c.session(ctx, id)
			}
			if len(id) < len(s.ID) && s.ID[:len(id)] == id {
				full, at = append(full, s.ID), c
			}
		}
	}
	switch {
	case len(full) == 1:
		return at.session(ctx, full[0])
	case len(full) > 1:
		return nil, fmt.Errorf("%d sessions begin with %s: give more of it", len(full), id)
	case !answered:
		_, err := listSessions(ctx, socket) // says why
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("there is no session %s here: sheetbend sessions --all lists them", id)
}

func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", terminal.EscapeJSON(text))
	return err
}

func printSessions(w io.Writer, list []client.Session) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no session, neither now nor in the last ten minutes")
		return
	}
	const clock = "15:04:05"
	for _, s := range list {
		agent := "no agent known"
		if s.Agent != "" {
			agent = terminal.Quote(s.Agent)
		}
		fmt.Fprintf(w, "%s  %s  %s  %s  %s to %s\n", terminal.Quote(s.ID), agent, running(s.Processes), count(s.Spans, "span"),
			s.Start.Local().Format(clock), s.Last.Local().Format(clock))
		for _, c := range s.Calls {
			call := "span " + terminal.Quote(c.Context)
			if c.ID != "" {
				call = terminal.Quote(c.ID)
			}
			fmt.Fprintf(w, "  %s  %s  %s  %s  %s to %s\n", call, orDash(c.Tool), running(c.Processes), orDash(c.Attribution),
				c.Start.Local().Format(clock), c.Last.Local().Format(clock))
		}
	}
}

func running(n int) string {
	switch n {
	case 0:
		return "nothing runs"
	case 1:
		return "1 process runs"
	}
	return fmt.Sprintf("%d processes run", n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return terminal.Quote(s)
}

// drawSession draws as sheetbend run does.
func drawSession(w *os.File, t *client.Tree, color string) error {
	tree := terminal.NewTree(terminal.Options{Width: width(w), Color: colored(w, color, os.Getenv)})
	for i := range t.Roots {
		feed(tree, t, &t.Roots[i], span.ID{})
	}
	if err := tree.Render(w); err != nil {
		return fmt.Errorf("print the tree: %w", err)
	}
	if t.Dropped > 0 {
		_, err := fmt.Fprintf(w, "%s are no longer remembered\n", count(t.Dropped, "older span"))
		return err
	}
	return nil
}

// feed makes spans again of what the sensor told.
func feed(sink span.Sink, t *client.Tree, n *client.Node, parent span.ID) {
	s := span.Span{
		Parent: parent, Kind: kindOf(n.Kind), Name: n.Kind, Start: uint64(n.Start.UnixNano()), End: uint64(n.End.UnixNano()),
		Failed: n.Failed, Status: n.Status, Session: t.ID,
	}
	_, _ = hex.Decode(s.Trace[:], []byte(n.Trace[:min(len(n.Trace), 2*len(s.Trace))]))
	_, _ = hex.Decode(s.ID[:], []byte(n.Span[:min(len(n.Span), 2*len(s.ID))]))
	for key, v := range n.Attrs {
		a := span.Attr{Key: key}
		switch v := v.(type) {
		case string:
			a.Kind, a.Str = span.StringAttr, v
		case float64:
			a.Kind, a.Int = span.IntAttr, int64(v)
		case bool:
			a.Kind = span.BoolAttr
			if v {
				a.Int = 1
			}
		case []any:
			a.Kind = span.StringsAttr
			for _, e := range v {
				text, _ := e.(string)
				a.List = append(a.List, text)
			}
		default:
			continue
		}
		s.Attrs = append(s.Attrs, a)
	}
	if t.Agent != "" {
		s.Attrs = append(s.Attrs, span.Attr{Key: span.KeyAgentName, Kind: span.StringAttr, Str: t.Agent})
	}
	if s.Kind != 0 {
		sink.Span(&s)
	}
	for i := range n.Children {
		feed(sink, t, &n.Children[i], s.ID)
	}
}

// kindOf is 0 for a kind that a newer sensor has.
func kindOf(name string) span.Kind {
	for k := span.Exec; k.String() != span.Kind(0).String(); k++ {
		if k.String() == name {
			return k
		}
	}
	return 0
}
