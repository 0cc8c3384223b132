// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Boottime is CLOCK_BOOTTIME of the host in ns, the time of all records: also in a time namespace, where this process
// has another one.
func Boottime() (uint64, error) {
	ahead, err := clockAhead()
	if err != nil {
		return 0, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return uint64(now.Nano() - ahead), nil
}

// clockAhead is by how much CLOCK_BOOTTIME of this process is ahead of the host's, ns.
var clockAhead = sync.OnceValues(func() (int64, error) {
	text, err := os.ReadFile("/proc/self/timens_offsets") // since Linux 5.6
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read the clock's offset: %w", err)
	}
	return offsetOf(text)
})

// offsetOf reads time_namespaces(7)'s lines, as "boottime  864000  0": seconds and ns.
func offsetOf(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[0]) != "boottime" {
			continue
		}
		s, err := strconv.ParseInt(string(f[1]), 10, 33)
		ns, nsErr := strconv.ParseInt(string(f[2]), 10, 32)
		if err := errors.Join(err, nsErr); err != nil {
			return 0, fmt.Errorf("read the clock's offset: %w", err)
		}
		return s*1e9 + ns, nil
	}
	return 0, nil
}
