// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

func TestWhatWasBegunLastEndsFirstAndOnce(t *testing.T) {
	var ended []string
	failed := errors.New("failed")
	begin := func(cause error) (_ *cleanups, err error) {
		var undo cleanups
		defer undo.onError(&err)
		for _, name := range []string{"a", "b", "c"} {
			undo.add(name, func() error {
				if ended = append(ended, name); name == "b" {
					return failed
				}
				return nil
			})
		}
		return &undo, cause
	}
	undo, err := begin(nil)
	if err != nil || len(ended) > 0 {
		t.Fatalf("%v; ended %v", err, ended)
	}
	if err := undo.run(); !errors.Is(err, failed) || err.Error() != "b: failed" || !slices.Equal(ended, []string{"c", "b", "a"}) {
		t.Errorf("%v; ended %v", err, ended)
	}
	if err := undo.run(); err != nil || len(ended) != 3 {
		t.Errorf("once more: %v; ended %v", err, ended)
	}
	ended = nil
	cause := errors.New("cause")
	if _, err := begin(cause); !errors.Is(err, cause) || !errors.Is(err, failed) || len(ended) != 3 {
		t.Errorf("%v; ended %v", err, ended)
	}
}

// opened are the sockets, files, programs and maps that this process has open.
func opened(t *testing.T) (targets []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// What the Go runtime polls with it keeps. The directory itself is closed by now.
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.Contains(target, "[event") {
			targets = append(targets, target)
		}
	}
	return targets
}

// Not in parallel: it looks at what this process has open.
func TestASensorThatCannotStartUndoesWhatItBegan(t *testing.T) {
	_, cg := sensortest.Cgroup(t)
	t.Setenv("GOGC", "100") // else the sensor sets it
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	pins, dir := mountBPFFS(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	conf := configFile(t, fmt.Sprintf(`
sandboxes: [{cgroup: %s/a}, {docker: {labels: {a: b}}}]
containers: {cri: [], docker: [%s], kubelet: ""}
exporters: {file: {path: %s}, otlp: {endpoint: "http://127.0.0.1:1"}}
spool: {path: %s}
pin_path: %s
journal: %s
socket: %s
intake: {listen: "127.0.0.1:0", unix: %s}
metrics: {listen: "%s"}
`, cg, in("docker"), in("spans"), in("spool"), pins, in("journal"), in("socket"), in("intake"), taken.Addr()))
	before := opened(t)
	for _, s := range []*settings{{file: conf, noPin: true}, {file: conf}} {
		c, err := s.loadDaemon(newSensor())
		if err != nil {
			t.Fatal(err)
		}
		err = daemon(t.Context(), c, s, "sensor", "")
		if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Fatalf("want an error about %s: %v", taken.Addr(), err)
		}
		left := slices.DeleteFunc(opened(t), func(target string) bool { return slices.Contains(before, target) })
		if len(left) > 0 {
			t.Errorf("without pins %t: open are still %q", s.noPin, left)
		}
		for _, name := range []string{in("socket"), in("intake")} {
			if _, err := os.Lstat(name); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", name, err)
			}
		}
		if _, err := os.Lstat(pins); s.noPin != os.IsNotExist(err) {
			t.Errorf("without pins %t: they are there or not: %v", s.noPin, err)
		}
	}
	// The hooks of the other wait for the next sensor, and no process holds them.
	if r := sheetbendRun(t, "unpin", "--config", conf); r.code != 0 || r.stdout != "unpinned\n" {
		t.Error(describeResult(r))
	}
}
