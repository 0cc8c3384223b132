// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package bpf_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
)

func TestWhoeverReadsIsToldThatTheSensorIsClosed(t *testing.T) {
	s, _ := load(t, bpf.Options{Form: bpf.FormTracepoint})
	drain(t, s)
	s.SetDeadline(time.Time{})
	read := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Read(nil); err != nil {
				read <- err
				return
			}
		}
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading ends with %v", err)
	}
	if _, err := s.Read(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading of a sensor that is closed gives %v", err)
	}
}
