// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// asUnknown makes the test binary an agent that nobody knows: it runs commands as shells in kernel sessions of their own.
const asUnknown = "SHEETBEND_TEST_AS_UNKNOWN"

func beUnknown() int {
	_ = os.Unsetenv(asUnknown)
	for _, command := range []string{"true; exit 3", "true; true"} {
		c := exec.Command("sh", "-c", command)
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		_ = c.Run()
	}
	return 0
}

// A program that nobody knows and that works as agents do is told as one, with a line that says how to name it; a
// terminal multiplexer is not.
func TestAnAgentThatNobodyKnowsHasCalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		titles []string
	}{{"my-agent", []string{"true; exit 3", "true; true"}}, {"tmux", nil}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program := peerNamed(t, dir, c.name)
			out := filepath.Join(dir, "spans.jsonl")
			run := sheetbend(t, "run", "--output", out, "--", program)
			run.Env = append(run.Env, asUnknown+"=1")
			said, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			spans, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var titles []string
			for _, s := range parseSpans(t, spans) {
				if attribute(s, span.KeyEvent) == span.SessionCall.String() {
					titles = append(titles, attribute(s, span.KeyCallTitle))
				}
			}
			if strings.Join(titles, "|") != strings.Join(c.titles, "|") {
				t.Errorf("calls %q, want %q", titles, c.titles)
			}
			if hint := strings.Contains(string(said), c.name+" is no agent that Sheetbend knows"); hint != (c.titles != nil) {
				t.Errorf("it said\n%s", said)
			}
		})
	}
}
