// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
)

// A captureFile is a capture on disk.
type captureFile struct {
	*capture.Writer
	f *os.File
}

// createCapture makes or empties the file with the rights of who, readable by its owner only: arguments and
// paths are in it as they were.
func createCapture(who identity, name string, cc collector.Config) (*captureFile, error) {
	f, err := who.openOutput(name, truncate)
	if err != nil {
		return nil, fmt.Errorf("make the capture: %w", err)
	}
	w, err := capture.NewWriter(f, capture.Header{Sensor: build(), Config: cc})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &captureFile{w, f}, nil
}

func (c *captureFile) close() error { return errors.Join(c.Flush(), c.f.Close()) }
