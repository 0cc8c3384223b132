// SPDX-License-Identifier: Apache-2.0

package workload

import "golang.org/x/sys/unix"

// map32Bit asks mmap for memory below 4 GiB.
const map32Bit = unix.MAP_32BIT

// int80 does a 32-bit system call: pointers must lie below 4 GiB. It returns the result or a negative errno.
func int80(nr, a, b, c, d uint32) int32
