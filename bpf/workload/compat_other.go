// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package workload

// int80 is what only amd64 has: ENOSYS.
func int80(_, _, _, _, _ uint32) int32 { return -38 }

// map32Bit asks mmap for nothing special: there is no one who needs it.
const map32Bit = 0
