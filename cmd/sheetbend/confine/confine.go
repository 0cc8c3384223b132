// SPDX-License-Identifier: Apache-2.0

// Package confine takes from the sensor, once it has started, what it needs no longer: capabilities, system calls,
// files and ports. All of it holds for every thread, those to come included, and cannot be taken back.
package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Needs is what the sensor keeps.
type Needs struct {
	Capabilities Set
	Files        Files
	Sockets      Sockets
	// NoLandlock says why Landlock cannot be used, "" if it can.
	NoLandlock string
}

// A Report says what holds.
type Report struct {
	Capabilities Set
	// Bounding says that the bounding set is empty. Without CAP_SETPCAP it stays; no_new_privs makes it meaningless.
	Bounding   bool
	NoNewPrivs bool
	Seccomp    bool
	// Landlock is the version of its interface that the rules are written for, 0 if it is not used.
	Landlock int
	// Lacks says what could not be applied, and why.
	Lacks []string
}

// Sockets are those that can still be made.
type Sockets struct {
	IP      bool // to connect to a backend
	Unix    bool // to connect to any, which is for a process that does nothing else
	Netlink bool // to ask whose a connection is
}

func (s Sockets) families() (families []uint32) {
	if s.IP {
		families = append(families, unix.AF_INET, unix.AF_INET6)
	}
	if s.Unix {
		families = append(families, unix.AF_UNIX)
	}
	if s.Netlink {
		families = append(families, unix.AF_NETLINK)
	}
	return families
}

// Apply confines this process. What the kernel lacks, or a container's own filter refuses, is left out and reported;
// an error means that less than the report says may hold.
func Apply(n Needs) (Report, error) {
	var r Report
	// Landlock and a filter without CAP_SYS_ADMIN ask for it.
	if err := prctlAll(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return r, fmt.Errorf("set no_new_privs: %w", err)
	}
	r.NoNewPrivs = true
	lacks := func(what string, err error) { r.Lacks = append(r.Lacks, fmt.Sprintf("%s (%v)", what, err)) }
	// Before the capabilities go: the directories that it is told may be another user's.
	if n.NoLandlock != "" {
		r.Lacks = append(r.Lacks, "landlock ("+n.NoLandlock+")")
	} else if version, err := n.Files.restrict(); err != nil {
		lacks("landlock", err)
	} else {
		r.Landlock = version
	}
	var err error
	if r.Bounding, err = keepOnly(n.Capabilities); err != nil {
		return r, err
	}
	if !r.Bounding {
		r.Lacks = append(r.Lacks, "an empty bounding set (CAP_SETPCAP is missing)")
	}
	if r.Capabilities, err = Current(); err != nil {
		return r, err
	}
	// Last: it forbids what the others do.
	if err := SetFilter(program(unix.Getpid(), n.Sockets), unix.SECCOMP_FILTER_FLAG_TSYNC); err != nil {
		lacks("seccomp", err)
	} else {
		r.Seccomp = true
	}
	return r, nil
}

func prctlAll(option, a, b uintptr) error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, option, a, b, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func capsetAll(data *[2]unix.CapUserData) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
