// SPDX-License-Identifier: Apache-2.0

package bpf

import "testing"

func TestKernelsBefore510AreTooOld(t *testing.T) {
	for release, tooOld := range map[string]bool{
		"4.19.0-27-amd64": true, "5.4.0": true, "5.9.16": true,
		"5.10.0-32-cloud-amd64": false, "5.15.1": false, "6.1.0-50-cloud-amd64": false, "7.3.4+deb13": false,
		"no release": false,
	} {
		if got := releaseBefore(release, 5, 10); got != tooOld {
			t.Errorf("%s: too old is %t, want %t", release, got, tooOld)
		}
	}
}
