// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
)

// closerName is the command that closes what it was given by ending. It is nobody's to call but run's.
const closerName = "event-closer"

func newCloser() *cobra.Command {
	return &cobra.Command{
		Use: closerName, Hidden: true, Short: "Close the perf events of run, after it has",
		Args:             cobra.NoArgs,
		PersistentPreRun: func(*cobra.Command, []string) {}, // it opens nothing
		RunE: func(*cobra.Command, []string) error {
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		},
	}
}

// closeElsewhere closes perf events to which nothing is attached, and leaves it to a process that ends after this one
// to wait for the kernel: for sixty of them some two seconds. Where none can be started, they are closed here.
func closeElsewhere(events []*os.File) {
	closer := exec.Command("/proc/self/exe", closerName)
	closer.ExtraFiles, closer.Env, closer.Dir = events, []string{}, "/"
	closer.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what keys send is not for it
	closed, err := closer.StdinPipe()
	if err == nil {
		err = closer.Start()
	}
	for _, e := range events {
		_ = e.Close()
	}
	if err == nil {
		_ = closed.Close()
		_ = closer.Process.Release() // not waited for
	}
}
