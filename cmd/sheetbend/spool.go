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

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/exporters/file"
	"github.com/sheetbend/sheetbend/exporters/spool"
)

// spoolFlags say which spool, and which dead letters of it.
type spoolFlags struct {
	settings
	path string
	all  bool
}

func newSpool() *cobra.Command {
	f := &spoolFlags{}
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look after the batches that a backend refused for good",
		Long: `The sensor keeps batches on disk until each backend has them. A batch that a backend refuses for good
(an invalid argument, not an outage) would hold up all that come after it: it is set aside as a dead letter.
These commands list dead letters, print them, let the sensor send them again, and delete them, also
while the sensor runs.`,
		Example: `  sudo sheetbend spool list
  sudo sheetbend spool export >refused.jsonl
  sudo sheetbend spool retry --all`,
		Args: known,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.path, "path", "", "directory of the spool (default: spool.path of --config, or "+config.DefaultSpool+")")
	flags.StringVar(&f.file, "config", "", "configuration `FILE` that names the spool")
	cmd.AddCommand(newSpoolList(f), newSpoolExport(f),
		f.change("retry", "Let the sensor send dead letters again",
			"A sensor that runs does so within a second or two; one that does not, when it is started. What is refused again becomes a dead letter again.",
			spool.Retry, "to be sent again"),
		f.change("drop", "Delete dead letters", "There is no way back.", spool.Drop, "deleted"))
	return cmd
}

// dir is the spool's directory, and whose rights count there.
func (f *spoolFlags) dir() (string, identity, error) {
	c, err := f.load()
	if err != nil {
		return "", f.by, err
	}
	switch {
	case f.path != "":
		return f.path, f.by, nil
	case c.Spool.Path == "" || c.Spool.Path == config.DefaultSpool:
		return config.DefaultSpool, identity{}, nil
	case c.Spool.Dir() == "":
		return "", f.by, &exitError{exitUsage, fmt.Errorf("%s has spool.path: none, so there is no spool", f.file)}
	}
	return c.Spool.Dir(), f.owns, nil
}

// letters are the dead letters with these ids, or all, and whose rights count in their directory.
func (f *spoolFlags) letters(ids []string) (dir string, who identity, found []spool.DeadLetter, err error) {
	if dir, who, err = f.dir(); err != nil {
		return "", who, nil, err
	}
	var all []spool.DeadLetter
	err = who.rights(func() (err error) {
		all, err = spool.DeadLetters(dir)
		return err
	})
	if len(ids) == 0 {
		return dir, who, all, err
	}
	// Another file that is none does not matter here.
	byID := map[string]spool.DeadLetter{}
	for _, l := range all {
		byID[l.ID] = l
	}
	for _, id := range ids {
		l, ok := byID[id]
		if !ok {
			return "", who, nil, fmt.Errorf("no dead letter %q in %s: see sheetbend spool list", id, dir)
		}
		found = append(found, l)
	}
	return dir, who, found, nil
}

func newSpoolList(f *spoolFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, _, letters, err := f.letters(nil)
			if asJSON {
				return errors.Join(printLettersJSON(os.Stdout, letters), err)
			}
			return errors.Join(printLetters(os.Stdout, dir, letters), err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func printLetters(w io.Writer, dir string, letters []spool.DeadLetter) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters in "+dir)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tMADE\tSPANS\tBYTES\tSTATE\tREFUSED BY\tREASON")
	for _, l := range letters {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", printable(l.ID), l.Created.UTC().Format(time.RFC3339), l.Spans, l.Size, letterState(l), printable(l.To), printable(l.Reason))
	}
	return t.Flush()
}

func letterState(l spool.DeadLetter) string {
	if l.Retry {
		return "retry"
	}
	return "dead"
}

func printLettersJSON(w io.Writer, letters []spool.DeadLetter) error {
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
		}{l.ID, l.Created.UTC(), l.Spans, l.Size, letterState(l), l.To, l.Reason})
		if err != nil {
			return err
		}
	}
	return nil
}

func newSpoolExport(f *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "export [ID...]",
		Short: "Print dead letters as OTLP JSON, one request a line",
		Long:  "Print dead letters as OTLP JSON, one ExportTraceServiceRequest a line: those that are named, or all. They stay where they are.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			_, _, letters, err := f.letters(ids)
			out := file.New("standard output", os.Stdout, nil)
			out.Patient()
			for _, l := range letters {
				out.Write(l.Batch)
			}
			return errors.Join(out.Close(cmd.Context()), err)
		},
	}
}

// change makes a command that does something to each dead letter.
func (f *spoolFlags) change(name, short, long string, do func(dir, id string) error, done string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name + " ID...",
		Short: short,
		Long:  short + ": those that are named, or with --all each. " + long,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if (len(ids) == 0) != f.all {
				return &exitError{exitUsage, fmt.Errorf("%s needs either dead letters (see sheetbend spool list) or --all", cmd.CommandPath())}
			}
			dir, who, letters, err := f.letters(ids)
			n := 0
			for _, l := range letters {
				if name == "retry" && l.Retry {
					continue // already
				}
				if e := who.rights(func() error { return do(dir, l.ID) }); e != nil {
					err = errors.Join(err, e)
					continue
				}
				n++
			}
			fmt.Printf("%s %s\n", count(uint64(n), "dead letter"), done)
			return err
		},
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters")
	return cmd
}
