// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A Set is a set of capabilities, a bit for each number of include/uapi/linux/capability.h.
type Set uint64

// Of makes a set of unix.CAP_*.
func Of(capabilities ...int) (s Set) {
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// Has says whether the capability is in the set.
func (s Set) Has(capability int) bool { return s&(1<<capability) != 0 }

// names are those that the sensor has to do with. CAP_PERFMON and CAP_BPF are new in 5.8.
var names = map[int]string{
	unix.CAP_DAC_OVERRIDE:    "CAP_DAC_OVERRIDE",
	unix.CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
	unix.CAP_NET_ADMIN:       "CAP_NET_ADMIN",
	unix.CAP_SYS_PTRACE:      "CAP_SYS_PTRACE",
	unix.CAP_SYS_ADMIN:       "CAP_SYS_ADMIN",
	unix.CAP_SYS_RESOURCE:    "CAP_SYS_RESOURCE",
	unix.CAP_PERFMON:         "CAP_PERFMON",
	unix.CAP_BPF:             "CAP_BPF",
}

// Names are the capabilities in the set, by number.
func (s Set) Names() (list []string) {
	for c := range 64 {
		if !s.Has(c) {
			continue
		}
		name := names[c]
		if name == "" {
			name = fmt.Sprintf("capability %d", c)
		}
		list = append(list, name)
	}
	return list
}

func (s Set) String() string {
	if s == 0 {
		return "none"
	}
	return strings.Join(s.Names(), ",")
}

func capget() (data [2]unix.CapUserData, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return data, fmt.Errorf("read the capabilities of this process: %w", err)
	}
	return data, nil
}

// capset is for the calling thread.
func capset(data [2]unix.CapUserData) error {
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
}

func effective(data [2]unix.CapUserData) Set {
	return Set(data[0].Effective) | Set(data[1].Effective)<<32
}

// Current are the effective capabilities of this thread.
func Current() (Set, error) {
	data, err := capget()
	return effective(data), err
}

// DropThread drops all capabilities of the calling thread, for good.
func DropThread() error { return capset([2]unix.CapUserData{}) }

// With runs do with no other capabilities in effect than these, on a thread that gets the others back afterwards.
func With(s Set, do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	had, err := capget()
	if err != nil {
		return err
	}
	less := had
	less[0].Effective &= uint32(s)
	less[1].Effective &= uint32(s >> 32)
	if err := capset(less); err != nil {
		return fmt.Errorf("put capabilities aside: %w", err)
	}
	err = do()
	if back := capset(had); back != nil {
		return errors.Join(err, fmt.Errorf("take capabilities back: %w", back))
	}
	return err
}

// keepOnly drops all other capabilities, of those that this process has, and says whether the bounding set is empty
// now.
func keepOnly(s Set) (bounding bool, err error) {
	had, err := capget()
	if err != nil {
		return false, err
	}
	if bounding = effective(had).Has(unix.CAP_SETPCAP); bounding {
		for c := 0; ; c++ {
			if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
				break // one more than the kernel knows
			}
			if err := prctlAll(unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
				return false, fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
			}
		}
	}
	// An empty inheritable set empties the ambient one, too.
	var data [2]unix.CapUserData
	for i := range data {
		keep := uint32(s >> (32 * i))
		data[i].Effective, data[i].Permitted = had[i].Effective&keep, had[i].Permitted&keep
	}
	if err := capsetAll(&data); err != nil {
		return false, fmt.Errorf("drop capabilities: %w", err)
	}
	return bounding, nil
}
