// SPDX-License-Identifier: Apache-2.0

package live

import "strconv"

// Alive says whether the process that has the pid now is the one that began at start (ns of CLOCK_BOOTTIME).
func Alive(pid uint32, start uint64) bool { return aliveIn("/proc", pid, start) }

func aliveIn(proc string, pid uint32, start uint64) bool {
	ticks, err := startTicks(proc + "/" + strconv.FormatUint(uint64(pid), 10) + "/stat")
	return err == nil && ticks == start/(1e9/userHz)
}
