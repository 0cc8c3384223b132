// SPDX-License-Identifier: Apache-2.0

// Command sheetbend-workload does one thing that the sensor should see and
// prints an exact account of it. See package workload.
package main

import (
	"os"
	"runtime"

	"github.com/sheetbend/sheetbend/bpf/workload"
)

func init() {
	// The main goroutine stays on the leader thread, so every other goroutine is on another one.
	runtime.LockOSThread()
}

func main() { os.Exit(workload.Main(os.Args[1:])) }
