// SPDX-License-Identifier: Apache-2.0

// Package chaostest breaks what a running sensor stands on, one thing at a time, while a generator that knows exactly
// what it did is watched. Afterwards what was received and what was reported lost is what was generated, and what
// came twice is the same (make test-chaos). A soak watches for hours whether the sensor stays as small as it was
// (make soak).
package chaostest
