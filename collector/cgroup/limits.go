// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits says how often the limits of a cgroup were hit since it was made: memory.high, memory.max, out of memory,
// processes killed for that, pids.max, and periods in which it was throttled by cpu.max. Those of memory include
// the cgroups below; those of pids do since Linux 6.11.
type Limits [6]uint64

// limitFiles are where the counts of Limits are, in that order. A controller that is off has no file.
var limitFiles = [...]struct {
	name string
	keys []string
}{
	{"memory.events", []string{"high", "max", "oom", "oom_kill"}},
	{"pids.events", []string{"max"}},
	{"cpu.stat", []string{"nr_throttled"}},
}

// Limits reads the counts of a cgroup. Of one that is gone they are 0.
func (m Mount) Limits(cgroup string) (l Limits, err error) {
	n := 0
	for _, file := range limitFiles {
		text, err := os.ReadFile(m.dir(cgroup) + "/" + file.name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return l, fmt.Errorf("read how often limits of cgroup %s were hit: %w", cgroup, err)
		}
		for _, key := range file.keys {
			l[n] = counterIn(string(text), key)
			n++
		}
	}
	return l, nil
}

// counterIn is the number behind a key at the beginning of a line; 0 where there is none.
func counterIn(text, key string) uint64 {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, key+" "); found {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
