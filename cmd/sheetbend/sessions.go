// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

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
			list, _, err := listSessions(cmd.Context(), socket)
			if err != nil {
				return err
			}
			if !all {
				now := time.Now()
				list = slices.DeleteFunc(list, func(s client.Session) bool {
					return s.Processes == 0 && now.Sub(s.Last) > recently
				})
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

// listSessions asks every sensor, or that of the socket. at is the sensor of each session. An error of one sensor is
// reported when no other answers.
func listSessions(ctx context.Context, socket string) (all []client.Session, at []sensor, err error) {
	all = []client.Session{} // in JSON, none is an empty list
	answered := false
	for _, c := range sensors(socket) {
		list, askErr := c.sessions(ctx)
		switch {
		case askErr == nil:
			answered = true
			all, at = append(all, list...), append(at, slices.Repeat([]sensor{c}, len(list))...)
		case !errors.Is(askErr, client.ErrAbsent):
			err = errors.Join(err, askErr)
		}
	}
	switch {
	case answered:
		return all, at, nil
	case err != nil:
		return nil, nil, err
	}
	return nil, nil, noSensor(socket)
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
	times := func(from, to time.Time) string {
		const clock = "15:04:05"
		return from.Local().Format(clock) + " to " + to.Local().Format(clock)
	}
	for _, s := range list {
		agent := "no agent known"
		if s.Agent != "" {
			agent = terminal.Quote(s.Agent)
		}
		fmt.Fprintf(w, "%s  %s  %s  %s  %s\n",
			terminal.Quote(s.ID), agent, running(s.Processes), count(s.Spans, "span"), times(s.Start, s.Last))
		for _, c := range s.Calls {
			call := "span " + terminal.Quote(c.Context)
			if c.ID != "" {
				call = terminal.Quote(c.ID)
			}
			fmt.Fprintf(w, "  %s  %s  %s  %s  %s\n",
				call, orDash(c.Tool), running(c.Processes), orDash(c.Attribution), times(c.Start, c.Last))
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
