// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector/journal"
	"github.com/sheetbend/sheetbend/collector/record"
)

// pinning says where the kernel side outlives the process; the zero value is nowhere.
type pinning struct {
	dir   string
	unpin bool // what is there is taken over, and nothing is left
}

// bpffs is where the bpf file system is mounted; pins elsewhere need pin_path.
const bpffs = "/sys/fs/bpf"

// pinDir is where pins are, or would be; os.ErrNotExist where there is no bpf file system.
func pinDir(c *config.Config) (string, error) {
	if c.PinPath != "" {
		return c.PinPath, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(bpffs, &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
		return "", fmt.Errorf("no bpf file system is mounted (mount -t bpf bpf %s): %w", bpffs, os.ErrNotExist)
	}
	return filepath.Join(bpffs, "sheetbend"), nil
}

func pinningOf(c *config.Config, log *slog.Logger) pinning {
	dir, err := pinDir(c)
	if err != nil {
		if c.Pin {
			log.Warn("a restart of the sensor will have a gap: nothing can be pinned", "err", err)
		}
		return pinning{}
	}
	return pinning{dir: dir, unpin: !c.Pin}
}

// tmpfs gives the first of tallyDirs that is one; "" if none is.
func tmpfs() string {
	_ = os.MkdirAll(tallyDirs[0], 0o755) // where that cannot be, there is the next
	for _, d := range tallyDirs {
		var st unix.Statfs_t
		if unix.Statfs(d, &st) == nil && st.Type == unix.TMPFS_MAGIC {
			return d
		}
	}
	return ""
}

// journalPath is where the journal is; "" if there is none, or no place for one.
func journalPath(c *config.Config) string {
	if c.Journal == config.NoJournal {
		return ""
	}
	if c.Journal != "" {
		return c.Journal
	}
	if dir := tmpfs(); dir != "" {
		return filepath.Join(dir, "sheetbend.journal")
	}
	return ""
}

// checkJournal refuses the journal of a newer version, before anything is in the kernel.
func checkJournal(c *config.Config, pins pinning) error {
	if path := journalPath(c); pins.dir != "" && path != "" && path != config.NoJournal {
		return journal.RefuseNewer(path)
	}
	return nil
}

// openJournal opens the journal of a sensor that is pinned: without its hooks, nobody knows what happened meanwhile.
// nil: there is none.
func openJournal(c *config.Config, pins bpf.Pins, boot string, log *slog.Logger) (*journal.Journal, error) {
	if pins.Dir == "" || c.Journal == config.NoJournal {
		return nil, nil
	}
	path := journalPath(c)
	if path == "" {
		log.Warn("if the sensor is killed, what is not sent and what it knows of processes is lost: no tmpfs at " +
			strings.Join(tallyDirs, " or "))
		return nil, nil
	}
	j, err := journal.Open(journal.Config{
		Path: path, Content: fmt.Sprint(boot, " ", record.Layout),
		Starts: pins.Starts, MaxBytes: int64(c.Limits.JournalBytes), Log: log,
	})
	if err != nil {
		log.Warn("if the sensor is killed, what is not sent and what it knows of processes is lost", "err", err)
		return nil, nil
	}
	return j, nil
}

// logPins says what was found pinned, and what is now.
func logPins(p bpf.Pins, log *slog.Logger) {
	if p.Err != nil {
		log.Warn("pins: "+p.Err.Error(), "pinned", p.Dir != "")
	}
	if p.Resumed {
		log.Info("resuming the hooks of the sensor before", "backlog_bytes", p.Backlog, "gap", p.Gap)
	}
	if p.Replaced > 0 {
		log.Info("taking over from another version or configuration of the sensor", "replaced", p.Replaced)
	}
}

func newUnpin() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "unpin",
		Short: "Take out of the kernel what a sensor that ended has left there",
		Long: `The sensor leaves its hooks, tables and ring in the kernel when it ends, so that the next one goes on
without a gap. Until then they cost what they always cost, and the ring fills: what does not fit is
counted, for the next sensor to tell. This takes them away, after the sensor was stopped for good.`,
		Example: `  sudo systemctl disable --now sheetbend && sudo sheetbend unpin`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.administer()
			if err != nil {
				return err
			}
			dir, err := pinDir(c)
			said, n := "nothing was pinned", 0
			if err == nil {
				n, err = bpf.Unpin(dir)
			}
			if errors.Is(err, bpf.ErrPinsInUse) {
				return fmt.Errorf("a sensor is running: stop it first: %w", err)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("unpin: %w", err)
			}
			if n > 0 {
				said = "unpinned"
				path := journalPath(c)
				if err := os.Remove(path); path != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("remove the journal: %w", err)
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
	s.config(cmd.Flags(), "configuration `FILE` that names the pins' directory")
	return cmd
}

// checkPins says whether a restart of the sensor has a gap here.
func checkPins(c *config.Config, who identity) check {
	const name = "pins"
	dir, err := pinDir(c)
	if err != nil {
		return check{name, checkWarn, err.Error(),
			"without it what happens during a restart of the sensor is not seen; pin: false does without"}
	}
	if c.PinPath == "" {
		who = identity{} // nobody named it
	}
	var names []string
	var held bool
	err = who.rights(func() (err error) {
		names, held, err = bpf.PinsAt(dir)
		return err
	})
	switch {
	case err != nil:
		return check{name, checkWarn, err.Error(), "remove it: the sensor creates it again"}
	case held:
		return check{name, checkOK, "in " + dir + ", held by a sensor that runs", ""}
	case len(names) > 0:
		found := fmt.Sprintf("in %s: %s, of a sensor that does not run", dir, strings.Join(names, ", "))
		return check{name, checkWarn, found,
			"the next sensor goes on with them; if there is to be none, sheetbend unpin takes them away"}
	}
	return check{name, checkOK, "possible in " + dir, ""}
}
