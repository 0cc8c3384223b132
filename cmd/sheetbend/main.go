// SPDX-License-Identifier: Apache-2.0

// Command sheetbend watches the processes, files and connections of AI agents with eBPF and tells
// of them as OpenTelemetry spans.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

// Exit codes of sheetbend itself. run exits with its command's own code, or as env(1) and
// the shells do when there is none.
const (
	exitFailed        = 1
	exitUsage         = 2
	exitSheetbend     = 125 // run: whatever went wrong before the command was started
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// An exitError ends the process with a code. A nil err says nothing more than the code.
type exitError struct {
	code int
	err  error
}

// killed, as the error of an exitError, ends the process by a signal where that is possible, without a word.
type killed syscall.Signal

func (k killed) Error() string { return "ended by " + unix.SignalName(syscall.Signal(k)) }

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// failed is an exitError with a text.
func failed(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// usageError is about the command line, the environment or the configuration.
func usageError(format string, args ...any) error { return failed(exitUsage, format, args...) }

func main() {
	beStage()
	os.Exit(execute(context.Background(), os.Args[1:]))
}

// execute runs one command line and returns the exit code, unless it ends this process by a signal.
func execute(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	code := exitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code, err = e.code, e.err
	}
	if by, ok := errors.AsType[killed](err); ok {
		signals.Die(syscall.Signal(by)) // shells stop their scripts only for who died of it
		return code
	}
	if err != nil {
		if cmd.Name() == "run" && (code == exitFailed || code == exitUsage) {
			code = exitSheetbend // those are its command's
		}
		fmt.Fprintf(os.Stderr, "sheetbend: %s\n", printable(oneLine(err))) // an argument may hold anything
	}
	return code
}

// oneLine is the text of an error; errors that are joined have one each.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sheetbend",
		Short: "See what an AI agent really does: processes, files and connections as OpenTelemetry spans",
		Long: `Sheetbend watches sandboxes (cgroups, containers, or agents with all that they start) with eBPF and
turns what their processes do into OpenTelemetry spans: every program that runs, every file opened or
refused, every connection.

  sheetbend run -- CMD          run a command in a sandbox of its own and tell what it did
  sheetbend sensor              watch the sandboxes of this host (daemon)
  sheetbend sessions            list the sessions of this host, live and recorded
  sheetbend story, tree         tell what an agent did: in a screen, or all of it
  sheetbend report              write a session as one HTML file, for a ticket
  sheetbend export              print the spans of a recorded session
  sheetbend hook, call          mark tool calls, from an agent's hooks or from your own program
  sheetbend spool               batches that a backend refused: list, export, send again, delete
  sheetbend unpin               remove from the kernel what a stopped sensor has left there
  sheetbend doctor              check this host, and say what to do about what is missing
  sheetbend record, replay      capture the raw stream, and make its spans again elsewhere`,
		Example: `  sudo -E sheetbend run -- claude
  sudo -E sheetbend run --otlp-endpoint http://127.0.0.1:4317 -- make test
  sudo sheetbend sensor --config /etc/sheetbend/sheetbend.yaml`,
		PersistentPreRun: func(*cobra.Command, []string) { readEnvironment() },
		SilenceUsage:     true,
		SilenceErrors:    true,
		Args:             known,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = build()
	root.SetVersionTemplate("sheetbend {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w: see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newRun(), newSensor(), newSessions(), newStory(), newTree(), newExport(), newShowSession(), newHook(), newCall(),
		newRecord(), newReplay(), newReport(), newSpool(), newDoctor(), newUnpin(), newVersion(), newMonitor(), newDialer(), newCloser())
	return root
}

// readEnvironment has Go's library open now, with the rights of who called sudo, what it would open as root when it
// first needs it: what SSL_CERT_FILE and SSL_CERT_DIR name. An error is told by each command that opens something.
func readEnvironment() {
	// Of any command: the library would append what is completed to the file of that name, as root.
	_ = os.Unsetenv("BASH_COMP_DEBUG_FILE")
	by, err := caller()
	if err != nil || !by.other() || os.Getenv("SSL_CERT_FILE") == "" && os.Getenv("SSL_CERT_DIR") == "" {
		return
	}
	_ = by.rights(func() error {
		_, _ = x509.SystemCertPool() // without any, each handshake fails
		return nil
	})
}

// known refuses words that are no command, and names those that were probably meant.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	advice := "see sheetbend --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		advice = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError("unknown command %q: %s (sheetbend run -- %s runs it)", args[0], advice, args[0])
}

// printable escapes what could move the cursor of the terminal that shows an error: control
// characters, and the Unicode characters that change the direction of text.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x20, r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
