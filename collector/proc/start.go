// SPDX-License-Identifier: Apache-2.0

// Package proc reads what /proc tells of a process.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Tick is the resolution of start times, in ns: every Linux ABI that Go runs on has USER_HZ 100.
const Tick = 1e9 / 100

// Start is when a process began, in ns of CLOCK_BOOTTIME, rounded down to [Tick]. root is where proc is mounted. The
// error wraps [os.ErrNotExist] if there is no such process. A pid may be another process's by the time Start returns:
// whoever must know looks at a pidfd, or asks again.
func Start(root string, pid uint32) (uint64, error) {
	file := root + "/" + strconv.FormatUint(uint64(pid), 10) + "/stat"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	start, err := parseStart(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return start, nil
}

// parseStart reads field 22, counted after the name, which is in parentheses and may hold anything.
func parseStart(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no process name in it")
	}
	fields := bytes.Fields(stat[end+1:])
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return 0, fmt.Errorf("only %d fields", len(fields))
	}
	ticks, err := strconv.ParseUint(string(fields[startTime]), 10, 64)
	return ticks * Tick, err
}
