// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/exporters/delivery"
)

func newSpoolList(f *spoolFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters",
		Example: `  sudo sheetbend spool list
  sudo sheetbend spool list --json | jq -r .reason`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, _, letters, err := f.deadLetters(nil)
			if asJSON {
				return errors.Join(printDeadLettersJSON(os.Stdout, letters), err)
			}
			return errors.Join(printDeadLetters(os.Stdout, dir, letters), err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func printDeadLetters(w io.Writer, dir string, letters []delivery.DeadLetter) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters in "+dir)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tMADE\tSPANS\tBYTES\tSTATE\tREFUSED BY\tREASON")
	for _, l := range letters {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", printable(l.ID), l.Created.UTC().Format(time.RFC3339),
			l.Spans, l.Size, deadLetterState(l), printable(l.To), printable(l.Reason))
	}
	return t.Flush()
}

func deadLetterState(l delivery.DeadLetter) string {
	if l.Retry {
		return "retry"
	}
	return "dead"
}

func printDeadLettersJSON(w io.Writer, letters []delivery.DeadLetter) error {
	out := json.NewEncoder(w)
	for _, l := range letters {
		err := out.Encode(struct {
			ID      string    `json:"id"`
			Made    time.Time `json:"made"`
			Spans   int       `json:"spans"`
			Bytes   int64     `json:"bytes"`
			State   string    `json:"state"`
			Refused string    `json:"refused_by"`
			Reason  string    `json:"reason"`
		}{l.ID, l.Created.UTC(), l.Spans, l.Size, deadLetterState(l), l.To, l.Reason})
		if err != nil {
			return err
		}
	}
	return nil
}
