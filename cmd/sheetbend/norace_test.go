// SPDX-License-Identifier: Apache-2.0

//go:build !race

package main

import "testing"

// The race detector takes memory of its own. make test-storms has this one.
func TestTenThousandProcessesAreWatchedInSixtyMiB(t *testing.T) {
	m := needRoot(t)
	// A sensor that is late, on a busy machine, holds more: the least of three.
	for range 3 {
		resident, _ := residentWithProcesses(t, m, 10_000)
		t.Logf("%.1f MiB are resident", resident)
		if resident <= 60 {
			return
		}
	}
	t.Error("that is too much")
}
