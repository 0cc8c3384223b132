// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Bits of include/uapi/linux/capability.h. CAP_PERFMON and CAP_BPF are new in 5.8.
const (
	capNetAdmin = 12
	capSysAdmin = 21
	capPerfmon  = 38
	capBPF      = 39
)

// capSet is a set of capabilities.
type capSet uint64

func (c capSet) has(bit int) bool { return c&(1<<bit) != 0 }

// missing names the capabilities that the sensor needs and are not in the set. To bpf(2), CAP_SYS_ADMIN stands for each
// of the others: for CAP_BPF and CAP_PERFMON by capabilities(7), for CAP_NET_ADMIN, which programs at the sockets of a
// cgroup need, since 5.8, too.
func (c capSet) missing() (names []string) {
	if c.has(capSysAdmin) {
		return nil
	}
	for _, n := range []struct {
		bit  int
		name string
	}{{capBPF, "CAP_BPF"}, {capPerfmon, "CAP_PERFMON"}, {capNetAdmin, "CAP_NET_ADMIN"}, {capSysAdmin, "CAP_SYS_ADMIN"}} {
		if !c.has(n.bit) {
			names = append(names, n.name)
		}
	}
	return names
}

// capabilities are the effective ones of this process.
func capabilities() (capSet, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read the capabilities of this process: %w", err)
	}
	return parseCaps(string(text))
}

func parseCaps(status string) (capSet, error) {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			v, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("read the capabilities of this process: %w", err)
			}
			return capSet(v), nil
		}
	}
	return 0, errors.New("read the capabilities of this process: no CapEff line in /proc/self/status")
}
