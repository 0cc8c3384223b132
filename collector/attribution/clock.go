// SPDX-License-Identifier: Apache-2.0

package attribution

// A Clock is the time of the stream, which all rooms share.
type Clock struct {
	Now    uint64 // boottime: the latest time of a record
	At     uint64 // boottime: the time of the record at hand
	Tick   uint64 // boottime of the last tick
	Offset uint64 // added to boottime gives wall time; wraps
}
