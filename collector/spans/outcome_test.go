// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

func TestOutcomes(t *testing.T) {
	const notKnown span.Outcome = ""
	every := []span.Kind{span.Open, span.Change, span.Connect, span.Socket, span.Namespace, span.Access}
	for _, tt := range []struct {
		want   span.Outcome
		kinds  []span.Kind // nil: every one
		errnos []unix.Errno
	}{
		{span.OK, nil, []unix.Errno{0}},
		{span.Missing, nil, []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ENXIO, unix.ENODEV, unix.ESRCH}},
		{span.Refused, nil, []unix.Errno{unix.EPERM, unix.EACCES, unix.EROFS}},
		{span.Refused, []span.Kind{span.Open}, []unix.Errno{unix.ELOOP, unix.EXDEV, unix.ETXTBSY}},
		{span.Failed, []span.Kind{span.Change}, []unix.Errno{unix.ELOOP, unix.EXDEV, unix.ETXTBSY}},
		{span.Failed, []span.Kind{span.Connect}, []unix.Errno{unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH}},
		{notKnown, []span.Kind{span.Connect}, []unix.Errno{unix.ECANCELED}},
		{span.Failed, []span.Kind{span.Open, span.Change}, []unix.Errno{unix.ECANCELED}},
		{span.Failed, nil, []unix.Errno{unix.EINVAL, unix.EEXIST, unix.EISDIR, unix.EAGAIN, unix.EINTR, unix.EAFNOSUPPORT, 9999}},
	} {
		for _, kind := range every {
			for _, e := range tt.errnos {
				if tt.kinds != nil && !slices.Contains(tt.kinds, kind) {
					continue
				}
				if got := outcomeOf(kind, e); got != tt.want {
					t.Errorf("%s with %d (%v): %q, want %q", kind, int(e), e, got, tt.want)
				}
			}
		}
	}
	for status, want := range map[uint32]span.Outcome{0: span.OK, 1 << 8: span.Failed, 255 << 8: span.Failed, 9: span.Failed, 0x86: span.Failed} {
		if got := outcomeOfExit(status); got != want {
			t.Errorf("exit status %#x: %q, want %q", status, got, want)
		}
	}
	for _, tt := range []struct {
		result   record.Success
		decision string
		ran      bool
		want     span.Outcome
	}{
		{record.SuccessUnknown, "", true, notKnown},
		{record.SuccessUnknown, "approved", true, notKnown},
		{record.SuccessOK, "approved", true, span.OK},
		{record.SuccessFailed, "approved", true, span.Failed},
		{record.SuccessUnknown, record.Denied, false, span.Refused},
		{record.SuccessFailed, record.Denied, false, span.Refused},
		{record.SuccessUnknown, record.Denied, true, notKnown},
		{record.SuccessFailed, record.Denied, true, span.Failed},
		{record.SuccessOK, record.Denied, false, span.OK},
	} {
		k := &attribution.Call{Result: tt.result}
		k.Approval.Decision, k.Life.Ran = tt.decision, tt.ran
		if got := outcomeOfCall(k); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
