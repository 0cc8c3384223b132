// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADialerConnectsToWhatItWasGivenAndToNothingElse(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	served, other := filepath.Join(dir, "served"), filepath.Join(dir, "other")
	for _, path := range []string{served, other} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					line, _ := bufio.NewReader(c).ReadString('\n')
					_, _ = fmt.Fprintf(c, "%s heard %s", filepath.Base(path), line)
					_ = c.Close()
				}()
			}
		}()
	}
	later := filepath.Join(dir, "later")
	d, err := startDialer([]string{later, served})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close() })
	ask := func(path string) string {
		t.Helper()
		c, err := d.dial(t.Context(), path)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		_, _ = c.Write([]byte("x\n"))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	for _, path := range []string{served, "unix://" + served} {
		if got := ask(path); got != "served heard x\n" {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := ask(later); !strings.Contains(got, "no such file") {
		t.Errorf("before it is there: %q", got)
	}
	if err := os.Rename(other, later); err != nil {
		t.Fatal(err)
	}
	if got := ask(later); got != "other heard x\n" {
		t.Errorf("when it is there: %q", got)
	}
	if got := ask(other); !strings.Contains(got, "did not name it") {
		t.Errorf("another: %q", got)
	}

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("not %s:\n%s", want, status)
		}
	}
	// A sensor that is somebody else's by now has nothing to ask for but these.
	if _, err := d.conn.Write([]byte{2, 0}); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err == nil {
		t.Error("it goes on after a request for a third one")
	}
	if got := ask(served); !strings.Contains(got, "has ended") && !strings.Contains(got, "broken pipe") {
		t.Errorf("without the process: %q", got)
	}
}
