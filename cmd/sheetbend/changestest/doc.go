// SPDX-License-Identifier: Apache-2.0

// Package changestest runs real tools on real trees under the real sheetbend, and compares what is told of their files
// with the trees before and after. It holds tests only. They need root, git, rsync, vim, tar, make, npm, python3 and Go,
// and the binary in SHEETBEND_BIN: `make verify-changes`.
package changestest
