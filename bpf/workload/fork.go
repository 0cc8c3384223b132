// SPDX-License-Identifier: Apache-2.0

package workload

// forkOne forks a child that exits at once, with stay as its code, or where that is 1 waits for its end, and returns its
// pid or a negative errno.
func forkOne(stay int64) int64
