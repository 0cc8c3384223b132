// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func newCall() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Mark where a tool call begins and ends, for programs that keep one shell for many calls",
		Long: `Report to the sensor which tool call a process serves from now on. A program that keeps one shell for
many calls marks each: what the shell starts between begin and end is reported as part of that call.

An agent and what it runs outside of its calls, as hooks, mark calls of that agent; any other process in a
sandbox those of itself and its children only. Who began a call ends it, nobody else. A mark that is not
allowed is an error. docs/local-api.md has the rules, the protocol and a Go client.`,
		Example: `  sheetbend call begin --session s-1 --call call_7 --tool bash --pid "$SHELL_PID"
  sheetbend call end --session s-1 --call call_7 --pid "$SHELL_PID"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newMark("begin", "Report that a tool call begins", (*client.Client).Begin),
		newMark("end", "Report that a tool call has ended", (*client.Client).End),
	)
	return cmd
}

func newMark(use, short string, send func(*client.Client, context.Context, client.Mark) error) *cobra.Command {
	var m client.Mark
	var socket string
	cmd := &cobra.Command{
		Use:     use + " --call ID [flags]",
		Short:   short,
		Example: "  sheetbend call " + use + ` --session s-1 --call call_7 --tool bash --pid "$SHELL_PID"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if m.Call == "" {
				return usageError("--call ID is needed: the tool call's id, as the model gave it")
			}
			if m.PID != 0 && m.Cgroup != "" {
				return usageError("--pid and --cgroup: one of them serves the call, not both")
			}
			c := sensorAt(cmp.Or(socket, client.Default().Socket()))
			err := c.as(func() error { return send(c.Client, cmd.Context(), m) })
			if errors.Is(err, client.ErrAbsent) {
				return noSensor(c.Socket())
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.Session, "session", "", "`ID` of the agent's session (default: that of the sandbox)")
	f.StringVar(&m.Call, "call", "", "`ID` of the tool call")
	f.StringVar(&m.Tool, "tool", "", "`NAME` of the tool")
	f.StringVar(&m.Agent, "agent", "", "`NAME` of the agent")
	f.IntVar(&m.PID, "pid", 0,
		"`PID` of the process that serves the call, such as a persistent shell (default: the agent that asks)")
	f.StringVar(&m.Cgroup, "cgroup", "",
		"`PATH` of the cgroup that serves the call, from the cgroup v2 mount (root only)")
	f.StringVar(&m.Traceparent, "traceparent", "", "the call's own span, W3C `FORMAT`")
	f.StringVar(&socket, "socket", "",
		"`PATH` of the sensor's socket (default: $SHEETBEND_SOCKET, else "+client.DefaultSocket+")")
	return cmd
}
