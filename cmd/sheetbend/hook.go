// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

const (
	// hookAbsent is how long a hook takes for its input when no sensor is there: an agent may mind a hook that does
	// not read.
	hookAbsent = 25 * time.Millisecond
	// hookReads bounds how long the agent takes to write the input: the agent's own time.
	hookReads = time.Second
	// hookWait bounds what a sensor adds to that, unless envHookWait says otherwise: one that hangs does not hold up
	// the agent. A mark that comes too late is none, so that a loaded machine, where all else is slow too, gets some
	// time.
	hookWait = 100 * time.Millisecond
	// envHookWait is a duration, as time.ParseDuration takes it.
	envHookWait = "SHEETBEND_HOOK_WAIT"
	// maxHookWait is below what an agent waits for a hook: those that install writes are given 5 s.
	maxHookWait = 4 * time.Second
)

func newHook() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook AGENT",
		Short: "Mark tool calls from an agent's hooks, and install these hooks",
		Long: `Read the JSON that an agent gives its hooks on standard input, and report to the sensor which tool call
begins or ends, on which files it works, and a hash of its command. Run by the agent, not by hand. It prints nothing, and
its exit code is always 0: what the agent does never depends on it. Without a sensor it ends at once; with one it waits 100 ms at most, or as long as
SHEETBEND_HOOK_WAIT says in the agent's environment (a duration such as 500ms, up to 4s).

install writes the hook into the agent's configuration, uninstall takes it out again.`,
		Example: `  sheetbend hook install claude-code
  sheetbend hook uninstall claude-code
  sheetbend hook claude-code < event.json`,
		// An agent takes exit code 2, that of a wrong flag, for an order to refuse the call.
		DisableFlagParsing: true,
		Args:               cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "-h" || args[0] == "--help" {
				return cmd.Help()
			}
			if term.IsTerminal(int(os.Stdin.Fd())) { // no error: an agent's terminal, perhaps
				fmt.Fprintf(cmd.ErrOrStderr(), "hook %s reads an agent's JSON: install it with sheetbend hook install %s\n",
					args[0], args[0])
				return nil
			}
			runHook(args[0], os.Stdin)
			return nil
		},
	}
	cmd.AddCommand(newHookInstall(), newHookUninstall())
	return cmd
}

// runHook is sheetbend hook AGENT. Whatever happens, nobody is told: an agent would show it to its user or its model.
func runHook(agent string, stdin io.Reader) {
	defer func() { _ = recover() }()
	c := sensorAt(client.Default().Socket())
	// How to read the input, the sensor says: its configuration is not the agent's to read.
	wait, asked := hookWaits(os.Getenv(envHookWait)), time.Now()
	d, err := dialectFrom(c, agent, wait)
	left := wait - time.Since(asked)
	if err != nil {
		_, _ = readAll(stdin, hookAbsent)
		return
	}
	input, ok := readAll(stdin, hookReads)
	if !ok || d == nil {
		return
	}
	e, err := hook.Read(input, d, os.Getenv)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	for _, m := range e.Marks {
		send := c.Begin
		if e.Op == client.OpEnd {
			send = c.End
		}
		if c.as(func() error { return send(ctx, m) }) != nil {
			return
		}
	}
}

// hookWaits reads a value of envHookWait. What is no duration is ignored: nobody would be told.
func hookWaits(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return hookWait
	}
	return min(d, maxHookWait)
}

// dialectFrom asks the sensor how the agent speaks to its hooks; nil if it knows no such agent.
func dialectFrom(c sensor, agent string, wait time.Duration) (*agents.Dialect, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	text, err := with(c.as, func() (json.RawMessage, error) { return c.Hook(ctx, agent) })
	if _, refused := errors.AsType[*client.Error](err); refused {
		return agents.Find(agents.Builtin(), agent), nil // an older sensor, which does not know the question
	}
	if err != nil || text == nil {
		return nil, err
	}
	d := &agents.Dialect{Name: agent}
	return d, json.Unmarshal(text, &d.Hook)
}

// readAll reads the input; false if it is too long or does not end in time.
func readAll(r io.Reader, within time.Duration) ([]byte, bool) {
	var input []byte
	done := make(chan error, 1)
	go func() {
		var err error
		input, err = io.ReadAll(io.LimitReader(r, hook.MaxInput+1))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return input, err == nil && len(input) <= hook.MaxInput
	case <-time.After(within):
		return nil, false
	}
}
