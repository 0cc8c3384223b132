// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnlySignalsAfterTheCommandsEndAskSheetbendToGiveUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		owed  os.Signal
		early []os.Signal // waiting when the command has ended
		late  []os.Signal // long after
		asks  bool
	}{
		{"nothing", nil, nil, nil, false},
		{"one that waited at the end belongs to it", nil, []os.Signal{unix.SIGINT, unix.SIGTERM}, nil, false},
		{"one that comes later asks", nil, []os.Signal{unix.SIGINT}, []os.Signal{unix.SIGINT}, true},
		{"the one that ended the command may come late", unix.SIGINT, nil, []os.Signal{unix.SIGINT}, false},
		{"once", unix.SIGINT, nil, []os.Signal{unix.SIGINT, unix.SIGINT}, true},
		{"not if it came in time", unix.SIGINT, []os.Signal{unix.SIGINT}, []os.Signal{unix.SIGINT}, true},
		{"another one asks", unix.SIGINT, nil, []os.Signal{unix.SIGTERM}, true},
		{"a child's end and a closed pipe say nothing", nil, nil, []os.Signal{unix.SIGCHLD, unix.SIGPIPE}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 64)
				for _, s := range c.early {
					signals <- s
				}
				asked := afterEnd(t.Context(), signals, c.owed)
				synctest.Wait()
				time.Sleep(time.Second) // of the test's own clock
				for _, s := range c.late {
					signals <- s
				}
				synctest.Wait()
				if got := len(asked) > 0; got != c.asks {
					t.Errorf("asks: %v, want %v", got, c.asks)
				}
			})
		})
	}
}

func TestSignalsOfTheCommandsEndDoNotEndTheDelivery(t *testing.T) {
	t.Parallel()
	needRoot(t)
	b := serve(t)
	// All that can wait unread when the command ends.
	const script = "kill -INT $PPID; kill -TERM $PPID; kill -HUP $PPID; kill -USR1 $PPID; kill -USR2 $PPID; kill -KILL $$"
	r := sheetbendRun(t, "run", "--quiet", "--otlp-endpoint", "http://"+b.addr, "--", "sh", "-c", "trap '' INT TERM HUP USR1 USR2; "+script)
	if r.code != 128+9 || strings.Contains(r.stderr, "not delivered") {
		t.Error(describeResult(r))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spans) == 0 {
		t.Error("no span was delivered")
	}
}

func TestTheInterruptKeyThatEndsTheCommandDoesNotEndTheDelivery(t *testing.T) {
	b := serve(t)
	cmd, keys, screen := onTerminal(t, "run", "--quiet", "--otlp-endpoint", "http://"+b.addr, "--", "sh", "-c", "echo ready; exec sleep 100")
	screen.hear("ready")
	press(t, keys, "\x03")
	said := screen.rest()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+2 || strings.Contains(said, "not delivered") {
		t.Errorf("exit code %d: %q", code, said)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spans) == 0 {
		t.Error("no span was delivered")
	}
}
