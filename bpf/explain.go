// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Reasons for which a host cannot run the sensor. Load wraps them together with the kernel's own answer.
var (
	// ErrPermission: root or the capabilities (see Load) are missing, or the kernel is locked down.
	ErrPermission = errors.New(
		"not permitted to load BPF programs: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")
	// ErrNoBTF: the kernel was built without CONFIG_DEBUG_INFO_BTF.
	ErrNoBTF = errors.New(
		"this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF=y")
	// ErrKernelTooOld: before 5.10.
	ErrKernelTooOld = errors.New("this kernel is too old: Linux 5.10 or newer is needed")
)

// explain puts the reason that a user can act on before the kernel's own answer.
func explain(err error) error {
	var reason error
	switch {
	case kernelBefore(5, 10):
		reason = ErrKernelTooOld
	case errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) && !haveBTF():
		reason = ErrNoBTF
	case errors.Is(err, unix.EPERM) && os.Geteuid() != 0:
		reason = ErrPermission
	}
	if reason == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", reason, err)
}

// withoutMemlockHint leaves the kernel's answer alone: the library guesses at the limit on locked memory, which
// Load has raised.
func withoutMemlockHint(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the kernel refuses trampoline programs: %w", unix.EPERM)
	}
	return err
}

func haveBTF() bool {
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	return err == nil
}

// kernelBefore compares the running kernel's release; an unreadable one counts as new enough.
func kernelBefore(major, minor int) bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return releaseBefore(unix.ByteSliceToString(name.Release[:]), major, minor)
}

func releaseBefore(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}
