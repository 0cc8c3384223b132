// SPDX-License-Identifier: Apache-2.0

// Package workloadtest runs the scenarios of package workload in tests.
package workloadtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/bpf/workload"
)

// Root ends the test when it is not root: with a skip, or where CI is set with a failure.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, and in CI nothing is skipped: run as root")
	}
	t.Skip("needs root: run `make test`, or go test as root")
}

// Program is the workload, ready to run.
type Program struct{ path string }

// Build compiles the workload program for the length of a test. $SHEETBEND_WORKLOAD
// names one that is built already, for guests that have no Go toolchain.
func Build(t testing.TB) Program {
	t.Helper()
	if built := os.Getenv("SHEETBEND_WORKLOAD"); built != "" {
		return Program{built}
	}
	path := filepath.Join(t.TempDir(), "sheetbend-workload")
	build := exec.Command("go", "build", "-o", path, "github.com/sheetbend/sheetbend/bpf/workload/sheetbend-workload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the workload: %v: %s", err, out)
	}
	return Program{path}
}

// Path is that of the executable; any user may run it.
func (p Program) Path() string { return p.path }

// Int80 is whether this machine has the 32-bit system calls of 64-bit programs. Only amd64 does, and not every hypervisor
// passes them on: PVM makes them a fault. The guests of kerneltest have to.
func (p Program) Int80(t testing.TB) bool {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		return false
	}
	out, err := exec.Command(p.path, "role-int80").CombinedOutput()
	if err == nil {
		return true
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if os.Getenv("SHEETBEND_GUEST") != "" {
		t.Fatalf("int 0x80: %v: %s", err, line)
	}
	t.Logf("no 32-bit system calls here, the guests try them: int 0x80: %v: %s", err, line)
	return false
}

// Result is what a scenario did.
type Result struct {
	Pid   int // of the scenario's first process
	Facts []workload.Fact
}

// Run runs a scenario to its end and returns its account. attr may put it into a cgroup.
func (p Program) Run(t testing.TB, attr *syscall.SysProcAttr, scenario ...string) Result {
	t.Helper()
	return p.Start(t, attr, scenario...).Finish(t)
}

// Running is a scenario that has told its first fact.
type Running struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	errs  bytes.Buffer
	first []byte
}

// Start starts a scenario and returns when it has told its first fact, or has ended.
func (p Program) Start(t testing.TB, attr *syscall.SysProcAttr, scenario ...string) *Running {
	t.Helper()
	cmd := exec.Command(p.path, scenario...)
	cmd.SysProcAttr = attr
	return Start(t, cmd)
}

// Start is Program.Start for a command that runs the scenario in its turn.
func Start(t testing.TB, cmd *exec.Cmd) *Running {
	t.Helper()
	r := &Running{cmd: cmd}
	r.cmd.Stderr = &r.errs
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("workload %v: %v", cmd.Args, err)
	}
	r.out = bufio.NewReader(out)
	if r.first, err = r.out.ReadBytes('\n'); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("workload %v: %v", cmd.Args, err)
	}
	return r
}

// Pid is that of the scenario's first process.
func (r *Running) Pid() int { return r.cmd.Process.Pid }

// Do has the scenario workload.Driven do something count times, and returns when it is done.
func (r *Running) Do(t testing.TB, verb string, count int) {
	t.Helper()
	r.ask(t, fmt.Sprintf("%s %d\n", verb, count))
}

// Read has it read a file.
func (r *Running) Read(t testing.TB, file string) {
	t.Helper()
	r.ask(t, file+"\n")
}

func (r *Running) ask(t testing.TB, line string) {
	t.Helper()
	_, err := io.WriteString(r.stdin, line)
	if err == nil {
		var fact []byte
		fact, err = r.out.ReadBytes('\n')
		r.first = append(r.first, fact...)
	}
	if err != nil {
		t.Fatalf("workload, asked for %q: %v: %v: %s", line, err, r.cmd.Wait(), r.errs.String())
	}
}

// Go ends the scenario's stdin, for which some wait before they go on.
func (r *Running) Go() { _ = r.stdin.Close() }

// Finish ends the scenario's stdin, waits for its end and returns its account.
func (r *Running) Finish(t testing.TB) Result {
	t.Helper()
	r.Go()
	rest, readErr := io.ReadAll(r.out)
	if err := errors.Join(r.cmd.Wait(), readErr); err != nil {
		t.Fatalf("workload %v: %v: %s", r.cmd.Args[1:], err, r.errs.String())
	}
	result := Result{Pid: r.cmd.Process.Pid}
	for line := range bytes.Lines(append(r.first, rest...)) {
		var f workload.Fact
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("workload %v: %v: %q", r.cmd.Args[1:], err, line)
		}
		result.Facts = append(result.Facts, f)
	}
	return result
}
