// SPDX-License-Identifier: Apache-2.0

package main

import (
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
)

// loading are the capabilities that loading and attaching the programs needs: CAP_BPF for maps and programs,
// CAP_PERFMON to read kernel memory and for tracepoints, CAP_NET_ADMIN for the programs at the sockets of a cgroup.
// What else a stage needs, depends on the host: docs/security.md.
var loading = confine.Of(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN)

// lacking are those of loading that are not in the set. To bpf(2), CAP_SYS_ADMIN stands for each of them.
func lacking(s confine.Set) confine.Set {
	if s.Has(unix.CAP_SYS_ADMIN) {
		return 0
	}
	return loading &^ s
}
