// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTheSameLineIsNotWrittenAgainAndAgain(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	log := slog.New(limit(slog.NewTextHandler(&out, nil), func() time.Time { return now }))
	lines := func(what string) int {
		defer out.Reset()
		return strings.Count(out.String(), what)
	}
	for i := range 1000 {
		log.With("sandbox", i).Warn("records were lost", "count", i)
	}
	log.Info("another")
	if text := out.String(); strings.Count(text, "records were lost") != logBurst || !strings.Contains(text, "another") || strings.Contains(text, "left_out") {
		t.Errorf("want %d lines and another:\n%s", logBurst, text)
	}
	out.Reset()
	now = now.Add(logEvery)
	for range 1000 {
		log.WithGroup("g").Warn("records were lost")
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "similar_lines_left_out=990") {
		t.Errorf("want one line that tells of those before:\n%s", text)
	}
	out.Reset()
	now = now.Add(time.Hour)
	for range 1000 {
		log.Warn("records were lost")
	}
	if n := lines("records were lost"); n != logBurst {
		t.Errorf("%d lines after a quiet hour, want %d", n, logBurst)
	}
	// Messages that differ each time.
	for i := range 100_000 {
		log.Error(fmt.Sprintf("error %d", i))
	}
	if n := lines("error"); n > maxMessages+logBurst {
		t.Errorf("%d lines of messages that all differ", n)
	}
}

func TestDebugLinesAreAllWritten(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(limit(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), time.Now))
	for range 100 {
		log.Debug("refused")
	}
	if n := strings.Count(out.String(), "\n"); n != 100 {
		t.Errorf("%d lines", n)
	}
}
