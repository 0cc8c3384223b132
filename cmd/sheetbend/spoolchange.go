// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// change makes a command that does something to each dead letter.
func (f *spoolFlags) change(name, short, long string, do func(dir, id string) error, done string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name + " ID...",
		Short:   short,
		Long:    short + ": those that are named, or with --all each." + long,
		Example: "  sudo sheetbend spool " + name + " ID\n  sudo sheetbend spool " + name + " --all",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if (len(ids) == 0) != f.all {
				return usageError("%s needs either dead letters (see sheetbend spool list) or --all", cmd.CommandPath())
			}
			dir, who, letters, err := f.deadLetters(ids)
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
