// SPDX-License-Identifier: Apache-2.0

package marker

import "testing"

func FuzzParsePidfd(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1\nPid:\t4321\nNSpid:\t4321\t1\n"))
	f.Add([]byte("Pid:\t-1\n"))
	f.Add([]byte("Pid:\t0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if pid, err := parsePidfd(text); (pid > 0) == (err != nil) {
			t.Fatalf("pid %d, %v", pid, err)
		}
	})
}
