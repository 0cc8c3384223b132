// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// outcomeOf says how a call of the kernel came out that returned e. A peer that answers with ECONNREFUSED has forbidden
// nothing: nobody listens there.
func outcomeOf(kind span.Kind, e unix.Errno) span.Outcome {
	switch e {
	case 0:
		return span.OK
	case unix.ENOENT, unix.ENOTDIR, unix.ENXIO, unix.ENODEV, unix.ESRCH:
		return span.Missing
	case unix.EPERM, unix.EACCES, unix.EROFS:
		return span.Refused
	case unix.ELOOP, unix.EXDEV, unix.ETXTBSY:
		// By a limit on the lookup, or a program that runs; or of one that is written to. After EXDEV of a rename mv copies.
		if kind == span.Open || kind == span.ExecRefused {
			return span.Refused
		}
	case unix.ECANCELED:
		if kind == span.Connect {
			return "" // the socket was closed before
		}
	}
	return span.Failed
}

// outcomeOfExit says how a program came out, by the status that wait(2) gives.
func outcomeOfExit(status uint32) span.Outcome {
	if status != 0 {
		return span.Failed
	}
	return span.OK
}

// outcomeOfCall says how a call came out: agents report commands that fail as calls that succeed.
func outcomeOfCall(k *attribution.Call) span.Outcome {
	switch {
	case k.Approval.Decision == record.Denied && !k.Life.Ran && k.Result != record.SuccessOK:
		return span.Refused
	case k.Result == record.SuccessFailed:
		return span.Failed
	case k.Exit.Known:
		return outcomeOfExit(k.Exit.Status)
	case k.Result == record.SuccessOK:
		return span.OK
	}
	return ""
}

// outcome adds how it came out, if that is known.
func (d *builder) outcome(o span.Outcome) {
	if o != "" {
		d.trusted(span.KeyOutcome, string(o))
	}
}

// returned adds what a call of the kernel returned. The span fails when it was refused, or is a connection that was not
// made or a program that was not started: programs live with all other errors, as when they look for a file in one
// directory after the other.
func (d *builder) returned(errno int32) {
	e := unix.Errno(errno)
	o := outcomeOf(d.span.Kind, e)
	d.outcome(o)
	if e == 0 {
		return
	}
	name := unix.ErrnoName(e)
	if name == "" {
		name = "E" + strconv.Itoa(int(errno))
	}
	d.text(span.KeyErrorType, name)
	if o == span.Refused || o == span.Failed && (d.span.Kind == span.Connect && e != unix.EAGAIN || d.span.Kind == span.ExecRefused) {
		d.fail(e.Error())
	}
}
