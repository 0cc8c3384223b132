// SPDX-License-Identifier: Apache-2.0

// Package sensortest runs sensors in tests, each in a process of its own, and waits for what they do.
package sensortest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// Patience bounds every wait. Machines are shared; nothing depends on the time it takes.
const Patience = 3 * time.Minute

// Until waits until a condition holds; what says which, for the error. It polls: the condition is about other
// processes.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Succeeds(t, what, func() error {
		if !holds() {
			return fmt.Errorf("not within %s", Patience)
		}
		return nil
	})
}

// Succeeds is Until for a condition that holds when there is no error. The last error is reported.
func Succeeds(t testing.TB, what string, try func() error) {
	t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	end := time.After(Patience)
	for err := try(); err != nil; err = try() {
		select {
		case <-ticks.C:
		case <-end:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

var cgroups atomic.Uint32

// Cgroup makes a cgroup for sandboxes of the test, and removes it with all that is in it. It ends the test where it is
// not root.
func Cgroup(t testing.TB) (cgroup.Mount, string) {
	t.Helper()
	workloadtest.Root(t)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(t.Name(), "/", "-")
	cg := fmt.Sprintf("/sheetbend-test-%s-%d-%d", name, os.Getpid(), cgroups.Add(1))
	if err := m.Create(cg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_ = m.Kill(ctx, cg)
		if err := m.Remove(ctx, cg); err != nil {
			t.Error(err)
		}
	})
	return m, cg
}

// Inside prepares a command that runs in a cgroup from its first instant.
func Inside(t testing.TB, m cgroup.Mount, cg string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := m.Open(cg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd
}

// A Sensor is a running sensor, or another command that logs to standard error. Its methods may be called by one
// goroutine at a time.
type Sensor struct {
	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{} // closed when the log has ended

	mu  sync.Mutex
	log strings.Builder
}

// Start starts the command, whose standard error is read from now on. If it still runs when the test ends, it is
// killed; the log of a test that failed is shown.
func Start(t testing.TB, cmd *exec.Cmd) *Sensor {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &Sensor{t: t, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for lines := bufio.NewReader(stderr); ; {
			line, err := lines.ReadString('\n')
			s.mu.Lock()
			s.log.WriteString(line)
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the sensor:\n%s", s.Log())
		}
	})
	return s
}

// Log is what was logged up to now, in whole lines.
func (s *Sensor) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Hears waits until the log has a text, or has ended without it.
func (s *Sensor) Hears(text string) bool {
	s.t.Helper()
	ended := false
	Until(s.t, fmt.Sprintf("wait for %q in the log", text), func() bool {
		select {
		case <-s.ended:
			ended = true
		default:
		}
		return ended || strings.Contains(s.Log(), text)
	})
	return strings.Contains(s.Log(), text)
}

// Hear waits until the log has a text, and gives the log.
func (s *Sensor) Hear(text string) string {
	s.t.Helper()
	if !s.Hears(text) {
		s.t.Fatalf("ended without %q: %s", text, s.Log())
	}
	return s.Log()
}

// End sends a signal, waits until the sensor has ended, and gives its whole log. How it ended says its ProcessState.
func (s *Sensor) End(signal os.Signal) string {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	return s.Wait()
}

// Wait waits until the sensor has ended by itself, and gives its whole log.
func (s *Sensor) Wait() string {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(Patience):
		s.t.Fatal("the sensor does not end")
	}
	_ = s.cmd.Wait()
	return s.Log()
}

// Stop ends the sensor as an administrator does. Another exit code than 0 is an error. One that has ended is left
// alone.
func (s *Sensor) Stop() {
	s.t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	if log := s.End(syscall.SIGTERM); !s.cmd.ProcessState.Success() {
		s.t.Errorf("sensor: %s: %s", s.cmd.ProcessState, log)
	}
}

// Kill ends the sensor with SIGKILL; one that has ended is left alone.
func (s *Sensor) Kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
		_ = s.cmd.Wait()
	}
}
