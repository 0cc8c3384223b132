// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
)

// Clock gives ns of CLOCK_BOOTTIME, the time of every kernel record, and ns since the
// Unix epoch at the same moment.
type Clock func() (boot uint64, wall int64, err error)

// SystemClock is the host's. Two clocks cannot be read at once: the wall clock is read between
// two readings of the other, whose middle is returned.
func SystemClock() (boot uint64, wall int64, err error) {
	before, err := bpf.Boottime()
	if err != nil {
		return 0, 0, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return 0, 0, fmt.Errorf("read CLOCK_REALTIME: %w", err)
	}
	after, err := bpf.Boottime()
	return (before + after) / 2, now.Nano(), err
}
