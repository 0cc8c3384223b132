// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"os"

	"github.com/sheetbend/sheetbend/collector/proc"
)

// Alive says whether the process that has the pid now is the one that began at start (ns of CLOCK_BOOTTIME).
func Alive(pid uint32, start uint64) bool {
	now, err := proc.Start("/proc", pid)
	return err == nil && now == start-start%proc.Tick
}

// hasEnded says whether a process is gone for sure: one that cannot be looked at may be alive.
func hasEnded(root string, pid uint32, start uint64) bool {
	now, err := proc.Start(root, pid)
	return errors.Is(err, os.ErrNotExist) || err == nil && now != start-start%proc.Tick
}
