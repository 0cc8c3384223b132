// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"testing"

	"github.com/sheetbend/sheetbend/collector/proc"
)

func TestAPidIsAliveOnlyWithItsStart(t *testing.T) {
	own := uint32(os.Getpid())
	start, err := proc.Start("/proc", own)
	if err != nil {
		t.Fatal(err)
	}
	start++
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
