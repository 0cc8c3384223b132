// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package signals

import _ "unsafe" // for linkname

// Go's library calls the function at _cgo_init, if there is one, before anything else. That is how a program with C in
// it sets up threads; in one without, it is the only place from which the state that exec(2) left can be seen.
//
//go:linkname atStart sheetbend_at_start
//go:linkname _cgo_init _cgo_init
var (
	atStart   byte
	_cgo_init = &atStart
)

// threadLocal is what the function in start_amd64.s gives to the first thread, as it then has to.
var threadLocal [2]uint64 //nolint:unused // in assembly
