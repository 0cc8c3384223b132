// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"os"
	"strconv"
)

// Alive says whether the process that has the pid now is the one that began at start (ns of CLOCK_BOOTTIME).
func Alive(pid uint32, start uint64) bool {
	ticks, err := startTicks(statFile("/proc", pid))
	return err == nil && ticks == start/(1e9/userHz)
}

// hasEnded says whether a process is gone for sure: one that cannot be looked at may be alive.
func hasEnded(proc string, pid uint32, start uint64) bool {
	ticks, err := startTicks(statFile(proc, pid))
	return errors.Is(err, os.ErrNotExist) || err == nil && ticks != start/(1e9/userHz)
}

func statFile(proc string, pid uint32) string {
	return proc + "/" + strconv.FormatUint(uint64(pid), 10) + "/stat"
}
