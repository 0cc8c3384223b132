// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

func TestOnlySignalsAfterTheCommandsEndAskSheetbendToGiveUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		owed  unix.Signal
		early []unix.Signal // waiting when the command has ended
		late  []unix.Signal // long after
		asks  bool
	}{
		{"nothing", 0, nil, nil, false},
		{"one that waited at the end belongs to it", 0, []unix.Signal{unix.SIGINT, unix.SIGTERM}, nil, false},
		{"one that comes later asks", 0, []unix.Signal{unix.SIGINT}, []unix.Signal{unix.SIGINT}, true},
		{"the one that ended the command may come late", unix.SIGINT, nil, []unix.Signal{unix.SIGINT}, false},
		{"once", unix.SIGINT, nil, []unix.Signal{unix.SIGINT, unix.SIGINT}, true},
		{"not if it came in time", unix.SIGINT, []unix.Signal{unix.SIGINT}, []unix.Signal{unix.SIGINT}, true},
		{"another one asks", unix.SIGINT, nil, []unix.Signal{unix.SIGTERM}, true},
		{"a closed pipe, another size and job control say nothing", 0, nil, []unix.Signal{unix.SIGPIPE, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := make(chan signals.Sent, 64)
				for _, s := range c.early {
					sent <- signals.Sent{Signal: s}
				}
				asked := afterEnd(t.Context(), sent, c.owed)
				synctest.Wait()
				time.Sleep(time.Second) // of the test's own clock
				for _, s := range c.late {
					sent <- signals.Sent{Signal: s}
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
	if code := shellCode(cmd); code != 128+2 || strings.Contains(said, "not delivered") {
		t.Errorf("exit code %d: %q", code, said)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spans) == 0 {
		t.Error("no span was delivered")
	}
}

func TestWhatTheCommandSendsItselfIsNotPassedOn(t *testing.T) {
	v := supervisor{inside: func(pid int) bool { return pid == 5 }}
	for from, want := range map[int]bool{0: true, 4: true, 5: false} {
		if got := v.means(signals.Sent{Signal: unix.SIGTERM, From: from}); got != want {
			t.Errorf("sent by %d: passed on is %v", from, got)
		}
	}
}
