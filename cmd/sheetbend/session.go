// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

func newShowSession() *cobra.Command {
	var socket, color string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "session ID",
		Short: "Print a live session as a tree",
		Long: `Print the newest spans of a session as a tree of tool calls, processes, files and connections.
The ID is as sheetbend sessions lists it; its beginning is enough if only one session has it.

It is what the sensor has in memory of a session that is live: the newest 2 MiB of spans at most, nothing folded,
also where nothing is recorded. For a whole session, live or over, see sheetbend tree, for what it comes
to sheetbend story.`,
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

// findSession asks the sensor whose session has this ID, or alone begins with it.
func findSession(ctx context.Context, socket, id string) (*client.Tree, error) {
	list, at, err := listSessions(ctx, socket)
	if err != nil {
		return nil, err
	}
	var found []int
	for i, s := range list {
		if s.ID == id {
			return at[i].session(ctx, id)
		}
		if strings.HasPrefix(s.ID, id) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no session %s here: sheetbend sessions --all lists them", id)
	case 1:
		return at[found[0]].session(ctx, list[found[0]].ID)
	}
	return nil, fmt.Errorf("%d sessions begin with %s: give more of it", len(found), id)
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
		Parent: parent, Kind: kindOf(n.Kind), Name: n.Kind, Failed: n.Failed, Status: n.Status, Session: t.ID,
		Start: uint64(n.Start.UnixNano()), End: uint64(n.End.UnixNano()),
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
