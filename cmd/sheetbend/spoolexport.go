// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/exporters/file"
)

func newSpoolExport(f *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "export [ID...]",
		Short:   "Print dead letters as OTLP JSON, one request a line",
		Example: "  sudo sheetbend spool export >refused.jsonl",
		Long: "Print dead letters as OTLP JSON, one ExportTraceServiceRequest a line, of security events an " +
			"ExportLogsServiceRequest: those that are named, or all. They stay where they are.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			_, _, letters, err := f.deadLetters(ids)
			out := file.New("standard output", os.Stdout, nil)
			out.Patient()
			for _, l := range letters {
				out.Write(l.Batch)
			}
			return errors.Join(out.Close(cmd.Context()), err)
		},
	}
}
