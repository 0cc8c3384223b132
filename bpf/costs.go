// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// ProgramRun is what the kernel knows of a program's runs.
type ProgramRun struct {
	Program string
	Runs    uint64
	Time    time.Duration
}

// ProgramRuns tells how often each program ran and how long, while kernel.bpf_stats_enabled was set; none if it never
// was.
func (s *Sensor) ProgramRuns() (runs []ProgramRun, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.kernel.programs)) {
		stats, err := s.kernel.programs[name].Stats()
		if err != nil {
			return nil, fmt.Errorf("read how often %s ran: %w", name, err)
		}
		if stats.RunCount > 0 {
			runs = append(runs, ProgramRun{Program: name, Runs: stats.RunCount, Time: stats.Runtime})
		}
	}
	return runs, nil
}

// Memory is what the kernel says that the tables take, the ring included, in bytes.
func (s *Sensor) Memory() (bytes uint64, err error) {
	for name, table := range s.kernel.collection.Maps {
		info, err := table.Info()
		if err != nil {
			return 0, fmt.Errorf("read the size of the table %s: %w", name, err)
		}
		if n, ok := info.Memlock(); ok {
			bytes += n
		}
	}
	return bytes, nil
}
