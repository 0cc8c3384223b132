// SPDX-License-Identifier: Apache-2.0

//go:build !race

package main

import "testing"

// The race detector takes memory of its own: .ci/test runs this one once more, without it.
func TestTenThousandProcessesAreWatchedInSixtyMiB(t *testing.T) {
	resident, _ := residentWithProcesses(t, needRoot(t), 10_000)
	t.Logf("%.1f MiB are resident", resident)
	if resident > 60 {
		t.Error("that is too much")
	}
}
