// SPDX-License-Identifier: Apache-2.0

package collector

// A clock is the time of the stream, which all rooms share.
type clock struct {
	now    uint64 // boottime: the latest time of a record
	tick   uint64 // boottime of the last tick
	offset uint64 // added to boottime gives wall time; wraps
}
