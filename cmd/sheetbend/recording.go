// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/exporters/otlp"
	"github.com/sheetbend/sheetbend/exporters/recorder"
)

// openRecorder opens the recorder that is configured, to be given what the encoder has; nil if there is to be none, or
// if it is optional and there is no place for it.
func openRecorder(c *config.Config, owns identity, optional bool, log *slog.Logger) (*recorder.Recorder, error) {
	dir := c.Recorder.Dir()
	if dir == "" {
		return nil, nil
	}
	if owns.other() {
		return nil, usageError("recorder.path: nothing is recorded for user %s, who called sudo: --output keeps spans in a "+
			"file%s", owns.name, asRoot)
	}
	r, err := recorder.Open(recorder.Options{
		Path: dir, MaxBytes: int64(c.Recorder.MaxBytes), MaxAge: time.Duration(c.Recorder.MaxAge),
		User: uint32(os.Geteuid()), Encode: otlp.NewEncoder(build(), otlp.Limits{}).AppendTraces, Log: log,
	})
	if err != nil && optional {
		c.Recorder.Path = config.NoRecorder
		log.Warn("sessions are not recorded: recorder.path says where (docs/configuration.md)", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the flight recorder: %w", err)
	}
	log.Info("recording", "recorder", dir,
		"max_bytes", int64(c.Recorder.MaxBytes), "max_age", time.Duration(c.Recorder.MaxAge))
	return r, nil
}

// recordingsLost lists, for people, what a recorder could not keep.
func recordingsLost(r *recorder.Recorder, add func(n uint64, format string, args ...any)) {
	if r == nil {
		return
	}
	s := r.Stats()
	add(s.Slow, "not recorded: the disk was too slow")
	add(s.Disk, "not recorded: the disk did not take them")
	add(s.Shutdown, "not recorded before the end")
}
