// SPDX-License-Identifier: Apache-2.0

package workload

// forkOne forks a child that exits at once, or where stay is not zero waits for its end, and returns its pid or a
// negative errno.
func forkOne(stay int64) int64
