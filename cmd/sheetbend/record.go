// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
)

func newRecord() *cobra.Command {
	o := &runOptions{captureOnly: true}
	cmd := &cobra.Command{
		Use:   "record --output FILE [flags] (-- CMD ARGS... | --config FILE)",
		Short: "Capture the raw record stream to a file",
		Long: `Capture what the kernel reports, before any span is made of it: about a command that runs in a sandbox
of its own, or, without a command, about the sandboxes of a configuration until SIGTERM or SIGINT.
sheetbend replay makes the same spans of it, on any machine and without root.

A capture holds arguments and paths as they were, credentials included. Treat it as a secret.`,
		Example: `  sudo -E sheetbend record --output agent.capture -- claude
  sudo sheetbend record --output host.capture --config /etc/sheetbend/sheetbend.yaml
  sheetbend replay agent.capture`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.capture == "" || o.capture == "-" {
				return usageError("record needs --output FILE: a capture goes to a file")
			}
			if len(args) > 0 {
				return o.run(cmd.Context(), args)
			}
			if o.file == "" {
				return usageError("record needs what to watch: -- CMD ARGS, or --config FILE with sandboxes")
			}
			c, err := o.loadDaemon(cmd)
			if err != nil {
				return err
			}
			return daemon(cmd.Context(), c, &o.settings, cmd.Name(), o.capture)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.capture, "output", "o", "", "write the capture to `FILE`")
	f.Lookup("leftovers").Usage = "what to do about processes that outlive the command in its cgroup: " +
		"report, wait or kill"
	f.Lookup("quiet").Usage = "print no notes, only what went wrong"
	f.Lookup("config").Usage = "configuration `FILE`; with a command, its sandboxes are not used"
	o.confine(f)
	o.log(f)
	return cmd
}

// A captureFile is a capture on disk.
type captureFile struct {
	*capture.Writer
	f *os.File
}

// createCapture makes or empties the file with the rights of who, readable by its owner only: arguments and
// paths are in it as they were.
func createCapture(who identity, name string, cc collector.Config) (*captureFile, error) {
	f, err := who.openOutput(name, truncate)
	if err != nil {
		return nil, fmt.Errorf("make the capture: %w", err)
	}
	w, err := capture.NewWriter(f, capture.Header{Sensor: build(), Config: cc})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &captureFile{w, f}, nil
}

// close says so if the file has lost its name meanwhile: nobody will find it.
func (c *captureFile) close() error {
	err := c.Flush()
	was, statErr := c.f.Stat()
	if is, nameErr := os.Stat(c.f.Name()); statErr == nil && was.Mode().IsRegular() && (nameErr != nil || !os.SameFile(was, is)) {
		err = errors.Join(err, fmt.Errorf("the capture %s was moved or removed while it was written", c.f.Name()))
	}
	return errors.Join(err, c.f.Close())
}
