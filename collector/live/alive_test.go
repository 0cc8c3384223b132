// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"testing"
)

func TestAPidIsAliveOnlyWithItsStart(t *testing.T) {
	ticks, err := startTicks("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	own, start := uint32(os.Getpid()), ticks*(1e9/userHz)+1
	if !Alive(own, start) {
		t.Error("this process is not alive")
	}
	if Alive(own, start-1e9) {
		t.Error("another process that had the pid before is alive")
	}
	if Alive(1<<31-1, start) {
		t.Error("a pid that nobody has is alive")
	}
}
