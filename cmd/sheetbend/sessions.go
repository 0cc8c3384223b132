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
		Short: "List the sessions of this host, live and recorded",
		Long: `List the sessions that the sensors of this host have recorded, and those that they watch with their tool
calls: those in which something runs, and those of the last ten minutes. What runs is known with a delay of
two seconds. Root sees all of them, others the sessions of their own processes.`,
		Example: `  sheetbend sessions
  sudo sheetbend sessions --all --json
  sudo sheetbend sessions rm 01a0f5c2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, _, err := listSessions(cmd.Context(), socket)
			if err != nil {
				return err
			}
			past, err := listRecordings(cmd.Context(), socket)
			if err != nil && !errors.Is(err, errRecordsNothing) {
				return err
			}
			if !all {
				now := time.Now()
				list = slices.DeleteFunc(list, func(s client.Session) bool {
					return s.Processes == 0 && now.Sub(s.Last) > recently
				})
			}
			rows := mergeSessions(list, past)
			left := 0
			if !all {
				rows, left = newestPast(rows)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			printPast(cmd.OutOrStdout(), rows, left)
			printSessions(cmd.OutOrStdout(), liveOf(rows))
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "list all that are recorded, not just the newest, and ended ones that are remembered")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&socket, "socket", "", "`PATH` of one sensor's socket (default: all that are found)")
	cmd.AddCommand(newSessionsRemove())
	return cmd
}

func newSessionsRemove() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "rm SESSION...",
		Short: "Remove what is recorded of sessions",
		Long: `Remove what is recorded of sessions, for good. Only root may: who is watched may not remove what tells
of it.`,
		Example: `  sudo sheetbend sessions rm 01a0f5c2`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("sessions rm needs a session, as sheetbend sessions lists it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			all, err := listRecordings(cmd.Context(), socket)
			if err != nil {
				return err
			}
			var found []recorded
			for _, id := range ids { // all of them, or none
				some, err := named(all, id)
				if err != nil {
					return err
				}
				found = append(found, some...)
			}
			for _, r := range found {
				if err := r.at.as(func() error { return r.at.Forget(cmd.Context(), r.Name) }); err != nil {
					return fmt.Errorf("remove %s: %w", r.Name, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "`PATH` of one sensor's socket (default: all that are found)")
	return cmd
}

// A sessionRow is one that is live or recorded, or both. JSON has it so.
type sessionRow struct {
	client.Session
	Recordings []client.Recording `json:"recordings,omitempty"`

	isLive bool // the sensor remembers it
}

// mergeSessions lists each session once, the recorded ones in the order of their newest spans, and then the live ones.
func mergeSessions(list []client.Session, past []recorded) []sessionRow {
	rows := []sessionRow{} // in JSON, none is an empty list
	at := map[string]int{}
	known := func(r *client.Recording) *client.Session {
		for i := range list {
			if r.Is(list[i].ID) {
				return &list[i]
			}
		}
		return nil
	}
	var ofLive []client.Recording
	for _, p := range past {
		r := &p.Recording
		if known(r) != nil {
			ofLive = append(ofLive, *r)
			continue
		}
		i, ok := at[r.Session]
		if !ok {
			i = len(rows)
			at[r.Session] = i
			rows = append(rows, sessionRow{Session: client.Session{ID: r.Session, Agent: r.Agent, Start: r.Start}})
		}
		row := &rows[i]
		row.Recordings = append(row.Recordings, *r)
		row.Spans += r.Spans
		row.Last = r.Last
		if r.Start.Before(row.Start) {
			row.Start = r.Start
		}
	}
	for _, s := range list {
		row := sessionRow{Session: s, isLive: true}
		for _, r := range ofLive {
			if r.Is(s.ID) {
				row.Recordings = append(row.Recordings, r)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// shownPast is how many recorded sessions are listed unless all are asked for.
const shownPast = 20

// newestPast leaves out all but the newest recorded sessions, and says how many.
func newestPast(rows []sessionRow) ([]sessionRow, int) {
	n := slices.IndexFunc(rows, func(r sessionRow) bool { return r.isLive })
	if n < 0 {
		n = len(rows)
	}
	left := max(0, n-shownPast)
	return rows[left:], left
}

func liveOf(rows []sessionRow) (list []client.Session) {
	for _, r := range rows {
		if r.isLive {
			list = append(list, r.Session)
		}
	}
	return list
}

// printPast prints the recorded sessions that are not live.
func printPast(w io.Writer, rows []sessionRow, left int) {
	if left > 0 {
		fmt.Fprintf(w, "%s before these: --all lists them\n", count(uint64(left), "recorded session"))
	}
	for _, row := range rows {
		if row.isLive {
			continue
		}
		agent := "no agent"
		if row.Agent != "" {
			agent = terminal.Quote(row.Agent)
		}
		var calls, failed, lost uint64
		damaged := false
		for _, r := range row.Recordings {
			calls, failed, lost, damaged = calls+r.Calls, failed+r.Failed, lost+r.Lost+r.Cut, damaged || r.Damaged
		}
		did := count(calls, "call")
		if failed > 0 {
			did += fmt.Sprintf(" (%d failed)", failed)
		}
		if lost > 0 {
			did += fmt.Sprintf("  %d spans are not there", lost)
		}
		if damaged {
			did += "  damaged"
		}
		fmt.Fprintf(w, "%s  %s  recorded  %s  %s  %s to %s\n", terminal.Quote(row.ID), agent, did, count(row.Spans, "span"),
			row.Start.Local().Format(time.DateTime), row.Last.Local().Format(time.TimeOnly))
	}
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
		fmt.Fprintln(w, "no session now, nor in the last ten minutes")
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
