// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/exporters/delivery"
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
	flags.StringVar(&f.path, "path", "",
		"directory of the spool (default: spool.path of --config, or "+config.DefaultSpool+")")
	flags.StringVar(&f.file, "config", "", "configuration `FILE` that names the spool")
	cmd.AddCommand(newSpoolList(f), newSpoolExport(f),
		f.change("retry", "Let the sensor send dead letters again", `
A sensor that runs does so within a second or two; one that does not, when it is started. What is
refused again becomes a dead letter again.`, delivery.Retry, "to be sent again"),
		f.change("drop", "Delete dead letters", " This cannot be undone.", delivery.Drop, "deleted"))
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
		return "", f.by, usageError("%s has spool.path: none, so there is no spool", f.file)
	}
	return c.Spool.Dir(), f.owns, nil
}

// deadLetters are the dead letters with these ids, or all, and whose rights count in their directory.
func (f *spoolFlags) deadLetters(ids []string) (dir string, who identity, found []delivery.DeadLetter, err error) {
	if dir, who, err = f.dir(); err != nil {
		return "", who, nil, err
	}
	all, err := with(who.rights, func() ([]delivery.DeadLetter, error) { return delivery.DeadLetters(dir) })
	if len(ids) == 0 {
		return dir, who, all, err
	}
	// Another file that is none does not matter here.
	byID := map[string]delivery.DeadLetter{}
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
