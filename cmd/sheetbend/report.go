// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	htmlreport "github.com/sheetbend/sheetbend/exporters/report"
)

func newReport() *cobra.Command {
	var (
		o      shown
		output string
		force  bool
	)
	cmd := &cobra.Command{
		Use:   "report [flags] [SESSION]",
		Short: "Write what an agent did as one HTML file, for a ticket",
		Long: `Write one HTML file of a session: what the agent did in short, its tool calls in time, and for each the
programs, files, hosts and decisions, with search and filters. The file holds all of it, loads nothing,
and can be opened without a network. Without SESSION it is the last one of yours that the sensor has
recorded.

It has the names of files and hosts, and the arguments of programs: treat it like the recording.
` + sessionHelp,
		Example: `  sheetbend report
  sheetbend report 01a0f5c2 -o ticket-4711.html
  sheetbend report agent.capture`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("report takes one session or file, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.source(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if output == "" {
				output = reportName(s.name)
			}
			return writeReport(cmd.OutOrStdout(), s, output, force)
		},
	}
	o.flags(cmd, false)
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "", "write the report to `FILE` (default: SESSION with .html, or report.html);\n-: standard output")
	f.BoolVar(&force, "force", false, "replace a file that is there")
	return cmd
}

// reportName is the name of a report where none is given: in the working directory.
func reportName(from string) string {
	base := filepath.Base(from)
	if from == "" || from == "-" {
		base = "report"
	}
	for {
		cut := strings.TrimSuffix(base, filepath.Ext(base))
		if cut == "" || !slices.Contains(fileSuffixes, filepath.Ext(base)) {
			return base + ".html"
		}
		base = cut
	}
}

// writeReport writes a report of what is in a source to a file, and says so. What came before an error of the source is
// in it.
func writeReport(to io.Writer, from source, output string, force bool) error {
	mode := createNew
	if force {
		mode = truncate
	}
	if !force && output != "-" && from.who.rights(func() error { _, err := os.Lstat(output); return err }) == nil {
		return isThere(output) // what decides is the open below: nobody is to wait for that
	}
	r := htmlreport.New(build())
	failure := from.spans(r)
	if failure != nil && r.Empty() {
		return failure
	}
	if output == "-" {
		return errors.Join(r.Write(to), failure)
	}
	f, err := from.who.openOutput(output, mode)
	if errors.Is(err, fs.ErrExist) {
		return isThere(output)
	}
	if err != nil {
		return fmt.Errorf("open the report: %w", err)
	}
	if err := errors.Join(r.Write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", output, err)
	}
	if abs, err := filepath.Abs(output); err == nil {
		output = abs
	}
	_, err = fmt.Fprintf(to, "The report is in %s\n", printable(output))
	return errors.Join(err, failure)
}

func isThere(name string) error {
	return fmt.Errorf("%s is there already: --force replaces it, -o names another", name)
}
