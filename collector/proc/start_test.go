// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAProcessBeganBeforeNow(t *testing.T) {
	start, err := Start("/proc", uint32(os.Getpid()))
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	if err != nil || start == 0 || start%Tick != 0 || start > uint64(now.Nano()) {
		t.Errorf("%d, %v; it is %d now", start, err, now.Nano())
	}
	if _, err := Start("/proc", 1<<31-1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func FuzzParseStart(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1"))
	f.Add([]byte("no name"))
	f.Fuzz(func(t *testing.T, text []byte) {
		start, err := parseStart(text)
		if err != nil {
			return
		}
		// What stands before the last parenthesis, the name among it, changes nothing.
		end := bytes.LastIndexByte(text, ')')
		if again, err := parseStart(append([]byte("1 (x) 1 2 "), text[end:]...)); err != nil || again != start {
			t.Errorf("%d, with another name %d, %v", start, again, err)
		}
	})
}
